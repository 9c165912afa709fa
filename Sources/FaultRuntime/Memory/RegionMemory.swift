/// The memory of a region: where it is, what of it is there, and how pages get into it. Each kind of memory has one
/// implementation, and everything else asks through this protocol.
///
/// What comes of a request is told in the terms of a userfaultfd, whichever kind of memory it is, so that one function judges all
/// of it (``ResolutionStep``).
protocol RegionMemory: AnyObject, Sendable {
  /// The addresses that were mapped: whole pages.
  var range: AddressRange { get }

  /// Whether the program may write to the memory.
  var isWritable: Bool { get }

  /// The parts of `range` that still belong to the region. The program may have unmapped or moved some of it.
  var parts: Monitor<RegionParts> { get }

  /// The signal that a thread gets which touches a page that could not be produced.
  var failureSignal: CInt { get }

  // MARK: What is there

  /// Whether the page at `page` has its bytes. A page that failed has not.
  func isThere(_ page: UInt) -> Bool

  /// Writes one byte for each page of `range` into `notes`: the lowest bit is set where the page has its bytes in memory.
  func noteResident(_ range: AddressRange, in notes: UnsafeMutablePointer<UInt8>) -> KernelErrno?

  /// Writes one byte for each page of `range` into `notes`: 1 where there is something in the page, and 0 where there is nothing.
  /// Something may be a page that was swapped out, or one that failed.
  func noteOccupied(_ range: AddressRange, in notes: UnsafeMutablePointer<UInt8>) -> KernelErrno?

  // MARK: Pages come

  /// Makes one request for what is left of `part` behind its first `done` bytes. Pages that have failed are cured by it.
  func place(_ part: AnswerPart, after done: Int, effort: PlacingEffort) -> ResolutionStep

  /// Has every access to a page fail until an answer cures it.
  func failPage(_ page: AddressRange) -> ResolutionStep

  /// Whether ``failPage(_:)`` can be had at all.
  var canFailPages: Bool { get }

  /// Lets the threads look again that sleep in `range`.
  func wake(_ range: AddressRange)

  /// Whether huge pages can be moved in.
  var movesPages: Bool { get }

  /// Moves the pages at `source` into `range`.
  func moveIn(_ range: AddressRange, from source: UInt) throws(ResolveError)

  // MARK: The memory goes

  /// Takes every access away for good. Returns false where the kernel refuses that: the memory then has to be served further on.
  func revokeAccess() -> Bool

  /// Whether ``revokeAccess()`` was refused.
  var isLeftBehind: Bool { get }

  /// Ends the reporting of faults and gives the pages back. Access has been revoked before, and the region is in no table.
  func withdraw()
}

/// What a request to put pages in place may do beyond the usual.
struct PlacingEffort: OptionSet, Sendable {
  var rawValue: UInt8

  @_noLocks @_noAllocation
  init(rawValue: UInt8) { self.rawValue = rawValue }

  /// Nothing beyond the usual.
  static var usual: Self { Self(rawValue: 0) }
  /// The calling thread answers its own fault in a signal handler, where other signals are held already.
  static var inSignalHandler: Self { Self(rawValue: 1 << 0) }
  /// Nothing else can be tried if this fails, so reserves may be used up.
  static var lastTry: Self { Self(rawValue: 1 << 1) }

  /// This stands in place of the generic function, of which the compiler cannot prove that it takes no lock.
  @_noLocks @_noAllocation
  @inline(__always)
  func contains(_ other: Self) -> Bool { rawValue & other.rawValue == other.rawValue }
}
