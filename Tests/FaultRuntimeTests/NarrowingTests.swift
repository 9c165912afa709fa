import TestSupport
import Testing

@testable import FaultRuntime

private struct Broken: Error, Equatable { var number = 0 }
private struct End: EndOfResolution, Equatable {}

/// Checks how an error of a request for several pages is narrowed down to the pages that cause it.
@Suite("One page is to blame", .timeLimit(.minutes(6)))
struct NarrowingTests {
  /// What the code did, and for which page.
  private enum Step: Equatable {
    case ask(Int), giveUp(Int, Broken)
  }

  private let region: Region

  init() throws { region = try Self.region(.never) }

  private static func region(_ retry: RetryPolicy) throws -> Region {
    try Region(
      testing: patternProvider(requestSize: RequestSize(preferred: 1, largest: 8 * pageBytes)),
      byteCount: 16 * pageBytes, options: RegionOptions(retry: retry))
  }

  /// Narrows an error of a run and returns the steps. `ask` receives the page and how often it was asked for before.
  private func narrow(
    _ error: any Error = Broken(), _ pages: Range<Int> = 0..<4, retry: RetryPolicy = .never, region: Region? = nil,
    until isOver: () -> Bool = { false }, ask: (Int, Int) throws -> Void
  ) throws -> [Step] {
    let region = try region ?? Self.region(retry)
    let run = FaultRun(region: region, from: pages.lowerBound * pageBytes, to: pages.upperBound * pageBytes)
    var steps: [Step] = []
    try FaultRun.narrow(
      error, of: run, to: pages.map { region.address(of: $0 * pageBytes) }, with: &steps, until: isOver,
      ask: { steps, address in
        let page = region.offset(of: address) / pageBytes
        let before = steps.count { $0 == .ask(page) }
        steps.append(.ask(page))
        try ask(page, before)
      },
      giveUp: { steps, address, error in
        let page = region.offset(of: address) / pageBytes
        steps.append(.giveUp(page, error as? Broken ?? Broken(number: -1)))
      })
    return steps
  }

  private func policy(_ attempts: Int) -> RetryPolicy { RetryPolicy(attempts: attempts, firstBackoff: .zero) }

  @Test("Each page is asked for by itself, and only the bad one fails, with its own error")
  func each() throws {
    let steps = try narrow { page, _ in if page == 2 { throw Broken(number: 7) } }
    #expect(steps == [.ask(0), .ask(1), .ask(2), .giveUp(2, Broken(number: 7)), .ask(3)])
  }

  @Test("A request for one page is not made again, and its error is the page's")
  func onePage() throws {
    #expect(try narrow(Broken(number: 3), 2..<3) { _, _ in } == [.giveUp(2, Broken(number: 3))])
  }

  @Test("A page is asked for as often as the policy says, where the first of it was a request of more")
  func attempts() throws {
    let steps = try narrow(retry: policy(3)) { page, before in
      if page == 1 { throw Broken(number: 10 + before) }
    }
    // The request for all pages does not count as an attempt at a single page.
    #expect(steps.count { $0 == .ask(1) } == 3)
    #expect(steps.count { $0 == .ask(0) } == 1)
    #expect(steps.last { if case .giveUp = $0 { true } else { false } } == .giveUp(1, Broken(number: 12)))
  }

  @Test("The request for one page was the first attempt at it", arguments: [1, 2, 5])
  func attemptsOfOne(attempts: Int) throws {
    let steps = try narrow(Broken(number: 9), 1..<2, retry: policy(attempts)) { _, before in
      throw Broken(number: before)
    }
    let last = attempts == 1 ? Broken(number: 9) : Broken(number: attempts - 2)
    #expect(steps == Array(repeating: .ask(1), count: attempts - 1) + [.giveUp(1, last)])
    let cured = try narrow(Broken(), 1..<2, retry: policy(attempts)) { _, before in
      if before < attempts - 2 { throw Broken() }
    }
    #expect(cured.contains { if case .giveUp = $0 { true } else { false } } == (attempts == 1))
  }

  @Test("What the runtime or the kernel refuses is asked for once by itself, and never again")
  func refused() throws {
    let steps = try narrow(ResolutionError.refused(.noMemory), 0..<2, retry: policy(5)) { _, _ in
      throw ResolutionError.refused(.noMemory)
    }
    #expect(steps == [.ask(0), .giveUp(0, Broken(number: -1)), .ask(1), .giveUp(1, Broken(number: -1))])
  }

  @Test("The end of all of it is the end of the narrowing, and no page is given up for it")
  func end() throws {
    var asked: [Int] = []
    #expect(throws: End()) {
      try narrow(retry: policy(3)) { page, _ in
        asked.append(page)
        if page == 1 { throw End() }
      }
    }
    #expect(asked == [0, 1])
  }

  @Test("What giving up throws ends it, and the pages behind are not asked for")
  func givingUpThrows() throws {
    let run = FaultRun(region: region, from: 0, to: 4 * pageBytes)
    var asked: [Int] = []
    #expect(throws: Broken(number: 5)) {
      try FaultRun.narrow(
        Broken(), of: run, to: (0..<4).map { region.address(of: $0 * pageBytes) }, with: &asked, until: { false },
        ask: { asked, address in
          asked.append(region.offset(of: address) / pageBytes)
          throw Broken(number: 5)
        },
        giveUp: { _, _, error in throw error })
    }
    #expect(asked == [0])
  }

  @Test("Who has given up meanwhile is asked for nothing more, but each page ends")
  func over() throws {
    var isOver = false
    let steps = try narrow(Broken(number: 1), 0..<2, retry: policy(1000), until: { isOver }) { page, before in
      if before == 2 { isOver = true }
      throw Broken(number: 2)
    }
    let asks: [Step] = [.ask(0), .ask(0), .ask(0)]
    #expect(steps == asks + [.giveUp(0, Broken(number: 2)), .ask(1), .giveUp(1, Broken(number: 2))])
  }

  @Test("Pages of a region that is closing are not asked for, and end with the error")
  func closing() throws {
    #expect(region.beginClosing())
    let steps = try narrow(Broken(number: 4), 0..<3, region: region) { _, _ in }
    #expect(steps == (0..<3).map { .giveUp($0, Broken(number: 4)) })
  }

  @Test("Only the pages that matter are asked for")
  func someOfThem() throws {
    let run = FaultRun(region: region, from: 0, to: 8 * pageBytes)
    var asked: [Int] = []
    try FaultRun.narrow(
      Broken(), of: run, to: [1, 6].map { region.address(of: $0 * pageBytes) }, with: &asked, until: { false },
      ask: { asked, address in asked.append(region.offset(of: address) / pageBytes) }, giveUp: { _, _, _ in })
    #expect(asked == [1, 6])
  }

  @Test("A request that failed makes the next one small again, and it goes on behind the first page")
  func shrinking() throws {
    let region = try Region(
      testing: patternProvider(requestSize: RequestSize(preferred: 1, largest: 16 * pageBytes)),
      byteCount: 64 * pageBytes)
    // Accesses have continued in sequence up to page 7.
    let windows = [0, 1, 3, 7].map { region.streams.window(from: $0, count: 1, largest: 16) }
    #expect(windows == [1, 2, 4, 8])
    let run = FaultRun(region: region, from: 7 * pageBytes, to: 15 * pageBytes)
    var nothing = 0
    try FaultRun.narrow(
      Broken(), of: run, to: [run.range.start], with: &nothing, until: { false }, ask: { _, _ in },
      giveUp: { _, _, _ in })
    #expect(region.streams.window(from: 8, count: 1, largest: 16) == 2)
  }
}
