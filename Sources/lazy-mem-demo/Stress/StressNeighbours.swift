import CStressSupport
import FaultRuntime
import Glibc
import Synchronization

/// What code beside the library does to it: signal handlers, threads that are cancelled, jumps, sources that do not
/// answer, changes of the mapping, and children that have a runtime of their own. Each operation makes regions of its
/// own, whose bytes are known without a model.
struct StressNeighbours {
  let run: StressRun
  let doing: StressOperation
  let draw: StressWorker.Draw

  private static let pageCount = 64

  /// The runtimes of which an operation knows how they deliver faults.
  private static let kinds: [StressRuntimeKind] = [.eventLoop, .manyThreads, .sigbus, .sigsegv]

  private var kind: StressRuntimeKind { Self.kinds[Int(draw.first % UInt64(Self.kinds.count))] }

  func perform() {
    do {
      switch doing {
      case .ticks: try readWithTicks()
      case .cancel: try cancel()
      case .jump: try jump()
      case .stuck: readBesideStuckSources()
      case .protect: try protect()
      case .move: try move()
      case .forkAndMap: mapInChild()
      default: break
      }
    } catch {
      run.note(error, doing.name)
    }
  }

  // MARK: Regions

  private func map(
    _ kind: StressRuntimeKind, _ provider: some PageProvider, seed: UInt64, timeout: Duration? = nil
  ) throws -> StressMemory {
    let byteCount = Self.pageCount * run.pageSize
    let region = try run.runtime(kind).map(
      provider, byteCount: byteCount, options: RegionOptions(name: "\(doing)", advice: .random, timeout: timeout))
    let range = cstress_range(
      address: unsafe UInt(bitPattern: region.unsafeBytes.baseAddress), page_count: Self.pageCount,
      page_size: run.pageSize, seed: seed)
    return StressMemory(region: region, range: range)
  }

  private func map(_ kind: StressRuntimeKind, seed: UInt64) throws -> StressMemory {
    try map(kind, WordProvider(seed: seed), seed: seed)
  }

  private func judge(_ outcome: cstress_outcome, _ kind: StressRuntimeKind, mayFail: Bool = false) {
    if outcome.error == ETIMEDOUT {
      run.tally.mismatch("\(doing), \(kind): a thread did not end")
    } else if outcome.error == ECANCELED {
      run.tally.mismatch("\(doing), \(kind): a cancelled thread ended as if it had returned")
    } else if outcome.error != 0 {
      run.tally.limit("\(doing), \(KernelErrno(rawValue: outcome.error))")
    }
    if outcome.wrong > 0 { run.tally.mismatch("\(doing), \(kind): \(outcome.wrong) pages are wrong") }
    guard outcome.failed > 0 else { return }
    // The kernel's answers are made worse in debug builds, so that it lacks memory for a page now and then.
    if mayFail || run.settings.troublePerMillion > 0 {
      run.tally.failure("\(doing), pages that failed")
    } else {
      run.tally.mismatch("\(doing), \(kind): \(outcome.failed) pages failed")
    }
  }

  // MARK: Operations

  /// A signal handler touches lazy memory, and interrupts a thread that does the same.
  private func readWithTicks() throws {
    guard !cstress_blocks_faults_in_handlers() else { return }
    let memory = try map(kind, seed: draw.second | 1)
    let touched = try map(Self.kinds[Int(draw.third % UInt64(Self.kinds.count))], seed: draw.third | 1)
    let outcome = unsafe withUnsafePointer(to: memory.range) { range in
      unsafe withUnsafePointer(to: touched.range) { other in
        unsafe cstress_read_with_ticks(range, other, UInt32(50 + draw.second % 400))
      }
    }
    judge(outcome, kind)
    memory.close()
    touched.close()
  }

  /// A thread is cancelled in a fault or between two.
  private func cancel() throws {
    guard !cstress_is_sanitized() else { return }
    let memory = try map(kind, seed: draw.second | 1)
    let outcome = unsafe withUnsafePointer(to: memory.range) {
      unsafe cstress_cancel_reader(
        $0, draw.third & 1 == 0, Int((draw.third >> 8) % UInt64(Self.pageCount)), UInt32(run.settings.patience))
    }
    judge(outcome, kind)
    // What the thread held is free again.
    judge(memory.readAll(), kind)
    memory.close()
  }

  /// A provider touches a page that fails, and the handler of the program jumps out of the access that has asked the
  /// provider.
  private func jump() throws {
    guard !cstress_is_sanitized() else { return }
    let kind: StressRuntimeKind = draw.first & 1 == 0 ? .sigbus : .sigsegv
    let broken = try map(kind, ClosureProvider(permissions: .inAnyThread) { _, _ in throw Broken() }, seed: 1)
    let target = broken.range.address
    let memory = try map(
      kind,
      ClosureProvider(permissions: .inAnyThread) { request, page in
        page.append(repeating: cstress_load(target &+ UInt(request.offset)), count: request.byteCount)
        return .filled
      }, seed: 1)
    let outcome = memory.readAll()
    if outcome.failed != Self.pageCount {
      run.tally.mismatch("\(doing), \(kind): \(outcome.failed) of \(Self.pageCount) accesses ended by a jump")
    }
    let healthy = try map(kind, seed: draw.second | 1)
    judge(healthy.readAll(), kind)
    for memory in [healthy, memory, broken] { memory.close() }
  }

  /// Threads wait for sources that do not answer, of which there are more than the runtime has threads for providers.
  /// Another region of the same runtime is served meanwhile.
  private func readBesideStuckSources() {
    let kind: StressRuntimeKind = [.eventLoop, .manyThreads, .sigsegv][Int(draw.first % 3)]
    // With `sigsegv`, the providers that one thread at a time may ask share a thread at first.
    let permissions: ProviderPermissions = draw.third & 1 == 0 ? [.concurrentRequests] : []
    let seed = draw.second | 1
    let gate = StressSwitch()
    var arrivals: [StressSwitch] = []
    var patient: [StressMemory] = []
    var impatient: [StressMemory] = []
    do {
      for number in 0...kind.configuration.providerThreads {
        let arrival = StressSwitch()
        let provider = ClosureProvider(permissions: permissions) { request, page in
          arrival.open()
          gate.wait()
          return WordProvider.fill(request, &page, seed)
        }
        // Without a userfaultfd, no request can be given up.
        if kind != .sigsegv, number % 2 == 1 {
          impatient.append(try map(kind, provider, seed: seed, timeout: Self.stuckTimeout))
        } else {
          patient.append(try map(kind, provider, seed: seed))
        }
        arrivals.append(arrival)
      }
    } catch {
      run.note(error, doing.name)
    }
    // Some regions of those that wait for ever have more threads than one.
    let waiting = unsafe startCrowd(patient, more: Int((draw.third >> 8) % 8))
    let failing = unsafe startCrowd(impatient, more: 0)
    // Where a thread could not be started, its region keeps no thread of the runtime.
    let end = monotonicSeconds() + min(2, run.settings.patience / 4)
    while !arrivals.allSatisfy({ $0.hasOpened }), monotonicSeconds() < end { stressPause() }
    do {
      let healthy = try map(kind, WordProvider(seed: seed ^ 2, permissions: permissions), seed: seed ^ 2)
      judge(healthy.readAll(), kind)
      healthy.close()
    } catch {
      run.note(error, doing.name)
    }
    gate.open()
    if let waiting = unsafe waiting { judge(unsafe cstress_join_crowd(waiting), kind) }
    if let failing = unsafe failing { judge(unsafe cstress_join_crowd(failing), kind, mayFail: true) }
    for memory in patient + impatient { memory.close() }
  }

  /// How long the requests of some stuck regions may take. Each of their pages that fails keeps one more thread of the
  /// pool until the sources answer.
  private static let stuckTimeout = Duration.milliseconds(200)

  /// Starts a thread for each region, and `more` further ones, that read the memory. Returns nil where there is no
  /// region, or no memory for this.
  private func startCrowd(_ memories: [StressMemory], more: Int) -> OpaquePointer? {
    guard !memories.isEmpty else { return nil }
    let threads = memories.count + more
    let crowd = unsafe memories.map(\.range).withUnsafeBufferPointer {
      unsafe cstress_start_crowd($0.baseAddress, $0.count, threads)
    }
    var started = 0
    if let crowd = unsafe crowd { started = unsafe cstress_crowd_size(crowd) }
    if started < threads { run.tally.limit("\(doing), threads") }
    return unsafe crowd
  }

  /// The program changes the protection. Before Linux 6.15 missing pages of `sigsegv` would read as zero then.
  private func protect() throws {
    let kind = kind
    guard kind != .sigsegv || cstress_has_guards() else { return }
    let memory = try map(kind, seed: draw.second | 1)
    let half = Self.pageCount / 2 * run.pageSize
    let start = memory.range.address + (draw.third & 1 == 0 ? 0 : UInt(half))
    guard cstress_protect(start, half, PROT_READ) == 0 else { return run.tally.limit("\(doing), mprotect") }
    judge(memory.readAll(), kind)
    let byte: [UInt8] = [1]
    if unsafe cstress_write(start, byte, 1) != SIGSEGV {
      run.tally.mismatch("\(doing), \(kind): a write to read-only memory succeeds")
    }
    if cstress_protect(start, half, PROT_NONE) == 0 {
      let outcome = memory.readAll()
      if outcome.failed < Self.pageCount / 2 { run.tally.mismatch("\(doing), \(kind): memory without access was read") }
      if outcome.wrong > 0 { run.tally.mismatch("\(doing), \(kind): \(outcome.wrong) pages are wrong") }
    }
    if cstress_protect(start, half, PROT_READ | PROT_WRITE) == 0 { judge(memory.readAll(), kind) }
    memory.close()
  }

  /// The program moves memory. What was there goes with it, and what was not there fails.
  private func move() throws {
    // Not with `sigsegv`: the memory of another thread may land in the hole that the move leaves, and closing the
    // region would take that memory away.
    let kind: StressRuntimeKind = [.eventLoop, .manyThreads, .sigbus][Int(draw.first % 3)]
    let memory = try map(kind, seed: draw.second | 1)
    var head = memory.range
    head.page_count = 1 + Int(draw.third % UInt64(Self.pageCount / 2))
    let length = head.page_count * run.pageSize
    if draw.third & 1 << 32 == 0 { judge(unsafe cstress_read_words(&head), kind) }
    var place: UInt = 0
    // The memory goes to another place, or to the other end of the region.
    let isInside = draw.third & 1 << 33 == 0
    if isInside {
      place = memory.range.address + UInt(Self.pageCount * run.pageSize - length)
    } else if unsafe cstress_reserve(length, &place) != 0 {
      return run.tally.limit("\(doing), mmap")
    }
    guard cstress_move(head.address, length, place) == 0 else {
      if !isInside { cstress_unmap(place, length) }
      return run.tally.limit("\(doing), mremap")
    }
    head.address = place
    judge(unsafe cstress_read_words(&head), kind, mayFail: true)
    // The memory belongs to the region wherever it is, and goes with it.
    memory.close()
  }

  /// Does in this process, while it has no threads that work, what children will do. Swift's runtime has locks that it
  /// takes when it looks something up for the first time. A child in which nothing is the first does not need them;
  /// otherwise it would wait without end for one that another thread held during the fork.
  static func rehearse() {
    guard !cstress_is_sanitized() else { return }
    for kind in kinds {
      let child = StressChild(kind: kind, seed: 1, pageCount: pageCount, pageSize: Int(sysconf(CInt(_SC_PAGESIZE))))
      _ = child.live()
    }
  }

  /// A child makes a runtime of its own, whatever the threads of this process were doing when it was forked.
  private func mapInChild() {
    guard !cstress_is_sanitized() else { return }
    var child = StressChild(kind: kind, seed: draw.second | 1, pageCount: Self.pageCount, pageSize: run.pageSize)
    let status = unsafe withUnsafeMutablePointer(to: &child) { child in
      unsafe cstress_fork_and_run(
        { context in unsafe context!.assumingMemoryBound(to: StressChild.self).pointee.live().rawValue }, child,
        // The watch over all operations has to find this one still within its patience.
        UInt32(max(1, run.settings.patience / 2)))
    }
    switch StressChild.End(rawValue: status) {
    case .right: break
    case .limited: run.tally.limit("\(doing), in the child")
    case .failed where run.settings.troublePerMillion > 0: run.tally.failure("\(doing), pages that failed")
    case nil where status <= -1000 && status != -1000 - ETIMEDOUT:
      run.tally.failure("fork refused, errno \(-1000 - status)")
    case let end: run.tally.mismatch("\(doing), \(kind): \(end.map { "\($0)" } ?? "the child ended with \(status)")")
    }
  }
}

private struct Broken: Error {}

/// What a child does that has a runtime of its own.
private struct StressChild {
  /// How a child ends.
  enum End: CInt {
    case right, wrong, failed, limited, refused
  }

  let kind: StressRuntimeKind
  let seed: UInt64
  let pageCount: Int
  let pageSize: Int

  func live() -> End {
    do {
      let region = try FaultRuntime(kind.configuration).map(WordProvider(seed: seed), byteCount: pageCount * pageSize)
      let range = cstress_range(
        address: unsafe UInt(bitPattern: region.unsafeBytes.baseAddress), page_count: pageCount, page_size: pageSize,
        seed: seed)
      let outcome = StressMemory(region: region, range: range).readAll()
      region.close()
      return outcome.wrong > 0 ? .wrong : outcome.failed > 0 ? .failed : .right
    } catch {
      return StressLimit.name(of: error) != nil ? .limited : .refused
    }
  }
}

/// A region of an operation, and the words that its pages begin with.
private struct StressMemory {
  let region: LazyRegion
  let range: cstress_range

  func readAll() -> cstress_outcome { unsafe withUnsafePointer(to: range) { unsafe cstress_read_words($0) } }

  func close() { region.close() }
}

/// A provider of words that follow from a seed and their offset.
private struct WordProvider: PageProvider {
  let seed: UInt64
  var permissions: ProviderPermissions = .inAnyThread
  var requestSize: RequestSize { .singlePage }

  func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents {
    Self.fill(request, &page, seed)
  }

  static func fill(_ request: PageRequest, _ page: inout PageBuffer, _ seed: UInt64) -> PageContents {
    unsafe page.appendUnsafely { free in
      unsafe cstress_make(
        seed, UInt64(request.offset), free.baseAddress!.assumingMemoryBound(to: UInt8.self), request.byteCount)
      return request.byteCount
    }
    return .filled
  }
}

extension ProviderPermissions {
  fileprivate static let inAnyThread: ProviderPermissions = [.concurrentRequests, .signalHandler]
}

/// A switch that threads wait for.
private final class StressSwitch: Sendable {
  private let isOpen = Atomic<Bool>(false)

  var hasOpened: Bool { isOpen.load(ordering: .acquiring) }

  func open() { isOpen.store(true, ordering: .releasing) }

  func wait() { while !isOpen.load(ordering: .acquiring) { stressPause() } }
}
