import Archive
import FaultRuntime
import Testing

@Suite("Mapping", .timeLimit(.minutes(6)))
struct MappingTests {
  /// A length that does not end at a page boundary.
  private let byteCount = 5 * Host.pageSize + 123

  @Test("A touch finds what the provider says", arguments: Host.deliveries)
  func touch(_ delivery: Delivery) throws {
    let runtime = try makeRuntime(delivery)
    let region = try runtime.map(Squares(byteCount: byteCount), options: RegionOptions(name: "squares"))
    #expect(region.byteCount == byteCount)
    #expect(region.name == "squares")
    #expect(delivery == .auto ? region.delivery != .auto : region.delivery == delivery)
    #expect(region.delivery == runtime.deliveryChoice(for: Squares(byteCount: byteCount)).delivery)
    #expect(mismatches(region, 0..<byteCount) == 0)
    #expect(region.failures.isEmpty)
  }

  @Test("What is written stays, between what the provider says", arguments: Host.deliveries)
  func write(_ delivery: Delivery) throws {
    let region = try makeRuntime(delivery).map(Squares(byteCount: byteCount))
    let place = Host.pageSize - 2
    try region.write([1, 2, 3, 4], at: place)
    unsafe region.unsafeMutableBytes.storeBytes(of: 5, toByteOffset: place + 4, as: UInt8.self)
    #expect(try region.read(place..<(place + 5)) == [1, 2, 3, 4, 5])
    #expect(mismatches(region, 0..<place) == 0)
    #expect(mismatches(region, (place + 5)..<byteCount) == 0)
  }

  /// A class, from which the compiler lets no span of the region's bytes escape.
  private final class Holder: Sendable {
    let region: LazyRegion
    init(_ region: LazyRegion) { self.region = region }
  }

  private actor Keeper {
    private let region: LazyRegion
    init(_ region: LazyRegion) { self.region = region }

    func byte(at offset: Int) -> UInt8 { region.load(fromByteOffset: offset, as: UInt8.self) }
    func sum(of range: Range<Int>) -> Int {
      region.withBytes { bytes in range.reduce(0) { $0 + Int(bytes.load(fromByteOffset: $1, as: UInt8.self)) } }
    }
  }

  @Test("A region that a class or an actor stores is read and written without pointers", arguments: Host.deliveries)
  func stored(_ delivery: Delivery) async throws {
    let holder = Holder(try makeRuntime(delivery).map(Squares(byteCount: byteCount)))
    #expect(holder.region.load(fromByteOffset: 7, as: UInt8.self) == Squares.byte(at: 7))
    #expect(holder.region.withBytes { $0.load(fromByteOffset: 8, as: UInt8.self) } == Squares.byte(at: 8))
    holder.region.store(UInt8(99), toByteOffset: 9)
    holder.region.withMutableBytes { $0.storeBytes(of: 98, toByteOffset: 10, as: UInt8.self) }
    let keeper = Keeper(holder.region)
    #expect(await keeper.byte(at: 9) == 99)
    #expect(await keeper.byte(at: 11) == Squares.byte(at: 11))
    #expect(await keeper.sum(of: 9..<11) == 99 + 98)
  }

  @Test("Several tasks touch the same pages", arguments: Host.deliveries)
  func tasks(_ delivery: Delivery) async throws {
    let byteCount = byteCount
    let region = try makeRuntime(delivery).map(Squares(byteCount: byteCount))
    let wrong = await withTaskGroup(of: Int.self) { group in
      for _ in 0..<4 { group.addTask { mismatches(region, 0..<byteCount) } }
      return await group.reduce(0, +)
    }
    #expect(wrong == 0)
  }

  @Test("A buffer of resident bytes, and pieces that leave nothing", arguments: Host.deliveries)
  func buffers(_ delivery: Delivery) throws {
    let region = try makeRuntime(delivery).map(Squares(byteCount: byteCount))
    let expected = (0..<byteCount).map(Squares.byte)
    var pieces: [UInt8] = []
    try region.forEachPiece(of: 0..<byteCount, byteCount: 2 * Host.pageSize) { bytes, offset in
      #expect(offset == pieces.count)
      for index in 0..<bytes.byteCount { pieces.append(bytes.load(fromByteOffset: index, as: UInt8.self)) }
    }
    #expect(pieces == expected)
    let resident = try region.withResident(7..<byteCount) { bytes in
      (0..<bytes.byteCount).map { bytes.load(fromByteOffset: $0, as: UInt8.self) }
    }
    #expect(resident == Array(expected[7...]))
    var pointed: [UInt8] = []
    try region.forEachUnsafePiece(of: 0..<byteCount) { bytes, _ in pointed += bytes }
    #expect(pointed == expected)
  }

  @Test("The providers of the library", arguments: Host.deliveries)
  func providers(_ delivery: Delivery) throws {
    let runtime = try makeRuntime(delivery)
    let words = Array("lent, not copied".utf8)
    #expect(try runtime.map(MemoryProvider(copying: words)).read(0..<words.count) == words)
    #expect(try runtime.map(ZeroProvider(), byteCount: 1 << 40).read((1 << 39)..<(1 << 39 + 2)) == [0, 0])
    #expect(try runtime.map(FileProvider("/proc/self/exe")).read(1..<4) == Array("ELF".utf8))
    let closure = ClosureProvider(requestSize: .singlePage, permissions: .inMemory) { request, page in
      page.append(repeating: UInt8(request.offset / request.byteCount), count: request.byteCount)
      return .filled
    }
    let options = RegionOptions(access: .readOnly, advice: .random)
    let region = try runtime.map(closure, byteCount: 3 * Host.pageSize, options: options)
    #expect(try region.read((2 * Host.pageSize - 1)..<(2 * Host.pageSize + 1)) == [1, 2])
  }
}
