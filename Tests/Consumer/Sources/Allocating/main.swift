// Makes the calls of a runtime and of its regions, and prints for each how often the calling thread has allocated or
// freed memory while a signal could interrupt it. Ends with 1 where a number is not 0.
//
// Allocating DELIVERY memory|pool

import CAllocations
import FaultRuntime
import Glibc

/// Answers with the byte 7, except for one page. It allocates only for its error.
struct Sevens: SizedPageProvider {
  struct Broken: Error {}
  let byteCount: Int
  let broken: Int?
  let permissions: ProviderPermissions

  func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents {
    if let broken, request.range.contains(broken) { throw Broken() }
    page.append { free in while !free.isFull { free.append(7) } }
    return .filled
  }
}

/// Measures the calls of the program, one after another.
@MainActor
struct Watch {
  /// The first calls are not measured, because Swift's runtime allocates where a type is used for the first time.
  var isMeasuring = false
  var isCalm = true
  /// What the calls have returned, which is the program's to release.
  var kept: [Any] = []

  @discardableResult
  mutating func callAsFunction<Result>(
    _ name: String, allowing allowed: UInt = 0, _ call: () throws -> Result
  ) rethrows -> Result {
    allocations_watch()
    let result = try call()
    report(name, allocations_interruptible(), allowed)
    kept.append(result)
    return result
  }

  /// Measures a call that throws an error.
  mutating func failing<Result>(_ name: String, _ call: () throws(FaultRuntimeError) -> Result) {
    do throws(FaultRuntimeError) {
      allocations_watch()
      _ = try call()
      fatalError("\(name): no error")
    } catch {
      report(name, allocations_interruptible())
      kept.append(error)
    }
  }

  private mutating func report(_ name: String, _ count: UInt, _ allowed: UInt = 0) {
    guard isMeasuring, count > allowed else { return }
    print("\(name): \(count)")
    isCalm = false
  }
}

/// Checks a byte of what a call has produced.
func check(_ bytes: RawSpan) {
  guard bytes.load(fromByteOffset: bytes.byteCount - 1, as: UInt8.self) == 7 else { fatalError("another byte") }
}

/// Makes each call once.
///
/// - Parameter throwsHere: whether the provider runs on the calling thread, where it allocates its error itself. Calls
///   whose provider throws are not measured then.
@MainActor
func callEverything(
  _ watch: inout Watch, _ configuration: FaultRuntimeConfiguration, _ permissions: ProviderPermissions,
  throwsHere: Bool
) throws {
  let isMeasuring = watch.isMeasuring
  let size = 1 << 20
  let page = watch("HostReport") { HostReport() }.pageSize
  // Swift allocates the object of the runtime itself before the library's code begins.
  let runtime = try watch("init", allowing: 1) { try FaultRuntime(configuration) }
  let region = try watch("map") {
    try runtime.map(Sevens(byteCount: 128 * size, broken: nil, permissions: permissions))
  }
  let broken = try watch("map of another one") {
    try runtime.map(Sevens(byteCount: size, broken: 4 * page, permissions: permissions))
  }
  var buffer = [UInt8](repeating: 0, count: 2 * size)
  let values = [UInt32](repeating: 7, count: size)
  let small = try runtime.map(Sevens(byteCount: size, broken: nil, permissions: permissions))
  let sevens = [UInt8](repeating: 7, count: 2 * size)
  watch("load") { region.load(fromByteOffset: 0, as: UInt8.self) }
  watch("store") { region.store(7 as UInt8, toByteOffset: page) }
  watch("bytes") { check(region.bytes.extracting(0..<(2 * page))) }
  watch("withBytes") { region.withBytes { check($0.extracting(0..<(3 * page))) } }
  watch("withMutableBytes") { region.withMutableBytes { $0.storeBytes(of: 7, toByteOffset: 4 * page, as: UInt8.self) } }
  try watch("withResident") { try region.withResident(size..<(2 * size)) { check($0) } }
  try watch("prefetch") { try region.prefetch((2 * size)..<(3 * size)) }
  try watch("prefetch of what is there") { try region.prefetch((2 * size)..<(3 * size)) }
  try watch("large prefetch") { try region.prefetch((64 * size)..<(128 * size)) }
  try watch("populate") { try small.populate() }
  try watch("withMutableResident") {
    try region.withMutableResident((14 * size)..<(15 * size)) { $0.storeBytes(of: 7, as: UInt8.self) }
  }
  try watch("withUnsafeMutableResident") {
    try region.withUnsafeMutableResident((15 * size)..<(16 * size)) { $0[0] = 7 }
  }
  try watch("write of values") { try region.write(values, as: UInt32.self, at: 16 * size) }
  try watch("forEachUnsafePiece") {
    try region.forEachUnsafePiece(of: (17 * size)..<(18 * size)) { (bytes, _) throws(FaultRuntimeError) in
      if bytes[0] != 7 { fatalError("another byte") }
    }
  }
  try watch("read") { try region.read((3 * size)..<(6 * size)) }
  try watch("read of values") { try region.read((6 * size)..<(7 * size), as: UInt32.self) }
  try watch("read into a buffer") { try buffer.withUnsafeMutableBytes { try region.read(into: $0, at: 7 * size) } }
  try watch("write") { try region.write(sevens, at: 9 * size) }
  try watch("forEachPiece") {
    try region.forEachPiece(of: (11 * size)..<(14 * size)) { (bytes, _) throws(FaultRuntimeError) in check(bytes) }
  }
  try watch("forEachPiece of what is there") {
    try region.forEachPiece(of: size..<(2 * size)) { (bytes, _) throws(FaultRuntimeError) in check(bytes) }
  }
  watch("statistics") { runtime.statistics.requests }
  watch("choice") { runtime.deliveryChoice(for: Sevens(byteCount: size, broken: nil, permissions: permissions)) }

  watch.failing("prefetch of a bad range") { () throws(FaultRuntimeError) in try region.prefetch(0..<(129 * size)) }
  watch.failing("read of a bad range") { () throws(FaultRuntimeError) in try region.read(0..<(129 * size)) }
  guard touch_fails(broken.unsafeBytes.baseAddress! + 4 * page) else { fatalError("the page came") }
  watch("failures") { broken.failures }
  watch("failure") { broken.failure(at: 4 * page) }
  watch.isMeasuring = isMeasuring && !throwsHere
  watch.failing("prefetch that fails") { () throws(FaultRuntimeError) in try broken.prefetch(0..<size) }
  watch.failing("read that fails") { () throws(FaultRuntimeError) in try broken.read(0..<size) }
  watch.failing("write that fails") { () throws(FaultRuntimeError) in try broken.write(sevens) }
  watch.failing("forEachPiece that fails") { () throws(FaultRuntimeError) in
    try broken.forEachPiece(of: 0..<size) { (_, _) throws(FaultRuntimeError) in }
  }
  watch.failing("retry that fails") { () throws(FaultRuntimeError) in
    try broken.retry(0..<size)
  }
  watch.isMeasuring = isMeasuring
  try watch("retry of nothing") { try broken.retry(0..<page) }
  watch("close") { region.close() }
  watch.failing("map of nothing") { () throws(FaultRuntimeError) in
    try runtime.map(Sevens(byteCount: 0, broken: nil, permissions: permissions))
  }
  watch.failing("read of a closed region") { () throws(FaultRuntimeError) in try region.read(0..<size) }
}

let delivery = CommandLine.arguments[1]
let configuration = FaultRuntimeConfiguration(delivery: Delivery(rawValue: delivery)!, explainsFailures: false)
let permissions: ProviderPermissions = CommandLine.arguments[2] == "memory" ? .inMemory : .standard
touch_prepare()
var watch = Watch()
for round in 1...3 {
  watch.isMeasuring = round > 1
  try callEverything(&watch, configuration, permissions, throwsHere: delivery != Delivery.eventLoop.rawValue)
}
exit(watch.isCalm ? 0 : 1)
