internal import CUFFD
internal import Synchronization

/// Memory whose pages are produced by a provider when they are first touched.
///
/// ```swift
/// let options = RegionOptions(name: "table", access: .readOnly)
/// let region = try runtime.map(FileProvider("table.bin"), options: options)
/// let count = region.load(fromByteOffset: 0, as: UInt32.self)  // a page that cannot be produced raises a signal here
/// let rows = try region.read(8..<4096, as: UInt64.self)        // and throws an error here
/// ```
///
/// A region stays open as long as the program holds it. Dropping the last reference closes it, and blocks as
/// ``close()`` does. A span from ``bytes`` borrows the region, and ``withBytes(_:)`` holds it, so the memory stays
/// mapped while the span is used. Only the raw buffers can outlive the region; they are marked `@unsafe`.
///
/// Any number of threads may touch the memory. A touch of a page that is not resident blocks its thread until the
/// provider has answered. Where the page cannot be produced, the touch raises SIGBUS (SIGSEGV with
/// ``Delivery/sigsegv``), and ``failures`` says why.
///
/// | Task | Methods | A page that cannot be produced |
/// |---|---|---|
/// | read or write a value | ``load(fromByteOffset:as:)``, ``store(_:toByteOffset:)`` | raises a signal |
/// | work on the bytes in place | ``bytes``, ``withBytes(_:)``, ``withMutableBytes(_:)`` | raises a signal |
/// | the same, with errors | `withResident(_:_:)`, `withMutableResident(_:_:)` | throws |
/// | copy | ``read(_:as:)``, ``write(_:as:at:)`` | throws |
/// | pass everything on once | `forEachPiece(of:byteCount:_:)` | throws |
public final class LazyRegion: Sendable {
  let core: Region
  let server: any RegionServer
  /// Keeps the threads that serve this region alive.
  private let engine: Engine
  /// The pins of threads that are in a closure over the bytes, where they may meet faults.
  let holders = RegionPins()
  private let closing = Atomic<Bool>(false)
  /// Whether closing has reached the point where it takes the memory away. Before that point, closing waits for
  /// threads in closures over the bytes, and the memory can still be used.
  let isGone = Atomic<Bool>(false)

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

  /// The exact length, in bytes. The rest of the last page is zero.
  public var byteCount: Int { core.byteCount }

  /// The number of bytes in a page of this host.
  public var pageSize: Int { core.pageSize.bytes }

  /// The bytes, for reading. A page that is not resident comes when it is touched.
  ///
  /// Where the region is stored in a class, an actor or a global variable, the compiler does not let the span leave
  /// that object. Use ``withBytes(_:)`` or ``load(fromByteOffset:as:)`` there. While one thread reads bytes through a
  /// span, no other thread may write to the same bytes.
  ///
  /// The property takes no lock and may be used from any thread. It works while ``close()`` still waits for threads
  /// in closures over the bytes, and traps after that, as it does in a forked child. A touch of the bytes after
  /// ``close()`` raises SIGSEGV.
  public var bytes: RawSpan {
    @_lifetime(borrow self)
    get {
      let span = unsafe RawSpan(_unsafeBytes: unsafeBytes)
      return unsafe _overrideLifetime(span, borrowing: self)
    }
  }

  /// The bytes, for reading, as a raw buffer that does not keep the region mapped.
  ///
  /// The property takes no lock and may be used from any thread. It traps after ``close()`` and in a forked child, as
  /// ``bytes`` does.
  @unsafe
  public var unsafeBytes: UnsafeRawBufferPointer {
    unsafe UnsafeRawBufferPointer(memory)
  }

  /// The bytes, for reading and writing, as a raw buffer that does not keep the region mapped.
  ///
  /// The property takes no lock and may be used from any thread. It traps after ``close()`` and in a forked child, as
  /// ``bytes`` does, and where the region was mapped read-only.
  @unsafe
  public var unsafeMutableBytes: UnsafeMutableRawBufferPointer {
    requireWritable()
    return unsafe memory
  }

  private var memory: UnsafeMutableRawBufferPointer {
    precondition(!isGone.load(ordering: .acquiring), "LazyRegion '\(name)' was closed")
    requireOwnProcess()
    return unsafe UnsafeMutableRawBufferPointer(
      start: UnsafeMutableRawPointer(bitPattern: core.range.start),
      count: core.byteCount
    )
  }

  /// The delivery of this region's faults; never `auto`.
  public var delivery: Delivery { server.delivery }

  /// The kind of userfaultfd that serves this region; nil with `sigsegv`, which needs none.
  public var descriptor: DescriptorKind? { server.descriptor }

  /// The reasons why pages could not be produced. The pages that failed last are at the end.
  ///
  /// A page that failed more than once since it was last resident appears twice: with its first failure since then, and
  /// right behind that with its latest one. Failures stay in the list when their page comes later.
  ///
  /// The region remembers at most 16,384 pages, here and for ``failure(at:)``. When it runs out of room, it forgets
  /// the pages that failed longest ago and keeps three quarters of that number.
  ///
  /// The property takes a lock, and O(failed pages) time. It may be used from any thread.
  public var failures: [PageFailure] { core.failures.all }

  /// Whether ``close()`` was called, even if that call is still waiting. The property takes no lock and may be used
  /// from any thread.
  public var isClosed: Bool { closing.load(ordering: .acquiring) }

  /// Takes the memory away before the region's own end. A touch raises SIGSEGV from then on.
  ///
  /// No thread stays blocked in a fault, and no thread ever reads zeros in place of a page. A thread that waits in a
  /// fault gets its page where the provider has been asked already and answers within
  /// ``FaultRuntimeConfiguration/closeTimeout``. Otherwise it gets SIGBUS or SIGSEGV. The addresses stay reserved
  /// until the region's end, so that a stray pointer never meets other memory.
  ///
  /// Closing takes these steps:
  ///
  /// 1. It waits for threads that are inside ``withBytes(_:)`` or ``withMutableBytes(_:)`` of this region. Their
  ///    faults are still served, and they may enter these two methods again; a thread that is not inside one of them
  ///    traps when it enters one. ``bytes``, ``load(fromByteOffset:as:)`` and ``store(_:toByteOffset:)`` still work
  ///    on every thread. New calls of methods that throw ``FaultRuntimeError`` throw `regionClosed` on every thread.
  /// 2. It waits for threads that are inside `withResident(_:_:)` and its like, or that copy bytes. Both waits
  ///    together last no longer than the timeout.
  /// 3. With the event loop, it waits until the handler thread has ended the faults that are queued, and then until
  ///    the pool has ended its requests for this region. Each of the two waits lasts no longer than the timeout. With
  ///    `sigbus` and `sigsegv` there is no such wait.
  ///
  /// The method takes locks and may be called from any thread. A second call returns at once, even while the first
  /// one still waits. A call in a forked child does nothing.
  ///
  /// A thread that calls `close()` inside such a closure of the same region waits for itself until the timeout, and
  /// the memory is gone when the call returns. A provider may call `close()` on the handler thread that serves the
  /// region, or on a thread of the pool. Step 3 then does not wait for the calling thread. On the handler thread,
  /// faults of the region that are still queued end with SIGSEGV. Steps 1 and 2 last until the timeout where a thread
  /// in a closure waits for a page from this very thread.
  public func close() {
    // In a forked child the memory is not mapped, and the descriptor still acts on the faults of the parent.
    guard core.isInOwnerProcess, !closing.exchange(true, ordering: .acquiringAndReleasing) else { return }
    withoutCancellation {
      let timeout = SharedTimeout(nanoseconds: engine.closeTimeout)
      // The faults of these threads are served until the wait ends.
      holders.close(nanoseconds: timeout.remaining)
      isGone.store(true, ordering: .releasing)
      _ = core.beginClosing()
      core.pins.close(nanoseconds: timeout.remaining)
      engine.close(core, server)
    }
  }
}
