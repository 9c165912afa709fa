import ArgumentParser
import CStressSupport
import Glibc

#if DEBUG
  @_spi(Testing) import FaultRuntime
#endif

#if DEBUG
  extension StressPlant: ExpressibleByArgument {}
#endif

/// `lazy-mem-demo stress`: uses regions in every way at once, and compares the results with a model.
struct StressCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "stress",
    abstract: "Uses lazy regions in every way at once, and compares every byte and every failure with a model.",
    discussion: """
      Threads read, write, discard, prefetch, retry, copy, close and reopen regions of all deliveries, and fork; \
      providers fail, stall, answer short, lend, and say zero. In debug builds the kernel's answers are made worse \
      as well. What each thread does follows from the seed and the thread's number; how the threads come to \
      interleave does not.

      Exit codes: 0 nothing was wrong, 1 a byte or a failure was not what it has to be, 2 an operation did not \
      end, or wrong usage, 3 the host does not allow userfaultfd.
      """
  )

  /// The exit code of a hang. Wrong usage has the same code, but cannot be confused with a hang, because then nothing
  /// has run.
  static let hangCode: CInt = 2

  @Option(help: "How long the threads run.")
  var seconds: Double?

  @Option(help: "How many operations each thread does, in place of a time.")
  var operations: Int?

  @Option(help: "What the operations follow from; random, unless given.")
  var seed: UInt64?

  @Option(help: "How many threads (1 to 64).")
  var threads = 8

  @Option(help: "How many seconds one operation may take.")
  var patience: Double = 60

  @Flag(help: "Print one JSON object on standard output.")
  var json = false

  #if DEBUG
    @Option(help: "How many of a million requests to the kernel meet trouble.")
    var trouble: UInt64 = 20_000

    @Option(help: ArgumentHelp("A defect to make on purpose: mismatch or hang.", visibility: .hidden))
    var plant: StressPlant?
  #endif

  func validate() throws {
    guard (1...64).contains(threads) else { throw ValidationError("--threads is from 1 to 64, not \(threads).") }
    guard seconds == nil || operations == nil else {
      throw ValidationError("--seconds and --operations are two ways to say when to stop: give one.")
    }
    guard seconds.map({ $0 > 0 && $0 <= 1e6 }) ?? true else { throw ValidationError("--seconds is more than 0.") }
    guard operations.map({ $0 > 0 }) ?? true else { throw ValidationError("--operations is more than 0.") }
    guard patience > 0, patience <= 1e6 else { throw ValidationError("--patience is more than 0.") }
  }

  func run() throws {
    var settings = StressSettings(
      seed: seed ?? UInt64.random(in: 0...UInt64.max), threads: threads,
      seconds: operations == nil ? seconds ?? 10 : nil, operations: operations, plant: nil, troublePerMillion: 0,
      patience: patience)
    #if DEBUG
      settings.plant = plant
      settings.troublePerMillion = trouble
    #endif
    // The seed is printed first, and with --json on standard error, so that it is known whatever happens later.
    if json { Diagnostics.write("seed \(settings.seed)\n") } else { try printLine("seed        \(settings.seed)") }
    // These handlers must be installed before the first runtime is created, which passes on to them the signals that
    // are not its own.
    guard cstress_take_signals() == 0 else { throw CommandFailure(message: "cannot handle SIGBUS and SIGSEGV") }

    let start = monotonicSeconds()
    let run = try StressRun(settings)
    #if DEBUG
      KernelTrouble.begin(seed: settings.seed, perMillion: settings.troublePerMillion)
    #endif
    try run.run()
    var kernel: [String: Int]?
    #if DEBUG
      KernelTrouble.begin(seed: 0, perMillion: 0)
      kernel = KernelTrouble.made
    #endif
    let report = StressReport(run, seconds: monotonicSeconds() - start, kernelTroubles: kernel)
    try printLine(json ? try report.json() : report.text())
    if report.mismatches > 0 { throw CommandFailure(message: "\(report.mismatches) mismatches, seed \(settings.seed)") }
  }
}
