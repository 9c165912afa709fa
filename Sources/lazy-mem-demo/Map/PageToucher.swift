import FaultRuntime
import Glibc
import Histogram
import Synchronization

/// What the touching threads measured.
struct TouchResult {
  var pages: Int
  /// How many bytes of the file are in these pages.
  var byteCount: Int
  var seconds: Double
  var latency: Histogram<UInt32>
}

/// Touches pages of a region once each, with a number of threads.
final class PageToucher: Sendable {
  private let region: LazyRegion
  private let order: TouchOrder
  private let threadCount: Int
  /// The pages of the region, and how many of them are touched.
  private let pageCount: Int
  private let touchCount: Int
  private let touched = Atomic<Int>(0)
  /// Receives a sum of the loaded bytes, so that the compiler cannot remove the loads.
  private let sink = Atomic<UInt8>(0)
  /// The time of the last touch, in monotonic nanoseconds.
  private let lastTouch = Atomic<UInt64>(0)

  /// - Parameter byteCount: How much of the region to touch, in whole pages: its beginning, or with the order `random`
  ///   as many pages from all over the region.
  init(region: LazyRegion, order: TouchOrder, threadCount: Int, byteCount: Int) {
    self.region = region
    self.order = order
    self.threadCount = threadCount
    pageCount = (region.byteCount - 1) / region.pageSize + 1
    touchCount = min(pageCount, (byteCount - 1) / region.pageSize + 1)
  }

  /// Runs the threads to their end, and reports the progress about every 10 ms.
  func run(progress: (Double) -> Void) throws -> TouchResult {
    let start = monotonicNanoseconds()
    var threads: [TouchThread] = []
    for index in 0..<threadCount {
      threads.append(try TouchThread { [self] in touchShare(of: index) })
    }
    while touched.load(ordering: .relaxed) < touchCount {
      progress(Double(touched.load(ordering: .relaxed)) / Double(touchCount))
      usleep(10_000)
    }
    progress(1)
    var latency = Self.emptyHistogram()
    for thread in threads { latency.add(thread.join()) }
    let seconds = Double(lastTouch.load(ordering: .relaxed) - start) / 1e9
    return TouchResult(
      pages: touchCount, byteCount: min(region.byteCount, touchCount * region.pageSize), seconds: seconds,
      latency: latency)
  }

  private func touchShare(of index: Int) -> Histogram<UInt32> {
    var histogram = Self.emptyHistogram()
    let permutation = Permutation(count: pageCount)
    let region = self.region
    let bytes = region.bytes
    let pageSize = region.pageSize
    // In sequential order, each thread touches a range of its own. In random order, each thread touches every n-th
    // page of one permutation.
    let first = order == .sequential ? touchCount * index / threadCount : index
    let end = order == .sequential ? touchCount * (index + 1) / threadCount : touchCount
    let step = order == .sequential ? 1 : threadCount

    var pending = 0
    var sum: UInt8 = 0
    for position in stride(from: first, to: end, by: step) {
      let page = order == .sequential ? position : permutation[position]
      // A page that an earlier request has brought along does not fault, so its touch is not recorded.
      let faults = !isResident(bytes, page * pageSize)
      let before = monotonicNanoseconds()
      sum &+= unsafe bytes.unsafeLoad(fromByteOffset: page * pageSize, as: UInt8.self)
      let after = monotonicNanoseconds()
      if faults { _ = histogram.record(min(after - before, Self.longestTracked)) }
      pending += 1
      if pending == 256 {
        touched.wrappingAdd(pending, ordering: .relaxed)
        pending = 0
      }
    }
    sink.store(sum, ordering: .relaxed)
    lastTouch.max(monotonicNanoseconds(), ordering: .acquiringAndReleasing)
    touched.wrappingAdd(pending, ordering: .relaxed)
    return histogram
  }

  private static let longestTracked: UInt64 = 100_000_000_000

  private static func emptyHistogram() -> Histogram<UInt32> {
    Histogram(highestTrackableValue: longestTracked, numberOfSignificantValueDigits: .three)
  }
}

private func monotonicNanoseconds() -> UInt64 {
  var now = timespec()
  unsafe clock_gettime(CLOCK_MONOTONIC, &now)
  return UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
}

/// Returns whether the page is already resident, as `mincore(2)` reports it.
private func isResident(_ bytes: RawSpan, _ offset: Int) -> Bool {
  unsafe bytes.withUnsafeBytes { buffer in
    var residency: UInt8 = 0
    let page = unsafe UnsafeMutableRawPointer(mutating: buffer.baseAddress! + offset)
    return unsafe mincore(page, 1, &residency) == 0 && residency & 1 != 0
  }
}

/// A thread outside Swift's cooperative pool. A thread of the pool that waited in a fault would keep tasks from
/// running.
private struct TouchThread {
  // Safe to share: the thread writes the histogram, and `join` reads it only after the thread has ended.
  private final class Work: @unchecked Sendable {
    let body: @Sendable () -> Histogram<UInt32>
    var result: Histogram<UInt32>?
    init(_ body: @escaping @Sendable () -> Histogram<UInt32>) { self.body = body }
  }

  private let work: Work
  private var handle = pthread_t()

  init(_ body: @escaping @Sendable () -> Histogram<UInt32>) throws {
    work = Work(body)
    let context = unsafe Unmanaged.passRetained(work)
    let result = unsafe pthread_create(
      &handle, nil,
      { context in
        let work = unsafe Unmanaged<Work>.fromOpaque(context!).takeRetainedValue()
        work.result = work.body()
        return nil
      }, context.toOpaque())
    guard result == 0 else {
      unsafe context.release()
      throw CommandFailure(message: "cannot start a thread: \(unsafe String(cString: strerror(result)))")
    }
  }

  /// Waits for the end of the thread and returns its result. Every thread stores a result before it ends.
  func join() -> Histogram<UInt32> {
    pthread_join(handle, nil)
    return work.result!
  }
}
