import CTestSupport
import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

/// How a program takes the descriptors of a runtime away.
private enum Taking: String, CaseIterable, Sendable {
  /// It closes them, as `closefrom(3)` does.
  case close
  /// It puts the end of a pipe in their place, from which a read waits.
  case replaceByPipe
  /// It puts a file in their place.
  case replaceByFile
  /// It puts a file in the place of the userfaultfd only.
  case replaceOne

  func callAsFunction(_ descriptors: Set<CInt>) {
    var ends: [CInt] = [0, 0]
    #expect(unsafe pipe(&ends) == 0)
    let null = unsafe open("/dev/null", O_RDWR)
    for descriptor in descriptors {
      switch self {
      case .close: #expect(Glibc.close(descriptor) == 0)
      case .replaceByPipe: #expect(dup2(ends[0], descriptor) == descriptor)
      case .replaceByFile: #expect(dup2(null, descriptor) == descriptor)
      case .replaceOne:
        if descriptorTarget(descriptor) == userfaultfdKind { #expect(dup2(null, descriptor) == descriptor) }
      }
    }
  }
}

/// What a forked child gets. Nothing else refers to the runtime.
private final class ChildContext {
  var runtime: FaultRuntime?
  var descriptors: Set<CInt> = []

  init(runtime: FaultRuntime) { self.runtime = runtime }
}

@Suite("Descriptors that the program takes away", .timeLimit(.minutes(6)))
struct DescriptorTests {
  static let deliveries: [Delivery] = [.eventLoop, .sigbus]

  /// Returns the descriptors that `body` opens and does not close. Other threads of the tests may open and close
  /// descriptors meanwhile.
  private static func opened<Result>(by body: () throws -> Result) rethrows -> (Result, Set<CInt>) {
    let before = openDescriptors()
    let result = try body()
    let all = openDescriptors()
    let faults = all.filter { descriptorTarget($0) == userfaultfdKind }
    return (result, all.subtracting(before).union(faults))
  }

  @Test(
    "A missing page ends the process with a line, and never reads as zero", arguments: deliveries, Taking.allCases)
  private func takenAway(delivery: Delivery, taking: Taking) async {
    let result = await #expect(processExitsWith: .signal(SIGABRT), observing: [\.standardErrorContent]) {
      [name = delivery.rawValue as String, taking = taking.rawValue as String] in
      signal(SIGABRT, SIG_DFL)
      cts_end_after(60)
      let (runtime, own) = try Self.opened {
        try FaultRuntime(FaultRuntimeConfiguration(delivery: Delivery(rawValue: name)!))
      }
      let region = try runtime.map(patternProvider(inFaultingThread: true), byteCount: 16 * pageBytes)
      #expect(region.access(0) == .byte(expectedByte(0)))
      #expect(own.contains { descriptorTarget($0) == userfaultfdKind })
      Taking(rawValue: taking)!(own)
      // A page that is there needs no descriptor.
      guard region.load(fromByteOffset: 0, as: UInt8.self) == expectedByte(0) else { exit(3) }
      exit(region.load(fromByteOffset: 8 * pageBytes, as: UInt8.self) == expectedByte(8 * pageBytes) ? 4 : 5)
    }
    #expect(result.errors.contains("of the runtime any more. The program has closed it"))
  }

  @Test(
    "A filter of system calls that comes later and refuses every request is not mistaken for a lost descriptor",
    arguments: deliveries, [EPERM, ENOSYS])
  func refusedRequests(delivery: Delivery, number: CInt) async {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      [name = delivery.rawValue as String, number = number as CInt] in
      cts_end_after(60)
      // Only the default action has the failure explained.
      signal(SIGBUS, SIG_DFL)
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: Delivery(rawValue: name)!))
      let region = try runtime.map(patternProvider(inFaultingThread: true), byteCount: 16 * pageBytes)
      #expect(region.access(0) == .byte(expectedByte(0)))
      guard cts_deny_ioctl(number) == 0 else { exit(0) }
      _ = region.load(fromByteOffset: 8 * pageBytes, as: UInt8.self)
      exit(0)
    }
    let text = result.errors
    #expect(text.contains(number == EPERM ? "EPERM" : "ENOSYS"))
    #expect(!text.contains("of the runtime any more"))
  }

  @Test("A runtime that gets the number of a descriptor that another one has lost ends the process with the line")
  func takenByAnother() async {
    let result = await #expect(processExitsWith: .signal(SIGABRT), observing: [\.standardErrorContent]) {
      signal(SIGABRT, SIG_DFL)
      cts_end_after(60)
      let (first, own) = try Self.opened { try FaultRuntime(FaultRuntimeConfiguration(delivery: .eventLoop)) }
      let region = try first.map(patternProvider(), byteCount: 16 * pageBytes)
      #expect(region.access(0) == .byte(expectedByte(0)))
      Taking.close(own)
      let second = try FaultRuntime(FaultRuntimeConfiguration(delivery: .eventLoop))
      withExtendedLifetime(second) {}
      exit(region.access(8 * pageBytes) == .byte(expectedByte(8 * pageBytes)) ? 4 : 5)
    }
    #expect(result.errors.contains("of the runtime any more. The program has closed it"))
  }

  @Test("A forked child that has closed the descriptors may let go of the runtime", arguments: deliveries)
  func childWithoutDescriptors(delivery: Delivery) async {
    await #expect(processExitsWith: .success) { [name = delivery.rawValue as String] in
      let configuration = FaultRuntimeConfiguration(delivery: Delivery(rawValue: name)!, closeTimeout: .seconds(60))
      let (made, own) = try Self.opened { try ChildContext(runtime: FaultRuntime(configuration)) }
      made.descriptors = own
      let context = unsafe Unmanaged.passRetained(made)
      let result = unsafe cts_forked(
        { context in
          cts_end_after(20)
          let context = unsafe Unmanaged<ChildContext>.fromOpaque(context).takeUnretainedValue()
          for descriptor in context.descriptors { Glibc.close(descriptor) }
          context.runtime = nil
          return 0
        }, context.toOpaque())
      #expect(result == 0)
      unsafe context.release()
    }
  }

  @Test("A region that is closed without its userfaultfd leaves the files of the program alone")
  func closed() async {
    await #expect(processExitsWith: .success) {
      var (runtime, own): (FaultRuntime?, Set<CInt>) = try Self.opened {
        try FaultRuntime(FaultRuntimeConfiguration(delivery: .sigbus))
      }
      var region: LazyRegion? = try runtime!.map(patternProvider(inFaultingThread: true), byteCount: 16 * pageBytes)
      #expect(region!.access(0) == .byte(expectedByte(0)))
      own = own.filter { descriptorTarget($0) == userfaultfdKind }
      Taking.replaceByFile(own)
      region!.close()
      region = nil
      runtime = nil
      #expect(eventually { runtimeThreads(named: "fault-keep").isEmpty })
      for descriptor in own { #expect(descriptorTarget(descriptor) == "/dev/null") }
    }
  }

  @Test("A runtime without regions may go after the program has closed all of its descriptors")
  func goneWithoutDescriptors() async {
    await #expect(processExitsWith: .success) {
      cts_end_after(60)
      var (runtime, own): (FaultRuntime?, Set<CInt>) = try Self.opened {
        try FaultRuntime(FaultRuntimeConfiguration(delivery: .sigbus))
      }
      var region: LazyRegion? = try runtime!.map(patternProvider(inFaultingThread: true), byteCount: pageBytes)
      #expect(region!.access(0) == .byte(expectedByte(0)))
      region = nil
      Taking.close(own)
      runtime = nil
    }
  }

  @Test("A runtime never uses the numbers of the standard streams", arguments: deliveries)
  func standardStreams(delivery: Delivery) async {
    await #expect(processExitsWith: .success) { [name = delivery.rawValue as String] in
      let file = try TemporaryFile(bytes: [UInt8](repeating: 7, count: pageBytes))
      for number: CInt in 0...2 { #expect(Glibc.close(number) == 0) }
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: Delivery(rawValue: name)!))
      let region = try runtime.map(FileProvider(file.path))
      #expect(region.access(0) == .byte(7))
      let wakeup = try WakeDescriptor()
      #expect(wakeup.descriptor > 2)
      #expect(descriptors(of: file.path) == 1)
      for number: CInt in 0...2 {
        let target = descriptorTarget(number)
        #expect(target != userfaultfdKind && target != file.path && target != "anon_inode:[eventpoll]")
      }
    }
  }

  @Test("Where no larger number is left than those of the standard streams, a region is refused")
  func onlyStandardNumbers() async {
    await #expect(processExitsWith: .success) {
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .sigsegv))
      // Only these numbers are free below the limit. Other files of the process stay open: libdispatch ends a process
      // that closes its descriptors.
      for number: CInt in 0...2 { _ = Glibc.close(number) }
      var limit = rlimit()
      let openFiles = __rlimit_resource_t(7)  // RLIMIT_NOFILE
      guard unsafe getrlimit(openFiles, &limit) == 0 else { _exit(1) }
      limit.rlim_cur = 3
      guard unsafe setrlimit(openFiles, &limit) == 0 else { _exit(2) }
      do throws(FaultRuntimeError) {
        _ = try runtime.map(ZeroProvider(), byteCount: pageBytes)
        _exit(3)
      } catch {
        _exit(error.errno == .tooManyOpenFiles ? 0 : 4)
      }
    }
  }

  @Test("The file that tells where a thread runs has none of these numbers, and one in its place stays open")
  func threadStatus() async {
    await #expect(processExitsWith: .success) {
      let null = unsafe open("/dev/null", O_RDWR)
      for number: CInt in 0...2 { #expect(Glibc.close(number) == 0) }
      let thread = UInt32(cts_thread_id())
      var locator = ThreadLocator(allowed: .ofCaller())
      // The locator reads the file again, or closes it because it looks for another thread. No thread has the number 0.
      for next in [thread, 0] {
        _ = locator.visit(thread)
        let status = try #require(openDescriptors().first { descriptorTarget($0)?.hasSuffix("/stat") == true })
        #expect(status > 2)
        #expect(dup2(null, status) == status)
        _ = locator.visit(next)
        #expect(descriptorTarget(status) == "/dev/null")
      }
    }
  }

  @Test("A runtime keeps no other file open")
  func otherFiles() async {
    await #expect(processExitsWith: .success) {
      var low: [CInt] = [0, 0]
      #expect(unsafe pipe(&low) == 0)
      var high: [CInt] = [0, 0]
      #expect(unsafe pipe(&high) == 0)
      // The descriptor of the runtime has a number between the two.
      let above = fcntl(high[1], F_DUPFD_CLOEXEC, 900)
      #expect(Glibc.close(high[1]) == 0)
      var runtime: FaultRuntime? = try FaultRuntime(FaultRuntimeConfiguration(delivery: .sigbus))
      #expect(runtime != nil)
      #expect(runtimeThreads(named: "fault-keep").count == 1)
      Glibc.close(low[1])
      Glibc.close(above)
      var byte: UInt8 = 0
      // With a writer left, these calls would wait.
      for end in [low[0], high[0]] { #expect(unsafe Glibc.read(end, &byte, 1) == 0) }
      runtime = nil
      #expect(runtimeThreads(named: "fault-keep").isEmpty)
    }
  }

  @Test("A file provider whose descriptor is gone, or is another file, fails the page and leaves that file open")
  func fileProvider() async {
    await #expect(processExitsWith: .success) {
      let file = try TemporaryFile(bytes: [UInt8](repeating: 7, count: 4 * pageBytes))
      let other = try TemporaryFile(bytes: [UInt8](repeating: 9, count: 4 * pageBytes))
      let runtime = try FaultRuntime()
      for isReplaced in [false, true] {
        let region = try runtime.map(FileProvider(file.path))
        #expect(region.access(0) == .byte(7))
        let descriptor = try #require(openDescriptors().first { descriptorTarget($0) == file.path })
        let replacement = unsafe open(other.path, O_RDONLY)
        if isReplaced {
          #expect(dup2(replacement, descriptor) == descriptor)
        } else {
          #expect(Glibc.close(descriptor) == 0)
        }
        let error = #expect(throws: FaultRuntimeError.self) {
          try region.withResident(2 * pageBytes..<3 * pageBytes) { _ in }
        }
        let cause = error?.failure?.cause as? FileProviderError
        #expect(cause?.code == .cannotRead)
        #expect(cause?.errno == .badFileDescriptor)
        region.close()
      }
      // Nothing holds the providers any more.
      #expect(eventually { descriptors(of: other.path) == 3 })
    }
  }
}
