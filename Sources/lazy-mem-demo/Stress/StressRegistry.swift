import FaultRuntime
import Synchronization

/// The models of all open regions by name, for the failures that the runtime reports.
final class StressRegistry: Sendable {
  let tally: StressTally
  /// Whether the kernel's requests are made to fail, so that the kernel may report a lack of memory.
  let kernelMakesTrouble: Bool
  private let models = StressLock<[String: StressModel]>([:])

  init(_ tally: StressTally, kernelMakesTrouble: Bool) {
    self.tally = tally
    self.kernelMakesTrouble = kernelMakesTrouble
  }

  func add(_ model: StressModel) { models.withLock { $0[model.plan.name] = model } }
  func remove(_ model: StressModel) { models.withLock { $0[model.plan.name] = nil } }

  /// Returns a description of a region and of its first page.
  func describe(_ name: String) -> String {
    guard let model = models.withLock({ $0[name] }) else { return "not there any more" }
    let isClosing = model.isClosing.load(ordering: .sequentiallyConsistent)
    return model.describe(0) + (isClosing ? ", closing" : "")
  }

  /// Judges a failure that a runtime reports before the access fails.
  func note(_ failure: PageFailure) {
    guard let model = models.withLock({ $0[failure.region] }) else {
      // The region no longer exists.
      tally.failure("reported after the region's end")
      return
    }
    judge(failure, model, "report")
    model.mark(StressModel.wasReported, failure.offset / model.pageSize)
    tally.failure("reported, \(name(ofCause: failure.cause))")
  }

  /// Records a mismatch if the page must not fail for this reason.
  func judge(_ failure: PageFailure, _ model: StressModel, _ doing: String) {
    let page = failure.offset / model.pageSize
    let isClosing = model.isClosing.load(ordering: .sequentiallyConsistent)
    guard failure.region == model.plan.name, failure.offset >= 0, page < model.pageCount,
      failure.offset % model.pageSize == 0, failure.byteCount == model.pageSize
    else {
      tally.mismatch("\(doing): \(failure) for \(model.plan.name)")
      return
    }
    if let limit = StressLimit.name(ofCause: failure.cause) {
      tally.limit("\(doing), \(limit)")
      return
    }
    let isAllowed =
      switch failure.cause {
      case let error as StressError:
        // If the region closes, a request of several pages is not narrowed down to the failing page any more.
        error.region == model.plan.seed && model.hasMark(StressModel.threwError, error.page)
          && (error.page == page || isClosing)
      case let error as ResolutionError:
        switch error.code {
        case .answerTooShort, .answerTooLong: model.hasMark(StressModel.answeredBadly, page) || isClosing
        case .timeoutExceeded: error.timeout == model.plan.options.timeout
        case .regionClosed: isClosing
        case .refused: error.errno == .noMemory && kernelMakesTrouble
        default: false
        }
      default:
        false
      }
    if !isAllowed { tally.mismatch("\(doing): page fails for no reason: \(failure); \(model.describe(page))") }
  }

  func name(ofCause cause: any Error) -> String {
    if cause is StressError { return "provider's error" }
    guard let error = cause as? ResolutionError else { return "\(cause)" }
    if error.code == .providerStuck { return "provider stuck" }
    if let errno = error.errno { return "kernel's \(errno)" }
    return switch error.code {
    case .answerTooShort: "answer too short"
    case .answerTooLong: "answer too long"
    case .timeoutExceeded: "timeout"
    case .regionClosed: "closing"
    default: "\(error)"
    }
  }
}
