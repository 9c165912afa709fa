internal import CUFFD

/// The accounts of a pool: which tasks wait for a thread, which thread makes a call of which provider, and how long
/// that call has lasted. From these follows which task may begin. The lock of the pool protects all of it.
///
/// A thread of the pool is *available* unless it is in a call that was given up, or in one that has lasted for longer
/// than the pool's patience. A thread that waits in a fault counts as available, because the number of threads that
/// are started for such waits is limited on its own.
struct PoolState {
  /// A thread of the pool, or the place of one that has ended.
  struct Slot {
    var thread: FaultThread
    /// Whether this is a serial thread, which asks the providers that only one thread may ask.
    var isSerial: Bool
    /// The kernel's number of the thread; 0 until the thread has started and after it has ended.
    var number: UInt32 = 0
    /// The task that the thread is working on; nil where it has none, or where its task was given up.
    var task: PoolTask?
    /// The region of the task that was given up, until the thread returns from it.
    var givenUp: Region?
    /// When the task began, in monotonic nanoseconds.
    var since: UInt64 = 0
    /// Whether the task has come to wait in a fault.
    var waitsInFault = false
    /// Whether the thread has ended. A new thread uses the slot again.
    var isVacant = false

    var isIdle: Bool { task == nil && givenUp == nil && !isVacant }

    func hasLasted(_ nanoseconds: UInt64, at now: UInt64) -> Bool { now > since && now - since >= nanoseconds }
  }

  /// The calls that occupy threads of one kind.
  private struct Load {
    /// Calls that have not lasted for longer than the patience, and how many of them are prefetches.
    var prompt = 0
    var promptPrefetches = 0
    /// Calls that do not count as stuck, and how many of them are prefetches.
    var current = 0
    var currentPrefetches = 0
    /// Whether a call has lasted for longer than the patience.
    var hasLate = false
  }

  let limits: PoolLimits
  private(set) var demand: [PoolTask] = []
  private(set) var prefetch: [PoolTask] = []
  var slots: [Slot] = []
  private(set) var hasSerial = false
  /// How many threads are permitted beyond the limit, because threads of the pool have come to wait in faults.
  private(set) var extra = 0
  var isStopping = false
  /// Whether the keeper looks at the waiting tasks from time to time.
  var isKept = false
  /// Whether the latest thread that was wanted could not be started.
  var isShort = false
  /// Whether a thread is about to be started in place of one that was given up. It is not known yet whether that
  /// succeeds, so no region of which a call was given up gets one of the others meanwhile.
  var isReplacing = false
  /// The number of calls that were given up and have not returned.
  private(set) var givenUp = 0
  private var idle = (shared: 0, serial: 0)

  /// The number of calls that were given up from which on a region gets no thread. If no thread can be started in
  /// place of one that does not return, this is a single call, so that no region gets the remaining threads one after
  /// another.
  var bound: Int { isShort || givenUp >= PoolLimits.givenUpInAll ? 1 : PoolLimits.givenUp }

  /// Reserves room for the requests of many threads at once, so that faults allocate nothing.
  init(_ limits: PoolLimits) {
    self.limits = limits
    demand.reserveCapacity(128)
    prefetch.reserveCapacity(16)
  }

  // MARK: Tasks

  var hasTasks: Bool { !demand.isEmpty || !prefetch.isEmpty }

  mutating func add(_ task: PoolTask) {
    if case .prefetch = task { prefetch.append(task) } else { demand.append(task) }
  }

  /// Removes the tasks that match, unless a thread works on them.
  mutating func removeDemand(where isMeant: (PoolTask) -> Bool) { demand.removeAll(where: isMeant) }

  /// Removes and returns the waiting prefetches that match. Allocates nothing where none does.
  mutating func removePrefetches(where isMeant: (PoolPrefetch) -> Bool) -> [(job: PoolPrefetch, server: any PoolServer)]
  {
    var removed: [(job: PoolPrefetch, server: any PoolServer)] = []
    prefetch.removeAll { task in
      guard case .prefetch(let job, let server) = task, isMeant(job) else { return false }
      removed.append((job, server))
      return true
    }
    return removed
  }

  // MARK: Threads

  mutating func add(_ slot: Slot, at index: Int) {
    if index < slots.count { slots[index] = slot } else { slots.append(slot) }
    if slot.isSerial { hasSerial = true }
    countIdle(slot.isSerial, 1)
  }

  func hasIdle(isSerial: Bool) -> Bool { isSerial ? idle.serial > 0 : idle.shared > 0 }

  private mutating func countIdle(_ isSerial: Bool, _ change: Int) {
    if isSerial { idle.serial += change } else { idle.shared += change }
  }

  /// The number of threads of a kind that are available.
  func available(isSerial: Bool) -> Int {
    let now = cuffd_monotonic_nanoseconds()
    return slots.count { slot in
      guard slot.isSerial == isSerial, !slot.isVacant, slot.givenUp == nil else { return false }
      return slot.task == nil || slot.waitsInFault || !slot.hasLasted(limits.patience, at: now)
    }
  }

  /// The number of threads of a kind that should be available. It does not count those that are started for a region
  /// that has none.
  func wanted(isSerial: Bool) -> Int { isSerial ? 1 : limits.threads + extra }

  // MARK: Beginning and ending a task

  /// Removes and returns the next task for an idle thread; nil where no waiting task may begin now.
  mutating func take(for index: Int) -> PoolTask? {
    guard hasTasks else { return nil }
    let isSerial = slots[index].isSerial
    let now = cuffd_monotonic_nanoseconds()
    let load = load(isSerial: isSerial, at: now)
    let task: PoolTask
    if let place = demand.firstIndex(where: { mayBegin($0, isSerial, load) }) {
      task = demand.remove(at: place)
    } else if let place = prefetch.firstIndex(where: { mayBegin($0, isSerial, load) }) {
      task = prefetch.remove(at: place)
    } else {
      return nil
    }
    slots[index].task = task
    slots[index].since = now
    task.region.calls.underWay += 1
    countIdle(isSerial, -1)
    return task
  }

  /// Notes that a thread has returned from its task. Returns false where it had none.
  mutating func end(_ index: Int) -> Bool {
    if let region = slots[index].givenUp {
      region.calls.noteReturn()
      givenUp -= 1
      slots[index].givenUp = nil
    } else if let task = slots[index].task {
      leave(task, index)
    } else {
      return false
    }
    countIdle(slots[index].isSerial, 1)
    return true
  }

  /// Gives up the task of a thread. Until the thread returns, the call counts as one that was given up.
  mutating func giveUp(_ index: Int) {
    guard let task = slots[index].task else { return }
    leave(task, index)
    slots[index].givenUp = task.region
    task.region.calls.noteGivenUp()
    givenUp += 1
  }

  private mutating func leave(_ task: PoolTask, _ index: Int) {
    task.region.calls.underWay -= 1
    if slots[index].waitsInFault { task.region.calls.waitingInFault -= 1 }
    slots[index].waitsInFault = false
    slots[index].task = nil
  }

  /// Notes that the thread with this number has come to wait in a fault, if it is one of the pool's and has a task.
  /// Returns whether a thread may be missing now. One more is then permitted, up to the limit for such waits.
  ///
  /// An idle thread is enough, unless all that should be available wait in faults already: the idle one was then
  /// started for a region that had none, and nobody would take its place when it makes a call that lasts.
  mutating func noteWait(of number: UInt32) -> Bool {
    let index = slots.firstIndex { $0.number == number && $0.task != nil && !$0.waitsInFault }
    if let index {
      slots[index].waitsInFault = true
      slots[index].task?.region.calls.waitingInFault += 1
    }
    let waiting = slots.count { $0.waitsInFault && !$0.isSerial }
    if hasIdle(isSerial: false), waiting < wanted(isSerial: false) { return false }
    extra = min(extra + 1, PoolLimits.forWaits)
    return true
  }

  /// Whether a thread is idle while more threads are available than should be.
  func isSurplus(_ index: Int) -> Bool {
    let isSerial = slots[index].isSerial
    // The first number is known without a look at each thread, and is as a rule not larger.
    guard slots[index].isIdle, slots.count > wanted(isSerial: isSerial) else { return false }
    return available(isSerial: isSerial) > wanted(isSerial: isSerial)
  }

  /// Ends an idle thread if more threads are available than should be. Returns whether the thread shall end.
  mutating func retire(_ index: Int) -> Bool {
    guard isSurplus(index) else { return false }
    slots[index].isVacant = true
    slots[index].number = 0
    countIdle(slots[index].isSerial, -1)
    return true
  }

  // MARK: Which task may begin

  private func load(isSerial: Bool, at now: UInt64) -> Load {
    var load = Load()
    for slot in slots where slot.isSerial == isSerial && !slot.waitsInFault {
      guard let task = slot.task else { continue }
      let isLate = slot.hasLasted(limits.patience, at: now)
      if isLate { load.hasLate = true }
      guard !slot.hasLasted(limits.stuckAfter, at: now) else { continue }
      let count = task.isPrefetch ? 1 : 0
      load.current += 1
      load.currentPrefetches += count
      if isLate { continue }
      load.prompt += 1
      load.promptPrefetches += count
    }
    return load
  }

  /// Whether a thread of the given kind may begin a task now.
  private func mayBegin(_ task: PoolTask, _ isSerial: Bool, _ load: Load) -> Bool {
    guard task.isSerial == isSerial else { return false }
    let region = task.region
    let calls = region.calls
    // The calls under way may all have to be given up.
    if calls.givenUp > 0, calls.underWay - calls.waitingInFault + calls.givenUp >= (isReplacing ? 1 : bound) {
      return false
    }
    // A provider that was given up is still being asked. A thread that waits in a fault is still asking as well.
    if isSerial || !region.mayBeAskedConcurrently, calls.underWay > 0 || calls.givenUp > 0 { return false }
    // A prefetch on a serial thread takes no thread away from the others.
    let isPrefetch = task.isPrefetch && !isSerial
    // A region that has no thread waits only for calls that are prompt.
    if calls.underWay == 0 {
      // One serial thread is enough while calls are prompt. Behind one that is not, many others may be stuck as well.
      let most = isSerial && !load.hasLate ? 1 : limits.threads
      return load.prompt < most && !(isPrefetch && load.promptPrefetches >= limits.share)
    }
    return calls.underWay - calls.waitingInFault < limits.share && load.current < limits.threads
      && !(isPrefetch && load.currentPrefetches >= limits.share)
  }

  /// What has to happen so that a waiting task begins that may begin.
  enum Remedy {
    case wakeIdle, startThread
  }

  /// Returns what the tasks of one kind need; nil where no waiting task may begin.
  func remedy(isSerial: Bool) -> Remedy? {
    let load = load(isSerial: isSerial, at: cuffd_monotonic_nanoseconds())
    let mayBegin = { (task: PoolTask) in self.mayBegin(task, isSerial, load) }
    guard demand.contains(where: mayBegin) || prefetch.contains(where: mayBegin) else { return nil }
    if hasIdle(isSerial: isSerial) { return .wakeIdle }
    let isStarving = { (task: PoolTask) in mayBegin(task) && task.region.calls.underWay == 0 }
    if demand.contains(where: isStarving) || prefetch.contains(where: isStarving) { return .startThread }
    return available(isSerial: isSerial) < wanted(isSerial: isSerial) ? .startThread : nil
  }
}
