import CTestSupport
import Foundation
import TestSupport
import Testing

@testable import lazy_mem_demo

/// Tests the profiles in `contrib/seccomp`: their content, and what a kernel does that enforces them.
@Suite("lazy-mem-demo seccomp-profile", .serialized, .timeLimit(.minutes(6)))
struct SeccompTests {
  private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("contrib/seccomp")

  /// An ordinary user may not be able to enter the folder of the sources.
  private static let isReadable = unsafe access(folder.path, R_OK | X_OK) == 0

  private static func committed(_ name: String) throws -> String {
    try String(contentsOf: folder.appendingPathComponent(name), encoding: .utf8)
  }

  /// Returns the rule of a profile, or a rule by itself, as a filter for `cts_launch`.
  private static func filter(_ text: String) throws -> cts_launch {
    let object = try #require(JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    let rules = object["syscalls"] as? [[String: Any]] ?? [object]
    let rule = try #require(rules.count == 1 ? rules.first : nil)
    #expect(rule["names"] as? [String] == ["userfaultfd"])
    let conditions = try #require(rule["args"] as? [[String: Any]])
    let condition = try #require(conditions.count == 1 ? conditions.first : nil)
    #expect(condition["op"] as? String == "SCMP_CMP_MASKED_EQ")
    #expect(condition["index"] as? Int == 0)
    let action = try #require(rule["action"] as? String)
    #expect(["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"].contains(action))
    // A profile that allows by default denies with its rule, and the other way round.
    if let other = object["defaultAction"] as? String { #expect(Set([other, action]).count == 2) }
    var launch = cts_launch()
    launch.filter = CTS_FILTER_RULE
    launch.rule.mask = try #require(condition["value"] as? UInt64)
    launch.rule.datum = try #require(condition["valueTwo"] as? UInt64)
    launch.rule.allows = action == "SCMP_ACT_ALLOW"
    return launch
  }

  private func decoded(_ text: String) throws -> JSONValue {
    try JSONDecoder().decode(JSONValue.self, from: Data(text.utf8))
  }

  private func merge(_ base: String) throws -> ProcessOutcome {
    let file = try TemporaryFile(base)
    return try DemoProcess.run("seccomp-profile", "--base", file.path)
  }

  @Test(
    "The committed files are what the command makes", .enabled(if: isReadable, SkipReason.root),
    arguments: [("user-mode-only.json", []), ("rule.json", ["--rule"])])
  func committed(name: String, arguments: [String]) throws {
    let outcome = try DemoProcess.run(["seccomp-profile"] + arguments)
    #expect(outcome.code == 0)
    #expect(outcome.output == (try Self.committed(name)))
  }

  @Test(
    "Enforced, they let user-mode-only through and nothing else",
    .enabled(if: isReadable && TestSupport.Host.isRoot, SkipReason.root),
    arguments: ["user-mode-only.json", "rule.json"])
  func enforced(name: String) throws {
    let both = UInt64(O_CLOEXEC | O_NONBLOCK)
    let allowed: [UInt64] = [1, 1 | UInt64(O_CLOEXEC), 1 | UInt64(O_NONBLOCK), 1 | both]
    let forbidden: [UInt64] = [0, UInt64(O_CLOEXEC), UInt64(O_NONBLOCK), both, 2, 1 << 32, 1 << 63]
    // Another flag beside it is refused by the filter, or by the kernel, which knows no such flag.
    let odd: [UInt64] = [1 | 2, 1 | both | 0x100]
    let flags = allowed + forbidden + odd
    func results(_ launch: cts_launch) -> [CInt] {
      var results = [CInt](repeating: -1, count: flags.count)
      let end = unsafe withUnsafePointer(to: launch) { unsafe cts_try_userfaultfd($0, flags, &results, flags.count) }
      #expect(end == 0)
      return results
    }
    // Without a filter, root gets all descriptors but the odd ones. Other refusals are therefore the filter's.
    let free = results(cts_launch())
    #expect(free.prefix(allowed.count + 4).allSatisfy { $0 == 0 })
    let filtered = results(try Self.filter(try Self.committed(name)))
    #expect(filtered.prefix(allowed.count).allSatisfy { $0 == 0 })
    #expect(filtered[allowed.count..<(allowed.count + forbidden.count)].allSatisfy { $0 == EPERM })
    #expect(filtered.suffix(odd.count).allSatisfy { $0 == (name == "rule.json" ? EPERM : EINVAL) })
  }

  @Test(
    "Under them the command does its work, and doctor sees the filter",
    .enabled(if: isReadable && TestSupport.Host.isRoot, SkipReason.root),
    arguments: ["user-mode-only.json", "rule.json"], [CTS_USER_SAME, CTS_USER_NOBODY].map(\.rawValue))
  func works(name: String, user: UInt32) async throws {
    var launch = try Self.filter(try Self.committed(name))
    launch.user = cts_user(user)
    launch.no_new_privileges = true
    let sample = try Sample()
    let work = try await LoweredRights.run(launch, ["map", sample.path, "--json"])
    #expect(work.code == 0)
    #expect(work.output.contains("\"sha256\" : \"\(sample.sum)\""))
    let report = try await DoctorTests.Report(LoweredRights.run(launch, ["doctor", "--json"]))
    #expect(report.auto.userModeFaults.descriptor == "user-mode-only")
    #expect(report.causes("full").contains("seccomp") == (user == CTS_USER_SAME.rawValue))
  }

  @Test("A base comes out as it went in, with one rule more")
  func merged() throws {
    let base = """
      {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "archMap": [{"architecture": "SCMP_ARCH_X86_64"}],
       "syscalls": [
         {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW", "args": null, "includes": {"minKernel": "4.8"}},
         {"names": ["clone"], "action": "SCMP_ACT_ALLOW",
          "args": [{"index": 0, "value": 18446744073709551615, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]}],
       "other": [true, 1.5, "x", {}]}
      """
    let outcome = try merge(base)
    #expect(outcome.code == 0)
    var expected = try decoded(base)
    let rule = try decoded(try SeccompProfile(document: SeccompProfile.allowingRule).json())
    expected["syscalls"] = .array(try #require(expected["syscalls"]?.list) + [rule])
    #expect(try decoded(outcome.output) == expected)
    #expect(outcome.output.contains("18446744073709551615"))
  }

  @Test("A rule that forbids it without conditions would outweigh the new one, and goes")
  func forbidden() throws {
    let outcome = try merge(
      """
      {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": ["bdflush", "userfaultfd"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
        {"names": ["userfaultfd"], "action": "SCMP_ACT_KILL", "args": []}]}
      """)
    let rules = try #require(try decoded(outcome.output)["syscalls"]?.list)
    #expect(
      rules == [
        .object([
          "names": .array([.string("bdflush")]), "action": .string("SCMP_ACT_ERRNO"), "errnoRet": .integer(1),
        ]), SeccompProfile.allowingRule,
      ])
  }

  @Test("A rule in the old form, whose name is one string, is seen as well")
  func oldForm() throws {
    let outcome = try merge(
      """
      {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"name": "read", "action": "SCMP_ACT_ALLOW", "args": []},
        {"name": "userfaultfd", "action": "SCMP_ACT_ERRNO", "args": []},
        {"name": "userfaultfd", "names": ["bdflush"], "action": "SCMP_ACT_ERRNO"},
        {"name": "bdflush", "names": ["userfaultfd"], "action": "SCMP_ACT_ERRNO"},
        {"name": "", "names": ["userfaultfd"], "action": "SCMP_ACT_KILL"}]}
      """)
    #expect(outcome.code == 0)
    #expect(
      try decoded(outcome.output)["syscalls"]?.list == [
        .object(["name": .string("read"), "action": .string("SCMP_ACT_ALLOW"), "args": .array([])]),
        .object(["names": .array([.string("bdflush")]), "action": .string("SCMP_ACT_ERRNO")]),
        .object(["name": .string("bdflush"), "action": .string("SCMP_ACT_ERRNO")]), SeccompProfile.allowingRule,
      ])
  }

  @Test("Where everything is allowed by default, the call is forbidden without the flag")
  func allowedByDefault() throws {
    let outcome = try merge(
      #"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["userfaultfd"], "action": "SCMP_ACT_ERRNO"}]}"#)
    #expect(try decoded(outcome.output)["syscalls"]?.list == [SeccompProfile.forbiddingRule])
  }

  @Test(
    "What cannot be merged is one line and 1",
    arguments: [
      ("not JSON", "not JSON"), ("[]", "no defaultAction"), ("{}", "no defaultAction"),
      (#"{"defaultAction": "SCMP_ACT_ALLOW"}"#, "allows userfaultfd already"),
      (
        #"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["userfaultfd"], "action": "SCMP_ACT_ALLOW"}]}"#,
        "allows userfaultfd already"
      ),
      (
        #"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["userfaultfd"], "#
          + #""action": "SCMP_ACT_ALLOW", "args": [{}]}]}"#,
        "conditions already"
      ),
      (
        #"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"name": "userfaultfd", "action": "SCMP_ACT_LOG"}]}"#,
        "allows userfaultfd already"
      ),
      (
        #"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"name": "userfaultfd", "#
          + #""action": "SCMP_ACT_ERRNO", "args": [{}]}]}"#,
        "conditions already"
      ),
    ])
  func bad(base: String, reason: String) throws {
    let outcome = try merge(base)
    #expect(outcome.code == 1)
    #expect(outcome.output == "")
    #expect(outcome.errors.contains(reason))
  }

  @Test(
    "A base that cannot be read is named, with the cause", arguments: [("/no/such/file", "ENOENT"), ("/", "EISDIR")])
  func unreadable(path: String, errno: String) throws {
    let outcome = try DemoProcess.run("seccomp-profile", "--base", path)
    #expect(outcome.code == 1)
    #expect(outcome.errors.contains("cannot read \(path) (\(errno): "))
  }
}
