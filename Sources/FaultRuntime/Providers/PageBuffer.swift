/// The buffer that a provider fills: it knows how many bytes were put in, so nothing that another request left behind can
/// get into a page, and nothing can be written past its end.
@safe
public struct PageBuffer: ~Copyable {
  private let storage: UnsafeMutableRawBufferPointer

  /// Bytes produced so far.
  public private(set) var count = 0

  init(storage: UnsafeMutableRawBufferPointer) {
    unsafe self.storage = storage
  }

  /// The number of bytes that the request wants.
  public var capacity: Int { unsafe storage.count }

  /// How many more bytes fit.
  public var freeCapacity: Int { capacity - count }

  /// Appends a copy of `bytes`. Traps where they do not fit.
  public mutating func append(_ bytes: RawSpan) {
    precondition(bytes.byteCount <= freeCapacity, "PageBuffer: more bytes appended than the request wants")
    guard bytes.byteCount > 0 else { return }
    unsafe bytes.withUnsafeBytes { source in
      unsafe UnsafeMutableRawBufferPointer(rebasing: storage[count...]).copyMemory(from: source)
    }
    count += bytes.byteCount
  }

  /// Appends a copy of `bytes`. Traps where they do not fit.
  public mutating func append(_ bytes: some Sequence<UInt8>) {
    for byte in bytes {
      precondition(count < capacity, "PageBuffer: more bytes appended than the request wants")
      unsafe storage[count] = byte
      count += 1
    }
  }

  /// Appends `byte`, `repetitions` times. Traps where they do not fit.
  public mutating func append(repeating byte: UInt8, count repetitions: Int) {
    precondition(
      repetitions >= 0 && repetitions <= freeCapacity, "PageBuffer: more bytes appended than the request wants")
    guard repetitions > 0 else { return }
    unsafe UnsafeMutableRawBufferPointer(rebasing: storage[count..<(count + repetitions)])
      .initializeMemory(as: UInt8.self, repeating: byte)
    count += repetitions
  }

  /// Appends through an output span over the free part of the buffer.
  public mutating func append<Failure: Error>(
    with body: (inout OutputRawSpan) throws(Failure) -> Void
  ) throws(Failure) {
    let free = unsafe UnsafeMutableRawBufferPointer(rebasing: storage[count...])
    var span = unsafe OutputRawSpan(buffer: free, initializedCount: 0)
    try body(&span)
    count += unsafe span.finalize(for: free)
  }

  /// Appends through a pointer, for `pread(2)` and its like.
  ///
  /// - Parameter body: gets the free part of the buffer and returns how many bytes it wrote from the start of it; a
  ///   number that is not within the free part traps. The pointer is valid during the call only.
  public mutating func appendUnsafely<Failure: Error>(
    _ body: (UnsafeMutableRawBufferPointer) throws(Failure) -> Int
  ) throws(Failure) {
    let written = unsafe try body(UnsafeMutableRawBufferPointer(rebasing: storage[count...]))
    precondition(written >= 0 && written <= freeCapacity, "PageBuffer: wrote \(written) of \(freeCapacity) bytes")
    count += written
  }
}
