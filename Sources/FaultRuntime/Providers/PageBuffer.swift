/// The memory into which a provider puts its answer.
///
/// A buffer counts the bytes that were appended to it. Bytes that were left by an earlier request do not count, so
/// they do not get into a page, and a provider cannot append past the end.
///
/// The runtime makes the buffer of each request, over memory that it uses again. A program makes a buffer with
/// ``init(byteCount:)`` if it asks a provider itself, to wrap the provider or to test it:
///
/// ```swift
/// var page = PageBuffer(byteCount: 4096)
/// let contents = try provider.page(PageRequest(offset: 0, byteCount: 4096), into: &page)
/// ```
///
/// A buffer cannot be copied, and a provider cannot keep it beyond the call that received it. Only one thread may use
/// a buffer at a time.
@safe
public struct PageBuffer: ~Copyable, ~Escapable {
  @usableFromInline
  let start: UnsafeMutableRawPointer

  /// The number of bytes that can be appended in total. For a buffer that a provider receives, this is the number of
  /// bytes that the request wants.
  public let capacity: Int

  @usableFromInline
  var used = 0

  private let isOwner: Bool

  /// Makes an empty buffer with memory of its own, which is freed with the buffer. Allocates.
  ///
  /// Traps if `byteCount` is negative.
  ///
  /// - Parameter byteCount: the number of bytes that can be appended.
  @_lifetime(immortal)
  public init(byteCount: Int) {
    precondition(byteCount >= 0, "PageBuffer: \(byteCount) bytes")
    unsafe start = UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: 64)
    capacity = byteCount
    isOwner = true
  }

  /// Makes an empty buffer over memory that belongs to the caller. The memory has to outlive the buffer.
  @unsafe
  @_lifetime(immortal)
  init(borrowing start: UnsafeMutableRawPointer, byteCount: Int) {
    unsafe self.start = start
    capacity = byteCount
    isOwner = false
  }

  deinit {
    if isOwner { unsafe start.deallocate() }
  }

  /// The number of bytes that have been appended.
  @inlinable
  public var count: Int { used }

  /// The number of bytes that can still be appended.
  @inlinable
  public var freeCapacity: Int { capacity &- used }

  /// The bytes that have been appended.
  @inlinable
  public var bytes: RawSpan {
    @_lifetime(borrow self)
    get {
      let span = unsafe RawSpan(_unsafeStart: start, byteCount: used)
      return unsafe _overrideLifetime(span, borrowing: self)
    }
  }

  /// The bytes that have been appended, for changes in place. A provider can decrypt the bytes of another provider
  /// this way:
  ///
  /// ```swift
  /// try page.append(request, from: encrypted)
  /// var bytes = page.mutableBytes
  /// for index in 0..<bytes.byteCount {
  ///   let byte = bytes.load(fromByteOffset: index, as: UInt8.self)
  ///   bytes.storeBytes(of: byte ^ key, toByteOffset: index, as: UInt8.self)
  /// }
  /// ```
  @inlinable
  public var mutableBytes: MutableRawSpan {
    @_lifetime(&self)
    mutating get {
      let span = unsafe MutableRawSpan(_unsafeStart: start, byteCount: used)
      return unsafe _overrideLifetime(span, mutating: &self)
    }
  }

  /// Returns whether this buffer was made over `memory`. It may not be, because a provider can replace the buffer
  /// that it received.
  func isOver(_ memory: UnsafeMutableRawPointer) -> Bool { unsafe start == memory }

  @inlinable
  func requireRoom(for byteCount: Int) {
    precondition(
      byteCount >= 0 && byteCount <= freeCapacity,
      "PageBuffer: more bytes appended than the request wants")
  }
}
