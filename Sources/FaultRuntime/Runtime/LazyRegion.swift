internal import CUFFD
internal import Synchronization

/// Memory whose pages are produced by a provider when they are first touched.
///
/// The region lives as long as somebody holds it; dropping the last reference closes it, and blocks as ``close()``
/// does. ``bytes`` borrows it, and ``withBytes(_:)`` holds it, so it stays mapped while the span is used; only the raw
/// buffers can outlive it, and they say so.
///
/// Any number of threads may touch the memory. A touch of a page that is not resident blocks its thread until the
/// provider has answered; where the answer is an error, the touch raises SIGBUS (SIGSEGV with ``Delivery/sigsegv``),
/// and the error is in ``failures``.
///
/// | to | use | a page that cannot be had |
/// |---|---|---|
/// | read or write a value | ``load(fromByteOffset:as:)``, ``store(_:toByteOffset:)`` | is a signal |
/// | work on the bytes where they are | ``bytes``, ``withBytes(_:)``, ``withMutableBytes(_:)`` | is a signal |
/// | the same, with errors | `withResident(_:_:)`, `withMutableResident(_:_:)` | is thrown |
/// | copy | ``read(_:as:)``, ``write(_:as:at:)`` | is thrown |
/// | pass everything on once | `forEachPiece(of:byteCount:_:)` | is thrown |
public final class LazyRegion: Sendable {
  let core: Region
  let server: any RegionServer
  /// Keeps the threads that serve this region alive.
  private let engine: Engine
  /// Threads that are in a closure over the bytes, where they may meet faults.
  let holders = RegionPins()
  private let closing = Atomic<Bool>(false)
  /// Whether closing has come to the point where it takes the memory away. Until then it waits for threads that use it.
  private let isGone = Atomic<Bool>(false)

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
  /// The span cannot leave the object where the region is stored in a class, an actor or a global variable: use
  /// ``withBytes(_:)`` or ``load(fromByteOffset:as:)`` there. A region that is also written to must not be read through
  /// a span at the same time, as far as they are the same bytes.
  ///
  /// Takes no lock; may be called from any thread. Touching the bytes after ``close()`` is SIGSEGV. Traps after
  /// ``close()``, but not while it waits for closures over the bytes, which may use this.
  public var bytes: RawSpan {
    @_lifetime(borrow self)
    get {
      let span = unsafe RawSpan(_unsafeBytes: unsafeBytes)
      return unsafe _overrideLifetime(span, borrowing: self)
    }
  }

  /// The bytes, for reading, as a raw buffer that does not keep the region mapped.
  ///
  /// Takes no lock; may be called from any thread. Traps after ``close()``.
  @unsafe
  public var unsafeBytes: UnsafeRawBufferPointer {
    unsafe UnsafeRawBufferPointer(memory)
  }

  /// The bytes, for reading and writing, as a raw buffer that does not keep the region mapped.
  ///
  /// Takes no lock; may be called from any thread. Traps after ``close()``, and where the region was mapped read-only.
  @unsafe
  public var unsafeMutableBytes: UnsafeMutableRawBufferPointer {
    requireWritable()
    return unsafe memory
  }

  private var memory: UnsafeMutableRawBufferPointer {
    precondition(!isGone.load(ordering: .acquiring), "LazyRegion '\(name)' was closed")
    return unsafe UnsafeMutableRawBufferPointer(
      start: UnsafeMutableRawPointer(bitPattern: core.range.start),
      count: core.byteCount
    )
  }

  /// How faults of this region are delivered; never `auto`.
  public var delivery: Delivery { server.delivery }

  /// Which way to a userfaultfd serves this region; nil with `sigsegv`, which needs none.
  public var descriptor: DescriptorKind? { server.descriptor }

  /// Why pages could not be produced: of each page that failed the latest failure, after the one before it where there
  /// was one, whether or not the page has come since. The pages that failed last are at the end. At most 16,384 pages are
  /// known, here and to ``failure(at:)``; of more, the oldest quarter is forgotten.
  ///
  /// Takes a lock, and O(pages) for the array; may be called from any thread.
  public var failures: [PageFailure] { core.failures.all }

  /// Whether ``close()`` was called. Takes no lock; may be called from any thread.
  public var isClosed: Bool { closing.load(ordering: .acquiring) }

  /// Takes the memory away before the region's own end: a touch is SIGSEGV from now on.
  ///
  /// Threads that wait in a fault are released: with the page, where the provider answers within
  /// ``FaultRuntimeConfiguration/closeTimeout``; otherwise with a signal, SIGBUS or SIGSEGV. Nobody reads zeros. The
  /// addresses stay reserved until the region's end, so that a stray pointer never meets other memory.
  ///
  /// Calling it again does nothing, and neither does calling it in a forked child. Blocks until those who use the bytes
  /// in a closure (``withBytes(_:)`` and its like) have come out, and then until the handler thread has answered the
  /// faults that are queued; each of the two at most as long as the timeout. Takes locks.
  ///
  /// Call it from any thread. From inside such a closure of the same region it waits for itself, until the timeout. A
  /// provider that calls it for a region served by its own handler thread does not wait for itself, and faults of that
  /// region that are still queued end with SIGSEGV.
  public func close() {
    // In a forked child the memory is not mapped and the descriptor belongs to the parent's faults.
    guard core.isInOwnerProcess, !closing.exchange(true, ordering: .acquiringAndReleasing) else { return }
    let start = cuffd_monotonic_nanoseconds()
    // Faults are served until these are out.
    holders.close(nanoseconds: engine.closeTimeout)
    isGone.store(true, ordering: .releasing)
    _ = core.beginClosing()
    let passed = cuffd_monotonic_nanoseconds() - start
    core.pins.close(nanoseconds: engine.closeTimeout - min(passed, engine.closeTimeout))
    engine.close(core, server)
  }
}
