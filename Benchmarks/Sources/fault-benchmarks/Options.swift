import ArgumentParser

/// The options of every benchmark.
struct CommonOptions: ParsableArguments {
  @Option(help: "The file with the thresholds. Without it nothing is judged.")
  var thresholds: String?

  @Flag(help: "Print one JSON object on standard output.")
  var json = false

  @Option(help: "Make the library look worse on purpose, to see that the threshold catches it.")
  var plantRegression: PlantedRegression?
}

/// Regressions that a threshold has to catch.
enum PlantedRegression: String, CaseIterable, ExpressibleByArgument {
  /// The provider of the speed benchmark spins for 2 us for each page of a request.
  case latency
  /// The same for 12 us, for rows whose limit leaves more room, because the scheduler has a part in a fault, or because
  /// a fault takes longer.
  case delay
  /// The provider allocates one object for each request.
  case allocations
  /// The memory benchmark writes 2 MiB and keeps them while its region is open.
  case memory
  /// Regions are advised of random access, so that requests do not grow.
  case widening
  /// The scheduler places the handler of `event-loop-unpinned`, that of `event-loop-busy` spins, and the row
  /// `cpus-awake` does not keep the CPUs awake.
  case placement
  /// A provider that sleeps does not declare that it may block.
  case blocking
  /// The append benchmark appends computed bytes as a sequence that the compiler cannot see through.
  case append
}

struct MemoryOptions: ParsableArguments {
  @Option(help: "Processes, one after the other, whose median counts. With 1, it is this process.")
  var processes = 9

  func validate() throws {
    guard (1...1000).contains(processes) else { throw ValidationError("--processes is from 1 to 1000.") }
  }
}

struct SpeedOptions: ParsableArguments {
  @Option(help: "Only the row of this name, or the rows whose names begin with it.")
  var row = ""

  @Option(help: "Rounds for each contender; three times as many in rows of 16384 pages or fewer.")
  var rounds = 7

  @Option(
    help: "How often a row that does not hold is measured again before it counts: the machine may have been busy.")
  var retries = 2

  @Flag(help: "Fewer pages and rounds, for continuous integration.")
  var quick = false

  func validate() throws {
    guard (1...10_000).contains(rounds) else { throw ValidationError("--rounds is from 1 to 10000.") }
    guard (0...100).contains(retries) else { throw ValidationError("--retries is from 0 to 100.") }
  }
}

struct PopulateOptions: ParsableArguments {
  @Option(help: "MiB that are filled: a multiple of 64.")
  var mebibytes = 1024

  @Option(help: "Rounds for each contender.")
  var rounds = 5

  @Flag(help: "Do not touch free memory before each filling: a virtual machine may have given it back to its host.")
  var cold = false

  func validate() throws {
    guard (64...65_536).contains(mebibytes), mebibytes.isMultiple(of: 64) else {
      throw ValidationError("--mebibytes is a multiple of 64, from 64 to 65536.")
    }
    guard (1...1000).contains(rounds) else { throw ValidationError("--rounds is from 1 to 1000.") }
  }
}
