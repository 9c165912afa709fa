/// Memory whose pages are produced by a provider when they are first touched.
///
/// The region lives as long as somebody holds it; dropping the last reference closes it, and blocks as ``close()`` does. ``bytes`` borrows it, so the compiler keeps it mapped while the span is
/// used; only the raw buffers can outlive it, and they say so.
///
/// Any number of threads may touch the memory. A touch of a page that is not resident blocks its thread until the provider
/// has answered; where the answer is an error, the touch raises SIGBUS (SIGSEGV with ``Delivery/sigsegv``), and the error is in ``failures``.
public final class LazyRegion: Sendable {
  let core: Region
  let server: any RegionServer
  /// Keeps the threads that serve this region alive.
  private let engine: Engine

  init(core: Region, server: any RegionServer, engine: Engine) {
    self.core = core
    self.server = server
    self.engine = engine
  }

  deinit {
    close()
  }

  /// The name that error messages use.
  public var name: String { core.name }

  /// The exact length, in bytes. The memory up to the next page boundary is zero.
  public var byteCount: Int { core.byteCount }

  /// Bytes in a page of this host.
  public var pageSize: Int { core.pageSize.bytes }

  /// The bytes, for reading; touch one, and it is there.
  ///
  /// A region that is also written to through ``unsafeMutableBytes`` must not be read through a span at the same time.
  ///
  /// Traps after ``close()``.
  public var bytes: RawSpan {
    @_lifetime(borrow self)
    get {
      let span = unsafe RawSpan(_unsafeBytes: unsafeBytes)
      return unsafe _overrideLifetime(span, borrowing: self)
    }
  }

  /// The bytes, for reading, as a raw buffer that does not keep the region mapped.
  ///
  /// Traps after ``close()``.
  @unsafe
  public var unsafeBytes: UnsafeRawBufferPointer {
    unsafe UnsafeRawBufferPointer(memory)
  }

  /// The bytes, for reading and writing, as a raw buffer that does not keep the region mapped.
  ///
  /// Traps after ``close()``, and where the region was mapped read-only.
  @unsafe
  public var unsafeMutableBytes: UnsafeMutableRawBufferPointer {
    precondition(core.isWritable, "LazyRegion '\(name)' is read-only: map it with RegionOptions(access: .readWrite)")
    return unsafe memory
  }

  private var memory: UnsafeMutableRawBufferPointer {
    precondition(!core.isClosing, "LazyRegion '\(name)' was closed")
    return unsafe UnsafeMutableRawBufferPointer(
      start: UnsafeMutableRawPointer(bitPattern: core.range.start),
      count: core.byteCount
    )
  }

  /// How faults of this region are delivered; never `auto`.
  public var delivery: Delivery { server.delivery }

  /// Which way to a userfaultfd serves this region; nil with `sigsegv`, which needs none.
  public var descriptor: DescriptorKind? { server.descriptor }

  /// The pages that could not be produced, oldest first; only the newest 64 are kept. Takes a lock.
  public var failures: [PageFailure] { core.failures.all }

  /// Whether ``close()`` was called.
  public var isClosed: Bool { core.isClosing }

  /// Takes the memory away before the region's own end: a touch is SIGSEGV from now on.
  ///
  /// Threads that wait in a fault are released: with the page, where the provider answers within
  /// ``FaultRuntimeConfiguration/closeDeadline``; otherwise with a signal, SIGBUS or SIGSEGV. Nobody reads zeros. The
  /// addresses stay reserved until the region's end, so that a stray pointer never meets other memory.
  ///
  /// Calling it again does nothing. Blocks until the handler thread has answered the faults that are queued, or until the
  /// deadline. Call it from anywhere; a provider that calls it for a region served by its own handler thread does not wait
  /// for itself, and faults of that region that are still queued end with SIGSEGV.
  public func close() {
    // In a forked child the memory is not mapped and the descriptor belongs to the parent's faults.
    guard core.isInOwnerProcess, core.beginClosing() else { return }
    core.pins.close(nanoseconds: engine.closeDeadline)
    engine.close(core, server)
  }
}
