import CTestSupport
import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

/// Checks what is said of a failed page that cannot be poisoned.
@Suite("The words about a failed page on older kernels", .timeLimit(.minutes(6)))
struct OldKernelWordsTests {
  @Test(
    "A text of an error that waits for a lock of the thread that touches does not hold up the end",
    arguments: OldKernel.withoutPoison, [false, true])
  func lockedText(kernel: OldKernel, mayBlock: Bool) async {
    struct Locked: Error, CustomStringConvertible {
      let lock: Monitor<Int>
      var description: String { lock.withLock { _ in "never made" } }
    }
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      [kernel = kernel.rawValue as String, mayBlock = mayBlock as Bool] in
      cts_end_after(60)
      let lock = Monitor(0)
      let configuration = OldKernel(rawValue: kernel)!.configuration(.eventLoop)
      let region = try FaultRuntime(configuration).map(
        ClosureProvider(permissions: mayBlock ? .standard : .onHandler) { _, _ in throw Locked(lock: lock) },
        byteCount: pageBytes, options: RegionOptions(name: "old"))
      lock.withLock { _ in _ = region.access(0) }
    }
    #expect(result.errors.contains("region 'old', page at offset 0, provider ClosureProvider: (the text of the error"))
    #expect(result.errors.contains("cannot poison a page (Linux 6.6 can)"))
  }

  @Test("Where failures are not explained, the page is named, and no text is made", arguments: OldKernel.withoutPoison)
  func notExplained(kernel: OldKernel) async {
    struct Secret: Error {}
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      [kernel = kernel.rawValue as String] in
      var configuration = OldKernel(rawValue: kernel)!.configuration(.eventLoop)
      configuration.explainsFailures = false
      let region = try FaultRuntime(configuration).map(
        ClosureProvider(permissions: .onHandler) { _, _ in throw Secret() }, byteCount: pageBytes,
        options: RegionOptions(name: "old"))
      _ = region.access(0)
    }
    #expect(
      result.errors.contains(
        "region 'old', page at offset 0, provider ClosureProvider: (explainsFailures is false)\n"))
    #expect(result.errors.contains("cannot poison a page (Linux 6.6 can)"))
    #expect(!result.errors.contains("Secret"))
  }

  @Test("Where threads keep waiting, each page is named, although the text of the first one is never made")
  func textNeverMade() async {
    struct Late: Error, CustomStringConvertible {
      let gate: Gate
      var description: String {
        gate.wait()
        return "never made"
      }
    }
    let result = await #expect(processExitsWith: .success, observing: [\.standardErrorContent]) {
      cts_end_after(120)
      let gate = Gate()
      let runtime = try FaultRuntime(
        OldKernel.debian12.configuration(
          .eventLoop, poisonFallback: .keepWaiting, closeTimeout: .milliseconds(100)))
      let region = try runtime.map(
        ClosureProvider(requestSize: .singlePage, permissions: .onHandler) { _, _ in throw Late(gate: gate) },
        byteCount: 3 * pageBytes, options: RegionOptions(name: "old"))
      let threads = (0..<3).map { page in TestThread { _ = region.access(page * pageBytes) } }
      // When the third page has failed, what there is to say of the two before has been said: there is one handler.
      #expect(eventually(seconds: 60) { region.failures.count >= 3 })
      region.close()
      for thread in threads { #expect(thread.join()) }
      gate.open()
    }
    let lines = (0..<3).filter { page in
      result.errors.contains("region 'old', page at offset \(page * pageBytes), provider ClosureProvider: (")
    }
    #expect(lines.count >= 2)
  }
}
