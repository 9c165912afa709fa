import CFaultReference
import FaultRuntime

// The list of all contenders.

extension BenchContender {
  /// Returns all contenders for a machine on which the program may run on `cpus`. `access` matters because a plain
  /// mmap of a file faults differently for reads and for writes.
  ///
  /// The contenders of a group are adjacent. Within a group, each contender of the library is beside the C program
  /// that does the same.
  static func all(cpus: [Int], access: TouchAccess) -> [BenchContender] {
    let everybody = kernel(access) + [chosen] + inThread + protected + eventLoop(cpus) + references(cpus)
    return Group.allCases.flatMap { group in
      Tone.allCases.flatMap { tone in everybody.filter { $0.group == group && $0.tone == tone } }
    }
  }

  private static func kernel(_ access: TouchAccess) -> [BenchContender] {
    [
      BenchContender(
        name: kernelYardstick, about: "anonymous fault, then memcpy by the toucher",
        family: .kernel, tone: .memory, way: .reference(CREFERENCE_ANONYMOUS)),
      BenchContender(
        name: "mmap", about: "plain private mmap of the same bytes in the page cache",
        family: .kernel, tone: .mapped, way: .reference(CREFERENCE_MAPPED),
        // A read fault maps the cached pages around it (fault_around_bytes, 64 KiB by default); a write fault copies
        // one page.
        requests: .pages(access == .read ? 16 : 1)),
    ]
  }

  private static func references(_ cpus: [Int]) -> [BenchContender] {
    func reference(
      _ name: String, _ about: String, _ strategy: creference_strategy, _ tone: Tone, pages: Int = 1,
      _ cpus: BenchPlacement = .anywhere
    ) -> BenchContender {
      BenchContender(
        name: name, about: about, family: .reference, tone: tone, way: .reference(strategy), requests: .pages(pages),
        cpus: cpus)
    }
    let one = BenchPlacement.oneCPU(among: cpus)
    return [
      reference(
        sigsegvYardstick, "C: PROT_NONE, SIGSEGV, mprotect, memcpy; wrong where threads share a page",
        CREFERENCE_SIGSEGV, .protected),
      reference("c-sigbus-1p", "C: SIGBUS, the faulting thread copies", CREFERENCE_SIGBUS, .inThread),
      reference("c-sigbus-16p", "C: SIGBUS, the faulting thread copies", CREFERENCE_SIGBUS, .inThread, pages: 16),
      reference("c-epoll-1p", "C: epoll handler thread, wherever the scheduler puts it", CREFERENCE_EPOLL, .scheduler),
      reference("c-epoll-pinned-1p", "C: epoll handler thread, all on one CPU", CREFERENCE_EPOLL, .pinned, one),
      reference(
        "c-epoll-pinned-16p", "C: epoll handler thread, all on one CPU", CREFERENCE_EPOLL, .pinned, pages: 16, one),
      reference(
        "c-spin-1p", "C: handler thread that spins on a CPU of its own", CREFERENCE_SPIN, .spinning,
        .apart(among: cpus)),
    ]
  }

  /// The library without any configuration, with one of its own providers.
  private static let chosen = BenchContender(
    name: defaultChoice, about: "nothing configured, over a MemoryProvider", family: .library, tone: .chosen,
    way: .library(.auto, .automatic), requests: .growing)

  private static let allSizes: [Requests] = [.pages(1), .pages(16), .growing]

  private static let inThread = sizes(
    Delivery.sigbus.rawValue, "in the faulting thread", .inThread, .sigbus, .automatic, allSizes)

  /// The delivery that remains if the host does not allow a userfaultfd.
  private static let protected = sizes(
    Delivery.sigsegv.rawValue, "in the faulting thread, without a userfaultfd", .protected, .sigsegv, .automatic,
    [.pages(1), .growing])

  /// Returns every placement of the handler, with one page for each fault and with requests that grow. The variants
  /// with 16 pages exist where a C contender has them too, and for the automatic placement.
  private static func eventLoop(_ cpus: [Int]) -> [BenchContender] {
    func handler(
      _ placement: HandlerPlacement, _ suffix: String, _ about: String, _ tone: Tone,
      _ requests: [Requests] = [.pages(1), .growing], on cpus: BenchPlacement = .anywhere
    ) -> [BenchContender] {
      sizes(
        Delivery.eventLoop.rawValue + suffix, "handler thread, " + about, tone, .eventLoop, placement,
        requests, cpus)
    }
    let two: BenchPlacement = cpus.count > 1 ? .anywhere : .impossible
    return handler(.automatic, "", "placed automatically", .automatic, allSizes)
      + handler(.scheduler, "-pinned", "all on one CPU", .pinned, allSizes, on: .oneCPU(among: cpus))
      + handler(.withFaultingThread, "-following", "follows the faulting thread", .following)
      + handler(.spinning(spin), "-spinning", "spins on another CPU", .spinning, on: two)
      + handler(.scheduler, "-scheduler", "wherever the scheduler puts it", .scheduler)
  }

  /// Longer than any touch takes, so that the handler never sleeps.
  private static let spin = Duration.milliseconds(20)

  private static func sizes(
    _ name: String, _ about: String, _ tone: Tone, _ delivery: Delivery, _ placement: HandlerPlacement,
    _ sizes: [Requests], _ cpus: BenchPlacement = .anywhere
  ) -> [BenchContender] {
    sizes.map { requests in
      let suffix =
        switch requests {
        case .pages(let count): "\(count)p"
        case .growing: "wide"
        }
      return BenchContender(
        name: "\(name)-\(suffix)", about: about, family: .library, tone: tone, way: .library(delivery, placement),
        requests: requests, cpus: cpus)
    }
  }
}
