import ArgumentParser
import FaultRuntime
import FoundationEssentials
import Glibc

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
  var base: FileName?

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
    return try SeccompProfile(json: Data(try contents(of: base))).merged()
  }

  /// Reads a file, or what comes from a pipe, to its end.
  private func contents(of name: FileName) throws(CommandFailure) -> [UInt8] {
    func failure() -> CommandFailure {
      let errno = KernelErrno(rawValue: errno)
      return CommandFailure(message: "cannot read \(name.text) (\(errno): \(errno.explanation))")
    }
    let descriptor = unsafe name.withCString { unsafe open($0, O_RDONLY | O_CLOEXEC) }
    guard descriptor >= 0 else { throw failure() }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = unsafe read(descriptor, &piece, piece.count)
      if count == 0 { return bytes }
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { throw failure() }
      bytes += piece.prefix(count)
    }
  }
}
