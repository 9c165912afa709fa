internal import CUFFD

/// Where answers are put. What comes back is judged in one way, whichever it is: as what a userfaultfd says.
protocol PageTarget: ~Copyable {
  /// One request for what is left of `part` behind the first `done` bytes. Over pages that have failed as well, which are cured.
  func putCuring(_ part: AnswerPart, after done: Int, pageSize: PageSize) -> ResolutionStep

  /// Has every access to a page fail until it is cured.
  func failPage(_ page: AddressRange) -> ResolutionStep

  /// Lets the threads look again that sleep on a page.
  func wakeWaiters(_ range: AddressRange)

  /// One byte for each page of a range, the lowest bit set where the page is there.
  func note(_ range: AddressRange, in notes: UnsafeMutablePointer<UInt8>) -> KernelErrno?

  /// Whether huge pages can be moved in.
  var movesPages: Bool { get }

  func moveIn(_ range: AddressRange, from source: UInt) throws(ResolveError)
}

extension Userfaultfd: PageTarget {
  func failPage(_ page: AddressRange) -> ResolutionStep {
    do {
      try poison(page)
      return .done
    } catch {
      return .after(.poison, completed: 0, errno: error.errno)
    }
  }

  /// Errors of a wake mean that nobody can be waiting there.
  func wakeWaiters(_ range: AddressRange) { try? wake(range) }

  func note(_ range: AddressRange, in notes: UnsafeMutablePointer<UInt8>) -> KernelErrno? {
    unsafe KernelErrno(returned: cuffd_residency(UInt64(range.start), range.byteCount, notes))
  }

  var movesPages: Bool { available.contains(.move) }

  func moveIn(_ range: AddressRange, from source: UInt) throws(ResolveError) { try move(range, from: source) }
}

/// Memory that is mapped twice, as a target. Threads that meet a page which is not open do not sleep on it.
struct TwinTarget: PageTarget {
  let memory: TwinMemory
  /// Whether the calling thread answers its own fault, and signals are held already.
  let isInHandler: Bool
  /// Whether nothing else can be tried where there is no mapping left.
  var isLastTry = false

  func putCuring(_ part: AnswerPart, after done: Int, pageSize: PageSize) -> ResolutionStep {
    if isInHandler { return unsafe memory.put(part, after: done, isLastTry: isLastTry) }
    return holdingSignals { unsafe memory.put(part, after: done, isLastTry: isLastTry) }
  }

  func failPage(_ page: AddressRange) -> ResolutionStep { memory.fail(page.start) ? .done : .present }

  func wakeWaiters(_ range: AddressRange) {}

  func note(_ range: AddressRange, in notes: UnsafeMutablePointer<UInt8>) -> KernelErrno? {
    unsafe memory.note(range, in: notes)
    return nil
  }

  var movesPages: Bool { false }

  func moveIn(_ range: AddressRange, from source: UInt) throws(ResolveError) {
    throw ResolveError(request: .move, errno: .invalidArgument, completedByteCount: 0)
  }
}
