import ArgumentParser
import CFaultReference
import FaultRuntime
import Glibc

/// What a touch does.
enum TouchAccess: String, CaseIterable, ExpressibleByArgument {
  case read, write
}

/// The CPUs that the threads of a contender run on.
enum BenchPlacement: Equatable, Sendable {
  /// The scheduler places the threads.
  case anywhere
  /// All threads run on this CPU.
  case together(Int)
  /// The handler runs alone on one CPU, and the touching threads run on the others.
  case separate(handler: Int, touching: [Int])
  /// The process may use too few CPUs for this placement.
  case impossible

  static func oneCPU(among cpus: [Int]) -> Self {
    cpus.last.map { .together($0) } ?? .impossible
  }

  static func apart(among cpus: [Int]) -> Self {
    cpus.count > 1 ? .separate(handler: cpus[cpus.count - 1], touching: cpus.dropLast()) : .impossible
  }

  var text: String {
    switch self {
    case .anywhere: "no"
    case .together(let cpu): "all on \(cpu)"
    case .separate(let handler, let touching):
      "handler \(handler), touch " + touching.map(String.init).joined(separator: ",")
    case .impossible: "-"
    }
  }

  /// The CPUs of the handler and of the touching threads; nil if the threads are not confined.
  var numbers: (handler: [Int], touching: [Int])? {
    switch self {
    case .anywhere, .impossible: nil
    case .together(let cpu): ([cpu], [cpu])
    case .separate(let handler, let touching): ([handler], touching)
    }
  }
}

/// The CPUs that this process may use. A thread inherits the CPUs of the thread that starts it.
enum CPUs {
  static func allowed() throws(CommandFailure) -> [Int] {
    var cpus = [Int32](repeating: 0, count: 1024)
    let capacity = Int32(cpus.count)
    let count = unsafe creference_allowed_cpus(&cpus, capacity)
    guard count > 0 else {
      throw CommandFailure(message: "cannot ask for the allowed CPUs (\(KernelErrno(rawValue: -count)))")
    }
    return cpus.prefix(Int(count)).map(Int.init)
  }

  /// Confines the calling thread, and the threads that it starts from now on, to `cpus`.
  static func run(on cpus: [Int]) throws(CommandFailure) {
    let result = unsafe creference_run_on(cpus.map(Int32.init), Int32(cpus.count))
    guard result == 0 else {
      throw CommandFailure(message: "cannot run on CPU \(cpus) (\(KernelErrno(rawValue: -result)))")
    }
  }
}

/// The bytes that every contender serves: a memfd that is mapped and resident. No two of its pages are equal.
@safe
// Safe to share: no thread writes to the memory after `init`.
final class BenchSource: @unchecked Sendable {
  let base: UnsafeRawPointer
  let byteCount: Int
  let pageSize: Int
  let descriptor: CInt

  init(pages: Int, pageSize: Int) throws(CommandFailure) {
    byteCount = pages * pageSize
    self.pageSize = pageSize
    var descriptor: CInt = -1
    var error: CInt = 0
    guard let base = unsafe creference_source_create(byteCount, pageSize, &descriptor, &error) else {
      throw CommandFailure(message: "cannot make \(byteCount) bytes to serve (\(KernelErrno(rawValue: error)))")
    }
    unsafe self.base = base
    self.descriptor = descriptor
  }

  deinit {
    unsafe creference_source_destroy(base, byteCount, descriptor)
  }
}

/// Touches every page of a fresh mapping once, and checks that each page holds the right bytes.
struct BenchTouch {
  var order: [UInt32]
  var threads: Int
  var access: TouchAccess
  let isRandom: Bool

  /// How long each touch of the last ``run(_:over:from:copying:)`` took, in nanoseconds.
  private(set) var samples: [UInt64]

  init(pages: Int, order: TouchOrder, threads: Int, access: TouchAccess) {
    let permutation = Permutation(count: pages)
    self.order = (0..<pages).map { UInt32(order == .sequential ? $0 : permutation[$0]) }
    self.threads = threads
    self.access = access
    isRandom = order == .random
    samples = Array(repeating: 0, count: pages)
  }

  /// Touches every page and returns the nanoseconds from the first touch to the last.
  ///
  /// - Parameter copying: Whether the touching threads fill the pages themselves.
  mutating func run(
    _ name: String, over base: UnsafeMutableRawPointer, from source: BenchSource, copying: Bool
  ) throws(CommandFailure) -> UInt64 {
    var touched = creference_touched()
    var wrongPages = 0
    unsafe order.withUnsafeBufferPointer { order in
      unsafe samples.withUnsafeMutableBufferPointer { samples in
        let touch = unsafe creference_touch(
          base: base, copied_from: copying ? source.base : nil, page_size: source.pageSize,
          order: order.baseAddress!, count: order.count, threads: CInt(threads), writes: access == .write,
          nanoseconds: samples.baseAddress!)
        touched = unsafe creference_touch(touch)
        if touched.error == 0 { wrongPages = unsafe creference_wrong_pages(touch, source.base) }
      }
    }
    guard touched.error == 0 else {
      throw CommandFailure(message: "cannot start a touching thread (\(KernelErrno(rawValue: -touched.error)))")
    }
    guard touched.wrong == 0, wrongPages == 0 else {
      throw CommandFailure(
        message: "\(name) is wrong: \(touched.wrong) of \(order.count) touches and \(wrongPages) pages had other bytes")
    }
    return touched.wall_nanoseconds
  }
}
