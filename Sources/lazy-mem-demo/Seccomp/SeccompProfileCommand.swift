import ArgumentParser
import FoundationEssentials

/// `lazy-mem-demo seccomp-profile`: makes the files in `contrib/seccomp`, and profiles for containers.
struct SeccompProfileCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "seccomp-profile",
    abstract: "Prints a seccomp profile that allows userfaultfd(2) with UFFD_USER_MODE_ONLY only.",
    discussion: """
      With --base it is your container engine's profile and that one rule: nothing else is added, nothing else is \
      taken away. Without, it is a profile that allows everything but descriptors that serve the kernel's own \
      faults.
      """
  )

  @Option(help: "A profile in the format of OCI to add the rule to.")
  var base: String?

  @Flag(help: "Print the rule alone, for those who merge by hand.")
  var rule = false

  func validate() throws {
    guard !rule || base == nil else { throw ValidationError("--rule is the rule alone; leave out --base.") }
  }

  func run() throws {
    try printLine(try profile().json())
  }

  private func profile() throws(CommandFailure) -> SeccompProfile {
    if rule { return SeccompProfile(document: SeccompProfile.allowingRule) }
    guard let base else { return .standalone }
    let data: Data
    do {
      data = try Data(contentsOf: URL(filePath: base))
    } catch {
      throw CommandFailure(message: "cannot read \(base)")
    }
    return try SeccompProfile(json: data).merged()
  }
}
