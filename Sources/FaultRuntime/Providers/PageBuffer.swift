/// The memory into which a provider puts its answer.
///
/// A buffer knows how many bytes were appended to it, so nothing that another request left behind can get into a page, and
/// nothing can be written past the end.
///
/// The runtime makes the buffer of each request, over memory that it uses again. A program makes one with
/// ``init(byteCount:)`` where it asks a provider itself: to wrap it in another one, or to test it.
///
/// ```swift
/// var page = PageBuffer(byteCount: 4096)
/// let contents = try provider.page(PageRequest(offset: 0, byteCount: 4096), into: &page)
/// ```
///
/// A buffer cannot be copied, and cannot be kept beyond the call that it was given to. It belongs to one thread at a time.
@safe
public struct PageBuffer: ~Copyable, ~Escapable {
  @usableFromInline
  let start: UnsafeMutableRawPointer

  /// The number of bytes that the request wants: the most that can be appended.
  public let capacity: Int

  @usableFromInline
  var used = 0

  private let isOwner: Bool

  /// Makes an empty buffer with memory of its own, which lives as long as the buffer. Allocates.
  ///
  /// Traps where `byteCount` is negative.
  ///
  /// - Parameter byteCount: the number of bytes that can be appended.
  @_lifetime(immortal)
  public init(byteCount: Int) {
    precondition(byteCount >= 0, "PageBuffer: \(byteCount) bytes")
    unsafe start = UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: 64)
    capacity = byteCount
    isOwner = true
  }

  /// An empty buffer over memory of somebody else's, which has to outlive it.
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

  /// The number of bytes that were appended so far.
  @inlinable
  public var count: Int { used }

  /// How many more bytes fit.
  @inlinable
  public var freeCapacity: Int { capacity &- used }

  /// The bytes that were appended so far.
  @inlinable
  public var bytes: RawSpan {
    @_lifetime(borrow self)
    get {
      let span = unsafe RawSpan(_unsafeStart: start, byteCount: used)
      return unsafe _overrideLifetime(span, borrowing: self)
    }
  }

  /// The bytes that were appended so far, to be changed in place: decrypted, for example.
  ///
  /// ```swift
  /// try page.append(request, from: encrypted)
  /// var bytes = page.mutableBytes
  /// for index in 0..<bytes.byteCount {
  ///   let byte = unsafe bytes.unsafeLoad(fromByteOffset: index, as: UInt8.self)
  ///   …
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

  /// Whether this buffer was made over `memory`. A provider can put another one in its place.
  func isOver(_ memory: UnsafeMutableRawPointer) -> Bool { unsafe start == memory }

  @inlinable
  func requireRoom(for byteCount: Int) {
    precondition(
      byteCount >= 0 && byteCount <= freeCapacity,
      "PageBuffer: more bytes appended than the request wants")
  }
}
