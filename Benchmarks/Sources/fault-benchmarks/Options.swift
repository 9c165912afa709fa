import ArgumentParser

/// What every benchmark understands.
struct CommonOptions: ParsableArguments {
  @Option(help: "The CPU that the whole process is pinned to; the last allowed one, unless given.")
  var cpu: Int?

  @Flag(help: "Do not pin. The results then tell of the scheduler and of idle CPUs waking up, not of the library.")
  var noPin = false

  @Option(help: "The file with the thresholds. Without it nothing is judged.")
  var thresholds: String?

  @Flag(help: "Print one JSON object on standard output.")
  var json = false

  @Option(help: "Make the library look worse on purpose, to see that the threshold catches it.")
  var plantRegression: PlantedRegression?

  func validate() throws {
    if noPin, cpu != nil { throw ValidationError("--cpu and --no-pin exclude each other.") }
    if noPin, thresholds != nil {
      throw ValidationError("--no-pin is for information only: there is no threshold for it.")
    }
  }
}

/// Mistakes that a threshold has to catch.
enum PlantedRegression: String, CaseIterable, ExpressibleByArgument {
  /// The provider burns 2 us for each request.
  case latency
  /// The provider allocates one object for each request.
  case allocations
  /// 2 MiB are written and kept while the region is open.
  case memory
}

struct LatencyOptions: ParsableArguments {
  @Option(help: "Pages in the mapping of one round, each of which is touched once.")
  var pages = 4096

  @Option(help: "Rounds for each contender.")
  var rounds = 31

  @Flag(help: "Add handlers that the scheduler places, without and with keepsCPUsAwake. Needs root; see --no-pin.")
  var awake = false

  @Option(help: "MiB of free memory to touch first, so that a virtual machine has it backed by then.")
  var touchMebibytes = 512

  func validate() throws {
    guard (16...1_000_000).contains(pages) else { throw ValidationError("--pages is from 16 to 1000000.") }
    guard (1...10_000).contains(rounds) else { throw ValidationError("--rounds is from 1 to 10000.") }
    guard (0...65_536).contains(touchMebibytes) else {
      throw ValidationError("--touch-mebibytes is from 0 to 65536.")
    }
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
