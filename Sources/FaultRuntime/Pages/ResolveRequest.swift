/// A request to the kernel that resolves faults.
enum ResolveRequest: String, Hashable, Sendable, CaseIterable {
  case copy = "UFFDIO_COPY"
  case zeropage = "UFFDIO_ZEROPAGE"
  case move = "UFFDIO_MOVE"
  case `continue` = "UFFDIO_CONTINUE"
  case poison = "UFFDIO_POISON"
  case writeProtect = "UFFDIO_WRITEPROTECT"
}
