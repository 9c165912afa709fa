import CReference
import FaultRuntime
import Glibc
import Synchronization

/// What one round of one contender took, in nanoseconds.
struct SpeedSample {
  var wall: UInt64
  /// The time of each touch; empty if no page was touched.
  var touches: ArraySlice<UInt64>
}

/// The bytes that every contender serves, and the orders in which pages are touched.
@safe
final class SpeedTrack {
  let source: UnsafeRawPointer
  let file: SourceFile
  private let capacity: Int
  private let pageSize = Host.pageSize
  private let cpus: [Int32]
  private var samples: [UInt64]
  private let sequential: [UInt32]
  private let shuffled: [UInt32]
  private let plant: PlantedRegression?

  init(pages: Int, cpus: [Int], plant: PlantedRegression?) throws {
    capacity = pages
    self.cpus = cpus.map(Int32.init)
    self.plant = plant
    var fd: CInt = -1
    var error: CInt = 0
    guard let source = unsafe creference_source_create(pages * pageSize, pageSize, &fd, &error) else {
      throw BenchmarkError("no memory for \(pages) pages (\(KernelErrno(rawValue: error)))")
    }
    unsafe self.source = source
    close(fd)
    file = try unsafe SourceFile(UnsafeRawBufferPointer(start: source, count: pages * pageSize))
    samples = Array(repeating: 0, count: pages)
    sequential = Array(0..<UInt32(pages))
    var generator = FixedGenerator(seed: 0x5eed)
    shuffled = sequential.shuffled(using: &generator)
  }

  deinit { unsafe creference_source_destroy(source, capacity * pageSize, -1) }

  /// Runs one round of a contender.
  func run(_ contender: SpeedContender, of row: SpeedRow, isSubject: Bool) throws -> SpeedSample {
    defer { try? run(on: cpus) }
    let byteCount = row.pages * pageSize
    switch contender.way {
    case .bulk(let way):
      let filled = unsafe creference_fill(way, byteCount, source)
      guard filled.wrong == 0 else { throw BenchmarkError("\(contender.name): \(filled.wrong) pages are wrong") }
      return SpeedSample(wall: filled.nanoseconds, touches: [])
    case .pread(let piece): return try pread(byteCount, piece)
    case .reference(let strategy, let pages): return try reference(contender, strategy, pages, row)
    case .library(let library): return try self.library(contender, library, row, isSubject ? plant : nil)
    }
  }

  // MARK: Contenders

  private func reference(
    _ contender: SpeedContender, _ strategy: creference_strategy, _ pages: Int, _ row: SpeedRow
  ) throws -> SpeedSample {
    try run(on: handlerCPUs(contender.cpus))
    var call: UnsafePointer<CChar>?
    var error: CInt = 0
    let options = creference_options(strategy: strategy, unit: pages * pageSize, source_fd: -1)
    guard let reference = unsafe creference_start(row.pages * pageSize, source, options, &call, &error) else {
      let name = unsafe call.map { unsafe String(cString: $0) } ?? "nothing"
      throw BenchmarkError("\(contender.name) cannot start: \(name) failed (\(KernelErrno(rawValue: error)))")
    }
    defer { unsafe creference_stop(reference) }
    return try unsafe touch(
      contender, row, creference_base(reference), copiesItself: strategy == CREFERENCE_ANONYMOUS)
  }

  private func library(
    _ contender: SpeedContender, _ library: SpeedContender.Library, _ row: SpeedRow, _ plant: PlantedRegression?
  ) throws -> SpeedSample {
    try run(on: handlerCPUs(contender.cpus))
    let runtime = try FaultRuntime(
      FaultRuntimeConfiguration(
        delivery: library.delivery,
        // A handler thread of its own would protect the other region from a provider that blocks, and so hide the
        // regression.
        handlerThreads: plant == .blocking ? 1 : nil, placement: library.placement,
        keepsCPUsAwake: library.keepsCPUsAwake,
        onFailure: { failure in Diagnostics.failImmediately("\(failure)") }))
    let byteCount = row.pages * pageSize
    let options = RegionOptions(advice: library.advice)
    let bytes = unsafe UnsafeRawBufferPointer(start: source, count: byteCount)
    var provider: any PageProvider =
      switch library.source {
      case .fixed(let pages): unsafe FixedProvider(bytes: bytes, byteCount: pages * pageSize)
      case .memory: unsafe MemoryProvider(borrowing: bytes)
      case .file: try FileProvider(file.path)
      }
    if let plant { provider = PlantedProvider(base: provider, plant: plant) }
    let region = try runtime.map(provider, byteCount: byteCount, options: options)
    defer { region.close() }
    if library.isPopulated {
      let time = try ContinuousClock().measure { try region.populate() }
      guard unsafe creference_different_pages(region.unsafeBytes.baseAddress!, source, byteCount) == 0 else {
        throw BenchmarkError("\(contender.name) filled in something else")
      }
      return SpeedSample(wall: UInt64(time / .nanoseconds(1)), touches: [])
    }
    let sleeper = library.hasSleeper ? try Sleeper(runtime, blocks: plant == .blocking) : nil
    defer { sleeper?.stop() }
    return try unsafe touch(
      contender, row, UnsafeMutableRawPointer(mutating: region.unsafeBytes.baseAddress!), copiesItself: false)
  }

  /// Reads into memory of small pages, like that of the other contenders.
  private func pread(_ byteCount: Int, _ piece: Int) throws -> SpeedSample {
    let memory = unsafe mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    guard let memory = unsafe memory, unsafe memory != MAP_FAILED else {
      throw BenchmarkError("no memory to read into")
    }
    defer { unsafe munmap(memory, byteCount) }
    unsafe madvise(memory, byteCount, MADV_NOHUGEPAGE)
    var done = 0
    let time = ContinuousClock().measure {
      while done < byteCount {
        let count = unsafe Glibc.pread(file.descriptor, memory + done, min(piece, byteCount - done), done)
        guard count > 0 else { return }
        done += count
      }
    }
    guard done == byteCount, unsafe creference_different_pages(memory, source, byteCount) == 0 else {
      throw BenchmarkError("pread read something else")
    }
    return SpeedSample(wall: UInt64(time / .nanoseconds(1)), touches: [])
  }

  // MARK: Touching

  private func touch(
    _ contender: SpeedContender, _ row: SpeedRow, _ base: UnsafeMutableRawPointer, copiesItself: Bool
  ) throws -> SpeedSample {
    try run(on: toucherCPUs(contender.cpus))
    // The shuffled list is for the longest row. A shorter row leaves out the pages that it does not have.
    let order = row.isRandom ? shuffled.filter { $0 < row.pages } : sequential
    let (touched, wrong) = unsafe order.withUnsafeBufferPointer { order in
      unsafe samples.withUnsafeMutableBufferPointer { samples in
        let touch = unsafe creference_touch(
          base: base, copied_from: copiesItself ? source : nil, page_size: pageSize, order: order.baseAddress!,
          count: row.pages, threads: CInt(row.threads), writes: false, nanoseconds: samples.baseAddress!)
        let touched = unsafe creference_touch(touch)
        return (touched, touched.error == 0 ? unsafe creference_wrong_pages(touch, source) : 0)
      }
    }
    guard touched.error == 0 else { throw BenchmarkError("cannot start a thread") }
    guard touched.wrong == 0, wrong == 0 else {
      throw BenchmarkError("\(contender.name): \(touched.wrong) touches and \(wrong) pages had wrong bytes")
    }
    return SpeedSample(wall: touched.wall_nanoseconds, touches: samples[..<row.pages])
  }

  private func handlerCPUs(_ cpus: SpeedContender.CPUs) -> [Int32] {
    switch cpus {
    case .any, .toucherOnOne: self.cpus
    case .one, .apart: [self.cpus[self.cpus.count - 1]]
    }
  }

  private func toucherCPUs(_ cpus: SpeedContender.CPUs) -> [Int32] {
    switch cpus {
    case .toucherOnOne: [self.cpus[self.cpus.count - 1]]
    case .apart where self.cpus.count > 1: self.cpus.dropLast()
    default: handlerCPUs(cpus)
    }
  }

  /// Confines this thread, and the threads that it starts from now on, to `cpus`.
  private func run(on cpus: [Int32]) throws {
    let result = unsafe creference_run_on(cpus, Int32(cpus.count))
    guard result == 0 else { throw BenchmarkError("cannot run on CPUs \(cpus) (\(KernelErrno(rawValue: -result)))") }
  }
}
