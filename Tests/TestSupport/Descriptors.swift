import Glibc

/// What `descriptorKinds` calls a userfaultfd.
package let userfaultfdKind = "anon_inode:[userfaultfd]"

/// How many descriptors of each kind this process has: the kernel's name for what is behind them, without its number.
package func descriptorKinds() -> [String: Int] {
  var kinds: [String: Int] = [:]
  for name in directory("/proc/self/fd") {
    var target = [CChar](repeating: 0, count: 512)
    guard unsafe readlink("/proc/self/fd/\(name)", &target, target.count - 1) > 0 else { continue }
    let text = unsafe target.withUnsafeBufferPointer { unsafe String(cString: $0.baseAddress!) }
    kinds[text.hasPrefix("anon_inode:") ? text : String(text.prefix { $0 != ":" }), default: 0] += 1
  }
  return kinds
}

/// Whether an event or a fault of this descriptor waits to be read.
package func isReadable(_ descriptor: CInt) -> Bool {
  var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
  return unsafe poll(&entry, 1, 0) == 1 && entry.revents & Int16(POLLIN) != 0
}

/// Whether an event of this descriptor waits to be read. An unread fault hides it.
package func hasUnreadEvent(_ descriptor: CInt) -> Bool {
  // In this order, since the number of unread faults may only grow meanwhile.
  isReadable(descriptor) && waiters(on: descriptor).unread == 0
}

/// Threads that wait in faults of this descriptor, and the messages among them that nobody has read, as the kernel counts
/// them.
package func waiters(on descriptor: CInt) -> (unread: Int, all: Int) {
  // Read once, so that the two belong together.
  var unread = 0
  var all = 0
  for line in lines("/proc/self/fdinfo/\(descriptor)") {
    let number = Int(line.split(whereSeparator: { !$0.isNumber }).first ?? "") ?? 0
    if line.hasPrefix("pending:") { unread = number }
    if line.hasPrefix("total:") { all = number }
  }
  return (unread, all)
}
