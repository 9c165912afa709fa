import FaultRuntime
import Glibc

/// What a provider does wrong with a page. The plan of the page says how often.
enum StressTrouble: UInt8, CaseIterable {
  case none
  case throwsError
  case throwsForEver
  /// The provider returns late, but within the timeout.
  case stallsShort
  /// The provider returns after the timeout of the region, if there is one.
  case stallsLong
  /// The provider answers only with the pages before this one, which is allowed.
  case endsBefore
  /// The provider answers with half of the page, which is too little.
  case answersHalf
  /// The provider lends more than was requested.
  case lendsTooMuch

  /// The name in the report.
  var name: String {
    switch self {
    case .none: "none"
    case .throwsError: "provider throws"
    case .throwsForEver: "provider throws for ever"
    case .stallsShort: "provider stalls"
    case .stallsLong: "provider stalls past the timeout"
    case .endsBefore: "answer ends early"
    case .answersHalf: "answer of half a page"
    case .lendsTooMuch: "answer too long"
    }
  }
}

/// The runtimes of a run, which differ in their configuration.
enum StressRuntimeKind: Int, CaseIterable {
  case automatic, eventLoop, eventLoopWithEvents, manyThreads, sigbus, sigsegv

  var configuration: FaultRuntimeConfiguration {
    switch self {
    case .automatic: FaultRuntimeConfiguration()
    case .eventLoop: FaultRuntimeConfiguration(delivery: .eventLoop, handlerThreads: 1, batchCapacity: 2)
    // A thread that discards pages waits for the handler, and meanwhile the kernel's requests fail with EAGAIN.
    case .eventLoopWithEvents: FaultRuntimeConfiguration(delivery: .eventLoop, onEvent: { _ in })
    case .manyThreads: FaultRuntimeConfiguration(delivery: .eventLoop, handlerThreads: 3, providerThreads: 8)
    case .sigbus: FaultRuntimeConfiguration(delivery: .sigbus)
    case .sigsegv: FaultRuntimeConfiguration(delivery: .sigsegv)
    }
  }

  /// The signal for a thread that touches a page which failed.
  var failureSignal: CInt { self == .sigsegv ? SIGSEGV : SIGBUS }

  /// Whether discarding pages discards their bytes, so that the runtime asks the provider again.
  var canDiscard: Bool { self != .sigsegv }
}

/// Everything about a region. It follows from the seed, the slot, and the number of regions that the slot has had
/// before.
struct StressPlan {
  let seed: UInt64
  let name: String
  let slot: Int
  let generation: Int
  let runtime: StressRuntimeKind
  let byteCount: Int
  let options: RegionOptions
  let requestSize: RequestSize
  /// A time in microseconds that is longer than the timeout.
  let longStall: UInt32
  let permissions: ProviderPermissions
  /// Whether the provider lends the bytes instead of filling them in.
  let lends: Bool
  /// The percentage of pages that meet trouble.
  let troublePercent: UInt64

  init(seed runSeed: UInt64, slot: Int, generation: Int, pageSize: Int) {
    var random = StressRandom(runSeed, 1000 + UInt64(slot), UInt64(generation))
    seed = random.next() | 1
    name = Self.name(slot: slot, generation: generation)
    self.slot = slot
    self.generation = generation
    runtime = random.among(StressRuntimeKind.allCases)

    let pages =
      switch random.within(0...7) {
      case 0: 1
      case 1...3: random.within(2...16)
      case 4...6: random.within(17...256)
      default: random.within(257...1024)
      }
    byteCount = pages * pageSize - (random.percent(50) ? 0 : random.within(1...(pageSize - 1)))

    let isSigbus = runtime == .sigbus
    let canKeepTimeout = runtime != .sigbus && runtime != .sigsegv
    let milliseconds: Int? = canKeepTimeout && random.percent(40) ? random.within(10...60) : nil
    let timeout = milliseconds.map { Duration.milliseconds($0) }
    longStall = UInt32((milliseconds.map { 3 * $0 } ?? 8) * 1000)
    options = RegionOptions(
      name: name,
      access: random.percent(12) ? .readOnly : .readWrite,
      advice: random.among(RegionOptions.Advice.allCases),
      retry: random.percent(60)
        ? .never
        : RetryPolicy(
          attempts: random.within(2...4), firstBackoff: .microseconds(random.within(0...2000)),
          largestBackoff: .milliseconds(4), timeout: random.percent(30) ? .milliseconds(10) : nil),
      timeout: timeout)

    let preferred = random.percent(60) ? 1 : random.within(1...8)
    requestSize = RequestSize(preferred: preferred * pageSize, largest: random.among([1, 4, 16, 64]) * pageSize)
    var permissions: ProviderPermissions = random.percent(60) ? [] : .handlerThread
    if isSigbus || random.percent(50) { permissions.insert(.signalHandler) }
    if isSigbus || random.percent(75) { permissions.insert(.concurrentRequests) }
    self.permissions = permissions
    lends = random.percent(40)
    troublePercent = UInt64(random.among([0, 0, 2, 10, 30]))
  }

  static func name(slot: Int, generation: Int) -> String { "slot \(slot), region \(generation)" }

  /// Returns what the provider does wrong with a page, and how often.
  func trouble(ofPage page: Int) -> (kind: StressTrouble, count: UInt64) {
    var random = StressRandom(seed, 1, UInt64(page))
    guard random.percent(troublePercent) else { return (.none, 0) }
    let kind = random.among(StressTrouble.allCases)
    switch kind {
    case .none: return (.none, 0)
    case .throwsForEver: return (kind, .max)
    // Each stall occupies a thread for a while, so each such page stalls once.
    case .stallsShort, .stallsLong: return (kind, 1)
    default: return (kind, UInt64(random.within(1...6)))
    }
  }

  /// Returns whether the provider reports the page as zero. Runs of 16 pages agree, so that whole requests can be
  /// zero.
  func isZero(page: Int) -> Bool {
    var random = StressRandom(seed, 2, UInt64(page / 16))
    return random.percent(12)
  }
}
