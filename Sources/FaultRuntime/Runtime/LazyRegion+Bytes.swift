internal import Synchronization

/// Plain access. As with a pointer, a page that is not resident is a fault, and a page that cannot be produced is a
/// signal.
extension LazyRegion {
  /// Calls `body` with the bytes of the region, for reading. A page that is not resident comes when it is touched.
  ///
  /// ```swift
  /// let sum = region.withBytes { bytes in
  ///   (0..<bytes.byteCount).reduce(0) { $0 + Int(bytes.load(fromByteOffset: $1, as: UInt8.self)) }
  /// }
  /// ```
  ///
  /// Use this method where the region is stored in a class, an actor or a global variable: there the compiler does
  /// not let ``bytes`` leave the object. The region stays open while `body` runs. ``close()`` waits for `body`, but
  /// no longer than ``FaultRuntimeConfiguration/closeTimeout``; after that, a touch raises SIGSEGV. A `body` that
  /// calls `close()` itself waits for itself until that time is up.
  ///
  /// The method may be called from any thread, and takes a lock before and after `body`. A touch in `body` blocks at
  /// a page that is not resident, as long as the provider takes. A page that cannot be produced raises a signal;
  /// `withResident(_:_:)` throws an error instead. Leave `body` by returning or throwing. A thread that leaves it
  /// with `longjmp(3)` leaves the region held, so that `close()` waits until its timeout.
  ///
  /// The method traps in a forked child, and from the moment that ``close()`` is called. A thread that is inside this
  /// method or ``withMutableBytes(_:)`` of the same region may still call it.
  ///
  /// - Parameter body: receives the bytes. The span is valid during the call only.
  /// - Returns: What `body` returns.
  /// - Throws: What `body` throws, and nothing else.
  public func withBytes<Result: ~Copyable, Failure: Error>(
    _ body: (RawSpan) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    return try withoutCancellation { () throws(Failure) -> Result in
      hold()
      defer { holders.unpin(Self.noBytes) }
      return try body(unsafe RawSpan(_unsafeBytes: UnsafeRawBufferPointer(addresses)))
    }
  }

  /// Calls `body` with the bytes of the region, for reading and writing. Otherwise it does the same as
  /// ``withBytes(_:)``.
  ///
  /// ```swift
  /// region.withMutableBytes { $0.storeBytes(of: 7, toByteOffset: 0, as: UInt32.self) }
  /// ```
  ///
  /// Several threads may be inside `body` at the same time. As with all memory that threads share, the program must
  /// see to it that no thread uses bytes while another one writes them.
  ///
  /// The method traps where the region was mapped read-only, and for the reasons that ``withBytes(_:)`` names.
  ///
  /// - Parameter body: receives the bytes. The span is valid during the call only.
  /// - Returns: What `body` returns.
  /// - Throws: What `body` throws, and nothing else.
  public func withMutableBytes<Result: ~Copyable, Failure: Error>(
    _ body: (inout MutableRawSpan) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    requireWritable()
    return try withoutCancellation { () throws(Failure) -> Result in
      hold()
      defer { holders.unpin(Self.noBytes) }
      var bytes = unsafe MutableRawSpan(_unsafeBytes: addresses)
      return try body(&bytes)
    }
  }

  /// Returns the value whose bytes begin at `offset`, which need not be aligned.
  ///
  /// The method may be called from any thread and takes no lock. It blocks at a page that is not resident, as long as
  /// the provider takes. A page that cannot be produced raises a signal; ``read(_:as:)`` throws an error instead.
  ///
  /// The method traps where the value is not wholly within `0..<byteCount`, after ``close()``, and in a forked child.
  /// If another thread closes the region at the same time, the access can raise SIGSEGV.
  ///
  /// - Parameters:
  ///   - offset: where the value begins, in bytes from the start of the region.
  ///   - type: the type of the value.
  /// - Returns: The value, in the byte order of the machine.
  @inlinable
  public func load<Value: RegionScalar>(fromByteOffset offset: Int, as type: Value.Type) -> Value {
    bytes.load(fromByteOffset: offset, as: type)
  }

  /// Stores a value at `offset`, which need not be aligned.
  ///
  /// The method may be called from any thread and takes no lock. It blocks at a page that is not resident, as long as
  /// the provider takes. A page that cannot be produced raises a signal; ``write(_:as:at:)`` throws an error instead.
  ///
  /// The method traps where the value would not be wholly within `0..<byteCount`, where the region was mapped
  /// read-only, after ``close()``, and in a forked child. If another thread closes the region at the same time, the
  /// access can raise SIGSEGV.
  ///
  /// - Parameters:
  ///   - value: the value to store, in the byte order of the machine.
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
  /// The range of these pins. It is empty: the region has to stay open, but no page has to stay resident.
  private static let noBytes = 0..<0

  /// Keeps the region open until the same thread calls `holders.unpin(noBytes)`.
  private func hold() {
    // In a forked child the lock may be held for ever, by a thread that exists in the parent only.
    requireOwnProcess()
    // A thread that was still inside when closing gave up waiting is not let in again.
    precondition(holders.pin(Self.noBytes) && !isGone.load(ordering: .acquiring), "LazyRegion '\(name)' was closed")
  }

  func requireOwnProcess() {
    precondition(
      core.isInOwnerProcess, "LazyRegion '\(name)' belongs to the process that this one was forked from")
  }

  func requireWritable() {
    precondition(core.isWritable, "LazyRegion '\(name)' is read-only: map it with RegionOptions(access: .readWrite)")
  }

  /// The memory of the region. The caller must keep the region open while it uses the buffer.
  private var addresses: UnsafeMutableRawBufferPointer {
    unsafe UnsafeMutableRawBufferPointer(
      start: UnsafeMutableRawPointer(bitPattern: core.range.start), count: core.byteCount)
  }
}
