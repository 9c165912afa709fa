import CReference
import FaultRuntime

/// One way to have the pages of a row there, as it is measured.
struct SpeedContender {
  enum Way {
    /// A strategy in C, with so many pages a fault.
    case reference(creference_strategy, pages: Int)
    /// `pread(2)` of the source into fresh memory, so many bytes at a time.
    case pread(Int)
    /// Filling in bulk in C.
    case bulk(creference_bulk_way)
    case library(Library)
  }

  /// The library, as a program would use it.
  struct Library {
    enum Source {
      /// Lends the source, exactly so many pages for a fault.
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
    /// Nobody touches; the pages come by `populate()`.
    var isPopulated = false
    /// Whether a thread faults meanwhile on a region whose provider sleeps.
    var hasSleeper = false
  }

  /// Where its threads run.
  enum CPUs {
    case any
    /// All on the last one.
    case one
    /// The handler on the last one, who touches on the others.
    case apart
    /// Who touches on the last one, and the rest wherever it is put.
    case toucherOnOne
  }

  var name: String
  var way: Way
  var cpus = CPUs.any
}

/// What a row is judged by: how long one round takes a contender.
enum SpeedStatistic: String, Encodable {
  case p50, p99, mean
  /// Wall time for each page, from the first touch to the last.
  case perPage = "for each page"
}

/// One promise about speed: some contender against the best of some others, taken in one run.
struct SpeedRow {
  /// What else runs on the machine.
  enum Company {
    case nobody
    /// A thread that never sleeps on each CPU.
    case busyCPUs
  }

  var name: String
  var about: String
  var statistic: SpeedStatistic
  var pages: Int
  var isRandom = false
  var threads = 1
  var company = Company.nobody
  /// Whether free memory is touched before each contender, in huge pages.
  var touchesFreeMemory = false
  var subject: SpeedContender
  /// The one with the lowest median is what the subject is compared with.
  var yardsticks: [SpeedContender]
}
