internal import CUFFD

/// A few mappings that a region keeps, so that it can give them up when a page has to be opened and the process has none left:
/// other code may have used up the kernel's limit (`vm.max_map_count`).
///
/// Opening one page in the middle of others takes two. `mmap(2)` lets a process have one more than the limit, `mprotect(2)` only
/// goes on below it: three are needed at most, and there are four.
struct MappingReserve: ~Copyable, Sendable {
  private let start: UInt
  private let pageSize: PageSize

  init(pageSize: PageSize) throws(HostCallError) {
    var mapped: UnsafeMutableRawPointer?
    if let errno = unsafe KernelErrno(returned: cuffd_reserve_map(pageSize.bytes, &mapped)) {
      throw HostCallError(call: "mprotect", errno: errno)
    }
    start = UInt(bitPattern: mapped)
    self.pageSize = pageSize
  }

  deinit { _ = cuffd_unmap(UInt64(start), Int(CUFFD_RESERVE_PAGES) * pageSize.bytes) }

  /// Gives them up. Another thread may be faster to use them.
  @_noLocks @_noAllocation
  func release() -> Bool { cuffd_reserve_release(UInt64(start), pageSize.bytes) == 0 }

  /// Takes them back, where there are so many.
  @_noLocks @_noAllocation
  func restore() -> Bool { cuffd_reserve_restore(UInt64(start), pageSize.bytes) == 0 }
}
