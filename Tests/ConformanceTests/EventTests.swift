import CTestSupport
import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

/// Tests what a handler is told of changes to the memory that it serves. The tests run in processes of their own,
/// because memory that was unmapped must not become memory of another test.
extension UffdUnitTests {
  @Test("events", arguments: MemoryKind.here)
  func events(kind: MemoryKind) async {
    await #expect(processExitsWith: .success) { [kind = kind as MemoryKind] in
      limitTime()
      try followChanges(kind, writeProtected: false)
    }
  }

  @Test(
    "events-wp", .enabled(if: Host.has(.writeProtectHugetlbfsShmem), SkipReason.writeProtectShmem),
    arguments: MemoryKind.here)
  func eventsWriteProtected(kind: MemoryKind) async {
    await #expect(processExitsWith: .success) { [kind = kind as MemoryKind] in
      limitTime()
      try followChanges(kind, writeProtected: true)
    }
  }

  @Test(
    "events: of a fork", .enabled(if: Host.forkEvents, SkipReason.forkEvents), arguments: MemoryKind.here)
  func eventsOfFork(kind: MemoryKind) async {
    await #expect(processExitsWith: .success) { [kind = kind as MemoryKind] in
      limitTime()
      try followFork(kind, writeProtected: false)
    }
  }

  @Test(
    "events-wp: of a fork", .enabled(if: Host.has(.writeProtectHugetlbfsShmem), SkipReason.writeProtectShmem),
    .enabled(if: Host.forkEvents, SkipReason.forkEvents), arguments: MemoryKind.here)
  func eventsOfForkWriteProtected(kind: MemoryKind) async {
    await #expect(processExitsWith: .success) { [kind = kind as MemoryKind] in
      limitTime()
      try followFork(kind, writeProtected: true)
    }
  }
}

/// Lets a thread touch the missing page and copies `source` there. If the page is to be protected, serves a write to
/// it as well.
private func serve(
  _ page: AddressRange, from source: Memory, writeProtected: Bool, by uffd: borrowing Userfaultfd
) throws {
  let value = read(source.range.start)
  let reader = Later { read(page.start) }
  #expect(try uffd.nextFault(in: page) == [])
  try uffd.afterEvent { () throws(ResolveError) in
    try unsafe uffd.copy(page, from: source.pointer, mode: writeProtected ? .writeProtected : [])
  }
  #expect(try reader.result() == value)
  if writeProtected { try serveWrite(page, by: uffd) }
}

private func serveWrite(_ page: AddressRange, by uffd: borrowing Userfaultfd) throws {
  #expect(page.isWriteProtected)
  let writer = Later { write(99, to: page.end - 1) }
  #expect(try uffd.nextFault(in: page) == [.write, .writeProtect])
  try uffd.afterEvent { () throws(ResolveError) in try uffd.writeProtect(page, false) }
  #expect(try writer.result() == .byte(99))
}

private func followChanges(_ kind: MemoryKind, writeProtected: Bool) throws {
  let protection: UserfaultfdFeatures = writeProtected ? .writeProtection(of: kind) : []
  let uffd = try Userfaultfd.open(protection.union([.eventRemap, .eventRemove, .eventUnmap]))
  let memory = try Memory(mapping: kind, pages: 4)
  let place = try Reservation(of: memory)
  let (first, second) = (filled(kind, 5), filled(kind, 6))
  try uffd.register(memory.range, mode: writeProtected ? [.missing, .writeProtect] : .missing)
  try serve(memory.page(0), from: first, writeProtected: writeProtected, by: uffd)
  // These pages are protected when they are discarded and when they are moved.
  for index in 1..<3 {
    try unsafe uffd.copy(memory.page(index), from: first.pointer, mode: writeProtected ? .writeProtected : [])
  }

  // A page that was discarded is missing again, and does not read as zero.
  let dropping = Later { memory.drop(1) }
  #expect(try uffd.nextMessage() == .remove(start: memory.page(1).start, end: memory.page(1).end))
  #expect(try dropping.result() == nil)
  // Except in anonymous memory, the protection outlives the page. The missing page is reported first.
  #expect(memory.page(1).isWriteProtected == (writeProtected && kind != .anon))
  try serve(memory.page(1), from: second, writeProtected: writeProtected, by: uffd)

  // The registration moves with the memory, including its present, missing and protected pages.
  let moving = Later { memory.move(to: place) }
  let remap = FaultMessage.remap(
    from: memory.range.start, to: place.range.start, byteCount: UInt64(memory.range.byteCount))
  #expect(try uffd.nextMessage() == remap)
  #expect(try uffd.nextMessage() == .unmap(start: memory.range.start, end: memory.range.end))
  #expect(try moving.result() == nil)
  #expect(read(memory.page(0).start) == .signal(SIGSEGV))
  #expect(read(place.page(0).start) == .byte(5))
  #expect(read(place.page(1).start) == .byte(6))
  if writeProtected { try serveWrite(place.page(2), by: uffd) }
  #expect(read(place.page(2).start) == .byte(5))
  try serve(place.page(3), from: second, writeProtected: writeProtected, by: uffd)

  // Unmapping half of the memory is reported, and ends the registration of that half only.
  let half = AddressRange(start: place.page(2).start, byteCount: 2 * kind.pageBytes)
  let unmapping = Later { unsafe munmap(UnsafeMutableRawPointer(bitPattern: half.start), half.byteCount) }
  #expect(try uffd.nextMessage() == .unmap(start: half.start, end: half.end))
  #expect(try unmapping.result() == 0)
  expect(.copy, .noSuchFileOrDirectory) { () throws(ResolveError) in try unsafe uffd.copy(half, from: first.pointer) }
  expect(.copy, .fileExists) { () throws(ResolveError) in try unsafe uffd.copy(place.page(0), from: first.pointer) }
  #expect(try !uffd.hasMessage())
  // Otherwise unmapping the memory would wait for a thread that reads the event.
  try uffd.unregister(AddressRange(start: place.range.start, byteCount: 2 * kind.pageBytes))
}

private func followFork(_ kind: MemoryKind, writeProtected: Bool) throws {
  let protection: UserfaultfdFeatures = writeProtected ? .writeProtection(of: kind) : []
  let uffd = try Userfaultfd.open(protection.union(.eventFork))
  let memory = try Memory(mapping: kind, pages: 3)
  let (first, second) = (filled(kind, 5), filled(kind, 6))
  let mode: ResolveMode = writeProtected ? .writeProtected : []
  try uffd.register(memory.range, mode: writeProtected ? [.missing, .writeProtect] : .missing)
  try unsafe uffd.copy(memory.page(0), from: first.pointer, mode: mode)

  let forking = Later { Child() }
  #expect(eventually { isReadable(uffd.descriptor) })
  #expect(!forking.isDone)
  let childUffd = try uffd.nextFork()
  let child = try forking.result()
  // The child's descriptor has the flags of its parent's.
  #expect(fcntl(childUffd.descriptor, F_GETFD) & FD_CLOEXEC != 0)
  #expect(fcntl(childUffd.descriptor, F_GETFL) & O_NONBLOCK != 0)

  // Present pages are present in the child, and missing pages are missing and not zero.
  #expect(child.read(memory.page(0)) == .byte(5))
  child.begin(CTS_READ, memory.page(1))
  #expect(try childUffd.nextFault(in: memory.page(1)) == [])
  try childUffd.afterEvent { () throws(ResolveError) in
    try unsafe childUffd.copy(memory.page(1), from: second.pointer, mode: mode)
  }
  #expect(child.finish() == .byte(6))
  if writeProtected {
    for index in 0..<2 {
      child.begin(CTS_WRITE, memory.page(index), 9)
      #expect(try childUffd.nextFault(in: memory.page(index)) == [.write, .writeProtect])
      try childUffd.writeProtect(memory.page(index), false)
      #expect(child.finish() == .byte(9))
    }
  }
  #expect(try !uffd.hasMessage())

  // The parent's memory is served by itself. Only shared pages have arrived through the child.
  if kind.isShared {
    #expect(read(memory.page(1).start) == .byte(writeProtected ? 9 : 6))
  } else {
    try serve(memory.page(1), from: first, writeProtected: writeProtected, by: uffd)
  }
  if writeProtected { try serveWrite(memory.page(0), by: uffd) }
  #expect(try !childUffd.hasMessage())
}
