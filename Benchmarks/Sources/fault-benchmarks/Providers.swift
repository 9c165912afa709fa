import CBenchmarkSupport
import FaultRuntime
import Glibc

/// Memory that providers lend from: whole pages, each filled with a byte of its own.
@safe
// Safe to share: no thread writes to the memory after `init`.
final class SourceMemory: @unchecked Sendable {
  static let multiplier: UInt8 = 7

  let bytes: UnsafeRawBufferPointer
  let pageSize: Int

  init(pages: Int) {
    pageSize = sysconf(Int32(_SC_PAGESIZE))
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: pages * pageSize, alignment: pageSize)
    for page in 0..<pages {
      let part = unsafe UnsafeMutableRawBufferPointer(rebasing: memory[(page * pageSize)..<((page + 1) * pageSize)])
      _ = unsafe part.initializeMemory(as: UInt8.self, repeating: support_pattern(UInt32(page), Self.multiplier))
    }
    unsafe bytes = UnsafeRawBufferPointer(memory)
  }

  deinit {
    unsafe bytes.deallocate()
  }
}

/// Lends pages of memory: the least work that a provider can do.
struct LendingProvider: PageProvider {
  let memory: SourceMemory
  /// The largest number of pages that a request grows to.
  var largestPages = 1
  var plant: PlantedRegression?

  var requestSize: RequestSize {
    largestPages == 1 ? .singlePage : RequestSize(preferred: 1, largest: largestPages * memory.pageSize)
  }
  var permissions: ProviderPermissions { .inMemory }

  func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents {
    if let plant { carryOut(plant) }
    return unsafe .lent(UnsafeRawBufferPointer(rebasing: memory.bytes[request.range]))
  }
}

/// Lends memory, with a fixed number of bytes for each fault.
@safe
// Safe to share: no thread writes to the memory.
struct FixedProvider: PageProvider, @unchecked Sendable {
  private let bytes: UnsafeRawBufferPointer
  let requestSize: RequestSize

  init(bytes: UnsafeRawBufferPointer, byteCount: Int) {
    unsafe self.bytes = bytes
    requestSize = RequestSize(preferred: byteCount, largest: byteCount)
  }

  var permissions: ProviderPermissions { .inMemory }

  func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents {
    unsafe .lent(UnsafeRawBufferPointer(rebasing: bytes[request.range]))
  }
}

/// A provider with a planted regression.
struct PlantedProvider: PageProvider {
  let base: any PageProvider
  let plant: PlantedRegression

  var requestSize: RequestSize { base.requestSize }
  var permissions: ProviderPermissions { base.permissions }

  func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents {
    for _ in 0..<max(1, request.byteCount / Host.pageSize) { carryOut(plant) }
    return try base.page(request, into: &page)
  }
}

/// Fills the runtime's buffer unit by unit. Unit N consists of the byte that `support_pattern` returns for N.
struct FillingProvider: PageProvider {
  static let multiplier: UInt8 = 5

  let requestSize: RequestSize
  let unit: Int
  let permissions: ProviderPermissions
  var plant: PlantedRegression?

  /// - Parameters:
  ///   - unit: The number of bytes that are filled alike, at least a page.
  ///   - isPooled: Whether a thread of the pool is to call the provider.
  init(unit: Int, isPooled: Bool = false, plant: PlantedRegression? = nil) {
    permissions = isPooled ? .standard : .inMemory
    requestSize = RequestSize(preferred: unit, largest: 4 * unit)
    self.unit = unit
    self.plant = plant
  }

  func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents {
    if let plant { carryOut(plant) }
    var index = request.offset / unit
    while page.freeCapacity > 0 {
      page.append(
        repeating: support_pattern(UInt32(truncatingIfNeeded: index), Self.multiplier),
        count: min(unit, page.freeCapacity)
      )
      index += 1
    }
    return .filled
  }
}

@inline(never)
private func carryOut(_ plant: PlantedRegression) {
  switch plant {
  case .latency, .delay:
    let end = support_monotonic_nanoseconds() + (plant == .delay ? 12000 : 2000)
    while support_monotonic_nanoseconds() < end {}
  case .allocations:
    withExtendedLifetime(PlantedObject.make()) {}
  case .memory, .widening, .placement, .blocking, .append:
    break
  }
}

/// An object that the compiler cannot put on the stack.
final class PlantedObject {
  @inline(never)
  @_optimize(none)
  static func make() -> PlantedObject { PlantedObject() }
}
