import Glibc

@testable import FaultRuntime

private let pageSize = PageSize.ofHost()

/// What a provider does when the library calls it.
private final class Script: @unchecked Sendable {
  // Safe to share: only one thread calls the provider.
  var kind = 0
  var produced = 0
  var address: UInt = 0
  var lent: [UInt8] = []
}

private struct Refused: Error {}

/// The bytes that belong at each offset of a region. They are never zero, and never equal to the former bytes of the
/// staging memory.
private let pattern = (0..<(64 * pageSize.bytes)).map { UInt8($0 % 199 + 1) }
private let leftBehind: UInt8 = 0xee
private let zeros = [UInt8](repeating: 0, count: 64 * pageSize.bytes)

/// Checks the answers of arbitrary providers. Each byte that would get into a page must be the provider's, or zero
/// where that is right.
func checkAnswers(_ input: inout FuzzInput) {
  let script = Script()
  let table = RegionTable<Region>()
  let region = input.region { request, buffer in try answer(script, request, &buffer) }
  table.insert(region)
  defer { table.remove(region) }
  var rounds = 0
  repeat {
    let pages = region.range.byteCount / pageSize.bytes
    let first = PendingFault(
      page: region.range.start + UInt(input.below(pages) * pageSize.bytes), isWrite: input.bool())
    var run = FaultRun(region: region, fault: first, index: 0)
    run.widen()
    let (start, end) = (run.start, run.end)
    script.kind = input.below(6)
    let wanted = run.request.byteCount
    script.produced = input.bool() ? wanted : input.below(min(65536, 2 * wanted))
    script.address = UInt(input.number(UInt64.self))
    // A separate array and not a part of the pattern, so that AddressSanitizer sees a read beyond its end.
    script.lent = script.kind == 3 ? Array(pattern[start...].prefix(script.produced)) : []
    script.lent += [UInt8](repeating: leftBehind, count: script.kind == 3 ? script.produced - script.lent.count : 0)

    let stage = UnsafeMutableRawBufferPointer.allocate(byteCount: end - start, alignment: pageSize.bytes)
    defer { unsafe stage.deallocate() }
    unsafe stage.initializeMemory(as: UInt8.self, repeating: leftBehind)
    let lastWanted = region.offset(of: first.page)
    do {
      let answer = try unsafe run.ask(
        lastWanted: lastWanted, isWrite: first.isWrite, stage: stage, isForbidden: { table.intersects($0) })
      unsafe check(answer, script, run, lastWanted)
    } catch {
      checkRefusal(error, script, run, lastWanted)
    }
    rounds += 1
  } while !input.isEmpty && rounds < 8
}

private func answer(_ script: Script, _ request: PageRequest, _ buffer: inout PageBuffer) throws -> PageContents {
  let count = min(script.produced, buffer.freeCapacity)
  switch script.kind {
  case 0:
    unsafe buffer.append(pattern[request.offset..<(request.offset + count)].span.bytes)
    return .filled
  case 1:
    unsafe buffer.appendUnsafely { free in
      unsafe pattern.withUnsafeBytes {
        unsafe free.copyMemory(from: .init(rebasing: $0[request.offset...].prefix(count)))
      }
      return count
    }
    return .filled
  case 2:
    return .zero
  case 3:
    // The array exists longer than the answer, and does not change before the answer is checked.
    return unsafe script.lent.withUnsafeBytes { unsafe .lent($0) }
  case 4:
    return unsafe .lent(
      UnsafeRawBufferPointer(
        start: UnsafeRawPointer(bitPattern: script.address), count: script.address == 0 ? 0 : count))
  default:
    throw Refused()
  }
}

private func check(_ answer: PageAnswer, _ script: Script, _ run: borrowing FaultRun, _ lastWanted: Int) {
  let parts = unsafe answer.second.map { second in unsafe [answer.first, second] } ?? [answer.first]
  var offset = run.start
  for index in unsafe 0..<parts.count {
    let part = unsafe parts[index]
    let range = unsafe part.range
    require(range.start == run.region.range.start &+ UInt(offset), "a part starts in the wrong place")
    require(range.byteCount > 0 && range.byteCount % pageSize.bytes == 0, "a part of \(range.byteCount) bytes")
    require(offset + range.byteCount <= run.end, "an answer goes beyond its run")
    if script.kind != 4, case .bytes(let source, _) = unsafe part.content {
      let provided = script.kind == 2 ? 0 : min(range.byteCount, run.region.byteCount - offset)
      let isRight = unsafe pattern.withUnsafeBytes { unsafe memcmp(source, $0.baseAddress! + offset, provided) == 0 }
      require(isRight, "bytes from \(offset) on are not the provider's")
      let isZero = unsafe zeros.withUnsafeBytes {
        unsafe memcmp(source + provided, $0.baseAddress!, range.byteCount - provided) == 0
      }
      require(isZero, "what is behind \(offset + provided) is not zero")
    } else {
      require(script.kind == 2 || script.kind == 4, "a page of zeros that nobody said")
    }
    offset += range.byteCount
  }
  require(offset > lastWanted, "a page that somebody waits for was left out")
  let said = script.kind == 2 ? run.request.byteCount : script.produced
  require(said >= min(offset, run.region.byteCount) - run.start, "more than the provider said")
}

private func checkRefusal(_ error: any Error, _ script: Script, _ run: borrowing FaultRun, _ lastWanted: Int) {
  let wanted = run.request.byteCount
  let isTooShort = script.produced < wanted && run.start + pageSize.roundDown(script.produced) <= lastWanted
  switch (script.kind, (error as? ResolutionError)?.reason) {
  case (0, .answerTooShort), (1, .answerTooShort), (3, .answerTooShort): require(isTooShort, "not too short")
  case (3, .answerTooLong): require(script.produced > wanted, "not too long")
  case (4, .some): break
  case (5, nil): require(error is Refused, "another error: \(error)")
  default: require(false, "kind \(script.kind) was refused: \(error)")
  }
}
