import ArgumentParser
import CFaultReference
import FaultRuntime
import Glibc

/// `lazy-mem-demo bench`: measures how long a fault takes, and compares it with the alternatives.
struct BenchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench",
    abstract: "Measures faults, side by side with the kernel's own, with SIGSEGV tricks, and with hand-written C.",
    discussion: """
      All contenders run interleaved, each on a fresh mapping in each round, so that only ratios within one run \
      need to be believed. Leave the machine alone meanwhile. What the host does not allow is left out, with the \
      reason.

      Names end with what a fault brings: 1p is a page, 16p sixteen, and wide a request that grows while accesses \
      run on, up to 256 KiB. auto is what a program gets that configures nothing. In the middle is where the event \
      loop's handler runs: event-loop alone places it automatically.

      In JSON, times are nanoseconds, and pagesPerFault is a number that need not be whole: for wide and auto it \
      is measured, pages divided by faults and rounded to a tenth; for the others it is what each fault brings. A \
      ratio is null where its yardstick was left out.
      """
  )

  @Option(
    name: .customLong("pages"), parsing: .unconditional,
    help: "How many pages each contender fills in each round (default: 8192).",
    // Page numbers are stored in 32 bits.
    transform: NumberArgument.whole(1...Int(Int32.max)))
  var pageArgument: Int?

  @Option(parsing: .unconditional, help: "The same as a size, such as 64MiB.", transform: NumberArgument.bytes)
  var size: ByteCount?

  @Option(
    parsing: .unconditional, help: "How many threads touch pages, each its share of them (1 to 256; default: 1).",
    transform: NumberArgument.whole(1...256))
  var threads = 1

  @Option(help: "The order in which the pages are touched.")
  var order: TouchOrder = .sequential

  @Option(help: "Whether a touch loads or stores.")
  var access: TouchAccess = .read

  @Option(
    parsing: .unconditional, help: "How many rounds to run (1 to 1000; default: 5).",
    transform: NumberArgument.whole(1...1000))
  var rounds = 5

  @Flag(help: "Print one JSON object on standard output.")
  var json = false

  @Option(help: ArgumentHelp("Write a page with the distributions as curves, for a browser.", valueName: "file"))
  var html: FileName?

  /// How many pages each contender fills.
  var pages: Int {
    let pageSize = sysconf(CInt(_SC_PAGESIZE))
    return size.map { ($0.bytes - 1) / pageSize + 1 } ?? pageArgument ?? 8192
  }

  func validate() throws {
    guard size == nil || pageArgument == nil else {
      throw ValidationError("--pages and --size are two ways to say how much: give one.")
    }
    guard pages >= threads else {
      throw ValidationError("\(threads) threads need a page each, and there are only \(pages) pages.")
    }
    guard pages <= Int(Int32.max) else {
      throw ValidationError("--size is out of range: it is \(pages) pages, and at most \(Int32.max) are possible.")
    }
  }

  func run() throws {
    // Whether the file can be written shows before the measurement and not after it.
    let output = try html.map { name throws(CommandFailure) in try OutputFile(name) }
    let cpus = try CPUs.allowed()
    let machine = BenchMachine(allowedCPUs: cpus)
    try touchFreeMemory(machine.pageSize)
    let before = CPUUse.now()

    let source = try BenchSource(pages: pages, pageSize: machine.pageSize)
    let touch = BenchTouch(pages: pages, order: order, threads: threads, access: access)
    var session = try BenchSession(
      BenchContender.all(cpus: cpus, access: access), source, cpus: cpus, touch: touch, order: order)
    let bar = ProgressBar.onTerminal()
    var generator = SplitMix(seed: 0xdea1)
    for round in 0..<rounds {
      try session.runRound(&generator) { part in
        bar?.show("round \(round + 1) of \(rounds)", (Double(round) + part) / Double(rounds))
      }
    }
    bar?.finish()

    let use = CPUUse.now().since(before)
    let report = BenchReport(session, self, machine, others: use.others, host: use.host)
    // The report is printed first, so that a file that cannot be written does not lose it; and the file is written
    // even if the report could not be.
    let printing = Result {
      if json { try Output.printJSON(try report.json()) } else { try Output.printLine(report.text()) }
    }
    try output?.write(report.page())
    try printing.get()
  }

  /// Refuses more pages than memory can hold. Otherwise touches free memory, so that the host of a virtual machine
  /// backs it.
  private func touchFreeMemory(_ pageSize: Int) throws(CommandFailure) {
    // The source, and the pages that are filled from it, need memory.
    let needed = 2 * pages * pageSize
    guard let available = AvailableMemory.byteCount() else { return }
    guard needed <= available else {
      throw CommandFailure(
        message: "\(pages) pages need \(ByteCount(needed).text) of memory, and only \(ByteCount(available).text) are "
          + "available; ask for fewer")
    }
    creference_touch_free_memory(min(max(needed, 512 << 20), available / 4))
  }
}

/// A small generator with a fixed seed, so that every run has the same order.
private struct SplitMix: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var word = state
    word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
    word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
    return word ^ (word >> 31)
  }
}
