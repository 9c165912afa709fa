import CReference
import FaultRuntime

/// One measured way to bring in the pages of a row.
struct SpeedContender {
  enum Way {
    /// A strategy in C, with a fixed number of pages for each fault.
    case reference(creference_strategy, pages: Int)
    /// `pread(2)` of the source into fresh memory, with this number of bytes at a time.
    case pread(Int)
    /// Filling in bulk in C.
    case bulk(creference_bulk_way)
    case library(Library)
  }

  /// The library, as a program would use it.
  struct Library {
    enum Source {
      /// Lends the source, with a fixed number of pages for each fault.
      case fixed(pages: Int)
      /// Lends the source with `MemoryProvider`, whose requests grow.
      case memory
      /// `FileProvider` over the source's file.
      case file
    }

    var delivery = Delivery.auto
    var source = Source.fixed(pages: 1)
    var advice = RegionOptions.Advice.normal
    var placement = HandlerPlacement.automatic
    var keepsCPUsAwake = false
    /// Whether `populate()` brings in the pages, and no thread touches them.
    var isPopulated = false
    /// Whether another thread faults meanwhile in a region whose provider sleeps.
    var hasSleeper = false
  }

  /// The CPUs that the threads of a contender run on.
  enum CPUs {
    case any
    /// All threads run on the last CPU.
    case one
    /// The handler runs on the last CPU, and the touching threads on the others.
    case apart
    /// The touching threads run on the last CPU, and the handler wherever the library or the scheduler puts it.
    case toucherOnOne
  }

  var name: String
  var way: Way
  var cpus = CPUs.any
}

/// The value of a round by which a row is judged.
enum SpeedStatistic: String, Encodable {
  case p50, p99, mean
  /// The wall time for each page, from the first touch to the last.
  case perPage = "for each page"
}

/// One promise about speed: one contender against the best of some others, all measured in the same run.
struct SpeedRow {
  /// What else runs on the machine.
  enum Company {
    case nobody
    /// A thread on each CPU that never sleeps.
    case busyCPUs
  }

  var name: String
  var about: String
  var statistic: SpeedStatistic
  var pages: Int
  var isRandom = false
  var threads = 1
  var company = Company.nobody
  /// Whether free memory is touched in huge pages before each contender runs.
  var touchesFreeMemory = false
  var subject: SpeedContender
  /// The contenders that the subject is compared with. The one with the lowest median counts.
  var yardsticks: [SpeedContender]
}
