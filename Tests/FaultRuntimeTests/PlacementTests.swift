import CTestSupport
import CUFFD
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import FaultRuntime

@Suite("When the handler follows the faulting thread")
struct FollowingPolicyTests {
  /// Serves `count` faults at intervals of `nanoseconds`, as long as the advice is to go on. A look or a check that
  /// is advised finds nothing. Returns the first other advice, or `goOn`.
  private func serve(_ policy: inout FollowingPolicy, _ count: Int, every nanoseconds: UInt64, from now: inout UInt64)
    -> FollowingPolicy.Advice
  {
    for _ in 0..<count {
      now += nanoseconds
      var advice = policy.served(at: now)
      if advice == .look {
        policy.looked(moved: false)
        advice = .goOn
      }
      if advice == .check { advice = policy.checked(starvedNanoseconds: 0, moved: false) }
      if advice != .goOn { return advice }
    }
    return .goOn
  }

  @Test("It follows from the first fault on, and begins SCHED_IDLE with the fourth; what is not known is not compared")
  func kept() {
    var policy = FollowingPolicy(isUnconditional: false)
    var now: UInt64 = 80_000
    #expect(policy.served(at: now) == .look)
    policy.looked(moved: true)
    #expect(serve(&policy, 2, every: 80_000, from: &now) == .goOn)
    #expect(serve(&policy, 1, every: 80_000, from: &now) == .tryIdle)
    policy.began()
    #expect(serve(&policy, 100_000, every: 90_000, from: &now) == .goOn)
    #expect(policy.isIdle)
  }

  @Test("It is left where it is not faster than the usual class was, and tried again ever more seldom")
  func left() {
    var policy = FollowingPolicy(isUnconditional: false)
    var now: UInt64 = 1
    #expect(serve(&policy, 4, every: 10_000, from: &now) == .tryIdle)
    policy.began()
    #expect(policy.checked(starvedNanoseconds: .max, moved: false) == .leave)
    var distances: [Int] = []
    for _ in 0..<4 {
      policy.left()
      var count = 1
      while serve(&policy, 1, every: 10_000, from: &now) == .goOn { count += 1 }
      distances.append(count)
      policy.began()
      #expect(serve(&policy, 48, every: 10_000, from: &now) == .leave)
    }
    #expect(distances == [256, 1024, 4096, 4096])
    // This time the handler stays, because it is faster.
    policy.left()
    #expect(serve(&policy, 4096, every: 10_000, from: &now) == .tryIdle)
    policy.began()
    #expect(serve(&policy, 10_000, every: 7000, from: &now) == .goOn)
  }

  @Test("Where it is wanted it begins with the first fault, and compares nothing")
  func unconditional() {
    var policy = FollowingPolicy(isUnconditional: true)
    var now: UInt64 = 1
    #expect(serve(&policy, 1, every: 10_000, from: &now) == .tryIdle)
    policy.began()
    #expect(policy.checked(starvedNanoseconds: .max, moved: false) == .leave)
    policy.left()
    #expect(serve(&policy, 256, every: 10_000, from: &now) == .tryIdle)
    policy.began()
    #expect(serve(&policy, 1000, every: 90_000, from: &now) == .goOn)
  }

  @Test("A handler that waits for its CPU leaves at once; a pause is looked into at once")
  func starving() {
    var policy = FollowingPolicy(isUnconditional: true)
    var now: UInt64 = 1
    _ = serve(&policy, 1, every: 10_000, from: &now)
    policy.began()
    #expect(serve(&policy, 70, every: 10_000, from: &now) == .goOn)
    #expect(policy.served(at: now + 2_000_000) == .check)
    #expect(policy.checked(starvedNanoseconds: 150_000, moved: false) == .goOn)
    #expect(policy.served(at: now + 4_000_000) == .check)
    #expect(policy.checked(starvedNanoseconds: 1_900_000, moved: false) == .leave)
  }

  @Test("Faults that take much longer than usual have the faulting thread looked for after two of them")
  func slow() {
    var policy = FollowingPolicy(isUnconditional: true)
    var now: UInt64 = 1
    _ = serve(&policy, 1, every: 10_000, from: &now)
    policy.began()
    // The last look was at fault 511, and the next one is due at fault 767.
    #expect(serve(&policy, 520, every: 10_000, from: &now) == .goOn)
    var advice: [FollowingPolicy.Advice] = []
    for _ in 0..<2 {
      now += 80_000
      advice.append(policy.served(at: now))
    }
    #expect(advice == [.goOn, .check])
  }

  @Test("Faults from several CPUs by turns are nobody to follow: SCHED_IDLE is left, and looks become rare")
  func chasing() {
    var policy = FollowingPolicy(isUnconditional: true)
    var now: UInt64 = 1
    _ = serve(&policy, 1, every: 10_000, from: &now)
    policy.began()
    var moves = 0
    while policy.checked(starvedNanoseconds: 0, moved: true) == .goOn { moves += 1 }
    #expect(moves == 6)
    policy.left()
    var looks: [Int] = []
    for fault in 1...200 {
      now += 10_000
      if policy.served(at: now) == .look {
        looks.append(fault)
        policy.looked(moved: true)
      }
    }
    #expect(looks == [1, 2, 3, 4, 5, 6, 7, 9, 13, 21, 37, 69, 133])
  }

  @Test("While four threads and more fault at once nobody is followed, and SCHED_IDLE is neither kept nor tried")
  func crowd() {
    var policy = FollowingPolicy(isUnconditional: false)
    var now: UInt64 = 1
    #expect(serve(&policy, 4, every: 10_000, from: &now) == .tryIdle)
    policy.began()
    var advice: [FollowingPolicy.Advice] = []
    for _ in 0..<3 {
      now += 10_000
      advice.append(policy.served(at: now, messages: 4))
    }
    // After the first fault, a check is due anyway. The third large batch makes a crowd.
    #expect(advice == [.check, .check, .leave])
    policy.left()
    // A handler that keeps up with four threads still reads four faults at once now and then.
    for batch in 1...10_000 {
      now += 10_000
      let messages = batch.isMultiple(of: 30) ? 4 : batch % 3 + 1
      guard policy.served(at: now, messages: messages) != .goOn else { continue }
      Issue.record("batch \(batch) has the handler do something")
      break
    }
  }

  @Test("When a crowd has ended, the one that is left is looked for at once, and SCHED_IDLE is tried again")
  func crowdEnds() {
    var policy = FollowingPolicy(isUnconditional: false)
    var now: UInt64 = 1
    for _ in 0..<20 { _ = policy.served(at: now, messages: 8) }
    #expect(serve(&policy, 255, every: 10_000, from: &now) == .goOn)
    now += 10_000
    #expect(policy.served(at: now) == .look)
    policy.looked(moved: false)
    #expect(serve(&policy, 256, every: 10_000, from: &now) == .tryIdle)
  }

  @Test("Two or three threads are followed, and so is whoever is wanted to be")
  func noCrowd() {
    var policy = FollowingPolicy(isUnconditional: false)
    var wanted = FollowingPolicy(isUnconditional: true)
    var now: UInt64 = 1
    #expect(serve(&policy, 4, every: 10_000, from: &now) == .tryIdle)
    #expect(wanted.served(at: now, messages: 8) == .tryIdle)
    policy.began()
    wanted.began()
    var gauge = CrowdGauge()
    for batch in 1...1000 {
      now += 10_000
      let advice = [policy.served(at: now, messages: 3), wanted.served(at: now, messages: 8)]
      // Threads that start together are not a crowd yet.
      let finding = gauge.served(messages: batch < 3 ? 8 : 3)
      guard finding != .none || !advice.allSatisfy({ $0 == .goOn || $0 == .check }) else { continue }
      Issue.record("batch \(batch) leads to \(advice) and \(finding)")
      break
    }
  }

  @Test("Without a thread for SCHED_IDLE it is never tried again, and the usual class follows")
  func noIdleThread() {
    var policy = FollowingPolicy(isUnconditional: true)
    var now: UInt64 = 1
    #expect(serve(&policy, 1, every: 10_000, from: &now) == .tryIdle)
    policy.began()
    policy.giveUpIdle()
    #expect(policy.served(at: now) == .look)
    policy.looked(moved: true)
    #expect(serve(&policy, 20_000, every: 10_000, from: &now) == .goOn)
    #expect(!policy.isIdle)
  }

  @Test("Looks are at 1, 3, 7, and so on up to 256 apart, and begin anew after a move")
  func looks() {
    var schedule = LookSchedule()
    var due: [Int] = []
    for step in 1...1400 where schedule.isDue() {
      due.append(step)
      schedule.looked(moved: step == 1023)
    }
    #expect(due == [1, 3, 7, 15, 31, 63, 127, 255, 511, 767, 1023, 1024, 1026, 1030, 1038, 1054, 1086, 1150, 1278])
  }
}

@Suite("Where handlers run", .timeLimit(.minutes(6)))
struct PlacementTests {
  /// SCHED_IDLE, which the C library declares for GNU sources only.
  private static let idle = 5

  private static let hasTwoCPUs = CPUSet.ofCaller().count > 1

  private static let cpus = (0..<1024).filter { CPUSet.ofCaller().contains($0) }

  private static func runtime(_ placement: HandlerPlacement) throws -> FaultRuntime {
    var configuration = FaultRuntimeConfiguration(delivery: .eventLoop, placement: placement)
    // The handler follows on a busy machine too, because other tests keep this machine busy.
    configuration.followsWhenBusy = true
    return try FaultRuntime(configuration)
  }

  /// Touches page after page of a new region until the condition holds.
  private static func touch(_ runtime: FaultRuntime, until condition: () -> Bool) throws -> Bool {
    let pages = 100_000
    let region = try runtime.map(patternProvider(), byteCount: pages * pageBytes)
    for page in 0..<pages {
      guard region.access(page * pageBytes) == .byte(expectedByte(page * pageBytes)) else { return false }
      if page % 16 == 15, condition() { return true }
    }
    return false
  }

  @Test("It follows to the CPU of the faulting thread, under SCHED_IDLE", .enabled(if: hasTwoCPUs, SkipReason.twoCPUs))
  func following() async {
    await #expect(processExitsWith: .success) {
      let runtime = try Self.runtime(.withFaultingThread)
      for cpu in [Self.cpus[0], Self.cpus[1], Self.cpus[0]] {
        #expect(cts_run_on_cpu(CInt(cpu)) == 0)
        let arrived = try Self.touch(runtime) {
          runtimeThreads(named: "fault-follower").contains { $0.cpus == String(cpu) && $0.policy == Self.idle }
        }
        #expect(arrived)
      }
      #expect(runtime.statistics.handovers > 0)
      // The policy of the ordinary thread never changed.
      let ordinary = runtimeThreads(named: "fault-handler")
      #expect(ordinary.map(\.policy) == [Int(SCHED_OTHER)])
    }
  }

  @Test("With every CPU busy it hands over to the ordinary thread", .enabled(if: hasTwoCPUs, SkipReason.twoCPUs))
  func starving() async {
    await #expect(processExitsWith: .success) {
      let runtime = try Self.runtime(.withFaultingThread)
      let began = try Self.touch(runtime) { runtime.statistics.handovers > 0 }
      #expect(began)
      let isDone = Atomic<Bool>(false)
      let spinners = (0..<(3 * Self.cpus.count)).map { _ in TestThread { while !isDone.load(ordering: .relaxed) {} } }
      let before = runtime.statistics.handovers
      let left = try Self.touch(runtime) { runtime.statistics.handovers > before }
      #expect(left)
      isDone.store(true, ordering: .relaxed)
      for spinner in spinners { #expect(spinner.join()) }
    }
  }

  @Test("A spinning handler keeps off the CPU of the faulting thread", .enabled(if: hasTwoCPUs, SkipReason.twoCPUs))
  func spinning() async {
    await #expect(processExitsWith: .success) {
      let runtime = try Self.runtime(.spinning(.milliseconds(1)))
      let everything = runtimeThreads(named: "fault-handler").first?.cpus ?? ""
      for cpu in Self.cpus.prefix(2) {
        #expect(cts_run_on_cpu(CInt(cpu)) == 0)
        let left = try Self.touch(runtime) {
          let cpus = runtimeThreads(named: "fault-handler").first?.cpus ?? ""
          return cpus != everything && !cpus.split(whereSeparator: { ",-".contains($0) }).contains(Substring("\(cpu)"))
        }
        #expect(left)
      }
      #expect(runtimeThreads(named: "fault-follower").isEmpty)
      // The handler stops spinning after a while and sleeps.
      #expect(eventually { runtimeThreads(named: "fault-handler").contains(where: \.isAsleep) })
    }
  }

  @Test("Where a sandbox forbids the scheduling calls, faults are served all the same")
  func forbidden() async {
    await #expect(processExitsWith: .success) {
      #expect(cts_deny_scheduling(EPERM) == 0)
      for placement in [HandlerPlacement.withFaultingThread, .automatic, .spinning(.microseconds(50))] {
        let runtime = try Self.runtime(placement)
        let region = try runtime.map(patternProvider(), byteCount: 200 * pageBytes)
        #expect(mismatches(in: region) == [])
        #expect(runtimeThreads().allSatisfy { $0.policy == SCHED_OTHER })
      }
    }
  }

  @Test(
    "Handlers that go back and forth between their threads lose nothing", .enabled(if: hasTwoCPUs, SkipReason.twoCPUs))
  func backAndForth() throws {
    let runtime = try Self.runtime(.withFaultingThread)
    // The test repeats this until the handler has given up a chase.
    for _ in 0..<30 where runtime.statistics.handovers < 2 { try hop(over: runtime) }
    #expect(runtime.statistics.handovers >= 2)
  }

  /// Runs three threads that touch all pages of a region and change their CPU all the time.
  private func hop(over runtime: FaultRuntime) throws {
    let pages = 3000
    let region = try runtime.map(patternProvider(), byteCount: pages * pageBytes)
    let address = region.address
    let wrong = Atomic<Int>(0)
    let threads = (0..<3).map { index in
      TestThread {
        for page in 0..<pages {
          if page % 7 == index { _ = cts_run_on_cpu(CInt(Self.cpus[page / 7 % 2])) }
          let offset = (page * 3 + index) % pages * pageBytes
          if read(address + UInt(offset)) != .byte(expectedByte(offset)) { wrong.wrappingAdd(1, ordering: .relaxed) }
        }
      }
    }
    for thread in threads { #expect(thread.join()) }
    #expect(wrong.load(ordering: .relaxed) == 0)
  }

  @Test(
    "The place of a thread is found, and found again when it has moved", .enabled(if: hasTwoCPUs, SkipReason.twoCPUs))
  func locating() {
    let cpu = Monitor(Self.cpus[0])
    let seen = Monitor(-1)
    let number = Monitor<UInt32>(0)
    let isDone = Atomic<Bool>(false)
    let wanderer = TestThread {
      while !isDone.load(ordering: .relaxed) {
        let wanted = cpu.withLock { $0 }
        if cts_run_on_cpu(CInt(wanted)) == 0 { seen.withLock { $0 = wanted } }
        number.withLock { $0 = UInt32(cts_thread_id()) }
      }
    }
    let follower = TestThread {
      var locator = ThreadLocator(allowed: .ofCaller())
      for next in [Self.cpus[0], Self.cpus[1], Self.cpus[0]] {
        cpu.withLock { $0 = next }
        #expect(eventually { seen.withLock { $0 } == next && number.withLock { $0 } != 0 })
        let thread = number.withLock { $0 }
        let moved = locator.join(thread)
        #expect(moved)
        let own = CPUSet.ofCaller()
        #expect(own.count == 1 && own.contains(next))
        let movedAgain = locator.join(thread)
        #expect(!movedAgain)
      }
    }
    #expect(follower.join())
    isDone.store(true, ordering: .relaxed)
    #expect(wanderer.join())
  }

  @Test(
    "While every CPU is busy a handler follows in the usual class", .enabled(if: hasTwoCPUs, SkipReason.twoCPUs))
  func everyCPUBusy() {
    let isDone = Atomic<Bool>(false)
    let spinners = (0..<(3 * Self.cpus.count)).map { _ in TestThread { while !isDone.load(ordering: .relaxed) {} } }
    for (ignoresLoad, wanted) in [(false, nil), (true, HandlerRole.following)] {
      let asker = TestThread {
        var placer = HandlerPlacer(.withFaultingThread, knowsThreads: true, ignoresLoad: ignoresLoad)
        let next = placer.afterBatch(of: UInt32(cts_thread_id()))
        #expect(next == wanted)
        // A thread that is confined to one CPU could be kept from running.
        #expect(CPUSet.ofCaller().count == Self.cpus.count)
      }
      #expect(asker.join())
    }
    isDone.store(true, ordering: .relaxed)
    for spinner in spinners { #expect(spinner.join()) }
  }

  @Test("Both threads of a handler end with it")
  func ends() async {
    await #expect(processExitsWith: .success) {
      for _ in 0..<5 {
        let runtime = try Self.runtime(.withFaultingThread)
        let region = try runtime.map(patternProvider(), byteCount: 40 * pageBytes)
        #expect(mismatches(in: region) == [])
        // Threads that have ended may still be visible for a moment.
        #expect(eventually { runtimeThreads(named: "fault-handler").count == 1 })
        #expect(eventually { runtimeThreads(named: "fault-follower").count == (Self.hasTwoCPUs ? 1 : 0) })
      }
      #expect(eventually { runtimeThreads().isEmpty })
    }
  }
}

@Suite("Texts of the kernel")
struct KernelTextTests {
  /// Returns the text of a stat file whose name looks like further fields, with `cpu` and `schedulingClass` in their
  /// fields.
  private func stat(cpu: String, schedulingClass: String) -> String {
    let fields = ["S"] + (4...38).map(String.init) + [cpu, "0", schedulingClass, "0"]
    return "17 (a) R 1 (b) " + fields.joined(separator: " ") + "\n"
  }

  @Test("The CPU is found behind any name; a real-time thread has none, nor has a text that does not say")
  func lastCPU() {
    #expect(unsafe cuffd_parse_last_cpu(stat(cpu: "0", schedulingClass: "0")) == 0)
    #expect(unsafe cuffd_parse_last_cpu(stat(cpu: "1023", schedulingClass: "5")) == 1023)
    for schedulingClass in ["1", "2", "6"] {
      #expect(unsafe cuffd_parse_last_cpu(stat(cpu: "3", schedulingClass: schedulingClass)) == -EBUSY)
    }
    // A text that is not a number, or a number that is too large, must not be taken for an error number or for
    // another CPU.
    for cpu in ["", "-2", "x", "2147483648", "99999999999999999999"] {
      #expect(unsafe cuffd_parse_last_cpu(stat(cpu: cpu, schedulingClass: "0")) == -ENOTSUP)
    }
    for text in ["", ")", "17 (name) S 1 2 3", "no parenthesis 1 2 3"] {
      #expect(unsafe cuffd_parse_last_cpu(text) == -ENOTSUP)
    }
  }

  @Test("Waiting times and runnable threads are read, and what is missing is said to be")
  func numbers() {
    #expect(unsafe cuffd_parse_run_delay("9153221 77 12\n") == 77)
    #expect(unsafe cuffd_parse_run_delay("1 \(Int64.max) 1") == Int64.max)
    #expect(unsafe cuffd_parse_run_delay("1 9223372036854775808 1") == -Int64(ENOTSUP))
    #expect(unsafe cuffd_parse_run_delay("12") == -Int64(ENOTSUP))
    #expect(unsafe cuffd_parse_runnable_threads("0.20 0.18 0.12 3/80 11206\n") == 3)
    #expect(unsafe cuffd_parse_runnable_threads("0.20 0.18 0.12 -3/80 11206\n") == -ENOTSUP)
    #expect(unsafe cuffd_parse_runnable_threads("0.20 0.18") == -ENOTSUP)
  }

  @Test("A size of huge pages that cannot be is none")
  func hugePages() {
    let enabled = "always [madvise] never\n"
    #expect(unsafe cuffd_parse_huge_page_size(enabled, "2097152\n") == 2 << 20)
    #expect(unsafe cuffd_parse_huge_page_size("always madvise [never]\n", "2097152\n") == 0)
    for size in ["", "0", "1", "3145728", "-4096", "99999999999999999999", "2147483648"] {
      #expect(unsafe cuffd_parse_huge_page_size(enabled, size) == 0)
    }
  }
}
