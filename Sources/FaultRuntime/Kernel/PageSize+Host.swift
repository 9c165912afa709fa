internal import CUFFD

extension PageSize {
  /// The page size of this host, as `sysconf(3)` tells it.
  static func ofHost() -> PageSize { PageSize(bytes: Int(cuffd_page_size())) }
}
