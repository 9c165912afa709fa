/// What opening pages costs in mappings, and how to save them.
extension TwinMemory {
  /// Whether opening these pages would cost mappings that are not to be had.
  func isBeyondBudget(_ part: AddressRange) -> Bool {
    budget.isUsedUp && needsNeighbours(part)
  }

  /// Whether opening these pages makes mappings.
  func needsNeighbours(_ part: AddressRange) -> Bool {
    neighbours(index(of: part.start), part.byteCount / pageSize.bytes) == 0
  }

  /// The missing pages between `part` and the open page that is nearest to it, or nearest on one side; nil where there is none.
  /// What is filled from there on, towards `part`, costs no mapping.
  func gap(beside part: AddressRange, onlyBefore side: Bool? = nil) -> MappingGap? {
    let first = index(of: part.start)
    let end = first + part.byteCount / pageSize.bytes
    var before = side == false ? -1 : first - 1
    var after = side == true ? pageCount : end
    while before >= 0 || after < pageCount {
      if before >= 0, state(before) == PageState.open {
        return MappingGap(pages: pages(before + 1, first), isBefore: true)
      }
      if after < pageCount, state(after) == PageState.open {
        return MappingGap(pages: pages(end, after), isBefore: false)
      }
      before -= 1
      after += 1
    }
    return nil
  }

  private func pages(_ first: Int, _ end: Int) -> AddressRange {
    AddressRange(
      start: range.start &+ UInt(bitPattern: first * pageSize.bytes), byteCount: (end - first) * pageSize.bytes)
  }
}

/// Missing pages between what shall be opened and what is open.
struct MappingGap {
  var pages: AddressRange
  /// Whether they lie before what shall be opened.
  var isBefore: Bool
}
