/// Plain access: a page that is not there is a fault, as with a pointer, and one that cannot be had is a signal.
extension LazyRegion {
  /// Calls `body` with the bytes of the region, for reading. Touch one, and it is there.
  ///
  /// For a region that is stored in a class, an actor or a global variable, whose ``bytes`` the compiler does not let
  /// out of the object. The region stays open meanwhile: ``close()`` waits for `body`, as long as
  /// ``FaultRuntimeConfiguration/closeTimeout``, and so it does for itself where `body` calls it.
  ///
  /// May be called from any thread. Takes a lock before and after `body`, which itself blocks at a page that is not
  /// resident, as long as the provider takes. A page that cannot be had raises a signal;
  /// `withResident(_:_:)` throws in its place. Leave `body` by
  /// returning or throwing: whoever leaves it with `longjmp(3)` leaves the region held.
  ///
  /// Traps after ``close()``, and in a forked child.
  ///
  /// - Parameter body: gets the bytes. The span is valid during the call only.
  /// - Throws: what `body` throws, and nothing else.
  public func withBytes<Result: ~Copyable, Failure: Error>(
    _ body: (RawSpan) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    hold()
    defer { holders.unpin(Self.noBytes) }
    return try body(unsafe RawSpan(_unsafeBytes: UnsafeRawBufferPointer(addresses)))
  }

  /// Calls `body` with the bytes of the region, for reading and writing; otherwise as ``withBytes(_:)``.
  ///
  /// Several threads may be in here at a time. The program sees to it that no two of them use the same bytes while one
  /// of them writes, as with all memory that threads share.
  ///
  /// Traps after ``close()``, in a forked child, and where the region was mapped read-only.
  ///
  /// - Parameter body: gets the bytes. The span is valid during the call only.
  /// - Throws: what `body` throws, and nothing else.
  public func withMutableBytes<Result: ~Copyable, Failure: Error>(
    _ body: (inout MutableRawSpan) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    requireWritable()
    hold()
    defer { holders.unpin(Self.noBytes) }
    var bytes = unsafe MutableRawSpan(_unsafeBytes: addresses)
    return try body(&bytes)
  }

  /// The value whose bytes begin at `offset`; it need not be aligned.
  ///
  /// May be called from any thread. Takes no lock. Blocks at a page that is not resident, as long as the provider
  /// takes; one that cannot be had raises a signal. ``read(_:as:)`` throws in its place.
  ///
  /// Traps where the value is not wholly within `0..<byteCount`, as a span does, and after ``close()``. Closing the
  /// region on another thread at the same time makes it SIGSEGV.
  ///
  /// - Parameters:
  ///   - offset: where the value begins, in bytes from the start of the region.
  ///   - type: what to read.
  @inlinable
  public func load<Value: RegionScalar>(fromByteOffset offset: Int, as type: Value.Type) -> Value {
    bytes.load(fromByteOffset: offset, as: type)
  }

  /// Puts a value at `offset`; it need not be aligned.
  ///
  /// May be called from any thread. Takes no lock. Blocks at a page that is not resident, as long as the provider
  /// takes; one that cannot be had raises a signal. ``write(_:as:at:)`` throws in its place.
  ///
  /// Traps where the value would not be wholly within `0..<byteCount`, where the region was mapped read-only, and after
  /// ``close()``. Closing the region on another thread at the same time makes it SIGSEGV.
  ///
  /// - Parameters:
  ///   - value: what to write.
  ///   - offset: where the value begins, in bytes from the start of the region.
  @inlinable
  public func store<Value: RegionScalar>(_ value: Value, toByteOffset offset: Int) {
    let bytes = unsafe unsafeMutableBytes
    precondition(
      offset >= 0 && offset <= bytes.count - MemoryLayout<Value>.size,
      "LazyRegion: a value that is not within the region")
    // The pointer does not keep the region open.
    withExtendedLifetime(self) { unsafe bytes.storeBytes(of: value, toByteOffset: offset, as: Value.self) }
  }
}

extension LazyRegion {
  /// What is pinned: nothing has to stay where it is.
  private static let noBytes = 0..<0

  /// Keeps the region open until `holders.unpin(noBytes)`.
  private func hold() {
    // The lock may be one that a thread of the parent held.
    precondition(
      core.isInOwnerProcess, "LazyRegion '\(name)' belongs to the process that this one was forked from")
    precondition(holders.pin(Self.noBytes), "LazyRegion '\(name)' was closed")
  }

  func requireWritable() {
    precondition(core.isWritable, "LazyRegion '\(name)' is read-only: map it with RegionOptions(access: .readWrite)")
  }

  /// Where the bytes are. Only while something keeps the region open.
  private var addresses: UnsafeMutableRawBufferPointer {
    unsafe UnsafeMutableRawBufferPointer(
      start: UnsafeMutableRawPointer(bitPattern: core.range.start), count: core.byteCount)
  }
}
