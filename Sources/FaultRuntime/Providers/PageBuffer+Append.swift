extension PageBuffer {
  /// Appends a copy of `bytes`. Traps if there is not enough room for them.
  ///
  /// - Complexity: O(*n*), where *n* is the number of bytes.
  @inlinable
  public mutating func append(_ bytes: RawSpan) {
    requireRoom(for: bytes.byteCount)
    guard bytes.byteCount > 0 else { return }
    unsafe bytes.withUnsafeBytes { source in
      unsafe (start + used).copyMemory(from: source.baseAddress!, byteCount: source.count)
    }
    used &+= bytes.byteCount
  }

  /// Appends a copy of `bytes`. Traps if there is not enough room for them.
  ///
  /// - Complexity: O(*n*), where *n* is the number of bytes.
  @inlinable
  public mutating func append(_ bytes: Span<UInt8>) {
    unsafe append(bytes.bytes)
  }

  /// Appends a copy of `bytes`. Traps if there is not enough room for them.
  ///
  /// - Complexity: O(*n*), where *n* is the number of bytes.
  @inlinable
  public mutating func append(_ bytes: [UInt8]) {
    unsafe append(bytes.span.bytes)
  }

  /// Appends the bytes of a sequence. Traps if there is not enough room for them.
  ///
  /// The bytes of an array, a slice or a `Data` lie in one piece of memory and are copied at once. Bytes that are
  /// computed one by one are stored one by one. If their number is known, a lazy collection is the faster choice:
  ///
  /// ```swift
  /// page.append(request.range.lazy.map { UInt8(truncatingIfNeeded: $0) })
  /// ```
  ///
  /// - Complexity: O(*n*), where *n* is the number of bytes.
  @inlinable
  @inline(__always)
  public mutating func append(_ bytes: some Sequence<UInt8>) {
    if appendStorage(of: bytes) { return }
    let room = freeCapacity
    var iterator = bytes.makeIterator()
    let written = store(&iterator, atMost: room)
    // If fewer than `room` bytes were stored, the iterator has ended and is not asked again.
    precondition(written < room || iterator.next() == nil, "PageBuffer: more bytes appended than the request wants")
    used &+= written
  }

  /// Appends the bytes of a collection. Traps if there is not enough room for them.
  ///
  /// The number of bytes is checked once, before the first byte is stored.
  ///
  /// - Complexity: O(*n*), where *n* is the number of bytes.
  @inlinable
  @inline(__always)
  public mutating func append(_ bytes: some Collection<UInt8>) {
    if appendStorage(of: bytes) { return }
    let count = bytes.count
    requireRoom(for: count)
    var iterator = bytes.makeIterator()
    let written = store(&iterator, atMost: count)
    precondition(written == count, "PageBuffer: a collection with a wrong count")
    used &+= count
  }

  /// Stores bytes behind those that were appended, until the iterator ends or `limit` bytes are stored. Returns the
  /// number of stored bytes. The caller adds that number to `used`.
  ///
  /// The compiler makes vector code of the loop only if nothing in the loop can trap and everything in it is local.
  /// This function and its callers must also be inlined; otherwise the closure of a lazy collection is called for
  /// each byte.
  @inlinable
  @inline(__always)
  func store(_ iterator: inout some IteratorProtocol<UInt8>, atMost limit: Int) -> Int {
    let free = unsafe (start + used).assumingMemoryBound(to: UInt8.self)
    var written = 0
    while written < limit, let byte = iterator.next() {
      unsafe free[written] = byte
      written &+= 1
    }
    return written
  }

  /// Appends the bytes of a sequence that lie in one piece of memory. Returns false, and appends nothing, if they do
  /// not.
  @inlinable
  @inline(__always)
  mutating func appendStorage(of bytes: some Sequence<UInt8>) -> Bool {
    let free = unsafe start + used
    let room = freeCapacity
    let copied = bytes.withContiguousStorageIfAvailable { source in
      precondition(source.count <= room, "PageBuffer: more bytes appended than the request wants")
      if let base = source.baseAddress { unsafe free.copyMemory(from: base, byteCount: source.count) }
      return source.count
    }
    guard let copied else { return false }
    used &+= copied
    return true
  }

  /// Appends `byte` as often as `repetitions` says. Traps if there is not enough room, or if `repetitions` is
  /// negative.
  ///
  /// - Complexity: O(*n*), where *n* is `repetitions`.
  @inlinable
  public mutating func append(repeating byte: UInt8, count repetitions: Int) {
    requireRoom(for: repetitions)
    _ = unsafe (start + used).initializeMemory(as: UInt8.self, repeating: byte, count: repetitions)
    used &+= repetitions
  }

  /// Appends the bytes that `body` puts into an output span over the free part of the buffer.
  ///
  /// ```swift
  /// page.append { free in
  ///   for offset in request.range { free.append(UInt8(truncatingIfNeeded: offset)) }
  /// }
  /// ```
  ///
  /// - Parameter body: receives the span, which it can fill but not exceed. If `body` throws, nothing is appended.
  /// - Throws: what `body` throws, and nothing else.
  @inlinable
  public mutating func append<Failure: Error>(
    with body: (inout OutputRawSpan) throws(Failure) -> Void
  ) throws(Failure) {
    let free = unsafe UnsafeMutableRawBufferPointer(start: start + used, count: freeCapacity)
    var span = unsafe OutputRawSpan(buffer: free, initializedCount: 0)
    try body(&span)
    used &+= unsafe span.finalize(for: free)
  }

  /// Appends the bytes that `body` writes through a pointer, for functions such as `pread(2)`.
  ///
  /// Traps if the number that `body` returns is negative or greater than ``freeCapacity``.
  ///
  /// - Parameter body: receives the free part of the buffer, and returns how many bytes it wrote from the start of
  ///   that part. The number must not be greater than what was written, because the memory may hold bytes of earlier
  ///   requests. The pointer is valid only during the call. If `body` throws, nothing is appended.
  /// - Throws: what `body` throws, and nothing else.
  @inlinable
  public mutating func appendUnsafely<Failure: Error>(
    _ body: (UnsafeMutableRawBufferPointer) throws(Failure) -> Int
  ) throws(Failure) {
    let written = unsafe try body(UnsafeMutableRawBufferPointer(start: start + used, count: freeCapacity))
    precondition(written >= 0 && written <= freeCapacity, "PageBuffer: wrote \(written) of \(freeCapacity) bytes")
    used &+= written
  }

  /// Appends the bytes of another provider's answer. This is for providers that wrap another one; the answer may be
  /// of any kind.
  ///
  /// All bytes of the request are appended. If the other provider answers with fewer bytes, it is asked for the rest.
  /// The other provider runs on the calling thread and writes directly into this buffer. This function does not
  /// allocate, so the wrapper may permit what the other provider permits (``PageProvider/permissions``).
  ///
  /// ```swift
  /// /// The bytes of a provider from an offset on, which is a multiple of the page size.
  /// struct Sliced<Base: PageProvider>: PageProvider {
  ///   let base: Base
  ///   let start: Int
  ///   var permissions: ProviderPermissions { base.permissions }
  ///
  ///   func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents {
  ///     try page.append(PageRequest(offset: start + request.offset, byteCount: request.byteCount), from: base)
  ///     return .filled
  ///   }
  /// }
  /// ```
  ///
  /// Traps if the request has more bytes than ``freeCapacity``.
  ///
  /// - Parameters:
  ///   - request: the bytes of the other provider. Most providers expect an offset that is a multiple of the page
  ///     size; ``FileProvider``, ``MemoryProvider`` and ``ZeroProvider`` accept any.
  ///   - provider: the other provider.
  /// - Throws: what the other provider throws; ``ResolutionError`` with the code `answerTooLong` if it lends too many
  ///   bytes, and with the code `answerTooShort` if it answers with no bytes. The buffer is then as it was before the
  ///   call.
  public mutating func append(_ request: PageRequest, from provider: some PageProvider) throws {
    requireRoom(for: request.byteCount)
    let before = used
    do {
      while used - before < request.byteCount {
        let done = used - before
        try appendOnce(
          PageRequest(offset: request.offset + done, byteCount: request.byteCount - done), from: provider)
        if used - before == done {
          throw ResolutionError.answerTooShort(produced: done, wanted: request.byteCount)
        }
      }
    } catch {
      used = before
      throw error
    }
  }

  /// Appends one answer, which may be short.
  private mutating func appendOnce(_ request: PageRequest, from provider: some PageProvider) throws {
    let free = unsafe start + used
    var part = unsafe PageBuffer(borrowing: free, byteCount: request.byteCount)
    let contents = try provider.page(request, into: &part)
    try part.take(contents, for: request)
    if unsafe part.isOver(free) { used += part.count } else { append(part.bytes) }
  }

  /// Makes this buffer hold the bytes of an answer of any kind. It has to be the buffer that the provider received.
  mutating func take(_ contents: PageContents, for request: PageRequest) throws(ResolutionError) {
    switch unsafe contents.source {
    case .filled:
      // The provider can have put a larger buffer in the place of the one that it was given.
      guard used <= request.byteCount else { throw .answerTooLong(produced: used, wanted: request.byteCount) }
    case .lent(let bytes):
      guard bytes.count <= request.byteCount else {
        throw .answerTooLong(produced: bytes.count, wanted: request.byteCount)
      }
      empty(for: bytes.count)
      unsafe append(bytes.bytes)
    case .zero:
      empty(for: request.byteCount)
      append(repeating: 0, count: request.byteCount)
    }
  }

  /// Drops all bytes, and makes room for `byteCount` of them: the provider can have put a smaller buffer in the place
  /// of the one that it was given.
  private mutating func empty(for byteCount: Int) {
    if capacity < byteCount { self = PageBuffer(byteCount: byteCount) }
    used = 0
  }
}
