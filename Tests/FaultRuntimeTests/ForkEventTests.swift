import CTestSupport
import TestSupport
import Testing

@testable import FaultRuntime

/// With the event of a fork, the kernel gives a descriptor to the process that reads the event. These tests run in
/// processes of their own, in which no other code opens a userfaultfd, and in which forks of other tests do not wait
/// for these events.
@Suite(
  "Descriptors that come with events of forks", .timeLimit(.minutes(6)),
  .enabled(if: Host.forkEvents, SkipReason.forkEvents))
struct ForkEventTests {
  @Test("The descriptor of an event belongs to its owner, and is closed with it, or before")
  func owner() async {
    await #expect(processExitsWith: .success) {
      limitTime()
      let uffd = try Userfaultfd.open(DescriptorKind.allCases, wanting: .eventFork)
      let memory = Scratch(pages: 1)
      try uffd.register(memory.range, mode: .missing)
      for isClosedEarly in [false, true] {
        let forking = Later { cts_child_start() }
        var buffer = MessageBuffer(capacity: 1)
        try #require(
          try eventually {
            try uffd.read(into: &buffer)
            return buffer.count == 1
          })
        guard case .fork(let descriptor) = buffer[0] else {
          Issue.record("not a fork: \(buffer[0])")
          return
        }
        let child = try forking.result()
        try #require(child.process > 0)
        #expect(descriptorKinds()[userfaultfdKind] == 2)
        do {
          let owner = ForkedDescriptor(owning: descriptor)
          #expect(owner.descriptor == descriptor)
          #expect(descriptorKinds()[userfaultfdKind] == 2)
          if isClosedEarly {
            owner.close()
            #expect(descriptorKinds()[userfaultfdKind] == 1)
          }
        }
        #expect(descriptorKinds()[userfaultfdKind] == 1)
        // No process answers faults of the child any more, so the kernel resolves them.
        cts_child_begin(child, CTS_READ, memory.range.start, 0)
        #expect(cts_child_finish(child, 30_000) == 0)
        cts_child_end(child)
      }
    }
  }

  @Test("A handler that is told of forks closes the descriptors, and goes on")
  func handler() async {
    await #expect(processExitsWith: .success) {
      limitTime()
      var configuration = FaultRuntimeConfiguration(delivery: .eventLoop, handlerThreads: 1)
      configuration.additionalFeatures = .eventFork
      let runtime = try FaultRuntime(configuration)
      let region = try runtime.map(patternProvider(), byteCount: 4 * pageBytes)
      let loop = try #require(region.eventLoop)
      #expect(loop.uffd.enabled.contains(.eventFork))
      // The regions are not inherited by a child, so they would cause no event of a fork. This memory is inherited.
      let inherited = Scratch(pages: 1)
      try loop.uffd.register(inherited.range, mode: .missing)
      #expect(descriptorKinds()[userfaultfdKind] == 1)
      for page in 0..<4 {
        let forking = Later { cts_child_start() }
        // The fork does not return before the handler has read the event.
        let child = try forking.result()
        #expect(child.process > 0)
        #expect(runtime.statistics.batches >= page + 1)
        #expect(eventually { descriptorKinds()[userfaultfdKind] == 1 })
        cts_child_end(child)
        #expect(region.access(page * pageBytes) == .byte(expectedByte(page * pageBytes)))
      }
    }
  }
}
