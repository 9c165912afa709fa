import Foundation
import TestSupport
import Testing

/// Tests the file of `lazy-mem-demo bench --html`: it is there when it is complete, and what cannot be written is known
/// before the run.
@Suite("lazy-mem-demo bench --html", .timeLimit(.minutes(6)))
struct BenchFileTests {
  private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("html-\(UUID().uuidString)")
  private static let short = ["bench", "--pages", "64", "--rounds", "1", "--html"]

  init() throws { try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false) }

  private func names() throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted() }

  private func content(_ name: String) throws -> String {
    try String(contentsOf: folder.appendingPathComponent(name), encoding: .utf8)
  }

  private func file(_ name: String) -> String { folder.appendingPathComponent(name).path }

  private func inode(_ name: String) throws -> stat {
    var facts = stat()
    try #require(unsafe stat(file(name), &facts) == 0)
    return facts
  }

  @Test("A file that cannot be written in the end does not lose the run")
  func full() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    let outcome = try DemoProcess.run(Self.short + ["/dev/full"])
    #expect(outcome.code == 1)
    #expect(outcome.output.contains("\nkanon "))
    #expect(outcome.output.contains("\nfastest "))
    #expect(outcome.errors == "lazy-mem-demo: cannot write /dev/full (ENOSPC: No space left on device)\n")
  }

  @Test("A run that is ended leaves no file, and the former one as it was", arguments: [false, true])
  func interrupted(exists: Bool) throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    if exists { try Data("former".utf8).write(to: folder.appendingPathComponent("page.html")) }
    let outcome = try DemoProcess.run(["bench", "--rounds", "1000", "--html", file("page.html")]) { process in
      // The mapping of the source is made after the file has been probed.
      eventually {
        (try? String(contentsOfFile: "/proc/\(process.processIdentifier)/maps", encoding: .utf8))?
          .contains("memfd:") ?? false
      }
      // No handler of the command can tidy up after this signal.
      kill(process.processIdentifier, SIGKILL)
    }
    #expect(outcome.code == -SIGKILL)
    #expect(try names() == (exists ? ["page.html"] : []))
    if exists { #expect(try content("page.html") == "former") }
  }

  @Test("The page takes the place of the former one, with its rights, also behind a symbolic link")
  func replaced() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    try Data("former".utf8).write(to: folder.appendingPathComponent("page.html"))
    #expect(unsafe chmod(file("page.html"), 0o640) == 0)
    try FileManager.default.createSymbolicLink(atPath: file("link"), withDestinationPath: "page.html")
    let before = try inode("page.html")
    #expect(try DemoProcess.run(Self.short + [file("link")]).code == 0)
    #expect(try names() == ["link", "page.html"])
    #expect(try content("page.html").hasSuffix("</html>\n"))
    let after = try inode("page.html")
    #expect(after.st_ino != before.st_ino, "readers of the former page are not disturbed")
    #expect(after.st_mode == before.st_mode)
    #expect(try FileManager.default.destinationOfSymbolicLink(atPath: file("link")) == "page.html")
  }

  @Test("A file that has a second name keeps it")
  func linked() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    try Data(repeating: 0x78, count: 4 << 20).write(to: folder.appendingPathComponent("first"))
    try FileManager.default.linkItem(atPath: file("first"), toPath: file("second"))
    #expect(try DemoProcess.run(Self.short + [file("second")]).code == 0)
    #expect(try content("first") == (try content("second")))
    #expect(try content("first").hasPrefix("<!DOCTYPE html>"))
    #expect(try content("first").hasSuffix("</html>\n"))
    #expect(try names() == ["first", "second"])
  }

  @Test("Standard output takes the page behind the report", arguments: ["/dev/stdout", "out"])
  func standardOutput(name: String) throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    #expect(FileManager.default.createFile(atPath: file("out"), contents: nil))
    let output = try #require(FileHandle(forWritingAtPath: file("out")))
    let outcome = try DemoProcess.run(Self.short + [name == "out" ? file("out") : name], output: output)
    #expect(outcome.code == 0)
    let text = try content("out")
    #expect(text.hasPrefix("processor "))
    #expect(text.hasSuffix("</html>\n"))
    let piped = try DemoProcess.run(Self.short + ["/dev/stdout"])
    #expect(piped.output.hasPrefix("processor ") && piped.output.hasSuffix("</html>\n"))
  }

  @Test("What can never be written is said before the run")
  func impossible() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    for (path, reason) in [
      (folder.path, "EISDIR"), (file("no/page.html"), "ENOENT"), (file("page.html") + "/", "ENOENT"),
    ] {
      let outcome = try DemoProcess.run(["bench", "--rounds", "1000", "--html", path])
      #expect(outcome.code == 1)
      #expect(outcome.output == "")
      #expect(outcome.errors.hasPrefix("lazy-mem-demo: cannot write \(path) (\(reason)"))
    }
    #expect(try names() == [])
  }
}
