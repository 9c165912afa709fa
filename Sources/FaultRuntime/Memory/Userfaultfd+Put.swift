internal import CUFFD

extension Userfaultfd {
  @_noLocks @_noAllocation
  @inline(__always)
  private func put(_ part: AnswerPart, after done: Int) throws(ResolveError) {
    let rest = unsafe part.range.dropping(done)
    if let source = unsafe part.source {
      try unsafe copy(rest, from: source + done)
    } else {
      try zeropage(rest)
    }
  }

  /// One request for what is left of `part` behind the first `done` bytes.
  @inline(__always)
  func put(_ part: AnswerPart, after done: Int, earlierPresent: () -> Int) -> ResolutionStep {
    do {
      try unsafe put(part, after: done)
      return .done
    } catch {
      return .after(
        error.request, completed: error.completedByteCount, errno: error.errno,
        earlierPresent: error.errno == .fileExists ? earlierPresent() : 0)
    }
  }

  /// As `put`. Zeros also go over a page that is poisoned, which the kernel takes for present; what stands against that is a step
  /// as any other, because the page must not be taken for resident.
  @inline(__always)
  func putCuring(_ part: AnswerPart, after done: Int, pageSize: PageSize) -> ResolutionStep {
    let step = unsafe put(part, after: done, earlierPresent: { 0 })
    guard step == .present, unsafe part.source == nil else { return step }
    do {
      try cure(unsafe part.range.dropping(done).prefix(pageSize.bytes))
      return .goOn(completed: pageSize.bytes)
    } catch {
      return .after(error.request, completed: error.completedByteCount, errno: error.errno)
    }
  }
}
