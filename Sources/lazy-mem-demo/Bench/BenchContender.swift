import CFaultReference
import FaultRuntime

/// One way to fill memory when it is touched, as the benchmark runs it.
struct BenchContender: Sendable {
  /// Whose program it is.
  enum Family: String, CaseIterable {
    case kernel, library, reference
  }

  /// Who fills the pages.
  enum Way: Sendable {
    case reference(creference_strategy)
    case library(Delivery, HandlerPlacement)
  }

  /// How much one fault brings.
  enum Requests: Equatable, Sendable {
    /// So many pages, always.
    case pages(Int)
    /// A page at first, and more while accesses run on.
    case growing
  }

  /// A colour of the page: what fills pages in the same way has the same one, whatever the size of its requests.
  enum Tone: String, CaseIterable {
    case memory, mapped, protected, chosen, inThread, automatic, following, pinned, spinning, scheduler
  }

  /// Contenders that are shown together, because they may bring equally much with a fault.
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

  /// The yardstick for what the kernel needs where it may do everything by itself.
  static let kernelYardstick = "kanon"
  /// The yardstick for what programs do without userfaultfd.
  static let sigsegvYardstick = "c-sigsegv"
  /// What a user gets who configures nothing.
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

/// A contender that does not run here, and why.
struct LeftOut: Encodable {
  var name: String
  var reason: String
}
