import FoundationEssentials

/// A seccomp profile in the OCI format, which Docker, podman and Kubernetes read, and the one rule for
/// userfaultfd(2).
struct SeccompProfile: Equatable {
  static let call = "userfaultfd"

  /// `UFFD_USER_MODE_ONLY`.
  static let userModeOnly: Int64 = 1
  /// `O_CLOEXEC` and `O_NONBLOCK`, which do not affect rights. The values are those of x86-64, arm64 and most other
  /// architectures.
  static let harmlessFlags: Int64 = 0x80000 | 0x800

  var document: JSONValue

  /// Allows the call with `UFFD_USER_MODE_ONLY`, alone or together with flags that do not affect rights. The flags
  /// are an `int`, so only the lower half of the argument counts.
  static let allowingRule = rule(
    action: "SCMP_ACT_ALLOW", mask: 0xffff_ffff & ~harmlessFlags, datum: userModeOnly)

  /// Forbids the call without `UFFD_USER_MODE_ONLY`, for a profile that allows calls by default.
  static let forbiddingRule = rule(
    action: "SCMP_ACT_ERRNO", mask: userModeOnly, datum: 0, errno: 1)

  /// Allows everything except descriptors that serve faults of the kernel itself. The profile confines nothing else.
  /// It is meant for trials, and for users without any profile.
  static let standalone = SeccompProfile(
    document: .object([
      "defaultAction": .string("SCMP_ACT_ALLOW"), "architectures": .array(architectures.map { .string($0) }),
      "syscalls": .array([forbiddingRule]),
    ]))

  /// The architectures that run on the same machines. A program of an architecture that the profile does not name is
  /// killed at its first call.
  private static let architectures = [
    "SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM",
  ]

  private static func rule(
    action: String, mask: Int64, datum: Int64, errno: Int64? = nil
  ) -> JSONValue {
    var members: [String: JSONValue] = [
      "names": .array([.string(call)]), "action": .string(action),
      "args": .array([
        // With this operator, `value` is the mask, and `valueTwo` is what the masked argument must be equal to.
        .object([
          "index": .integer(0), "op": .string("SCMP_CMP_MASKED_EQ"), "value": .integer(mask),
          "valueTwo": .integer(datum),
        ])
      ]),
    ]
    members["errnoRet"] = errno.map { .integer($0) }
    return .object(members)
  }

  init(document: JSONValue) { self.document = document }

  init(json: Data) throws(CommandFailure) {
    do {
      document = try JSONDecoder().decode(JSONValue.self, from: json)
    } catch {
      throw CommandFailure(message: "the base is not JSON")
    }
    guard document["defaultAction"]?.text != nil else {
      throw CommandFailure(message: "the base is not a seccomp profile: it has no defaultAction")
    }
  }

  /// Returns the same profile with the one rule added. Unconditional rules for userfaultfd(2) are removed, because
  /// they would take precedence over the rule with a condition.
  ///
  /// - Throws: `CommandFailure` if the profile already allows the call, or has a rule for it with conditions.
  func merged() throws(CommandFailure) -> SeccompProfile {
    let allowsByDefault = Self.allows(document["defaultAction"])
    var rules: [JSONValue] = []
    var wasForbidden = false
    for rule in document["syscalls"]?.list ?? [] {
      guard Self.isAboutTheCall(rule) else {
        rules.append(rule)
        continue
      }
      guard rule["args"]?.list?.isEmpty ?? true else {
        throw CommandFailure(
          message: "the base has a rule for userfaultfd with conditions already: change that by hand")
      }
      guard !Self.allows(rule["action"]) else {
        throw CommandFailure(message: "the base allows userfaultfd already")
      }
      wasForbidden = true
      if let rest = Self.withoutTheCall(rule) { rules.append(rest) }
    }
    if allowsByDefault && !wasForbidden { throw CommandFailure(message: "the base allows userfaultfd already") }
    var profile = self
    profile.document["syscalls"] = .array(rules + [allowsByDefault ? Self.forbiddingRule : Self.allowingRule])
    return profile
  }

  /// Whether a rule names the call. Old profiles have a rule for each call, whose `name` is one string, and engines
  /// still read them.
  private static func isAboutTheCall(_ rule: JSONValue) -> Bool {
    rule["name"] == .string(call) || rule["names"]?.list?.contains(.string(call)) == true
  }

  /// Returns what is left of a rule where the call is taken out of it; nil where it was about no other call.
  private static func withoutTheCall(_ rule: JSONValue) -> JSONValue? {
    var rest = rule
    if rule["name"] == .string(call) { rest["name"] = nil }
    let others = (rule["names"]?.list ?? []).filter { $0 != .string(call) }
    // Engines take an empty text, and a list without any name, for a key that is not there.
    if rule["names"] != nil { rest["names"] = others.isEmpty ? nil : .array(others) }
    let isEmpty = others.isEmpty && rest["name"]?.text?.isEmpty ?? true
    return isEmpty ? nil : rest
  }

  /// `SCMP_ACT_LOG` lets the call through as well.
  private static func allows(_ action: JSONValue?) -> Bool {
    ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG"].contains(action?.text)
  }

  func json() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(document), as: UTF8.self)
  }
}
