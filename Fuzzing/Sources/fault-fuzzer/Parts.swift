@testable import FaultRuntime

/// Unmaps and moves memory page by page. A dictionary records where each page came from, and the results must agree.
func checkParts(_ input: inout FuzzInput) {
  let size = UInt(PageSize.ofHost().bytes)
  func range(_ pages: Range<Int>) -> AddressRange {
    AddressRange(start: UInt(pages.lowerBound) * size, byteCount: pages.count * Int(size))
  }
  let first = 32 + input.below(16)
  var parts = RegionParts(range(first..<(first + 24)))
  var model = Dictionary(uniqueKeysWithValues: (first..<(first + 24)).map { ($0, $0) })
  var operations = 0
  while !input.isEmpty {
    let start = input.below(96)
    let pages = start..<(start + 1 + input.below(16))
    let target = input.below(112)
    let targets = target..<(target + pages.count)
    if input.bool() || pages.overlaps(targets) {
      parts.remove(range(pages))
      for page in pages { model[page] = nil }
    } else {
      // The target range is unmapped first, as mremap(2) does it.
      parts.remove(range(targets))
      for page in targets { model[page] = nil }
      parts.move(from: range(pages), to: UInt(target) * size)
      // The old place is unmapped afterwards, except with `MREMAP_DONTUNMAP`.
      let staysBehind = input.below(4) == 0
      if !staysBehind { parts.remove(range(pages)) }
      for (page, target) in zip(pages, targets) {
        guard let origin = model[page] else { continue }
        if !staysBehind { model[page] = nil }
        model[target] = origin
      }
    }
    operations += 1
    if operations % 8 == 0 || input.isEmpty { check(parts, model, size) }
  }
}

private func check(_ parts: RegionParts, _ model: [Int: Int], _ size: UInt) {
  for page in 0..<128 {
    let address = UInt(page) * size + 5
    let count = parts.ranges.count { $0.contains(address) }
    require(count == (model[page] == nil ? 0 : 1), "page \(page) is there \(count) times")
    let origin = parts.origin(of: address)
    require(origin == nil || origin == model[page].map { UInt($0) * size + 5 }, "page \(page) came from elsewhere")
    require(origin != nil || model[page] == nil || model[page] == page, "page \(page) was moved, and is not known")
  }
}
