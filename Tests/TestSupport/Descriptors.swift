import Glibc

/// The name of a userfaultfd in the result of `descriptorKinds`.
package let userfaultfdKind = "anon_inode:[userfaultfd]"

/// Returns how many descriptors of each kind this process has. A kind is the kernel's name for the object behind the
/// descriptor, without the number.
package func descriptorKinds() -> [String: Int] {
  descriptorTargets().reduce(into: [:]) { kinds, target in
    kinds[target.hasPrefix("anon_inode:") ? target : String(target.prefix { $0 != ":" }), default: 0] += 1
  }
}

/// Returns how many descriptors this process has for a file.
package func descriptors(of path: String) -> Int { descriptorTargets().count { $0 == path } }

private func descriptorTargets() -> [String] {
  directory("/proc/self/fd").compactMap { CInt($0).flatMap(descriptorTarget) }
}

/// Returns the kernel's name for the object behind a descriptor; nil where the descriptor is not open.
package func descriptorTarget(_ descriptor: CInt) -> String? {
  var target = [CChar](repeating: 0, count: 512)
  guard unsafe readlink("/proc/self/fd/\(descriptor)", &target, target.count - 1) > 0 else { return nil }
  return unsafe target.withUnsafeBufferPointer { unsafe String(cString: $0.baseAddress!) }
}

/// Returns the numbers of the descriptors of this process.
package func openDescriptors() -> Set<CInt> {
  // The directory itself has a descriptor while it is read.
  Set(directory("/proc/self/fd").compactMap { CInt($0) }.filter { fcntl($0, F_GETFD) >= 0 })
}

/// Returns whether an event or a fault of this descriptor waits to be read.
package func isReadable(_ descriptor: CInt) -> Bool {
  var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
  return unsafe poll(&entry, 1, 0) == 1 && entry.revents & Int16(POLLIN) != 0
}

/// Returns whether an event of this descriptor waits to be read. An unread fault hides the event.
package func hasUnreadEvent(_ descriptor: CInt) -> Bool {
  // This order matters, because the number of unread faults may grow between the two calls.
  isReadable(descriptor) && waiters(on: descriptor).unread == 0
}

/// Returns how many threads wait in faults of this descriptor, and how many messages of such threads are unread, as
/// the kernel counts them.
package func waiters(on descriptor: CInt) -> (unread: Int, all: Int) {
  // The file is read once, so that the two numbers belong together.
  var unread = 0
  var all = 0
  for line in lines("/proc/self/fdinfo/\(descriptor)") {
    let number = Int(line.split(whereSeparator: { !$0.isNumber }).first ?? "") ?? 0
    if line.hasPrefix("pending:") { unread = number }
    if line.hasPrefix("total:") { all = number }
  }
  return (unread, all)
}
