import CFaultReference
import FaultRuntime

/// One way to fill memory when it is touched, as the benchmark runs it.
struct BenchContender: Sendable {
  /// Whose program it is.
  enum Family: String, CaseIterable {
    case kernel, library, reference

    var title: String {
      switch self {
      case .kernel: "the kernel alone"
      case .reference: "shortest C"
      case .library: "FaultRuntime"
      }
    }
  }

  /// Who fills the pages.
  enum Way: Sendable {
    case reference(creference_strategy)
    case library(Delivery)
  }

  /// A colour of the page. What fills pages in the same way has the same one.
  enum Tone: String, CaseIterable {
    case memory, mapped, protected, spinning, inThread, inThreadWide, pinned, pinnedWide, loose, looseWide
  }

  /// The yardstick for what the kernel needs where it may do everything by itself.
  static let kernelYardstick = "kanon"
  /// The yardstick for what programs do without userfaultfd.
  static let sigsegvYardstick = "c-sigsegv"
  /// The delivery in which nobody but the faulting thread works.
  private static let inThreadDelivery = "sigbus"

  var name: String
  var about: String
  var family: Family
  var tone: Tone
  var way: Way
  var pagesPerFault = 1
  var placement = BenchPlacement.anywhere
}

/// A contender that does not run here, and why.
struct LeftOut: Encodable {
  var name: String
  var reason: String
}

extension BenchContender {
  /// The requests of the library's contenders, in pages.
  private static let requestSizes = [1, 16]

  /// Everybody, on a machine where a program may run on `cpus`; plain mmap of a file faults differently for reads and writes.
  static func all(cpus: [Int], access: TouchAccess) -> [BenchContender] {
    kernel(access) + references(cpus) + Delivery.allCases.flatMap { library($0, cpus) }
  }

  private static func kernel(_ access: TouchAccess) -> [BenchContender] {
    [
      BenchContender(
        name: kernelYardstick, about: "anonymous fault, then memcpy by the toucher",
        family: .kernel, tone: .memory, way: .reference(CREFERENCE_ANONYMOUS)),
      BenchContender(
        name: "mmap", about: "plain private mmap of the same bytes in the page cache",
        family: .kernel, tone: .mapped, way: .reference(CREFERENCE_MAPPED),
        // The kernel maps what is cached around a read (fault_around_bytes, 64 KiB unless changed); a write copies a page.
        pagesPerFault: access == .read ? 16 : 1),
    ]
  }

  private static func references(_ cpus: [Int]) -> [BenchContender] {
    func reference(
      _ name: String, _ about: String, _ strategy: creference_strategy, _ tone: Tone, pages: Int = 1,
      _ placement: BenchPlacement = .anywhere
    ) -> BenchContender {
      BenchContender(
        name: name, about: about, family: .reference, tone: tone, way: .reference(strategy), pagesPerFault: pages,
        placement: placement)
    }
    let one = BenchPlacement.oneCPU(among: cpus)
    return [
      reference(
        sigsegvYardstick, "PROT_NONE, SIGSEGV, mprotect, memcpy; wrong where two threads touch one page",
        CREFERENCE_SIGSEGV, .protected),
      reference("c-sigbus-1p", "SIGBUS, the faulting thread copies", CREFERENCE_SIGBUS, .inThread),
      reference("c-sigbus-16p", "the same, 16 pages a fault", CREFERENCE_SIGBUS, .inThreadWide, pages: 16),
      reference("c-epoll-1p", "epoll handler thread, wherever it is put", CREFERENCE_EPOLL, .loose),
      reference("c-epoll-pinned-1p", "epoll handler thread, all on one CPU", CREFERENCE_EPOLL, .pinned, one),
      reference(
        "c-epoll-pinned-16p", "the same, 16 pages a fault", CREFERENCE_EPOLL, .pinnedWide, pages: 16, one),
      reference(
        "c-spin-1p", "handler thread that spins on a CPU of its own", CREFERENCE_SPIN, .spinning,
        .apart(among: cpus)),
    ]
  }

  /// A delivery, in each size, and wherever its handler may be put.
  private static func library(_ delivery: Delivery, _ cpus: [Int]) -> [BenchContender] {
    // It is one of the others.
    guard delivery != .auto else { return [] }
    let isInThread = delivery.rawValue == inThreadDelivery
    let placements: [BenchPlacement] = isInThread ? [.anywhere] : [.anywhere, .oneCPU(among: cpus)]
    return placements.flatMap { placement in
      requestSizes.map { pages in
        let isPinned = placement != .anywhere
        let isWide = pages > 1
        let tone: Tone =
          switch (isInThread, isPinned) {
          case (true, _): isWide ? .inThreadWide : .inThread
          case (false, true): isWide ? .pinnedWide : .pinned
          case (false, false): isWide ? .looseWide : .loose
          }
        let place = isInThread ? "in the faulting thread" : isPinned ? "all on one CPU" : "handler placed automatically"
        return BenchContender(
          name: delivery.rawValue + (isPinned ? "-pinned" : "") + "-\(pages)p",
          about: "\(place), \(pages == 1 ? "a page" : "\(pages) pages") a fault",
          family: .library, tone: tone, way: .library(delivery), pagesPerFault: pages, placement: placement)
      }
    }
  }
}
