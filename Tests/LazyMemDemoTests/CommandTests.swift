import CTestSupport
import Foundation
import TestSupport
import Testing

/// Tests the command as a user runs it: a process, its output, its exit code.
@Suite("lazy-mem-demo", .timeLimit(.minutes(6)))
struct CommandTests {
  private func oneLine(_ text: String) -> Bool {
    text.hasSuffix("\n") && text.dropLast().allSatisfy { $0 != "\n" }
  }

  @Test(
    "The sum is that of the file, in each order, with several threads",
    arguments: ["sequential", "random"], [1, 4])
  func sum(order: String, threads: Int) throws {
    let file = try TemporaryFile(bytes: arbitraryBytes(300_001))
    let outcome = try DemoProcess.run(
      "map", file.path, "--order", order, "--threads", "\(threads)", "--delivery", "event-loop", "--json")
    #expect(outcome.code == 0)
    #expect(outcome.errors == "")
    let report = try outcome.object()
    #expect(
      Set(report.keys) == [
        "sha256", "bytes", "bytesTouched", "pages", "faults", "batches", "largestBatch", "bytesFilled", "wallSeconds",
        "latencyNanoseconds", "delivery", "descriptor",
      ])
    #expect(report["sha256"] as? String == (try sha256sum(file.path)))
    #expect(report["bytes"] as? Int == 300_001)
    #expect(report["bytesTouched"] as? Int == 300_001)
    let pageSize = Int(sysconf(Int32(_SC_PAGESIZE)))
    let pages = (300_001 + pageSize - 1) / pageSize
    #expect(report["pages"] as? Int == pages)
    #expect(report["bytesFilled"] as? Int == pages * pageSize)
    // A fault brings 64 KiB, unless several threads wait for the same unit.
    let faults = try #require(report["faults"] as? Int)
    #expect(faults >= 300_001 / 65536 && faults <= pages)
    let batches = try #require(report["batches"] as? Int)
    #expect(batches >= 1 && batches <= faults)
    #expect(try #require(report["largestBatch"] as? Int) <= threads)
    #expect(try #require(report["wallSeconds"] as? Double) > 0)
    #expect(report["delivery"] as? String == "event-loop")
    #expect(["full", "user-mode-only", "device-user-mode-only"].contains(report["descriptor"] as? String))
    let latency = try #require(report["latencyNanoseconds"] as? [String: Int])
    #expect(Set(latency.keys) == ["p50", "p90", "p99", "p999", "max"])
    let ordered = ["p50", "p90", "p99", "p999", "max"].map { latency[$0] ?? 0 }
    #expect(ordered == ordered.sorted())
    #expect(ordered[0] > 0)
  }

  @Test("Without arguments it maps its own executable, and prints for people")
  func withoutArguments() throws {
    let outcome = try DemoProcess.run()
    #expect(outcome.code == 0)
    #expect(outcome.errors == "", "no progress bar in a pipe")
    #expect(outcome.output.contains("sha256      \(try sha256sum(DemoProcess.executable.path))"))
    #expect(outcome.output.contains("delivery    sigbus"))
  }

  @Test(
    "Wrong usage is 2", arguments: [["--order", "sideways"], ["map", "--threads", "0"], ["--unknown"], ["a", "b"]])
  func wrongUsage(arguments: [String]) throws {
    let outcome = try DemoProcess.run(arguments)
    #expect(outcome.code == 2)
    #expect(outcome.output == "")
    #expect(outcome.errors.contains("Usage:"))
  }

  @Test("A file larger than memory is one line and 1, before anything is filled")
  func largerThanMemory() throws {
    let file = try TemporaryFile()
    #expect(unsafe truncate(file.path, 8 << 40) == 0)
    let outcome = try DemoProcess.run(file.path)
    #expect(outcome.code == 1)
    #expect(outcome.output == "")
    #expect(outcome.errors.contains("has 8 TiB (8,796,093,022,208 bytes), and only "))
    #expect(outcome.errors.contains("bytes) of memory are available; touch a part of it, for example --touch "))
    #expect(oneLine(outcome.errors))
  }

  @Test("Of a file larger than memory a part can be touched", arguments: [1, 3])
  func part(threads: Int) throws {
    let file = try TemporaryFile(bytes: arbitraryBytes(300_001))
    #expect(unsafe truncate(file.path, 8 << 40) == 0)
    let arguments = ["map", file.path, "--touch", "256KiB", "--threads", "\(threads)", "--json"]
    let pages = (256 << 10) / Int(sysconf(Int32(_SC_PAGESIZE)))
    let report = try DemoProcess.run(arguments).object()
    #expect(report["pages"] as? Int == pages)
    #expect(report["bytes"] as? Int == 8 << 40)
    #expect(report["bytesTouched"] as? Int == 256 << 10)
    let beginning = try TemporaryFile(bytes: Array(arbitraryBytes(300_001).prefix(256 << 10)))
    #expect(report["sha256"] as? String == (try sha256sum(beginning.path)))

    // Pages from all over the file have no sum.
    let random = try DemoProcess.run(arguments + ["--order", "random"]).object()
    #expect(random["pages"] as? Int == pages)
    #expect(random["faults"] as? Int == pages)
    #expect(random["sha256"] == nil)

    let text = try DemoProcess.run(Array(arguments.dropLast()))
    #expect(text.output.contains("size        8 TiB (8,796,093,022,208 bytes)\n"))
    #expect(text.output.contains("touched     256 KiB (262,144 bytes) of it"))
  }

  @Test("A part that is larger than the file is the whole file, and one that ends within a page is whole pages")
  func roundedPart() throws {
    let file = try TemporaryFile(bytes: arbitraryBytes(10_001))
    for (part, bytes) in [("1TiB", 10_001), ("1", Int(sysconf(Int32(_SC_PAGESIZE)))), ("10001", 10_001)] {
      let report = try DemoProcess.run(file.path, "--touch", part, "--json").object()
      #expect(report["bytesTouched"] as? Int == bytes)
      #expect((report["sha256"] as? String == (try sha256sum(file.path))) == (bytes == 10_001))
    }
  }

  @Test("What is no regular file is said to be what it is")
  func otherFiles() throws {
    let pipe = FileManager.default.temporaryDirectory.appendingPathComponent("pipe-\(UUID().uuidString)").path
    try #require(unsafe mkfifo(pipe, 0o600) == 0)
    defer { unsafe unlink(pipe) }
    #expect(
      try DemoProcess.run(pipe).errors.hasSuffix("is not a regular file but a pipe: only regular files can be mapped\n")
    )
    let socket = FileManager.default.temporaryDirectory.appendingPathComponent("socket-\(UUID().uuidString.prefix(8))")
      .path
    let descriptor = Foundation.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    defer {
      close(descriptor)
      unsafe unlink(socket)
    }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: socket.utf8) }
    let bound = unsafe withUnsafePointer(to: &address) { address in
      unsafe address.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        unsafe bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    try #require(bound == 0)
    #expect(try DemoProcess.run(socket).errors.contains("is not a regular file but a socket"))
  }

  @Test("On a terminal there is a progress bar, and it is gone at the end")
  func progressBar() throws {
    let file = try TemporaryFile(bytes: arbitraryBytes(200_000))
    let (outcome, shown) = try DemoProcess.runOnTerminal([file.path, "--json"])
    #expect(outcome.code == 0)
    #expect(shown.contains("\rtouching ["))
    #expect(shown.contains("\rhashing [##############################] 100 %"))
    #expect(shown.hasSuffix("\r\u{1b}[K"))
  }

  @Test("A file that cannot be mapped is one line and 1")
  func badFiles() throws {
    let empty = try TemporaryFile()
    for (path, reason) in [
      ("/no/such/file", "cannot open /no/such/file (ENOENT"), ("/tmp", "/tmp is not a regular file but a directory"),
      ("/dev/null", "/dev/null is not a regular file but a device"), (empty.path, "is empty"),
      ("/proc/self/mem", "the kernel gives no size for /proc/self/mem"),
      ("/proc/version", "the kernel gives no size for /proc/version, as for most files of /proc"),
      ("/sys/kernel/mm/transparent_hugepage/enabled", "and it has less, as files of /sys do"),
    ] {
      let outcome = try DemoProcess.run(path)
      #expect(outcome.code == 1)
      #expect(outcome.output == "")
      #expect(outcome.errors.hasPrefix("lazy-mem-demo: "))
      #expect(outcome.errors.contains(reason))
      #expect(oneLine(outcome.errors))
    }
  }

  @Test("An unreadable file is one line and 1", .enabled(if: TestSupport.Host.isRoot, SkipReason.root))
  func unreadable() async throws {
    let file = try TemporaryFile(bytes: [1])
    #expect(unsafe chmod(file.path, 0o600) == 0)
    // The executable may be in a folder that only its owner can enter. The process therefore opens it before it gives
    // up its rights.
    let result = await #expect(processExitsWith: .exitCode(1), observing: [\.standardErrorContent]) {
      [path = file.path as String] in
      let descriptor = DemoProcess.openExecutable()
      #expect(cts_become_nobody() == 0)
      DemoProcess.become(descriptor, "map", path)
    }
    let errors = result.errors
    #expect(errors.contains("cannot open \(file.path) (EACCES"))
  }

  @Test("A file that is truncated while it is mapped is one line and 1, not a signal")
  func truncated() throws {
    let file = try TemporaryFile()
    // The file is large and sparse, so there is time to truncate it, and creating it writes nothing.
    #expect(unsafe truncate(file.path, 4 << 30) == 0)
    let outcome = try DemoProcess.run(["map", file.path, "--order", "random"]) { process in
      // When the handler thread runs, the program has read the length of the file.
      eventually { !runtimeThreads(named: "fault-handler", of: "\(process.processIdentifier)").isEmpty }
      #expect(unsafe truncate(file.path, 0) == 0)
    }
    #expect(outcome.code == 1)
    #expect(outcome.output == "")
    #expect(outcome.errors.contains("was truncated while it was mapped"))
    #expect(oneLine(outcome.errors))
  }

  @Test("On a host without any userfaultfd the sum is right all the same, with one line that says why it is slow")
  func withoutUserfaultfd() async throws {
    let file = try TemporaryFile(bytes: arbitraryBytes(700_001))
    let result = await #expect(
      processExitsWith: .success, observing: [\.standardOutputContent, \.standardErrorContent]
    ) { [path = file.path as String] in
      let descriptor = DemoProcess.openExecutable()
      #expect(cts_hide_userfaultfd(EPERM) == 0)
      DemoProcess.become(descriptor, "map", path)
    }
    let output = result.output
    let errors = result.errors
    #expect(output.contains("sha256      \(try sha256sum(file.path))"))
    #expect(output.contains("delivery    sigsegv"))
    #expect(output.contains("descriptor  none"))
    #expect(oneLine(errors))
    #expect(errors.contains("a seccomp filter answers userfaultfd(2)") && errors.contains("sigsegv"))
  }

  @Test("The delivery that needs no userfaultfd can be asked for", arguments: ["sequential", "random"])
  func protection(order: String) throws {
    let file = try TemporaryFile(bytes: arbitraryBytes(300_001))
    let outcome = try DemoProcess.run(["map", file.path, "--delivery", "sigsegv", "--order", order, "--threads", "4"])
    #expect(outcome.code == 0)
    #expect(outcome.errors == "")
    #expect(outcome.output.contains("sha256      \(try sha256sum(file.path))"))
    #expect(outcome.output.contains("delivery    sigsegv"))
  }

  @Test("A host that forbids userfaultfd is 3, with the reason and what to do", arguments: [EPERM, ENOSYS])
  func forbidden(number: Int32) async throws {
    let result = await #expect(processExitsWith: .exitCode(3), observing: [\.standardErrorContent]) {
      [number = number as Int32] in
      #expect(cts_deny_userfaultfd(number) == 0)
      DemoProcess.become(DemoProcess.openExecutable(), "--descriptor", "user-mode-only")
    }
    let errors = result.errors
    #expect(errors.contains("lazy-mem-demo: this host does not allow userfaultfd"))
    #expect(errors.contains("a seccomp filter answers userfaultfd(2) with \(number == EPERM ? "EPERM" : "ENOSYS")"))
  }
}
