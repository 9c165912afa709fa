import Glibc
import Synchronization

/// The operations of the threads in a run.
enum StressOperation: Int, CaseIterable {
  case read, readPages, write, discard, prefetch, populate, retry, withResident, withMutableResident, readCopy,
    writeCopy
  case forEachPiece, failure, wrongRange, reopen, newRuntime, forkAndTouch, forkAndExit, forkAndExecute, forkAndMap
  case ticks, cancel, jump, stuck, protect, move

  /// The relative frequency of the operation.
  var weight: Int {
    switch self {
    case .read: 300
    case .readPages: 100
    case .write: 150
    case .discard: 100
    case .prefetch: 70
    case .populate: 8
    case .retry: 40
    case .withResident, .withMutableResident, .readCopy, .writeCopy, .forEachPiece: 40
    case .failure: 40
    case .wrongRange: 10
    case .reopen: 15
    case .newRuntime: 1
    case .forkAndTouch, .forkAndExit, .forkAndExecute, .forkAndMap: 1
    case .ticks, .cancel, .protect, .move: 2
    case .jump, .stuck: 1
    }
  }

  static let totalWeight = allCases.reduce(0) { $0 + $1.weight }

  /// Returns the operation for a random number.
  static func chosen(by number: UInt64) -> StressOperation {
    var rest = Int(number % UInt64(totalWeight))
    for operation in allCases {
      rest -= operation.weight
      if rest < 0 { return operation }
    }
    return .read
  }

  var name: String { "\(self)" }
}

/// How a provider answered a request.
enum StressAnswer: Int, CaseIterable {
  case filled, lent, zero
}

/// Counts what was done and seen, by kind.
final class StressTally: Sendable {
  private let operations = StressWords(count: StressOperation.allCases.count)
  private let troubles = StressWords(count: StressTrouble.allCases.count)
  private let answers = StressWords(count: StressAnswer.allCases.count)
  private let mismatchCount = Atomic<Int>(0)
  private let notes = StressLock(Notes())

  private struct Notes {
    var failures: [String: Int] = [:]
    var limits: [String: Int] = [:]
    var mismatches: [String] = []
  }

  /// The number of mismatches whose texts are kept. Further mismatches are only counted.
  private static let mismatchesKept = 20

  func count(_ operation: StressOperation) { operations.add(1, operation.rawValue) }
  func count(_ trouble: StressTrouble) { troubles.add(1, Int(trouble.rawValue)) }
  func count(_ answer: StressAnswer) { answers.add(1, answer.rawValue) }

  /// Counts a failure that is allowed.
  func failure(_ kind: String) { notes.withLock { $0.failures[kind, default: 0] += 1 } }

  /// Counts what could not be done because of a limit of the process.
  func limit(_ kind: String) { notes.withLock { $0.limits[kind, default: 0] += 1 } }

  /// Records something that must not happen.
  func mismatch(_ text: String) {
    mismatchCount.add(1, ordering: .relaxed)
    let isNew = notes.withLock { notes in
      guard notes.mismatches.count < Self.mismatchesKept else { return false }
      notes.mismatches.append(text)
      return true
    }
    // The mismatch is printed at once, because the program may not get as far as its report.
    if isNew { Diagnostics.write("mismatch: \(text)\n") }
  }

  var mismatches: (count: Int, texts: [String]) {
    (mismatchCount.load(ordering: .relaxed), notes.withLock { $0.mismatches })
  }

  var failuresSeen: [String: Int] { notes.withLock { $0.failures } }

  var limitsMet: [String: Int] { notes.withLock { $0.limits } }

  var operationCount: Int { StressOperation.allCases.reduce(0) { $0 + Int(operations.load($1.rawValue)) } }

  var operationsDone: [String: Int] {
    Dictionary(
      uniqueKeysWithValues: StressOperation.allCases.map { ($0.name, Int(operations.load($0.rawValue))) })
  }

  var troublesMade: [String: Int] {
    Dictionary(
      uniqueKeysWithValues: StressTrouble.allCases.filter { $0 != .none }.map {
        ($0.name, Int(troubles.load(Int($0.rawValue))))
      })
  }

  var answersGiven: [String: Int] {
    Dictionary(uniqueKeysWithValues: StressAnswer.allCases.map { ("\($0)", Int(answers.load($0.rawValue))) })
  }
}

/// Sleeps briefly, so that the threads that this thread waits for can run.
func stressPause() { usleep(50) }
