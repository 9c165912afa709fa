import CTestSupport
import Foundation
import TestSupport
import Testing

/// A way to start the command with fewer rights than the tests have.
struct LoweredRights: Sendable, CustomTestStringConvertible {
  enum User: String, CaseIterable {
    case root, rootWithoutCapabilities, rootOfNamespace, nobody
  }

  enum Filter: String, CaseIterable {
    case none, notPermitted, noSuchCall, userModeOnly, kills
  }

  enum Device: String, CaseIterable {
    case ofTheMachine, forEverybody, missing
  }

  enum Container: String {
    case none, namespaces, file
  }

  var user = User.root
  var filter = Filter.none
  var device = Device.ofTheMachine
  var noNewPrivileges = false
  var container = Container.none

  /// All combinations, except those with a filter that kills, because a program cannot continue after that.
  static let all: [LoweredRights] = users.flatMap { user in
    Filter.allCases.filter { $0 != .kills }.flatMap { filter in
      Device.allCases.flatMap { device in
        [false, true].map {
          LoweredRights(user: user, filter: filter, device: device, noNewPrivileges: $0)
        }
      }
    }
  }

  private static let users = User.allCases.filter { $0 != .rootOfNamespace || canMakeNamespaces }

  /// Whether the host allows user namespaces, which some systems do not. Always false without root.
  private static let canMakeNamespaces: Bool = {
    var flags: UInt64 = 0
    var result: CInt = 0
    let launch = LoweredRights(user: .rootOfNamespace).launch
    guard TestSupport.Host.isRoot else { return false }
    let end = unsafe withUnsafePointer(to: launch) { unsafe cts_try_userfaultfd($0, &flags, &result, 1) }
    return end == 0
  }()

  var testDescription: String {
    "\(user.rawValue), filter \(filter.rawValue), device \(device.rawValue)\(noNewPrivileges ? ", no_new_privs" : "")"
  }

  var launch: cts_launch {
    var launch = cts_launch()
    launch.user =
      switch user {
      case .root: CTS_USER_SAME
      case .rootWithoutCapabilities: CTS_USER_WITHOUT_CAPABILITIES
      case .rootOfNamespace: CTS_USER_ROOT_OF_NAMESPACE
      case .nobody: CTS_USER_NOBODY
      }
    launch.filter =
      switch filter {
      case .none: CTS_FILTER_NONE
      case .notPermitted, .noSuchCall: CTS_FILTER_ERRNO
      case .userModeOnly: CTS_FILTER_USER_MODE_ONLY
      case .kills: CTS_FILTER_KILL
      }
    launch.filter_errno = filter == .noSuchCall ? ENOSYS : EPERM
    launch.device =
      switch device {
      case .ofTheMachine: CTS_DEVICE_SAME
      case .forEverybody: CTS_DEVICE_FOR_ALL
      case .missing: CTS_DEVICE_MISSING
      }
    launch.no_new_privileges = noNewPrivileges
    launch.container =
      switch container {
      case .none: CTS_CONTAINER_NONE
      case .namespaces: CTS_CONTAINER_NAMESPACES
      case .file: CTS_CONTAINER_FILE
      }
    return launch
  }

  func run(_ arguments: String...) async throws -> ProcessOutcome { try await Self.run(launch, arguments) }

  /// Runs the command and waits for its end on a thread of its own. There are so many cases that otherwise other
  /// tests would wait for a thread of the pool beyond their time limits.
  static func run(_ launch: cts_launch, _ arguments: [String]) async throws -> ProcessOutcome {
    try await withCheckedThrowingContinuation { continuation in
      Thread.detachNewThread { continuation.resume(with: Result { try runAndWait(launch, arguments) }) }
    }
  }

  private static func runAndWait(_ launch: cts_launch, _ arguments: [String]) throws -> ProcessOutcome {
    let program = DemoProcess.openExecutable()
    // The output goes to files, because a pipe that is not read yet would block a child with much output.
    let files = try (output: TemporaryFile(), errors: TemporaryFile())
    let output = unsafe open(files.output.path, O_WRONLY | O_CLOEXEC)
    let errors = unsafe open(files.errors.path, O_WRONLY | O_CLOEXEC)
    defer { for descriptor in [program, output, errors] { close(descriptor) } }
    try #require(program >= 0 && output >= 0 && errors >= 0)
    var words = unsafe arguments.map { unsafe strdup($0) }
    defer { unsafe words.forEach { unsafe free($0) } }
    let code = unsafe withUnsafePointer(to: launch) { launch in
      unsafe words.append(nil)
      return unsafe words.withUnsafeBufferPointer { words in
        unsafe words.baseAddress!.withMemoryRebound(to: Optional<UnsafePointer<CChar>>.self, capacity: words.count) {
          unsafe cts_launch(launch, program, $0, output, errors)
        }
      }
    }
    return ProcessOutcome(code: code, output: try files.output.text(), errors: try files.errors.text())
  }
}
