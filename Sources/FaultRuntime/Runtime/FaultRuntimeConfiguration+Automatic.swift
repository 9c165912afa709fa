/// What a runtime has to have ready for the regions that the program may map.
extension FaultRuntimeConfiguration {
  /// The deliveries for which a runtime that has a userfaultfd, or needs none, has to be ready.
  var wantedDeliveries: Set<Delivery> {
    delivery == .auto ? AutomaticDelivery.deliveries(needsSystemCalls: needsSystemCalls) : [delivery]
  }

  /// Whether the runtime may serve regions without a userfaultfd where the host allows none.
  var doesWithoutDescriptor: Bool {
    let region = AutomaticDelivery(self, .refused(""), permitsFaultingThread: true, hasTimeout: false)
    return delivery == .auto && region.outcome.delivery != nil
  }
}
