import CFaultReference
import FaultRuntime

// Who takes part.

extension BenchContender {
  /// Everybody, on a machine where a program may run on `cpus`; plain mmap of a file faults differently for reads and writes.
  ///
  /// Groups stay together, and in them each of the library's with the C that does the same.
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
        // The kernel maps what is cached around a read (fault_around_bytes, 64 KiB unless changed); a write copies a page.
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

  /// Nothing configured, and one of the library's own providers.
  private static let chosen = BenchContender(
    name: defaultChoice, about: "nothing configured, over a MemoryProvider", family: .library, tone: .chosen,
    way: .library(.auto, .automatic), requests: .growing)

  private static let allSizes: [Requests] = [.pages(1), .pages(16), .growing]

  private static let inThread = sizes(
    Delivery.sigbus.rawValue, "in the faulting thread", .inThread, .sigbus, .automatic, allSizes)

  /// What is left where the host allows no userfaultfd.
  private static let protected = sizes(
    Delivery.sigsegv.rawValue, "in the faulting thread, without a userfaultfd", .protected, .sigsegv, .automatic,
    [.pages(1), .growing])

  /// Every placement of the handler, with and without requests that grow. 16 pages a fault where C has that too, and where no
  /// placement is configured.
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
