import FaultRuntime
import Glibc
import Synchronization

/// The settings of a run.
struct StressSettings: Sendable {
  var seed: UInt64
  var threads: Int
  /// How long the threads run; nil if they run until their operations are done.
  var seconds: Double?
  /// The number of operations for each thread; nil if the threads run until their time is up.
  var operations: Int?
  var plant: StressPlant?
  /// How many of a million requests to the kernel meet trouble.
  var troublePerMillion: UInt64
  /// How many seconds one operation may take.
  var patience: Double
}

/// The slots in which regions are opened and closed, and the runtimes that serve the regions.
final class StressRun: Sendable {
  private struct Slot: Sendable {
    var region: StressRegion
    var generation = 0
  }

  let settings: StressSettings
  let tally = StressTally()
  let registry: StressRegistry
  let watch: StressWatch
  let pageSize = Int(sysconf(CInt(_SC_PAGESIZE)))
  private let slots: StressLock<[Slot]>
  private let runtimes: StressLock<[FaultRuntime]>
  private let isOver = Atomic<Bool>(false)
  private let finishedThreads = Atomic<Int>(0)

  /// The number is small, so that threads often use the same region.
  static let slotCount = 6

  init(_ settings: StressSettings) throws {
    self.settings = settings
    let registry = StressRegistry(tally, kernelMakesTrouble: settings.troublePerMillion > 0)
    self.registry = registry
    watch = StressWatch(threads: settings.threads + 1, patience: settings.patience)
    let made = try StressRuntimeKind.allCases.map { try Self.runtime($0, registry) }
    runtimes = StressLock(made)
    slots = StressLock([])
    for slot in 0..<Self.slotCount {
      let region = try open(slot, 0)
      slots.withLock { $0.append(Slot(region: region)) }
    }
  }

  private static func runtime(_ kind: StressRuntimeKind, _ registry: StressRegistry) throws -> FaultRuntime {
    var configuration = kind.configuration
    configuration.onFailure = { failure in registry.note(failure) }
    return try FaultRuntime(configuration)
  }

  private func open(_ slot: Int, _ generation: Int) throws(FaultRuntimeError) -> StressRegion {
    let plan = StressPlan(seed: settings.seed, slot: slot, generation: generation, pageSize: pageSize)
    let runtime = runtime(plan.runtime)
    return try StressRegion(
      StressModel(plan, pageSize: pageSize), runtime, registry, plant: slot == 0 ? settings.plant : nil)
  }

  /// Returns the present runtime of a kind.
  func runtime(_ kind: StressRuntimeKind) -> FaultRuntime { runtimes.withLock { $0[kind.rawValue] } }

  var isDone: Bool { isOver.load(ordering: .relaxed) }

  /// Returns the region that a slot holds now.
  func region(_ slot: Int) -> StressRegion { slots.withLock { $0[slot].region } }

  /// Opens a new region for a slot and closes the old one, explicitly or by dropping its last reference. `use` gets
  /// the new region before other threads do.
  func reopen(_ slot: Int, closesByHand: Bool, use: (StressRegion) -> Void) {
    // The generation is taken first, so that two threads that reopen the same slot create different regions.
    let generation = slots.withLock { slots in
      slots[slot].generation += 1
      return slots[slot].generation
    }
    do {
      let new = try open(slot, generation)
      use(new)
      let old = slots.withLock { slots in
        let old = slots[slot].region
        slots[slot].region = new
        return old
      }
      if closesByHand { old.close() }
    } catch {
      note(error, "reopen")
    }
  }

  /// Replaces a runtime. The old runtime lives as long as it has regions.
  func replaceRuntime(_ number: Int) {
    do {
      let new = try Self.runtime(StressRuntimeKind.allCases[number], registry)
      let old = runtimes.withLock { runtimes in
        let old = runtimes[number]
        runtimes[number] = new
        return old
      }
      withExtendedLifetime(old) {}
    } catch {
      note(error, "newRuntime")
    }
  }

  /// Counts a region or a runtime that could not be made. Where a limit of the process is the reason, nothing is wrong
  /// with any byte.
  func note(_ error: any Error, _ doing: String) {
    if let limit = StressLimit.name(of: error) {
      tally.limit("\(doing), \(limit)")
    } else {
      tally.mismatch("\(doing): \(error)")
    }
  }

  /// Runs the threads to their end, checks every byte once more, and closes everything.
  ///
  /// - Returns: The signal that ended the run before its time, if one did.
  func run(_ signals: StopSignals, progress: () -> Void) throws -> CInt? {
    let watching = try StressThread { [watch, registry] in watch.run(registry) }
    defer {
      watch.stop()
      watching.join()
    }
    var threads: [StressThread] = []
    do {
      for number in 0..<settings.threads { threads.append(try StressThread { [self] in work(number) }) }
    } catch {
      isOver.store(true, ordering: .relaxed)
      for thread in threads { thread.join() }
      throw error
    }
    let number = wait(signals, progress)
    for thread in threads { thread.join() }
    finish()
    return number
  }

  private func work(_ number: Int) {
    var worker = StressWorker(self, number: number)
    var done = 0
    while !isDone, settings.operations.map({ done < $0 }) ?? true {
      worker.step()
      done += 1
    }
    finishedThreads.add(1, ordering: .relaxed)
  }

  /// Waits until the time is up, the operations are done, or a signal ends the run.
  private func wait(_ signals: StopSignals, _ progress: () -> Void) -> CInt? {
    let end = settings.seconds.map { monotonicSeconds() + $0 } ?? .infinity
    defer { isOver.store(true, ordering: .relaxed) }
    while monotonicSeconds() < end, finishedThreads.load(ordering: .relaxed) < settings.threads {
      if let number = signals.wait(milliseconds: 20) {
        signals.release()
        return number
      }
      progress()
    }
    return nil
  }

  /// Checks every page. No other thread uses the regions any more, so every byte is known exactly.
  private func finish() {
    var worker = StressWorker(self, number: settings.threads)
    for slot in 0..<Self.slotCount { worker.checkAll(slot) }
    // The regions are closed before the runtimes are checked, and each closing waits for its handler.
    slots.withLock { slots in
      let all = slots
      slots = []
      return all
    }.forEach { $0.region.close() }
    let runtimes = runtimes.withLock { $0 }
    for (kind, runtime) in zip(StressRuntimeKind.allCases, runtimes)
    where ![.automatic, .sigbus, .sigsegv].contains(kind) {
      if runtime.regionCount != 0 { tally.mismatch("\(runtime.regionCount) regions of \(kind) are open at the end") }
    }
  }
}

/// A thread outside Swift's cooperative pool. A thread of the pool that waited in a fault would keep tasks from
/// running.
final class StressThread {
  private final class Start: Sendable {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }

  private var handle = pthread_t()

  init(_ body: @escaping @Sendable () -> Void) throws {
    let start = unsafe Unmanaged.passRetained(Start(body))
    let result = unsafe pthread_create(
      &handle, nil,
      { context in
        unsafe Unmanaged<Start>.fromOpaque(context!).takeRetainedValue().body()
        return nil
      }, start.toOpaque())
    guard result == 0 else {
      unsafe start.release()
      let reason = KernelErrno(rawValue: result)
      throw CommandFailure(
        message: "cannot start a thread (\(reason): \(reason.explanation))" + StressLimit.advice(for: reason))
    }
  }

  func join() { pthread_join(handle, nil) }
}

/// Returns the seconds of the monotonic clock.
func monotonicSeconds() -> Double {
  var now = timespec()
  unsafe clock_gettime(CLOCK_MONOTONIC, &now)
  return Double(now.tv_sec) + Double(now.tv_nsec) / 1e9
}
