/// What a runtime has to have ready for the regions that the program may map.
extension FaultRuntimeConfiguration {
  var wantsHandlers: Bool { wants(.eventLoop) }

  var wantsFaultingThreads: Bool { wants(.sigbus) }

  /// Whether a runtime that has a userfaultfd has to be ready for this delivery.
  private func wants(_ delivery: Delivery) -> Bool {
    self.delivery == .auto
      ? AutomaticDelivery.deliveries(needsSystemCalls: needsSystemCalls).contains(delivery) : self.delivery == delivery
  }

  /// Whether the runtime may serve regions without a userfaultfd where the host allows none.
  var doesWithoutDescriptor: Bool {
    let region = AutomaticDelivery(self, .refused(""), permitsFaultingThread: true, hasTimeout: false)
    return delivery == .auto && region.outcome.delivery != nil
  }
}
