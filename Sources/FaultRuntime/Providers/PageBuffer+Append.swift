extension PageBuffer {
  /// Appends a copy of `bytes`. Traps where they do not fit.
  @inlinable
  public mutating func append(_ bytes: RawSpan) {
    requireRoom(for: bytes.byteCount)
    guard bytes.byteCount > 0 else { return }
    unsafe bytes.withUnsafeBytes { source in
      unsafe (start + used).copyMemory(from: source.baseAddress!, byteCount: source.count)
    }
    used &+= bytes.byteCount
  }

  /// Appends a copy of `bytes`. Traps where they do not fit.
  @inlinable
  public mutating func append(_ bytes: Span<UInt8>) {
    unsafe append(bytes.bytes)
  }

  /// Appends a copy of `bytes`. Traps where they do not fit.
  @inlinable
  public mutating func append(_ bytes: [UInt8]) {
    unsafe append(bytes.span.bytes)
  }

  /// Appends each byte of a sequence. Traps where they do not fit.
  ///
  /// Bytes that lie in one piece of memory, as those of an array, a slice or a `Data` do, are copied at once. Bytes that are
  /// computed one by one are stored as they come; where their number is known, prefer a collection:
  ///
  /// ```swift
  /// page.append(request.range.lazy.map { UInt8(truncatingIfNeeded: $0) })
  /// ```
  @inlinable
  @inline(__always)
  public mutating func append(_ bytes: some Sequence<UInt8>) {
    if appendStorage(of: bytes) { return }
    let room = freeCapacity
    var iterator = bytes.makeIterator()
    let written = store(&iterator, atMost: room)
    // An iterator that has ended is not asked again.
    precondition(written < room || iterator.next() == nil, "PageBuffer: more bytes appended than the request wants")
    used &+= written
  }

  /// Appends each byte of a collection. Traps where they do not fit.
  ///
  /// The number of bytes is checked once, before the first of them is stored.
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

  /// Stores bytes behind those that were appended, without counting them, until the iterator ends or there are `limit` of them.
  ///
  /// The compiler makes vector code of the loop only where nothing in it can trap and everything in it is local. It must also be
  /// inlined, and so must its callers: otherwise the closure of a lazy collection is called for each byte.
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

  /// Appends `byte`, `repetitions` times. Traps where they do not fit.
  @inlinable
  public mutating func append(repeating byte: UInt8, count repetitions: Int) {
    requireRoom(for: repetitions)
    _ = unsafe (start + used).initializeMemory(as: UInt8.self, repeating: byte, count: repetitions)
    used &+= repetitions
  }

  /// Appends through an output span over the free part of the buffer.
  @inlinable
  public mutating func append<Failure: Error>(
    with body: (inout OutputRawSpan) throws(Failure) -> Void
  ) throws(Failure) {
    let free = unsafe UnsafeMutableRawBufferPointer(start: start + used, count: freeCapacity)
    var span = unsafe OutputRawSpan(buffer: free, initializedCount: 0)
    try body(&span)
    used &+= unsafe span.finalize(for: free)
  }

  /// Appends through a pointer, for `pread(2)` and its like.
  ///
  /// - Parameter body: gets the free part of the buffer and returns how many bytes it wrote from the start of it; a
  ///   number that is not within the free part traps. The pointer is valid during the call only.
  @inlinable
  public mutating func appendUnsafely<Failure: Error>(
    _ body: (UnsafeMutableRawBufferPointer) throws(Failure) -> Int
  ) throws(Failure) {
    let written = unsafe try body(UnsafeMutableRawBufferPointer(start: start + used, count: freeCapacity))
    precondition(written >= 0 && written <= freeCapacity, "PageBuffer: wrote \(written) of \(freeCapacity) bytes")
    used &+= written
  }

  /// Appends the bytes of another provider's answer, of whatever kind it is: for providers that wrap another one.
  ///
  /// All bytes of the request are appended: where the other provider answers with fewer, it is asked for the rest. It runs on
  /// the calling thread, writes into this buffer directly, and nothing is allocated, so the wrapper may permit what the other
  /// one does (``PageProvider/permissions``).
  ///
  /// ```swift
  /// /// The bytes of a provider from an offset on, a multiple of the page size.
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
  /// Traps where the request has more bytes than are free.
  ///
  /// - Parameters:
  ///   - request: which bytes of the other provider. Most providers count on an offset that is a multiple of the page size;
  ///     ``FileProvider``, ``MemoryProvider`` and ``ZeroProvider`` do not.
  ///   - provider: the other provider.
  /// - Throws: what the other provider throws; ``ResolutionError/answerTooLong(produced:wanted:)`` where it lends too much, and
  ///   ``ResolutionError/answerTooShort(produced:wanted:)`` where it answers with nothing. The buffer is then as it was.
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

  /// One answer, which may be short.
  private mutating func appendOnce(_ request: PageRequest, from provider: some PageProvider) throws {
    let free = unsafe start + used
    var part = unsafe PageBuffer(borrowing: free, byteCount: request.byteCount)
    let contents = try provider.page(request, into: &part)
    try part.take(contents, for: request)
    if unsafe part.isOver(free) { used += part.count } else { append(part.bytes) }
  }

  /// Holds the bytes of an answer from now on, of whatever kind it is. This is the buffer that the provider was given.
  mutating func take(_ contents: PageContents, for request: PageRequest) throws(ResolutionError) {
    switch unsafe contents.source {
    case .filled:
      break
    case .lent(let bytes):
      guard bytes.count <= request.byteCount else {
        throw .answerTooLong(produced: bytes.count, wanted: request.byteCount)
      }
      used = 0
      unsafe append(bytes.bytes)
    case .zero:
      used = 0
      append(repeating: 0, count: request.byteCount)
    }
  }
}
