import Synchronization
import TestSupport
import Testing

@testable import FaultRuntime

/// Tests ranges that are in use: no page of them may be taken away, and closing waits for their end.
@Suite("Pins", .timeLimit(.minutes(6)))
struct RegionPinsTests {
  /// Longer than anything that a test waits for. A wait ends as soon as its condition holds.
  private let patience: UInt64 = 30_000_000_000

  /// Returns whether closing has begun, as a thread without a pin sees it. Before closing, that thread makes a pin
  /// and ends it at once.
  private func isRefused(_ pins: RegionPins) -> Bool {
    let isRefused = Atomic<Bool>(false)
    let asker = TestThread {
      guard pins.pin(40..<50) else { return isRefused.store(true, ordering: .releasing) }
      pins.unpin(40..<50)
    }
    #expect(asker.join())
    return isRefused.load(ordering: .acquiring)
  }

  @Test("A pin is in the way of ranges that have a byte of it, and of no others")
  func overlap() {
    let pins = RegionPins()
    #expect(!pins.intersects(0..<Int.max))
    let isPinned = pins.pin(10..<20)
    #expect(isPinned)
    for range in [10..<20, 0..<11, 19..<30, 12..<13, 0..<100] { #expect(pins.intersects(range), "\(range)") }
    for range in [0..<10, 20..<30, 20..<21, 9..<10, 15..<15] { #expect(!pins.intersects(range), "\(range)") }
    pins.unpin(10..<20)
    #expect(!pins.intersects(0..<Int.max))
  }

  @Test("A range that is pinned twice is pinned until both pins have ended, and others end by themselves")
  func twice() {
    let pins = RegionPins()
    let ranges = [0..<10, 20..<30, 0..<10, 5..<25]
    for range in ranges { #expect(pins.pin(range)) }
    #expect(pins.count == 4)
    pins.unpin(0..<10)
    #expect(pins.count == 3)
    #expect(pins.intersects(0..<1))
    #expect(pins.intersects(29..<30))
    #expect(pins.intersects(12..<13))
    pins.unpin(5..<25)
    #expect(!pins.intersects(12..<13))
    #expect(pins.intersects(0..<1))
    pins.unpin(0..<10)
    #expect(!pins.intersects(0..<20))
    #expect(pins.intersects(20..<21))
    pins.unpin(20..<30)
    #expect(pins.count == 0)
  }

  @Test("A pin of nothing has no bytes, and is waited for like any other")
  func empty() {
    let pins = RegionPins()
    #expect(pins.pin(5..<5))
    #expect(!pins.intersects(0..<10))
    #expect(pins.count == 1)
    let hasClosed = Atomic<Bool>(false)
    let closer = TestThread {
      pins.close(nanoseconds: 30_000_000_000)
      hasClosed.store(true, ordering: .releasing)
    }
    #expect(eventually { isRefused(pins) })
    let wasClosed = hasClosed.load(ordering: .acquiring)
    #expect(!wasClosed)
    pins.unpin(5..<5)
    #expect(closer.join())
  }

  @Test("Closing waits for the last pin, wherever it is, and meanwhile permits new ones only to who has one already")
  func closing() {
    let pins = RegionPins()
    for range in [0..<10, 10..<20, 0..<10] { #expect(pins.pin(range)) }
    let left = Atomic<Int>(-1)
    let closer = TestThread {
      pins.close(nanoseconds: 30_000_000_000)
      left.store(pins.count, ordering: .releasing)
    }
    #expect(eventually { isRefused(pins) })
    #expect(pins.count == 3)
    for range in [0..<10, 10..<20, 0..<10] {
      let sofar = left.load(ordering: .acquiring)
      #expect(sofar == -1)
      #expect(isRefused(pins))
      // Closing waits for this thread, which may need another pin before it can end this one.
      #expect(pins.pin(60..<70))
      pins.unpin(60..<70)
      pins.unpin(range)
    }
    #expect(closer.join())
    let last = left.load(ordering: .acquiring)
    #expect(last == 0)
  }

  @Test("Closing waits no longer than its time, after which pins still end, and none begins")
  func limit() {
    let pins = RegionPins()
    #expect(pins.pin(0..<10))
    let closer = TestThread {
      pins.close(nanoseconds: 0)
      pins.close(nanoseconds: 1_000_000)
    }
    #expect(closer.join())
    #expect(pins.count == 1)
    #expect(isRefused(pins))
    pins.unpin(0..<10)
    pins.close(nanoseconds: patience)
    #expect(pins.count == 0)
    #expect(!pins.pin(20..<30))
  }

  @Test("Every thread that waits for the pins is told when the last one has ended")
  func manyClosers() {
    let pins = RegionPins()
    #expect(pins.pin(0..<10))
    let closers = (0..<3).map { _ in
      TestThread {
        // The thread would wait longer than any test, so that only the end of the pin can end the wait.
        pins.close(nanoseconds: .max)
      }
    }
    #expect(eventually { isRefused(pins) })
    pins.unpin(0..<10)
    for closer in closers { #expect(closer.join()) }
  }

  @Test("Pins of many threads, each of its own range, are each seen as long as they last, and none is left")
  func manyThreads() {
    let pins = RegionPins()
    let wrong = Atomic<Int>(0)
    let threads = (0..<4).map { number in
      TestThread {
        for round in 0..<2000 {
          let range = (number * 100)..<(number * 100 + 1 + round % 100)
          if !pins.pin(range) { wrong.wrappingAdd(1, ordering: .relaxed) }
          if !pins.intersects((number * 100)..<(number * 100 + 1)) { wrong.wrappingAdd(1, ordering: .relaxed) }
          pins.unpin(range)
          // No other thread pins a range here.
          if pins.intersects((number * 100)..<(number * 100 + 100)) { wrong.wrappingAdd(1, ordering: .relaxed) }
        }
      }
    }
    for thread in threads { #expect(thread.join()) }
    let count = wrong.load(ordering: .relaxed)
    #expect(count == 0)
    #expect(pins.count == 0)
  }

  @Test("What was not pinned cannot be unpinned, and neither can the pin of another thread")
  func notPinned() async {
    await #expect(processExitsWith: .failure) {
      let pins = RegionPins()
      _ = pins.pin(0..<10)
      pins.unpin(0..<9)
    }
    await #expect(processExitsWith: .failure) {
      let pins = RegionPins()
      _ = pins.pin(0..<10)
      _ = TestThread { pins.unpin(0..<10) }.join()
    }
  }

  @Test("A thread that uses one range of a region does not keep others from being asked for, and closing waits for it")
  func region() throws {
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .eventLoop, closeTimeout: .seconds(600)))
    let region = try runtime.map(patternProvider(), byteCount: 8 * pageBytes)
    let gate = Gate()
    let inside = Gate()
    let user = Later { () -> UInt8 in
      (try? region.withResident(0..<pageBytes) { bytes in
        inside.open()
        gate.wait()
        return unsafe bytes.unsafeLoad(as: UInt8.self)
      }) ?? 0
    }
    inside.wait()
    #expect(region.core.pins.intersects((pageBytes - 1)..<pageBytes))
    #expect(!region.core.pins.intersects(pageBytes..<(8 * pageBytes)))
    #expect(region.access(3 * pageBytes) == .byte(expectedByte(3 * pageBytes)))
    let closer = TestThread { region.close() }
    #expect(eventually { region.core.isClosing })
    #expect(throws: FaultRuntimeError.self) { try region.withResident(pageBytes..<(2 * pageBytes)) { _ in } }
    // The memory in use stays, and so does the memory beside it.
    #expect(read(region.core.range.start) == .byte(expectedByte(0)))
    #expect(!closer.isDone)
    gate.open()
    #expect(try user.result() == expectedByte(0))
    #expect(closer.join())
  }
}
