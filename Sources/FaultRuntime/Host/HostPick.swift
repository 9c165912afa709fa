/// What `Delivery.auto` can do for one kind of fault.
public struct HostPick: Hashable, Sendable {
  /// The delivery for providers that permit the faulting thread (``ProviderPermissions/signalHandler``); nil where none works.
  public let delivery: Delivery?
  /// The delivery for all other providers; nil where none works. Where it is ``Delivery/eventLoop``, regions with a deadline have it,
  /// too; otherwise they are an error.
  public let deliveryOfOtherProviders: Delivery?
  /// The descriptor that it goes over; nil where none works, and where none is needed.
  public let descriptor: DescriptorKind?
  /// Why, in one line.
  public let reason: String
}

extension HostFacts {
  /// What `auto` picks: the only place where that is decided for the report. `Engine` does as said here.
  ///
  /// - Parameter servingSystemCalls: whether faults of the kernel's own have to be served, or those of user code only.
  func pick(servingSystemCalls: Bool) -> HostPick {
    let candidates = DescriptorChoice.automatic.candidates(servingSystemCalls: servingSystemCalls)
    guard let kind = candidates.first(where: isGranted), case .granted(let features)? = attempts[kind] else {
      let reasons = candidates.flatMap { kind in causes(of: kind).prefix(1).map { explanation(of: $0, for: kind) } }
      return servingSystemCalls ? .none(because: reasons) : .withoutDescriptor(because: reasons)
    }
    if servingSystemCalls {
      return HostPick(
        delivery: .eventLoop, deliveryOfOtherProviders: .eventLoop, descriptor: kind,
        reason: "a system call can only wait for another thread")
    }
    guard features.contains(.sigbus) else {
      return .none(because: ["auto needs UFFD_FEATURE_SIGBUS, which Linux 4.14 has"])
    }
    return HostPick(
      delivery: .sigbus, deliveryOfOtherProviders: .eventLoop, descriptor: kind,
      reason: "the faulting thread is fastest, where the provider permits it")
  }
}

extension HostPick {
  fileprivate static func none(because reasons: [String]) -> HostPick {
    HostPick(delivery: nil, deliveryOfOtherProviders: nil, descriptor: nil, reason: sentence(reasons))
  }

  fileprivate static func withoutDescriptor(because reasons: [String]) -> HostPick {
    HostPick(
      delivery: .sigsegv, deliveryOfOtherProviders: .sigsegv, descriptor: nil,
      reason: "it needs no userfaultfd, and none can be had: " + sentence(reasons))
  }

  private static func sentence(_ reasons: [String]) -> String {
    var said: [String] = []
    for reason in reasons where !said.contains(reason) { said.append(reason) }
    return said.joined(separator: "; ")
  }
}
