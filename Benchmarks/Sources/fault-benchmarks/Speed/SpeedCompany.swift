import CBenchmarkSupport
import FaultRuntime
import FoundationEssentials
import Glibc
import Synchronization

/// A region whose provider sleeps, and a thread that faults in it all the time.
final class Sleeper: Sendable {
  private static let nanoseconds: UInt = 10_000_000

  private let region: LazyRegion
  private let isStopping: Flag
  private let thread: BenchmarkThread

  final class Flag: Sendable {
    let isSet = Atomic<Bool>(false)
  }

  /// - Parameter blocks: Whether the provider sleeps without declaring that it may block.
  init(_ runtime: FaultRuntime, blocks: Bool) throws {
    let pages = 4096
    let provider = ClosureProvider(permissions: blocks ? [.concurrentRequests, .handlerThread] : .standard) {
      request, page in
      var time = timespec(tv_sec: 0, tv_nsec: Int(Self.nanoseconds))
      unsafe nanosleep(&time, nil)
      page.append(repeating: 1, count: request.byteCount)
      return .filled
    }
    region = try runtime.map(provider, byteCount: pages * Host.pageSize, options: RegionOptions(advice: .random))
    let flag = Flag()
    let address = unsafe UInt(bitPattern: region.unsafeBytes.baseAddress!)
    thread = try BenchmarkThread {
      for page in 0..<pages where !flag.isSet.load(ordering: .relaxed) {
        let byte = unsafe UnsafePointer<UInt8>(bitPattern: address + UInt(page * Host.pageSize))!
        guard unsafe byte.pointee == 1 else { Diagnostics.failImmediately("the sleeper's region is wrong") }
      }
    }
    isStopping = flag
  }

  func stop() {
    isStopping.isSet.store(true, ordering: .relaxed)
    thread.join()
    region.close()
  }
}

/// One thread on each CPU that never sleeps.
final class BusyCPUs {
  private let flag = Sleeper.Flag()
  private var threads: [BenchmarkThread] = []

  init(_ cpus: [Int]) throws {
    for cpu in cpus {
      threads.append(
        try BenchmarkThread { [flag] in
          _ = support_pin(Int32(cpu))
          while !flag.isSet.load(ordering: .relaxed) {}
        })
    }
  }

  func stop() {
    flag.isSet.store(true, ordering: .relaxed)
    for thread in threads { thread.join() }
  }
}

/// A file with the bytes of the source. `deinit` deletes it.
final class SourceFile: Sendable {
  let path: String
  let descriptor: CInt

  init(_ bytes: UnsafeRawBufferPointer) throws {
    let path = FileManager.default.temporaryDirectory.appending(path: "fault-benchmarks-\(getpid())").path()
    descriptor = unsafe open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    self.path = path
    guard descriptor >= 0 else { throw BenchmarkError("cannot make \(path) (\(KernelErrno(rawValue: errno)))") }
    var done = 0
    while done < bytes.count {
      let count = unsafe write(descriptor, bytes.baseAddress! + done, bytes.count - done)
      guard count > 0 else { throw BenchmarkError("cannot write \(path) (\(KernelErrno(rawValue: errno)))") }
      done += count
    }
  }

  deinit {
    unsafe unlink(path)
    close(descriptor)
  }
}
