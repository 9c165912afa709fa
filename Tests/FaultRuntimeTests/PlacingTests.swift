import CUFFD
import TestSupport
import Testing

@testable import FaultRuntime

/// Tests the loop that places an answer, over memory that answers as the test wants.
@Suite("Putting answers in place")
struct PlacingTests {
  /// Memory that answers each request with the next step of a list, and records the requests.
  private final class Scripted: RegionMemory {
    let range: AddressRange
    let isWritable = true
    let parts: Monitor<RegionParts>
    let failureSignal = CUFFD_SIGBUS
    let canFailPages = true
    let movesPages = false
    let isLeftBehind = false
    private let script: Monitor<[ResolutionStep]>
    private let log = Monitor<[Range<Int>]>([])

    init(_ steps: [ResolutionStep], byteCount: Int) {
      // No memory is mapped at these addresses, and no code accesses them.
      range = AddressRange(start: UInt(64 * pageBytes), byteCount: byteCount)
      parts = Monitor(RegionParts(range))
      script = Monitor(steps)
    }

    /// The pages of the region that each request was for.
    var requests: [Range<Int>] { log.withLock { $0 } }

    func place(_ part: AnswerPart, after done: Int, effort: PlacingEffort) -> ResolutionStep {
      let rest = unsafe part.range.dropping(done)
      let first = Int(rest.start - range.start) / pageBytes
      log.withLock { $0.append(first..<(first + rest.byteCount / pageBytes)) }
      return script.withLock { $0.isEmpty ? .done : $0.removeFirst() }
    }

    func isThere(_ page: UInt) -> Bool { false }
    func noteResident(_ range: AddressRange, in notes: UnsafeMutablePointer<UInt8>) -> KernelErrno? { nil }
    func noteOccupied(_ range: AddressRange, in notes: UnsafeMutablePointer<UInt8>) -> KernelErrno? { nil }
    func failPage(_ page: AddressRange) -> ResolutionStep { .done }
    func wake(_ range: AddressRange) {}
    func moveIn(_ range: AddressRange, from source: UInt) -> ResolutionStep { .copyInstead }
    func copyIfPresent(_ page: AddressRange, to destination: UnsafeMutableRawPointer) -> Bool { false }
    func discard(_ range: AddressRange) -> KernelErrno? { nil }
    func revokeAccess() -> Bool { true }
    func withdraw() {}
  }

  /// A region of 16 pages over scripted memory, and the policy that records what is placed.
  private struct Placing {
    let memory: Scripted
    let region: Region
    var policy = CountingPolicy()

    init(_ steps: [ResolutionStep]) throws {
      let memory = Scripted(steps, byteCount: 16 * pageBytes)
      self.memory = memory
      let provider = patternProvider(requestSize: RequestSize(preferred: 1, largest: 16 * pageBytes))
      region = try Region(
        provider: provider, byteCount: 16 * pageBytes, options: RegionOptions(), name: "scripted",
        pageSize: .ofHost(), server: NoServer()
      ) { _ in memory }
    }

    func pages(_ pages: Range<Int>) -> AddressRange {
      AddressRange(start: region.address(of: pages.lowerBound * pageBytes), byteCount: pages.count * pageBytes)
    }

    /// Places zeros in `first`, and in `second` after it. Returns the page at which the placed pages end.
    mutating func place(
      _ first: Range<Int>, _ second: Range<Int>? = nil, neededEnd: Int? = nil
    ) throws -> Int {
      let run = FaultRun(
        region: region, from: first.lowerBound * pageBytes, to: (second ?? first).upperBound * pageBytes,
        neededEnd: neededEnd.map { $0 * pageBytes })
      let answer = unsafe PageAnswer(
        AnswerPart(pages(first), .zeros), second.map { unsafe AnswerPart(pages($0), .zeros) })
      return try unsafe policy.place(answer, of: run, in: memory) / pageBytes
    }

    var filledPages: Int { policy.filled.total / pageBytes }
  }

  private let page = pageBytes

  @Test("A part that is done at once is one request, and both parts of an answer are put in place")
  func parts() throws {
    var one = try Placing([])
    #expect(try one.place(2..<6) == 6)
    #expect(one.memory.requests == [2..<6])
    #expect(one.filledPages == 4)
    var two = try Placing([])
    #expect(try two.place(2..<6, 6..<7) == 7)
    #expect(two.memory.requests == [2..<6, 6..<7])
    #expect(two.filledPages == 5)
  }

  @Test("After a part of a request the next one begins right behind it")
  func partial() throws {
    var placing = try Placing([.goOn(completed: page), .goOn(completed: 2 * page)])
    #expect(try placing.place(0..<5) == 5)
    #expect(placing.memory.requests == [0..<5, 1..<5, 3..<5])
    #expect(placing.filledPages == 5)
    // The whole answer is placed in parts, and there is no request for an empty rest.
    placing = try Placing([.goOn(completed: page), .goOn(completed: page)])
    #expect(try placing.place(0..<2) == 2)
    #expect(placing.memory.requests == [0..<2, 1..<2])
  }

  @Test("A page that is there is stepped over, alone, and is not counted", arguments: [0, 127])
  func present(earlier: Int) throws {
    var placing = try Placing([.goOn(completed: page), .present])
    placing.policy.reports[placing.pages(1..<2).start] = earlier
    #expect(try placing.place(0..<4) == 4)
    #expect(placing.memory.requests == [0..<4, 1..<4, 2..<4])
    #expect(placing.policy.present == [placing.pages(1..<2)])
    #expect(placing.policy.forgotten == [])
    #expect(placing.filledPages == 3)
  }

  @Test("A page that is reported as there for ever is an error, and its reports begin anew")
  func endlesslyPresent() throws {
    var placing = try Placing([.goOn(completed: page), .present])
    placing.policy.reports[placing.pages(1..<2).start] = ResolutionStep.presentLimit
    #expect(throws: ResolutionError.refused(.fileExists)) { try placing.place(0..<4) }
    #expect(placing.policy.present == [])
    #expect(placing.policy.forgotten == [placing.pages(1..<2).start])
    #expect(placing.filledPages == 1)
  }

  @Test("A page that is there behind those that somebody waits for ends it, and what is left is not counted")
  func presentBeyondNeed() throws {
    var placing = try Placing([.goOn(completed: 2 * page), .present])
    #expect(try placing.place(0..<8, neededEnd: 2) == 2)
    #expect(placing.memory.requests == [0..<8, 2..<8])
    #expect(placing.policy.present == [])
    #expect(placing.filledPages == 2)
    // Before that end, a present page is stepped over as usual.
    placing = try Placing([.goOn(completed: page), .present])
    #expect(try placing.place(0..<8, neededEnd: 2) == 8)
    #expect(placing.policy.present == [placing.pages(1..<2)])
    #expect(placing.memory.requests == [0..<8, 1..<8, 2..<8])
  }

  @Test("A page that is there behind those that somebody waits for makes the next request small again")
  func presentShrinks() throws {
    var placing = try Placing([.goOn(completed: 4 * page), .present])
    // Accesses have continued in sequence up to here.
    var window = 0
    for unit in [0, 1, 3, 7] { window = placing.region.streams.window(from: unit, count: 1, largest: 16) }
    #expect(window > 1)
    let run = FaultRun(region: placing.region, from: 7 * page, to: (7 + window) * page, neededEnd: 8 * page)
    let range = placing.pages(7..<(7 + window))
    let answer = unsafe PageAnswer(AnswerPart(range, .zeros))
    _ = try unsafe placing.policy.place(answer, of: run, in: placing.memory)
    #expect(placing.region.streams.window(from: 11, count: 1, largest: 16) == 2)
  }

  @Test("Where something else must happen first, the same request is made as often as the policy wants")
  func triesAgain() throws {
    var placing = try Placing([.goOn(completed: page), .later, .later])
    placing.policy.patience = 2
    #expect(try placing.place(0..<4) == 4)
    #expect(placing.memory.requests == [0..<4, 1..<4, 1..<4, 1..<4])
    #expect(placing.filledPages == 4)
    #expect(placing.policy.putOff == [])
  }

  @Test("What is put off is the rest, is not counted, and the second part is put in place all the same")
  func putOff() throws {
    var placing = try Placing([.goOn(completed: page), .later])
    _ = try placing.place(0..<4, 4..<5)
    #expect(placing.policy.putOff == [placing.pages(1..<4)])
    #expect(placing.memory.requests == [0..<4, 1..<4, 4..<5])
    #expect(placing.filledPages == 2)
  }

  @Test("What is gone is an error as long as it is more than a page, so that each page is asked for")
  func gone() throws {
    var placing = try Placing([.goOn(completed: page), .gone])
    #expect(throws: ResolutionError.refused(.noSuchFileOrDirectory)) { try placing.place(0..<4) }
    #expect(placing.policy.gone == [])
    #expect(placing.filledPages == 1)
    placing = try Placing([.gone])
    #expect(try placing.place(1..<2) == 2)
    #expect(placing.policy.gone == [placing.pages(1..<2)])
    #expect(placing.filledPages == 0)
    // No page of a region that is closing is requested.
    placing = try Placing([.gone])
    _ = placing.region.beginClosing()
    _ = try placing.place(0..<4)
    #expect(placing.policy.gone == [placing.pages(0..<4)])
    // A process that has ended has no pages to request.
    placing = try Placing([.targetGone])
    _ = try placing.place(0..<4)
    #expect(placing.policy.gone == [placing.pages(0..<4)])
  }

  @Test("What the kernel refuses is its error, and only what is there is counted")
  func refused() throws {
    var placing = try Placing([.goOn(completed: 2 * page), .fail(.noMemory)])
    #expect(throws: ResolutionError.refused(.noMemory)) { try placing.place(0..<4, 4..<5) }
    #expect(placing.memory.requests == [0..<4, 2..<4])
    #expect(placing.filledPages == 2)
  }

  @Test("A request that the runtime should not have made ends the program")
  func misuse() async {
    await #expect(processExitsWith: .failure) {
      var placing = try Placing([.misuse(.invalidArgument)])
      _ = try? placing.place(0..<1)
    }
  }
}
