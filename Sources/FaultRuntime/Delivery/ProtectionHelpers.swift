internal import CUFFD

/// The threads that ask providers which must not run on the thread that faulted, for a delivery that has no event loop: several
/// for those that may block, and one for all others and for those that must not be asked concurrently. The thread that faulted waits, in
/// its signal handler, and allocates nothing.
final class ProtectionHelpers: Sendable {
  /// What a thread of its own is asked for.
  private struct Slot {
    /// Nil while it is not in use.
    var region: RegionCore?
    var run: FaultRun?
    var fault = PendingFault(page: 0, isWrite: false)
    /// Goes up when the request has ended.
    var ticket = 0
    var outcome: Outcome = .pending
    let permit = AnswerPermit()
  }

  private enum Outcome {
    case pending
    case ended((any Error)?)
    /// Nobody waits any more.
    case abandoned
  }

  private struct State {
    var slots: [Slot] = []
    /// Requests that nobody has begun, as indices of slots: for any of several threads, and for the only one of its kind.
    var blocking: [Int] = []
    var serial: [Int] = []
    var jobs: [@Sendable () -> Void] = []
    var threads: [(thread: FaultThread, isSerial: Bool)] = []
    var isStopping = false

    mutating func free(_ index: Int) {
      slots[index].region = nil
      slots[index].run = nil
      slots[index].outcome = .pending
      slots[index].ticket += 1
    }
  }

  /// What a helper does next.
  private enum Work {
    case slot(Int, FaultRun, PendingFault, AnswerPermit)
    case job(@Sendable () -> Void)
    case nothing
  }

  private enum Admission {
    case own(Int)
    case follow(Int, ticket: Int)
  }

  private static let capacity = 64
  /// How often a thread that waits looks whether its region has been closed.
  private static let lookNanoseconds: UInt64 = 50_000_000

  private let state = Monitor(State())
  private let threadCount: Int

  init(threadCount: Int) {
    self.threadCount = threadCount
    state.withLock { state in
      state.slots.reserveCapacity(Self.capacity)
      for _ in 0..<Self.capacity { state.slots.append(Slot()) }
      state.blocking.reserveCapacity(Self.capacity)
      state.serial.reserveCapacity(Self.capacity)
    }
  }

  // MARK: Control, on any thread

  /// Starts the threads, before a fault may need them.
  func start(
    _ answer: @escaping @Sendable (borrowing FaultRun, PendingFault, AnswerPermit) throws -> Void
  ) throws(HostCallError) {
    var failure: HostCallError?
    holdingSignals {
      state.withLock { state in
        guard state.threads.isEmpty else { return }
        do throws(HostCallError) {
          for number in 0...threadCount {
            let isSerial = number == 0
            let thread = try FaultThread(name: isSerial ? "fault-serial" : "fault-pool", stackByteCount: 1 << 20) {
              [self] in work(isSerial: isSerial, answer)
            }
            state.threads.append((thread, isSerial))
          }
        } catch {
          // With the first of each kind everything goes on, only slower.
          if state.threads.count < 2 { failure = error }
        }
      }
    }
    if let failure { throw failure }
  }

  /// Waits for the threads to end, as long as told. Not for the one that calls it.
  func stop(nanoseconds: UInt64) {
    let threads = holdingSignals {
      state.withLock { state in
        state.isStopping = true
        defer { state.threads.removeAll() }
        return state.threads
      }
    }
    state.announce()
    for entry in threads where entry.thread.isCurrent || !entry.thread.join(nanoseconds: nanoseconds) {
      entry.thread.detach()
    }
  }

  /// Lets those who wait find out that their region was closed.
  func announceClosing() { state.announce() }

  /// Whether the calling thread is the one that asks for one page at a time.
  var isOnSerialThread: Bool { isOn { $0.isSerial } }

  private func isOn(_ kind: ((thread: FaultThread, isSerial: Bool)) -> Bool) -> Bool {
    holdingSignals { state.withLock { $0.threads.contains { $0.thread.isCurrent && kind($0) } } }
  }

  /// Runs `job` on the thread that asks for one page at a time, and returns when it is done.
  func performSerially(_ job: @escaping @Sendable () -> Void) {
    let done = OneShotEvent()
    let isTaken = holdingSignals {
      state.withLock { state in
        guard !state.isStopping, !state.threads.isEmpty else { return false }
        state.jobs.append {
          job()
          done.signal()
        }
        return true
      }
    }
    state.announce()
    // As slow as the provider.
    while isTaken, !done.wait(nanoseconds: 5_000_000_000) {}
  }

  // MARK: On the thread that faulted

  /// Whether the calling thread may ask the provider itself: it is one of those that ask.
  func isForCaller(_ region: RegionCore) -> Bool { region.isForSerialHelper ? isOnSerialThread : isOn { _ in true } }

  /// Has a helper answer a run, and waits for it. False where another request covers the page, which has ended now: the page is
  /// there, or has failed, or is asked for again when it is touched.
  func answer(_ run: borrowing FaultRun, _ fault: PendingFault) throws -> Bool {
    let region = run.region
    let copy = FaultRun(region: region, from: run.start, to: run.end, neededEnd: run.neededEnd)
    let admission = state.wait { state -> Admission? in
      // Somebody else's request may have ended since this thread looked.
      let isMissing = region.twin?.state(at: fault.page) == TwinMemory.PageState.absent
      if state.isStopping || !isMissing { return .follow(0, ticket: -1) }
      if let index = state.slots.firstIndex(where: { slot in
        slot.region === region && slot.run?.range.contains(fault.page) ?? false
      }) {
        return .follow(index, ticket: state.slots[index].ticket)
      }
      guard let index = state.slots.firstIndex(where: { $0.region == nil }) else { return nil }
      state.slots[index].region = region
      state.slots[index].run = copy
      state.slots[index].fault = fault
      state.slots[index].permit.renew(expires: false)
      if region.isForSerialHelper { state.serial.append(index) } else { state.blocking.append(index) }
      return .own(index)
    }
    state.announce()
    switch admission {
    case .own(let index):
      try waitForOwn(index, region)
      return true
    case .follow(let index, let ticket):
      waitForOther(index, ticket, region)
      return false
    case nil:
      return false
    }
  }

  private func waitForOwn(_ index: Int, _ region: RegionCore) throws {
    while true {
      let outcome = state.wait(nanoseconds: Self.lookNanoseconds) { state -> Outcome? in
        switch state.slots[index].outcome {
        case .ended(let error):
          state.free(index)
          return .ended(error)
        case .pending, .abandoned:
          guard region.twin?.isRevoked ?? true, state.slots[index].permit.withdraw() else { return nil }
          // Whoever works on it gives it back; or will, when its turn comes.
          state.slots[index].outcome = .abandoned
          return .abandoned
        }
      }
      switch outcome {
      case .ended(let error?): throw error
      case .ended(nil): return state.announce()
      case .abandoned: throw ResolutionError.regionClosed
      case .pending, nil: continue
      }
    }
  }

  private func waitForOther(_ index: Int, _ ticket: Int, _ region: RegionCore) {
    while true {
      let isOver = state.wait(nanoseconds: Self.lookNanoseconds) { state -> Bool? in
        let hasEnded = if case .pending = state.slots[index].outcome { false } else { true }
        return hasEnded || state.slots[index].ticket != ticket || region.twin?.isRevoked ?? true ? true : nil
      }
      if isOver != nil { return }
    }
  }

  // MARK: On a helper

  private func work(
    isSerial: Bool, _ answer: (borrowing FaultRun, PendingFault, AnswerPermit) throws -> Void
  ) {
    while true {
      let work = state.wait { state -> Work? in
        if isSerial, !state.jobs.isEmpty { return .job(state.jobs.removeFirst()) }
        let queued = isSerial ? state.serial.first : state.blocking.first
        guard let index = queued else { return state.isStopping ? .nothing : nil }
        if isSerial { state.serial.removeFirst() } else { state.blocking.removeFirst() }
        let slot = state.slots[index]
        return .slot(index, slot.run!, slot.fault, slot.permit)
      }
      switch work {
      case .slot(let index, let run, let fault, let permit):
        var failure: (any Error)?
        do { try answer(run, fault, permit) } catch { failure = error }
        state.withLock { state in
          if case .abandoned = state.slots[index].outcome {
            state.free(index)
          } else {
            state.slots[index].outcome = .ended(failure)
          }
        }
        state.announce()
      case .job(let job):
        job()
      case .nothing, nil:
        return
      }
    }
  }
}

extension RegionCore {
  /// Whether the helper that asks for one page at a time asks the provider.
  var isForSerialHelper: Bool { !mayRunInFaultingThread && !(mayBlock && mayBeAskedConcurrently) }
}
