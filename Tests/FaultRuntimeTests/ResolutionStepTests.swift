import TestSupport
import Testing

@testable import FaultRuntime

/// One row of the table: a result of the kernel, and the step that follows from it.
struct StepRow: Sendable, CustomTestStringConvertible {
  var request: ResolveRequest
  var completed = 0
  var errno: KernelErrno?
  var step: ResolutionStep

  var testDescription: String {
    "\(request.rawValue) \(errno.map(\.description) ?? "ok") completed=\(completed)"
  }
}

@Suite("What follows from the result of a resolving request", .timeLimit(.minutes(6)))
struct ResolutionStepTests {
  static let everyRequest: [StepRow] = ResolveRequest.allCases.flatMap { request in
    [
      StepRow(request: request, completed: 4096, errno: nil, step: .done),
      // After a partial result, the request continues behind the completed bytes, whatever the errno is.
      StepRow(request: request, completed: 8192, errno: .resourceTemporarilyUnavailable, step: .goOn(completed: 8192)),
      StepRow(request: request, completed: 4096, errno: .fileExists, step: .goOn(completed: 4096)),
      StepRow(request: request, completed: 4096, errno: .badAddress, step: .goOn(completed: 4096)),
      // An event is unread, and the kernel has done nothing.
      StepRow(request: request, errno: .resourceTemporarilyUnavailable, step: .later),
      // Another thread was faster.
      StepRow(request: request, errno: .fileExists, step: .present),
      // The range is not registered, not mapped, or in several mappings; or it is not registered for write
      // protection.
      StepRow(request: request, errno: .noSuchFileOrDirectory, step: .gone),
      // The process has ended or called exec.
      StepRow(request: request, errno: .noSuchProcess, step: .targetGone),
      // A memory cgroup is at its limit.
      StepRow(request: request, errno: .noMemory, step: .fail(.noMemory)),
      StepRow(request: request, errno: .badFileDescriptor, step: .misuse(.badFileDescriptor)),
      StepRow(request: request, errno: .notPermitted, step: .fail(.notPermitted)),
    ]
  }

  static let particular: [StepRow] = [
    // The alignment or the mode is wrong, which is a mistake of the library. MOVE also answers this for a source that
    // it cannot move.
    StepRow(request: .copy, errno: .invalidArgument, step: .fail(.invalidArgument)),
    StepRow(request: .zeropage, errno: .invalidArgument, step: .misuse(.invalidArgument)),
    StepRow(request: .continue, errno: .invalidArgument, step: .misuse(.invalidArgument)),
    StepRow(request: .poison, errno: .invalidArgument, step: .misuse(.invalidArgument)),
    StepRow(request: .writeProtect, errno: .invalidArgument, step: .misuse(.invalidArgument)),
    StepRow(request: .move, errno: .invalidArgument, step: .copyInstead),
    // The source is pinned, or shared after a fork.
    StepRow(request: .move, errno: .resourceBusy, step: .copyInstead),
    StepRow(request: .copy, errno: .resourceBusy, step: .fail(.resourceBusy)),
    // The source of a copy cannot be read, or the page of a continue is not in the page cache.
    StepRow(request: .copy, errno: .badAddress, step: .fail(.badAddress)),
    StepRow(request: .continue, errno: .badAddress, step: .fail(.badAddress)),
  ]

  @Test("Each result has its step", arguments: everyRequest + particular)
  func table(row: StepRow) {
    #expect(ResolutionStep.after(row.request, completed: row.completed, errno: row.errno) == row.step)
  }
}
