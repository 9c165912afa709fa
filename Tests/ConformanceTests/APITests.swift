import CUFFD
import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

extension UffdUnitTests {
  @Test("UFFDIO_API (syscall)")
  func apiOfSyscall() throws {
    // Every user may open this kind. A full descriptor goes through the same handshake.
    try handshake(cuffd_open(CUFFD_OPEN_FLAGS | CUFFD_USER_MODE_ONLY))
    #expect(try Userfaultfd.open([.userModeOnly], wanting: []).available == Host.features)
  }

  @Test("UFFDIO_API (with /dev/userfaultfd)", .enabled(if: Host.device, SkipReason.device))
  func apiOfDevice() throws {
    try unsafe handshake(cuffd_open_device(Userfaultfd.devicePath, CUFFD_OPEN_FLAGS))
    #expect(try Userfaultfd.open([.device], wanting: []).available == Host.features)
  }

  /// Checks what the library relies on when it first asks a temporary descriptor for the features.
  private func handshake(_ descriptor: CInt) throws {
    try #require(descriptor >= 0)
    let uffd = Userfaultfd(descriptor: descriptor, kind: .userModeOnly, enabled: [], available: [])
    let memory = Memory(.anon, pages: 1)

    // Nothing works before the handshake.
    #expect(throws: UserfaultfdError(call: .read, errno: .invalidArgument)) { _ = try uffd.hasMessage() }
    #expect(throws: UserfaultfdError(call: .register, errno: .invalidArgument)) {
      try uffd.register(memory.range, mode: .missing)
    }
    var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    #expect(unsafe poll(&entry, 1, 0) == 1 && entry.revents == Int16(POLLERR))

    // Another version and an unknown feature are refused, and do not use up the handshake.
    var argument = cuffd_api(api: CUFFD_API_VERSION + 1, features: 0, ioctls: 0)
    #expect(unsafe cuffd_ioctl_api(descriptor, &argument) == -EINVAL)
    argument = cuffd_api(api: CUFFD_API_VERSION, features: 1 << 63, ioctls: 0)
    #expect(unsafe cuffd_ioctl_api(descriptor, &argument) == -EINVAL)
    #expect(argument.features == 0)
    argument = cuffd_api(api: CUFFD_API_VERSION, features: UserfaultfdFeatures.threadID.rawValue, ioctls: 0)
    #expect(unsafe cuffd_ioctl_api(descriptor, &argument) == 0)
    // The answer contains all features of the kernel, not only those that were asked for.
    #expect(UserfaultfdFeatures(rawValue: argument.features) == Host.features)
    let requests: [Int32] = [CUFFD_REQUEST_API, CUFFD_REQUEST_REGISTER, CUFFD_REQUEST_UNREGISTER]
    for request in requests { #expect(argument.ioctls & 1 << UInt64(request) != 0) }

    // The handshake succeeds only once.
    argument = cuffd_api(api: CUFFD_API_VERSION, features: 0, ioctls: 0)
    #expect(unsafe cuffd_ioctl_api(descriptor, &argument) == -EINVAL)
    #expect(try !uffd.hasMessage())
    try uffd.register(memory.range, mode: .missing)
  }

  @Test("register-ioctls", arguments: MemoryKind.here)
  func registerIoctls(kind: MemoryKind) throws {
    let modes: [RegisterMode] = (1..<8).map { RegisterMode(rawValue: $0) }
    for mode in modes {
      let memory = try Memory(mapping: kind, pages: 2)
      let uffd = try Userfaultfd.open([])
      if mode.contains(.minor), kind == .anon || !Host.has(kind.isHuge ? .minorHugetlbfs : .minorShmem) {
        #expect(throws: UserfaultfdError(call: .register, errno: .invalidArgument)) {
          try uffd.register(memory.range, mode: mode)
        }
        continue
      }
      let feature: UserfaultfdFeatures = kind == .anon ? .pagefaultFlagWriteProtect : .writeProtectHugetlbfsShmem
      if mode.contains(.writeProtect), !Host.has(feature) { continue }
      var expected: RangeRequests = [.wake, .copy]
      if !kind.isHuge { expected.insert(.zeropage) }
      // The kernel announces MOVE for shared memory as well, where it fails.
      if !kind.isHuge, Host.has(.move) { expected.insert(.move) }
      if Host.has(.poison) { expected.insert(.poison) }
      if mode.contains(.writeProtect) { expected.insert(.writeProtect) }
      if mode.contains(.minor) { expected.insert(.continue) }
      #expect(try uffd.register(memory.range, mode: mode) == expected, "mode \(mode.rawValue)")

      // Requests that are not announced are refused.
      if !mode.contains(.writeProtect) {
        expect(.writeProtect, .noSuchFileOrDirectory) { () throws(ResolveError) in
          try uffd.writeProtect(memory.page(0), true)
        }
      }
      if !expected.contains(.zeropage) {
        expect(.zeropage, .invalidArgument) { () throws(ResolveError) in try uffd.zeropage(memory.page(0)) }
      }
      if kind == .anon {
        expect(.continue, .invalidArgument) { () throws(ResolveError) in try uffd.continue(memory.page(0)) }
      }
      // Half a page cannot be registered.
      var half = memory.page(0)
      half.byteCount /= 2
      #expect(throws: UserfaultfdError(call: .register, errno: .invalidArgument)) {
        try uffd.register(half, mode: mode)
      }
      try uffd.unregister(memory.range)
    }
    // A registration without a mode is refused.
    let memory = try Memory(mapping: kind, pages: 1)
    let uffd = try Userfaultfd.open([])
    #expect(throws: UserfaultfdError(call: .register, errno: .invalidArgument)) {
      try uffd.register(memory.range, mode: [])
    }
  }
}
