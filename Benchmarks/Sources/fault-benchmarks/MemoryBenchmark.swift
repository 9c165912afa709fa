import FaultRuntime
import Glibc

/// Measures how much memory a runtime with one region adds to the process, without the pages of that region: threads,
/// buffers, tables.
///
/// The first runtime of the process is one of those measured, and no runtime ends before the last one is measured.
/// Memory that an earlier runtime has freed can therefore not hide what a later one needs.
struct MemoryBenchmark {
  private static let unit = 64 << 10
  private static let touches = 4000

  private let plant: Bool

  init(plant: Bool) {
    self.plant = plant
  }

  func run() throws -> [MemoryCase] {
    let reader = SmapsReader()
    // These calls load the reader's own code, and what the Swift runtime sets up for it.
    for _ in 0..<3 { _ = try reader.memory() }

    var alive: [Subject] = []
    var cases: [MemoryCase] = []
    for (name, byteCount) in [("1 TiB", 1 << 40), ("1 GiB", 1 << 30)] {
      let order = TouchOrder(
        scattering: Self.touches,
        over: byteCount / Self.unit,
        stride: Self.unit,
        multiplier: FillingProvider.multiplier
      )
      let before = try reader.memory(outside: alive.map(\.addresses))
      let tablesBefore = Self.pageTableBytes()
      alive.append(try Subject(byteCount: byteCount, order, plant: plant))
      let growth = try reader.memory(outside: alive.map(\.addresses)) - before
      cases.append(
        MemoryCase(
          region: name,
          touches: Self.touches,
          growth: growth,
          pageTables: Self.pageTableBytes() - tablesBefore,
          statistics: alive[alive.count - 1].runtime.statistics
        )
      )
    }
    return cases
  }

  /// A runtime with one region, some pages of which have been touched.
  // Safe: only this object uses the ballast.
  @safe
  private final class Subject {
    let runtime: FaultRuntime
    let region: LazyRegion
    private let ballast: UnsafeMutableRawBufferPointer?

    init(byteCount: Int, _ order: TouchOrder, plant: Bool) throws {
      runtime = try FaultRuntime(
        FaultRuntimeConfiguration(
          delivery: .eventLoop,
          onFailure: { failure in Diagnostics.failImmediately("\(failure)") }
        )
      )
      // The provider fills instead of lending, because the buffer that it fills is the runtime's memory, which
      // counts.
      region = try runtime.map(FillingProvider(unit: MemoryBenchmark.unit), byteCount: byteCount)
      unsafe ballast = plant ? .allocate(byteCount: 2 << 20, alignment: sysconf(Int32(_SC_PAGESIZE))) : nil
      if let ballast = unsafe ballast { _ = unsafe ballast.initializeMemory(as: UInt8.self, repeating: 1) }
      try unsafe order.touch(region.unsafeBytes.baseAddress!, order.units.indices)
    }

    deinit {
      unsafe ballast?.deallocate()
    }

    var addresses: Range<UInt> {
      let start = unsafe UInt(bitPattern: region.unsafeBytes.baseAddress!)
      return start..<(start + UInt(region.byteCount))
    }
  }

  /// Returns the size of the page tables of the process. The kernel needs them for every resident page, however it
  /// was placed.
  private static func pageTableBytes() -> Int {
    let line = contents(of: "/proc/self/status").split(separator: "\n").first { $0.hasPrefix("VmPTE:") }
    return (line.flatMap { Int($0.filter(\.isNumber)) } ?? 0) << 10
  }
}

/// What a runtime with one region cost.
struct MemoryCase: Codable {
  var region: String
  var touches: Int
  /// How much the resident memory of the process has grown, without the pages of the region.
  var growth: ResidentMemory
  /// How much the page tables of the process have grown, including those of the region. This value is not judged.
  var pageTables: Int
  /// The bytes that were filled in the region itself.
  var filled: Int

  init(region: String, touches: Int, growth: ResidentMemory, pageTables: Int, statistics: FaultStatistics) {
    self.region = region
    self.touches = touches
    self.growth = growth
    self.pageTables = pageTables
    filled = statistics.bytesFilled
  }

  /// What is judged: all resident memory and not only the dirty part, because code that had to be read in is part of
  /// the cost.
  var judged: Int { max(growth.resident, growth.privateDirty) }
}
