/// A userfaultfd that a delivery and the memory of its regions own together. The descriptor is closed when the last
/// owner has gone, so a region can always unregister its range first.
final class SharedUserfaultfd: Sendable {
  let uffd: Userfaultfd

  init(_ uffd: consuming Userfaultfd) { self.uffd = uffd }
}
