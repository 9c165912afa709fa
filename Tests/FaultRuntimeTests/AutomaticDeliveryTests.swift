import TestSupport
import Testing

@testable import FaultRuntime

/// Checks what `auto` decides, for every possible question.
@Suite("What auto picks", .timeLimit(.minutes(6)))
struct AutomaticDeliveryTests {
  static let descriptors: [AutomaticDelivery.Descriptor] = [
    .available([.sigbus, .poison]), .available(.sigbus), .available(.poison), .available([]), .refused("no rights"),
    .deadly("a filter kills"),
  ]

  /// Every possible question.
  static let questions: [AutomaticDelivery] = descriptors.flatMap { descriptor in
    (0..<16).map { bits in
      AutomaticDelivery(
        descriptor: descriptor, needsDescriptor: bits & 1 != 0, needsSystemCalls: bits & 2 != 0,
        permitsFaultingThread: bits & 4 != 0, hasTimeout: bits & 8 != 0)
    }
  }

  /// The rules in another form than in the code: for each delivery, the questions that lead to it.
  private func expected(_ question: AutomaticDelivery) -> Delivery? {
    let features: UserfaultfdFeatures? =
      if case .available(let features) = question.descriptor { features } else { nil }
    let isRefused = if case .refused = question.descriptor { true } else { false }
    let fits: [(Delivery, Bool)] = [
      (
        .sigbus,
        features?.contains(.sigbus) == true && !question.needsSystemCalls && question.permitsFaultingThread
          && !question.hasTimeout
      ),
      (
        .eventLoop,
        features != nil
          && (question.needsSystemCalls
            || (features?.contains(.sigbus) == true && (!question.permitsFaultingThread || question.hasTimeout)))
      ),
      (.sigsegv, isRefused && !question.needsSystemCalls && !question.needsDescriptor),
    ]
    let found = fits.filter(\.1).map(\.0)
    #expect(found.count <= 1)
    return found.first
  }

  @Test("Every question has the answer that the rules give", arguments: questions)
  func everyQuestion(question: AutomaticDelivery) {
    #expect(question.outcome.delivery == expected(question))
    #expect(!question.outcome.reason.isEmpty)
    #expect(!question.outcome.reason.contains("\n"))
  }

  @Test("The reason is what decided")
  func reasons() {
    func reason(_ change: (inout AutomaticDelivery) -> Void) -> String {
      var question = AutomaticDelivery(
        descriptor: .available(.sigbus), needsSystemCalls: false, permitsFaultingThread: true, hasTimeout: false)
      change(&question)
      return question.outcome.reason
    }
    #expect(reason { _ in }.contains("fastest"))
    #expect(reason { $0.permitsFaultingThread = false }.contains("does not permit"))
    #expect(reason { $0.hasTimeout = true }.contains("timeout"))
    #expect(reason { $0.needsSystemCalls = true }.contains("system calls"))
    #expect(reason { $0.descriptor = .available(.poison) }.contains("UFFD_FEATURE_SIGBUS"))
    #expect(reason { $0.descriptor = .deadly("a filter kills") } == "a filter kills")
    #expect(reason { $0.descriptor = .refused("no rights") }.hasSuffix("no rights"))
    let helped = reason {
      $0.descriptor = .refused("no rights")
      $0.permitsFaultingThread = false
    }
    #expect(helped.contains("thread of the runtime's own"))
    let late = reason {
      $0.descriptor = .refused("no rights")
      $0.hasTimeout = true
    }
    #expect(late.contains("is an error"))
  }

  @Test("A runtime has ready what its regions may get, and nothing else", arguments: [false, true])
  func ready(needsSystemCalls: Bool) {
    let configuration = FaultRuntimeConfiguration(needsSystemCalls: needsSystemCalls)
    let picked = Set(
      Self.questions.compactMap { question -> Delivery? in
        guard case .available = question.descriptor, question.needsSystemCalls == needsSystemCalls else { return nil }
        return question.outcome.delivery
      })
    #expect(AutomaticDelivery.deliveries(needsSystemCalls: needsSystemCalls) == picked)
    #expect(configuration.wantedDeliveries == picked)
    #expect(configuration.doesWithoutDescriptor == !needsSystemCalls)
    for delivery in Delivery.ofRegions {
      let only = FaultRuntimeConfiguration(delivery: delivery)
      #expect(only.wantedDeliveries == [delivery])
      #expect(!only.doesWithoutDescriptor)
    }
    #expect(!FaultRuntimeConfiguration(descriptorChoice: .only(.full)).doesWithoutDescriptor)
  }

  @Test("Where the kernel cannot raise SIGBUS no runtime is made with auto, as is said", arguments: [false, true])
  func withoutSignal(needsSystemCalls: Bool) throws {
    var configuration = FaultRuntimeConfiguration(needsSystemCalls: needsSystemCalls)
    configuration.withheldFeatures = .sigbus
    let said = AutomaticDelivery(
      configuration, .available(Host.features.subtracting(.sigbus)), permitsFaultingThread: true, hasTimeout: false)
    let mayHaveDescriptor = DescriptorChoice.automatic.candidates(servingSystemCalls: needsSystemCalls)
      .contains { (try? Userfaultfd.probe($0)) != nil }
    try #require(mayHaveDescriptor || needsSystemCalls)
    #expect(((try? FaultRuntime(configuration)) != nil) == (mayHaveDescriptor && said.outcome.delivery != nil))
  }
}
