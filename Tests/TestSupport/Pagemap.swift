import CUFFD
import Glibc
import Testing

/// Returns the parts of a range whose pages have all of these properties, which are bits `CUFFD_PAGE_IS_…`. There are
/// at most 64 parts. Records an issue if the kernel refuses (PAGEMAP_SCAN).
package func parts(of range: Range<UInt>, with properties: UInt64) -> [Range<UInt>] {
  let pagemap = unsafe cuffd_file_open("/proc/self/pagemap")
  defer { _ = cuffd_close(pagemap) }
  var found = [cuffd_page_region](repeating: cuffd_page_region(), count: 64)
  let count = unsafe found.withUnsafeMutableBufferPointer { found in
    var argument = cuffd_pm_scan_arg(
      size: UInt64(MemoryLayout<cuffd_pm_scan_arg>.size), flags: 0, start: UInt64(range.lowerBound),
      end: UInt64(range.upperBound), walk_end: 0, vec: UInt64(UInt(bitPattern: found.baseAddress)),
      vec_len: UInt64(found.count), max_pages: 0, category_inverted: 0, category_mask: properties,
      category_anyof_mask: 0, return_mask: properties)
    return unsafe cuffd_pagemap_scan(pagemap, &argument)
  }
  if count < 0 { Issue.record("PAGEMAP_SCAN: \(unsafe String(cString: strerror(CInt(-count))))") }
  return found.prefix(max(0, Int(count))).map { UInt($0.start)..<UInt($0.end) }
}
