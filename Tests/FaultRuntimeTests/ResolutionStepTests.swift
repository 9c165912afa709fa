import TestSupport
import Testing

@testable import FaultRuntime

/// One row of the table: what the kernel answered, and what follows from it.
struct StepRow: Sendable, CustomTestStringConvertible {
  var request: ResolveRequest
  var completed = 0
  var errno: KernelErrno?
  var earlierPresent = 0
  var step: ResolutionStep

  var testDescription: String {
    "\(request.rawValue) \(errno.map(\.description) ?? "ok") completed=\(completed) earlier=\(earlierPresent)"
  }
}

@Suite("What follows from the result of a resolving request", .timeLimit(.minutes(6)))
struct ResolutionStepTests {
  static let everyRequest: [StepRow] = ResolveRequest.allCases.flatMap { request in
    [
      StepRow(request: request, completed: 4096, errno: nil, step: .done),
      // A partial result goes on behind what was done, whatever stopped it.
      StepRow(request: request, completed: 8192, errno: .resourceTemporarilyUnavailable, step: .goOn(completed: 8192)),
      StepRow(request: request, completed: 4096, errno: .fileExists, step: .goOn(completed: 4096)),
      StepRow(request: request, completed: 4096, errno: .badAddress, step: .goOn(completed: 4096)),
      // Events are unread: nothing was done.
      StepRow(request: request, errno: .resourceTemporarilyUnavailable, step: .later),
      // Somebody else was faster; and the hugetlb pool that says so for ever.
      StepRow(request: request, errno: .fileExists, step: .present),
      StepRow(request: request, errno: .fileExists, earlierPresent: 127, step: .present),
      StepRow(request: request, errno: .fileExists, earlierPresent: 128, step: .endlesslyPresent),
      StepRow(request: request, errno: .fileExists, earlierPresent: 5000, step: .endlesslyPresent),
      // Unregistered, unmapped, across mappings; write protection of a range without it.
      StepRow(request: request, errno: .noSuchFileOrDirectory, step: .gone),
      // The process died or called exec.
      StepRow(request: request, errno: .noSuchProcess, step: .targetGone),
      // A memory cgroup at its limit.
      StepRow(request: request, errno: .noMemory, step: .fail(.noMemory)),
      StepRow(request: request, errno: .badFileDescriptor, step: .misuse(.badFileDescriptor)),
      StepRow(request: request, errno: .notPermitted, step: .fail(.notPermitted)),
    ]
  }

  static let particular: [StepRow] = [
    // Alignment or mode is wrong: our mistake. MOVE says the same of a source that it cannot take.
    StepRow(request: .copy, errno: .invalidArgument, step: .fail(.invalidArgument)),
    StepRow(request: .zeropage, errno: .invalidArgument, step: .misuse(.invalidArgument)),
    StepRow(request: .continue, errno: .invalidArgument, step: .misuse(.invalidArgument)),
    StepRow(request: .poison, errno: .invalidArgument, step: .misuse(.invalidArgument)),
    StepRow(request: .writeProtect, errno: .invalidArgument, step: .misuse(.invalidArgument)),
    StepRow(request: .move, errno: .invalidArgument, step: .copyInstead),
    // A source that is pinned or shared after a fork.
    StepRow(request: .move, errno: .resourceBusy, step: .copyInstead),
    StepRow(request: .copy, errno: .resourceBusy, step: .fail(.resourceBusy)),
    // The source of a copy cannot be read; the page of a continue is not in the cache.
    StepRow(request: .copy, errno: .badAddress, step: .fail(.badAddress)),
    StepRow(request: .continue, errno: .badAddress, step: .fail(.badAddress)),
  ]

  @Test("Each result has its step", arguments: everyRequest + particular)
  func table(row: StepRow) {
    #expect(
      ResolutionStep.after(
        row.request, completed: row.completed, errno: row.errno, earlierPresent: row.earlierPresent) == row.step)
  }
}
