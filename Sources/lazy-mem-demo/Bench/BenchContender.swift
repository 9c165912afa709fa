import CFaultReference
import FaultRuntime

/// One way to fill memory when it is touched, as the benchmark runs it.
struct BenchContender: Sendable {
  /// The kind of program that a contender is.
  enum Family: String, CaseIterable {
    case kernel, library, reference
  }

  /// The code that fills the pages.
  enum Way: Sendable {
    case reference(creference_strategy)
    case library(Delivery, HandlerPlacement)
  }

  /// How many pages one fault brings.
  enum Requests: Equatable, Sendable {
    /// Always this number of pages.
    case pages(Int)
    /// One page at first, and more while accesses continue in sequence.
    case growing
  }

  /// A colour of the page. Contenders that fill pages in the same way have the same colour, whatever the size of
  /// their requests.
  enum Tone: String, CaseIterable {
    case memory, mapped, protected, chosen, inThread, automatic, following, pinned, spinning, scheduler
  }

  /// Contenders that are shown together, because each fault can bring the same number of pages.
  enum Group: CaseIterable {
    case kernel, growing, several, single

    var title: String {
      switch self {
      case .kernel: "the kernel alone"
      case .growing: "requests that grow while accesses run on"
      case .several: "16 pages a fault"
      case .single: "a page a fault"
      }
    }
  }

  /// The yardstick for the time that the kernel needs if it does everything by itself.
  static let kernelYardstick = "kanon"
  /// The yardstick for what programs do without userfaultfd.
  static let sigsegvYardstick = "c-sigsegv"
  /// The contender that a user gets who configures nothing.
  static let defaultChoice = "auto"

  var name: String
  var about: String
  var family: Family
  var tone: Tone
  var way: Way
  var requests = Requests.pages(1)
  var cpus = BenchPlacement.anywhere

  var group: Group {
    switch requests {
    case _ where family == .kernel: .kernel
    case .growing: .growing
    case .pages(1): .single
    case .pages: .several
    }
  }
}

/// A contender that does not run on this host, and the reason.
struct LeftOut: Encodable {
  var name: String
  var reason: String
}
