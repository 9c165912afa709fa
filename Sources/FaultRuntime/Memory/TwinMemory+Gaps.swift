/// Finds out how many mappings it costs to open pages, and which pages to fill in order to save mappings.
extension TwinMemory {
  /// Returns whether opening the pages of `part` costs mappings although the budget is used up.
  func isBeyondBudget(_ part: AddressRange) -> Bool {
    !isGuarded && budget.isUsedUp && needsNeighbours(part)
  }

  /// Returns whether opening the pages of `part` costs mappings, which is the case if no page next to them is open.
  func needsNeighbours(_ part: AddressRange) -> Bool {
    !isGuarded && neighbours(index(of: part.start), part.byteCount / pageSize.bytes) == 0
  }

  /// Returns the pages between `part` and the nearest open page, or nil if there is no open page. Filling them costs
  /// no mapping if the caller begins at the open page and continues towards `part`.
  ///
  /// - Parameter side: true if only pages before `part` are considered, false if only pages behind it, nil for both
  ///   sides.
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

/// Missing pages between the pages that are to be opened and the nearest open page.
struct MappingGap {
  var pages: AddressRange
  /// Whether the pages of the gap lie before the pages that are to be opened.
  var isBefore: Bool
}
