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
