/// The memory of a region. Each kind of memory has its own implementation, and all other code uses this protocol to
/// ask where the memory is and which pages are there, and to put pages in place.
///
/// A request to put pages in place returns a ``ResolutionStep``, which uses the terms of a userfaultfd for every kind
/// of memory. All callers can therefore treat the results in the same way.
protocol RegionMemory: AnyObject, Sendable {
  /// The mapped addresses, in whole pages.
  var range: AddressRange { get }

  /// Whether the program may write to the memory.
  var isWritable: Bool { get }

  /// The parts of `range` that still belong to the region. The program may have unmapped or moved some of the memory.
  var parts: Monitor<RegionParts> { get }

  /// The signal that a thread gets when it touches a page that could not be produced.
  var failureSignal: CInt { get }

  // MARK: Resident pages

  /// Returns whether the page at `page` has its bytes. A page that failed does not have its bytes.
  func isThere(_ page: UInt) -> Bool

  /// Writes one byte for each page of `range` into `notes`. The lowest bit is set if the page has its bytes in
  /// memory. Returns the error if the kernel does not tell.
  func noteResident(_ range: AddressRange, in notes: UnsafeMutablePointer<UInt8>) -> KernelErrno?

  /// Writes one byte for each page of `range` into `notes`: 0 for an empty page, and 1 for any other page. A page
  /// that was swapped out counts as not empty, and so does a page that failed if this memory uses poison. Returns the
  /// error if the kernel does not tell.
  func noteOccupied(_ range: AddressRange, in notes: UnsafeMutablePointer<UInt8>) -> KernelErrno?

  /// Copies the page at `page` if it has its bytes in memory or swapped out. Returns false for a page that has failed.
  /// A missing page may be asked for, so the caller first finds out whether the page is empty
  /// (``noteOccupied(_:in:)``).
  @unsafe
  func copyIfPresent(_ page: AddressRange, to destination: UnsafeMutableRawPointer) -> Bool

  // MARK: Placing pages

  /// Makes one request for the bytes of `part` behind the first `done` bytes. It also replaces pages that have failed.
  func place(_ part: AnswerPart, after done: Int, effort: PlacingEffort) -> ResolutionStep

  /// Makes every access to `page` fail until an answer replaces the page.
  func failPage(_ page: AddressRange) -> ResolutionStep

  /// Whether ``failPage(_:)`` is possible.
  var canFailPages: Bool { get }

  /// Wakes the threads that sleep in `range`, so that they try their access again.
  func wake(_ range: AddressRange)

  /// Whether ``moveIn(_:from:)`` is possible.
  var movesPages: Bool { get }

  /// Makes one request to move the pages at `source` into `range`.
  func moveIn(_ range: AddressRange, from source: UInt) -> ResolutionStep

  // MARK: Removing the memory

  /// Gives the pages of `range` back to the kernel with what was written to them. The next touch of each asks for it
  /// again. A page that has failed is forgotten as well. The caller has to make sure that no thread relies on the
  /// pages, as a pin shows (``RegionPins``). Returns the error if the kernel keeps some of the pages.
  func discard(_ range: AddressRange) -> KernelErrno?

  /// Takes away all access to the memory for good. Returns false if the kernel refuses; faults must then be
  /// served as before.
  func revokeAccess() -> Bool

  /// Whether ``revokeAccess()`` was refused.
  var isLeftBehind: Bool { get }

  /// Ends the reporting of faults and gives the pages back. The caller has revoked access before, and has removed the
  /// region from its table.
  func withdraw()
}

/// What a request to put pages in place may do in addition to the usual work.
struct PlacingEffort: OptionSet, Sendable {
  var rawValue: UInt8

  @_noLocks @_noAllocation
  init(rawValue: UInt8) { self.rawValue = rawValue }

  /// Nothing in addition.
  static var usual: Self { Self(rawValue: 0) }
  /// The calling thread answers its own fault in a signal handler, in which other signals are blocked already.
  static var inSignalHandler: Self { Self(rawValue: 1 << 0) }
  /// This is the last possible try, so the request may use spare mappings.
  static var lastTry: Self { Self(rawValue: 1 << 1) }

  /// This replaces the generic function, which the compiler cannot prove to take no lock.
  @_noLocks @_noAllocation
  @inline(__always)
  func contains(_ other: Self) -> Bool { rawValue & other.rawValue == other.rawValue }
}
