import CReference
import FaultRuntime
import Glibc

extension SpeedRow {
  /// Returns a row for each promise about speed.
  ///
  /// - Parameter isQuick: Whether rows have fewer pages, for continuous integration.
  static func all(isQuick: Bool, plant: PlantedRegression?) -> [SpeedRow] {
    let pages = isQuick ? 4096 : 16384
    let many = (isQuick ? 64 << 20 : 256 << 20) / Host.pageSize
    let most = (isQuick ? 256 << 20 : 1 << 30) / Host.pageSize
    let advice: RegionOptions.Advice = plant == .widening ? .random : .normal
    return inThread(pages) + eventLoop(pages, isMisplaced: plant == .placement) + large(many, most, advice)
      // A handler that waits for the sleeper is so slow that fewer pages are enough.
      + threads(pages, advice) + sleeper(plant == .blocking ? pages / 16 : 16384)
      + awake(pages, isPlanted: plant == .placement)
  }

  private static let epoll = reference("c-epoll", CREFERENCE_EPOLL)
  private static let epollOnOneCPU = reference("c-epoll-pinned", CREFERENCE_EPOLL, .one)
  private static let sigbus = reference("c-sigbus", CREFERENCE_SIGBUS)
  private static let kernel = reference("kanon", CREFERENCE_ANONYMOUS)

  private static func reference(
    _ name: String, _ strategy: creference_strategy, _ cpus: SpeedContender.CPUs = .any, pages: Int = 1
  ) -> SpeedContender {
    SpeedContender(name: name, way: .reference(strategy, pages: pages), cpus: cpus)
  }

  private static func library(
    _ name: String, _ library: SpeedContender.Library, _ cpus: SpeedContender.CPUs = .any
  ) -> SpeedContender {
    SpeedContender(name: name, way: .library(library), cpus: cpus)
  }

  private static func inThread(_ pages: Int) -> [SpeedRow] {
    // Only one thread takes part. A thread that changed its CPU during the measurement would lose its warm caches.
    let subject = library("sigbus", .init(delivery: .sigbus), .one)
    let sigsegv = reference("c-sigsegv", CREFERENCE_SIGSEGV, .one)
    let sigbus = reference("c-sigbus", CREFERENCE_SIGBUS, .one)
    let twin = library("sigsegv", .init(delivery: .sigsegv), .one)
    let twinInC = reference("c-twin", CREFERENCE_TWIN, .one)
    return [
      SpeedRow(
        name: "sigbus", about: "a page in the faulting thread, against the same in C", statistic: .p50, pages: pages,
        isRandom: true, subject: subject, yardsticks: [sigbus]),
      SpeedRow(
        name: "sigbus-sigsegv-sequential", about: "the same, sequential, against PROT_NONE + SIGSEGV + mprotect",
        statistic: .p50, pages: pages, subject: subject, yardsticks: [sigsegv]),
      SpeedRow(
        // A quick run uses all pages too, because mprotect takes longer the more mappings it has made.
        name: "sigbus-sigsegv-random", about: "the same in random order", statistic: .p50, pages: 16384, isRandom: true,
        subject: subject, yardsticks: [sigsegv]),
      SpeedRow(
        name: "sigsegv-sequential", about: "a page in the faulting thread without a userfaultfd, against the same in C",
        statistic: .p50, pages: pages, subject: twin, yardsticks: [twinInC]),
      SpeedRow(
        // A quick run uses all pages too, for the same reason.
        name: "sigsegv-random", about: "the same in random order", statistic: .p50, pages: 16384, isRandom: true,
        subject: twin, yardsticks: [twinInC]),
    ]
  }

  /// - Parameter isMisplaced: Whether the handler is placed as it should not be. Under load, the scheduler sometimes
  ///   puts the handler on the faulting thread's CPU, so a handler that spins takes part in the row with busy CPUs.
  private static func eventLoop(_ pages: Int, isMisplaced: Bool) -> [SpeedRow] {
    func automatic(_ misplaced: HandlerPlacement) -> SpeedContender {
      library("event-loop", .init(delivery: .eventLoop, placement: isMisplaced ? misplaced : .automatic))
    }
    let pinned = library("event-loop-pinned", .init(delivery: .eventLoop), .one)
    return [
      SpeedRow(
        name: "event-loop-pinned", about: "a page through the event loop on the toucher's CPU, against the same in C",
        statistic: .p50, pages: pages, isRandom: true, subject: pinned, yardsticks: [epollOnOneCPU]),
      SpeedRow(
        name: "event-loop-unpinned", about: "the same with nothing pinned, against C on one CPU", statistic: .p50,
        pages: pages, isRandom: true, subject: automatic(.scheduler), yardsticks: [epollOnOneCPU]),
      SpeedRow(
        name: "event-loop-busy", about: "the same with every CPU busy, against the best C placement", statistic: .mean,
        pages: pages / 8, isRandom: true, company: .busyCPUs, subject: automatic(.spinning(.seconds(1))),
        yardsticks: [epollOnOneCPU, epoll, reference("c-spin", CREFERENCE_SPIN, .apart)]),
    ]
  }

  private static func large(_ pages: Int, _ most: Int, _ advice: RegionOptions.Advice) -> [SpeedRow] {
    [
      SpeedRow(
        name: "sequential-sigbus",
        about: "sequential read of memory in the faulting thread, against the kernel's faults",
        statistic: .perPage, pages: pages,
        subject: library("sigbus", .init(delivery: .sigbus, source: .memory, advice: advice)), yardsticks: [kernel]),
      SpeedRow(
        name: "sequential-event-loop", about: "the same through the event loop, nothing pinned", statistic: .perPage,
        pages: pages,
        subject: library("event-loop", .init(delivery: .eventLoop, source: .memory, advice: advice)),
        yardsticks: [kernel]),
      SpeedRow(
        name: "random-automatic", about: "random read with requests that may grow, against a page a fault",
        statistic: .perPage, pages: pages, isRandom: true,
        subject: library("auto", .init(source: .memory)), yardsticks: [library("auto-1p", .init())]),
      SpeedRow(
        name: "file", about: "sequential read of a file, against pread into fresh memory", statistic: .perPage,
        pages: pages, subject: library("auto", .init(source: .file, advice: advice)),
        yardsticks: [
          SpeedContender(name: "pread", way: .pread(Int.max)),
          SpeedContender(name: "pread-64k", way: .pread(64 << 10)),
        ]),
      SpeedRow(
        name: "populate", about: "populate(), against the kernel's faults", statistic: .perPage, pages: most,
        touchesFreeMemory: true,
        subject: library("auto", .init(source: .memory, isPopulated: true)),
        yardsticks: [SpeedContender(name: "kanon", way: .bulk(CREFERENCE_BULK_FAULTS))]),
    ]
  }

  private static func threads(_ pages: Int, _ advice: RegionOptions.Advice) -> [SpeedRow] {
    [4, 8].flatMap { threads in
      [
        SpeedRow(
          name: "threads-\(threads)",
          about: "\(threads) threads, each its own pages, a page a fault, against the best C",
          statistic: .perPage, pages: pages, threads: threads, subject: library("auto", .init()),
          yardsticks: [sigbus, epollOnOneCPU, epoll]),
        SpeedRow(
          name: "threads-\(threads)-wide", about: "the same with requests that grow, against 16 pages a fault in C",
          statistic: .perPage, pages: 4 * pages, threads: threads,
          subject: library("auto", .init(source: .memory, advice: advice)),
          yardsticks: [reference("c-sigbus-16p", CREFERENCE_SIGBUS, pages: 16)]),
        SpeedRow(
          name: "threads-\(threads)-event-loop", about: "the same through the event loop, a page a fault",
          statistic: .perPage, pages: pages, threads: threads,
          subject: library("event-loop", .init(delivery: .eventLoop)),
          // The program, and not the library, decides where its touching threads run.
          yardsticks: [epoll]),
      ]
    }
  }

  private static func sleeper(_ pages: Int) -> [SpeedRow] {
    func row(_ name: String, _ about: String, _ cpus: SpeedContender.CPUs) -> SpeedRow {
      SpeedRow(
        name: name, about: about, statistic: .p99, pages: pages, isRandom: true,
        subject: library("with", .init(delivery: .eventLoop, hasSleeper: true), cpus),
        yardsticks: [library("without", .init(delivery: .eventLoop), cpus)])
    }
    return [
      row(
        "sleeper", "a page through the event loop while another region's provider sleeps, against none", .toucherOnOne),
      // The tail also includes what the scheduler does to a thread when another one wakes up.
      row("sleeper-unpinned", "the same with nothing pinned", .any),
    ]
  }

  /// Returns no rows if the process may not ask for that, or if the kernel has no driver that would listen.
  private static func awake(_ pages: Int, isPlanted: Bool) -> [SpeedRow] {
    guard unsafe access("/dev/cpu_dma_latency", W_OK) == 0, Machine.idleDriver != "none" else { return [] }
    return [
      SpeedRow(
        name: "cpus-awake", about: "a handler that the scheduler places, with keepsCPUsAwake, against without",
        statistic: .p50, pages: pages, isRandom: true,
        subject: library("awake", .init(delivery: .eventLoop, placement: .scheduler, keepsCPUsAwake: !isPlanted)),
        yardsticks: [library("usual", .init(delivery: .eventLoop, placement: .scheduler))])
    ]
  }
}
