import CTestSupport
import CUFFD
import TestSupport
import Testing

@testable import FaultRuntime

/// Tests answers that say that the page is in the page cache already. No provider gives such answers yet, but the
/// loop that places answers handles them, and so does the memory below it.
@Suite(
  "Pages that are in the page cache are put in place from there", .timeLimit(.minutes(6)),
  .enabled(if: Host.has(.minorShmem), SkipReason.minorShmem))
struct PageCacheTests {
  /// A region over a file in memory whose minor faults are reported, and a second mapping of the file.
  private final class Shared: Sendable {
    let userfaultfd: SharedUserfaultfd
    let region: Region
    let alias: UInt
    let pages: Int

    init(pages: Int) throws {
      var address: UInt = 0
      var alias: UInt = 0
      try #require(unsafe cts_map_memory(CTS_SHMEM, pages * pageBytes, pageBytes, &address, &alias) == 0)
      self.alias = alias
      self.pages = pages
      let owner = SharedUserfaultfd(try Userfaultfd.open(DescriptorKind.allCases, wanting: .minorShmem))
      userfaultfd = owner
      let range = AddressRange(start: address, byteCount: pages * pageBytes)
      let memory = AnonymousMemory(range, isWritable: true, pageSize: .ofHost(), userfaultfd: owner)
      region = try Region(
        provider: ZeroProvider(), byteCount: range.byteCount, options: RegionOptions(), name: "shared",
        pageSize: .ofHost(), server: NoServer()
      ) { _ in memory }
      try owner.uffd.register(range, mode: .minor)
    }

    deinit { _ = cuffd_unmap(UInt64(alias), pages * pageBytes) }

    /// Puts pages into the page cache, each with a byte of its own.
    func cache(_ pages: Range<Int>) {
      for page in pages {
        #expect(write(UInt8(page + 1), to: alias + UInt(page * pageBytes)) == .byte(UInt8(page + 1)))
      }
    }

    func page(_ index: Int) -> AddressRange {
      AddressRange(start: region.address(of: index * pageBytes), byteCount: pageBytes)
    }

    /// Answers for the whole region from the page cache.
    func place(_ policy: inout CountingPolicy) throws -> Int {
      let run = FaultRun(region: region, from: 0, to: pages * pageBytes)
      let answer = unsafe PageAnswer(AnswerPart(region.range, .pageCache))
      return try unsafe policy.place(answer, of: run, in: AnonymousMemory.of(region))
    }
  }

  @Test("Every page is there at once, and is the page of the cache itself")
  func all() throws {
    let shared = try Shared(pages: 4)
    shared.cache(0..<4)
    var policy = CountingPolicy()
    let end = try shared.place(&policy)
    #expect(end == 4 * pageBytes)
    #expect(policy.filled.total == 4 * pageBytes)
    for index in 0..<4 { #expect(read(shared.page(index).start) == .byte(UInt8(index + 1))) }
    #expect(write(77, to: shared.page(2).start) == .byte(77))
    #expect(read(shared.alias + UInt(2 * pageBytes)) == .byte(77))
  }

  @Test("A thread that waits in a minor fault goes on")
  func waiter() throws {
    let shared = try Shared(pages: 1)
    shared.cache(0..<1)
    let start = shared.page(0).start
    let reader = Later { read(start) }
    #expect(eventually { waiters(on: shared.userfaultfd.uffd.descriptor).unread == 1 })
    var policy = CountingPolicy()
    _ = try shared.place(&policy)
    #expect(try reader.result() == .byte(1))
  }

  @Test("A page that is mapped already is stepped over, wherever it is", arguments: [0, 1, 3])
  func present(index: Int) throws {
    let shared = try Shared(pages: 4)
    shared.cache(0..<4)
    try shared.userfaultfd.uffd.continue(shared.page(index))
    var policy = CountingPolicy()
    #expect(try shared.place(&policy) == 4 * pageBytes)
    #expect(policy.present == [shared.page(index)])
    #expect(policy.filled.total == 3 * pageBytes)
    for index in 0..<4 { #expect(read(shared.page(index).start) == .byte(UInt8(index + 1))) }
  }

  @Test("A page that is not in the cache is an error, and no page behind it is put in place")
  func missing() throws {
    let shared = try Shared(pages: 4)
    shared.cache(0..<2)
    shared.cache(3..<4)
    var policy = CountingPolicy()
    #expect(throws: ResolutionError.refused(.badAddress)) { try shared.place(&policy) }
    #expect(policy.filled.total == 2 * pageBytes)
    let notes = (0..<4).map { shared.region.memory.isThere(shared.page($0).start) }
    // A page in the cache counts as resident, although this mapping does not have it yet.
    #expect(notes[0] && notes[1] && !notes[2])
    #expect(read(shared.page(1).start) == .byte(2))
    // If the page were mapped, this call would throw an error.
    try shared.userfaultfd.uffd.continue(shared.page(3))
  }

  @Test("Memory that reports no minor faults refuses such an answer, and nothing is put in place")
  func twin() throws {
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .sigsegv))
    let region = try runtime.map(ZeroProvider(), byteCount: 2 * pageBytes)
    let part = unsafe AnswerPart(region.core.range, .pageCache)
    let step = unsafe region.core.memory.place(part, after: 0, effort: .usual)
    #expect(step == .misuse(.invalidArgument))
    #expect(!region.isResident(0))
  }
}

/// A policy that only records what is placed.
struct CountingPolicy: PlacingPolicy {
  /// A class, so that counting does not change the policy.
  final class Sum: Sendable {
    private let bytes = Monitor(0)
    func add(_ amount: Int) { bytes.withLock { $0 += amount } }
    var total: Int { bytes.withLock { $0 } }
  }

  let filled = Sum()
  var effort: PlacingEffort { .usual }
  private(set) var present: [AddressRange] = []
  private(set) var gone: [AddressRange] = []
  private(set) var putOff: [AddressRange] = []
  private(set) var forgotten: [UInt] = []
  private(set) var tries = 0
  /// How often a request may be tried again.
  var patience = 0
  /// How often each page has been reported present before.
  var reports: [UInt: Int] = [:]

  func countBytesFilled(_ amount: Int) { filled.add(amount) }
  func presentReports(of page: UInt) -> Int { reports[page] ?? 0 }
  mutating func forgetPresentReports(of page: UInt) { forgotten.append(page) }
  mutating func foundPresent(_ page: AddressRange, _ run: borrowing FaultRun) { present.append(page) }
  mutating func triesAgain() -> Bool {
    tries += 1
    return tries <= patience
  }
  mutating func putOff(_ rest: AddressRange, _ run: borrowing FaultRun) { putOff.append(rest) }
  mutating func foundGone(_ rest: AddressRange, _ run: borrowing FaultRun) { gone.append(rest) }
}
