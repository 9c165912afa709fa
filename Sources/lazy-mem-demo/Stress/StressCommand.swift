import ArgumentParser
import CStressSupport
import Glibc

#if DEBUG
  @_spi(Testing) import FaultRuntime
#else
  import FaultRuntime
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
      providers fail, stall, answer short, lend, and say zero. Beside them signal handlers touch lazy memory, threads \
      are cancelled and leave faults by a jump, the program protects and moves its memory, and children make \
      runtimes of their own. In debug builds the kernel's answers are made worse as well. What each thread does \
      follows from the seed and the thread's number; how the threads come to interleave does not.

      Ctrl-C ends the run with the report of what it has done, and a second one at once.

      Exit codes: 0 nothing was wrong, 1 a byte or a failure was not what it has to be, or a limit of the process \
      was in the way, 2 an operation did not end, or wrong usage, 3 the host does not allow userfaultfd.
      """
  )

  /// The exit code of a hang. Wrong usage has the same code, but cannot be confused with a hang, because then nothing
  /// has run.
  static let hangCode: CInt = 2

  @Option(
    parsing: .unconditional, help: "How long the threads run (default: 10).", transform: NumberArgument.seconds)
  var seconds: Double?

  @Option(
    parsing: .unconditional, help: "How many operations each thread does, in place of a time.",
    transform: NumberArgument.whole(1...Int.max))
  var operations: Int?

  @Option(
    parsing: .unconditional, help: "What the operations follow from; random, unless given.",
    transform: NumberArgument.whole(0...UInt64.max))
  var seed: UInt64?

  @Option(
    parsing: .unconditional, help: "How many threads (1 to 64; default: 8).", transform: NumberArgument.whole(1...64))
  var threads = 8

  @Option(
    parsing: .unconditional, help: "How many seconds one operation may take (default: 60).",
    transform: NumberArgument.seconds)
  var patience: Double = 60

  @Flag(help: "Print one JSON object on standard output.")
  var json = false

  #if DEBUG
    @Option(
      parsing: .unconditional, help: "How many of a million requests to the kernel meet trouble (default: 20000).",
      transform: NumberArgument.whole(0...1_000_000))
    var trouble: UInt64 = 20_000

    @Option(help: ArgumentHelp("A defect to make on purpose: mismatch or hang.", visibility: .hidden))
    var plant: StressPlant?
  #endif

  func validate() throws {
    guard seconds == nil || operations == nil else {
      throw ValidationError("--seconds and --operations are two ways to say when to stop: give one.")
    }
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
    if json {
      Diagnostics.write("seed \(settings.seed)\n")
    } else {
      try Output.printLine("seed        \(settings.seed)")
    }
    // These handlers must be installed before the first runtime is created, which passes on to them the signals that
    // are not its own.
    guard cstress_take_signals() == 0 else { throw CommandFailure(message: "cannot handle SIGBUS and SIGSEGV") }

    // The signals are blocked in every thread but while this one waits for them.
    let signals = StopSignals()
    StressNeighbours.rehearse()
    #if DEBUG
      // What children do with errors has to be known as well.
      for seed: UInt64 in 1...8 where settings.troublePerMillion > 0 {
        KernelTrouble.begin(seed: seed, perMillion: 200_000)
        StressNeighbours.rehearse()
      }
      KernelTrouble.begin(seed: 0, perMillion: 0)
      let rehearsed = KernelTrouble.made
    #endif
    let start = monotonicSeconds()
    let run: StressRun
    do {
      run = try StressRun(settings)
    } catch let error as FaultRuntimeError where StressLimit.name(of: error) != nil {
      let advice = error.advice == nil ? error.errno.map(StressLimit.advice) : nil
      throw CommandFailure(message: error.description + (advice ?? ""))
    }
    #if DEBUG
      KernelTrouble.begin(seed: settings.seed, perMillion: settings.troublePerMillion)
    #endif
    let bar = ProgressBar.onTerminal()
    let number = try run.run(signals) { bar?.show(Self.progress(run, since: start)) }
    bar?.finish()
    var kernel: [String: Int]?
    #if DEBUG
      KernelTrouble.begin(seed: 0, perMillion: 0)
      kernel = KernelTrouble.made.merging(rehearsed, uniquingKeysWith: -)
    #endif
    let report = StressReport(
      run, seconds: monotonicSeconds() - start, kernelTroubles: kernel, interruptedBy: number.map(StopSignals.name))
    if json { try Output.printJSON(try report.json()) } else { try Output.printLine(report.text()) }
    try end(report, number)
  }

  /// Ends the command with what was found: mismatches above all.
  private func end(_ report: StressReport, _ number: CInt?) throws {
    if let number {
      try Output.finish()
      if report.mismatches > 0 { Diagnostics.say("\(report.mismatches) mismatches, seed \(report.seed)") }
      StopSignals.end(by: number)
    }
    if report.mismatches > 0 { throw CommandFailure(message: "\(report.mismatches) mismatches, seed \(report.seed)") }
    let limits = report.limits.values.reduce(0, +)
    if limits > 0 {
      throw CommandFailure(message: "a limit of this process was in the way of \(limits) operations; no byte was wrong")
    }
  }

  private static func progress(_ run: StressRun, since start: Double) -> String {
    let mismatches = run.tally.mismatches.count
    return "\(fixed(monotonicSeconds() - start, 1)) s, \(grouped(Double(run.tally.operationCount))) operations, "
      + "\(mismatches) \(mismatches == 1 ? "mismatch" : "mismatches")"
  }
}
