import CTestSupport
import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

/// Tests what happens to write protection in a child. The tests run in processes of their own, because a userfaultfd
/// that is told of forks would delay the forks of other tests.
extension UffdUnitTests {
  @Test(
    "wp-fork", .enabled(if: Host.has(.writeProtectHugetlbfsShmem), SkipReason.writeProtectShmem),
    arguments: MemoryKind.here)
  func writeProtectFork(kind: MemoryKind) async {
    await #expect(processExitsWith: .success) { [kind = kind as MemoryKind] in
      limitTime()
      try forkWriteProtected(kind, pinned: false)
    }
  }

  @Test(
    "wp-fork-with-event", .enabled(if: Host.has(.writeProtectHugetlbfsShmem), SkipReason.writeProtectShmem),
    .enabled(if: Host.forkEvents, SkipReason.forkEvents), arguments: MemoryKind.here)
  func writeProtectForkWithEvent(kind: MemoryKind) async {
    await #expect(processExitsWith: .success) { [kind = kind as MemoryKind] in
      limitTime()
      try forkWriteProtectedWithEvent(kind, pinned: false)
    }
  }

  @Test(
    "wp-fork-pin", .enabled(if: Host.has(.writeProtectHugetlbfsShmem), SkipReason.writeProtectShmem),
    .enabled(if: Host.pins, SkipReason.pin), arguments: MemoryKind.here)
  func writeProtectForkPinned(kind: MemoryKind) async {
    await #expect(processExitsWith: .success) { [kind = kind as MemoryKind] in
      limitTime()
      try forkWriteProtected(kind, pinned: true)
    }
  }

  @Test(
    "wp-fork-pin-with-event", .enabled(if: Host.has(.writeProtectHugetlbfsShmem), SkipReason.writeProtectShmem),
    .enabled(if: Host.forkEvents, SkipReason.forkEvents), .enabled(if: Host.pins, SkipReason.pin),
    arguments: MemoryKind.here)
  func writeProtectForkPinnedWithEvent(kind: MemoryKind) async {
    await #expect(processExitsWith: .success) { [kind = kind as MemoryKind] in
      limitTime()
      try forkWriteProtectedWithEvent(kind, pinned: true)
    }
  }
}

/// Makes memory whose first page is protected. With `pinned`, that page is also pinned, so that fork copies it at
/// once.
private func protected(
  _ kind: MemoryKind, pinned: Bool, by uffd: borrowing Userfaultfd
) throws -> (memory: Memory, pin: CInt) {
  let memory = try Memory(mapping: kind, pages: 2)
  memory.range.fill(1)
  // The page is pinned before it is protected, because pinning is a write.
  let pin = pinned ? cts_pin(memory.page(0).start, memory.pageBytes) : -1
  if pinned { try #require(pin >= 0) }
  try uffd.register(memory.range, mode: .writeProtect)
  try uffd.writeProtect(memory.page(0), true)
  #expect(memory.page(0).isWriteProtected)
  #expect(!memory.page(1).isWriteProtected)
  return (memory, pin)
}

/// Checks after the fork that the parent's memory is protected as before.
private func checkParent(_ memory: Memory, of uffd: borrowing Userfaultfd) throws {
  let page = memory.page(0)
  #expect(page.isWriteProtected)
  let writer = Later { write(3, to: page.start) }
  #expect(try uffd.nextFault(in: page) == [.write, .writeProtect])
  try uffd.afterEvent { () throws(ResolveError) in try uffd.writeProtect(page, false) }
  #expect(try writer.result() == .byte(3))
  #expect(!page.isWriteProtected)
}

/// Checks the effect of the pin: the child has a copy, and the parent has kept the original page.
private func checkPin(_ memory: Memory, pinned: Bool) {
  if !memory.kind.isShared { #expect(memory.page(0).isExclusive == pinned) }
}

private func forkWriteProtected(_ kind: MemoryKind, pinned: Bool) throws {
  let uffd = try Userfaultfd.open(.writeProtection(of: kind))
  let (memory, pin) = try protected(kind, pinned: pinned, by: uffd)
  let child = Child()
  checkPin(memory, pinned: pinned)
  // No process serves the faults of the child, so no page may stay protected there.
  #expect(!child.isWriteProtected(memory.page(0)))
  #expect(!child.isWriteProtected(memory.page(1)))
  #expect(child.read(memory.page(0)) == .byte(1))
  #expect(child.write(2, to: memory.page(0)) == .byte(2))
  #expect(read(memory.page(0).start) == .byte(kind.isShared ? 2 : 1))
  try checkParent(memory, of: uffd)
  #expect(child.read(memory.page(0)) == .byte(kind.isShared ? 3 : 2))
  if pinned { close(pin) }
}

private func forkWriteProtectedWithEvent(_ kind: MemoryKind, pinned: Bool) throws {
  let uffd = try Userfaultfd.open(.writeProtection(of: kind).union(.eventFork))
  let (memory, pin) = try protected(kind, pinned: pinned, by: uffd)
  let forking = Later { Child() }
  let childUffd = try uffd.nextFork()
  let child = try forking.result()
  checkPin(memory, pinned: pinned)
  #expect(child.isWriteProtected(memory.page(0)))
  #expect(!child.isWriteProtected(memory.page(1)))
  #expect(child.read(memory.page(0)) == .byte(1))
  // The child's write is reported to the child's descriptor, which also lifts the protection.
  child.begin(CTS_WRITE, memory.page(0), 2)
  #expect(try childUffd.nextFault(in: memory.page(0)) == [.write, .writeProtect])
  #expect(try !uffd.hasMessage())
  try childUffd.afterEvent { () throws(ResolveError) in try childUffd.writeProtect(memory.page(0), false) }
  #expect(child.finish() == .byte(2))
  #expect(!child.isWriteProtected(memory.page(0)))
  // The parent's protection is not lifted by that.
  try checkParent(memory, of: uffd)
  #expect(try !childUffd.hasMessage())
  if pinned { close(pin) }
}
