/// The answer to the question that a page fault is: what is in this page?
///
/// A provider is asked on threads of the runtime's own, with 1 MiB of stack and every signal blocked but those of its own
/// faults: where it may block, on threads of a pool, several of them at a time; where it says that it does not, on the handler
/// thread, one request at a time for each region, and every fault behind it waits as long. It must not touch lazy memory of
/// the same runtime, because nobody may be there to serve that fault, and it must not wait for a thread that does.
///
/// A page is in one request at a time, however many threads wait for it. The same page may be asked for more than once (to narrow an error down to one page, or because the kernel wanted the
/// resolution tried again), and has to be answered alike each time.
public protocol PageProvider: Sendable {
  /// How much this provider likes to produce at once. Asked once, when a region is mapped.
  var requestSize: RequestSize { get }

  /// Whether ``page(_:into:)`` may run on the thread that faulted, inside a signal handler, in place of a thread of the
  /// runtime's own; that is the fastest delivery (``Delivery/sigbus``). Asked once, when a region is mapped.
  ///
  /// A provider that says yes promises that it does not allocate, takes no lock that a faulting thread may hold, does not
  /// wait for another thread of this process, and may be asked by several threads at a time. It may fail: an error ends the
  /// access, and may allocate. It may touch lazy memory of other regions.
  ///
  /// Whatever the delivery, a large ``LazyRegion/prefetch(_:)`` asks it on two threads, one of which is the caller's.
  var mayRunInFaultingThread: Bool { get }

  /// Whether ``page(_:into:)`` may take long: because it reads a disk or a network, waits for a lock, or computes. Asked
  /// once, when a region is mapped.
  ///
  /// With the event loop such a provider is asked on threads of a pool
  /// (``FaultRuntimeConfiguration/providerThreads``), several of them at a time for different pages, and holds up nobody but
  /// those who wait for its pages. One that never blocks is asked on the handler thread, which saves a switch of threads.
  var mayBlock: Bool { get }

  /// Produces the bytes of a request.
  ///
  /// - Parameters:
  ///   - request: which bytes. It may span several pages, up to `requestSize.largest`.
  ///   - page: a buffer of `request.byteCount` bytes to fill, for the answer `.filled`.
  /// - Returns: where the bytes are. Fewer than asked for is allowed on a page boundary; pages that were left out are
  ///   asked for again when they are touched. What lies behind the exact end of the region reads as zero.
  /// - Throws: any error. Where the request spans pages, the runtime then asks for each page that a thread waits for by
  ///   itself, whatever the preferred size, so a slow failure is repeated for each of them; pages that fail again are
  ///   poisoned: the access gets SIGBUS, never zeros. An answer that covers a poisoned page later cures it.
  func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents
}

extension PageProvider {
  /// One page for a fault, up to 64 KiB while accesses run on.
  public var requestSize: RequestSize { .standard }

  /// Yes: a provider that does not has to say so.
  public var mayBlock: Bool { true }

  /// No: a provider has to say that it keeps the rules.
  public var mayRunInFaultingThread: Bool { false }
}

/// A provider that knows how many bytes it has, so that it can be mapped without saying a length.
public protocol SizedPageProvider: PageProvider {
  /// The length of the region that this provider fills, in bytes; any length, not only whole pages.
  var byteCount: Int { get }
}

/// The sizes of requests that a provider likes, in bytes. Both are rounded up to whole pages.
public struct RequestSize: Hashable, Sendable {
  /// The unit that a fault brings in at least: requests are multiples of it, counted from the start of the region.
  public let preferred: Int

  /// The most that one request asks for: requests grow to this while accesses run on (``RegionOptions/Advice``), where
  /// faults on neighbouring units are merged, and for ``LazyRegion/prefetch(_:)``. Where it is the preferred size, all
  /// requests have one size.
  public let largest: Int

  /// Takes sizes in bytes, each at least 1. `largest` is raised to `preferred` where it is smaller.
  ///
  /// Traps where `preferred` is not positive.
  public init(preferred: Int, largest: Int) {
    precondition(preferred > 0, "RequestSize: the preferred size is at least one byte, got \(preferred)")
    self.preferred = preferred
    self.largest = max(preferred, largest)
  }

  /// One page for a fault, up to 64 KiB while accesses run on.
  public static let standard = RequestSize(preferred: 1, largest: 64 << 10)

  /// One page for each request, always.
  public static let singlePage = RequestSize(preferred: 1, largest: 1)
}

/// Which bytes of a region are wanted.
public struct PageRequest: Hashable, Sendable {
  /// Where the wanted bytes start, in bytes from the start of the region: a multiple of the page size.
  public let offset: Int

  /// How many bytes are wanted: whole pages, except at the exact end of the region.
  public let byteCount: Int

  /// A request for `byteCount` bytes at `offset`. Only tests of providers need to make one.
  public init(offset: Int, byteCount: Int) {
    self.offset = offset
    self.byteCount = byteCount
  }

  /// The wanted bytes, as offsets in the region.
  public var range: Range<Int> { offset..<(offset + byteCount) }
}

/// Where the bytes of an answer are.
@safe
public struct PageContents: Sendable {
  // Safe to send: the pointer of `lent` is promised to be valid and unchanging wherever it goes.
  @unsafe
  enum Source: @unchecked Sendable {
    case filled
    case lent(UnsafeRawBufferPointer)
    case zero
  }

  let source: Source

  /// The buffer has the bytes: as many as were appended to it.
  public static let filled = unsafe PageContents(source: .filled)

  /// Every byte of the request is zero.
  public static let zero = unsafe PageContents(source: .zero)

  /// The bytes are in memory of the provider's own, and go from there into the region without another copy.
  ///
  /// - Parameter bytes: at most `request.byteCount` bytes, of any alignment. They stay valid and unchanged until the next
  ///   request on the same thread, or until the region is closed; and they are not lazy memory of the same runtime (the
  ///   runtime checks that, and refuses).
  @unsafe
  public static func lent(_ bytes: UnsafeRawBufferPointer) -> PageContents {
    unsafe PageContents(source: .lent(bytes))
  }
}
