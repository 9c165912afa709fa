extension HostFacts {
  /// Returns what `auto` picks on this host, as `AutomaticDelivery` decides it.
  ///
  /// - Parameter servingSystemCalls: whether faults in system calls have to be served, or only those of user code.
  func pick(servingSystemCalls: Bool) -> HostPick {
    let (kind, descriptor) = descriptor(servingSystemCalls: servingSystemCalls)
    func outcome(permitsFaultingThread: Bool) -> AutomaticDelivery.Outcome {
      AutomaticDelivery(
        descriptor: descriptor, needsSystemCalls: servingSystemCalls, permitsFaultingThread: permitsFaultingThread,
        hasTimeout: false
      ).outcome
    }
    let permitting = outcome(permitsFaultingThread: true)
    return HostPick(
      delivery: permitting.delivery, deliveryOfOtherProviders: outcome(permitsFaultingThread: false).delivery,
      descriptor: permitting.delivery == nil ? nil : kind, reason: permitting.reason)
  }

  /// Returns the first kind of userfaultfd that the host allows, and the outcome of the ways, in the order in which a
  /// runtime tries them.
  private func descriptor(servingSystemCalls: Bool) -> (DescriptorKind?, AutomaticDelivery.Descriptor) {
    var reasons: [String] = []
    for kind in DescriptorChoice.automatic.candidates(servingSystemCalls: servingSystemCalls) {
      let found = causes(of: kind).prefix(1).map { explanation(of: $0, for: kind) }
      switch attempts[kind] {
      case .granted(let features): return (kind, .available(features))
      case .killed: return (nil, .deadly(found.joined()))
      case .refused, nil: for reason in found where !reasons.contains(reason) { reasons.append(reason) }
      }
    }
    return (nil, .refused(reasons.joined(separator: "; ")))
  }
}
