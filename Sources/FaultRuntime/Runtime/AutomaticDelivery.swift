/// Decides what ``Delivery/auto`` gives one region. No other code makes this decision, so a runtime and the report on
/// the host always agree.
struct AutomaticDelivery: Hashable, Sendable {
  /// The outcome of trying the ways to a userfaultfd.
  enum Descriptor: Hashable, Sendable {
    /// The host allows one of the ways, and the descriptor has these features.
    case available(UserfaultfdFeatures)
    /// The host refuses all ways, for this reason.
    case refused(String)
    /// The process dies when it tries, before anything can be decided, for this reason.
    case deadly(String)
  }

  /// The decision for a region.
  enum Outcome: Hashable, Sendable {
    case choice(DeliveryChoice)
    /// No runtime can be made, for this reason.
    case none(String)
  }

  var descriptor: Descriptor
  /// Whether the program insists on one kind of userfaultfd (``DescriptorChoice/only(_:)``).
  var needsDescriptor = false
  /// Whether system calls have to be served (``FaultRuntimeConfiguration/needsSystemCalls``).
  var needsSystemCalls: Bool
  /// Whether the provider permits the faulting thread (``ProviderPermissions/signalHandler``).
  var permitsFaultingThread: Bool
  /// Whether the region has a timeout (``RegionOptions/timeout``).
  var hasTimeout: Bool
}

extension AutomaticDelivery {
  var outcome: Outcome {
    switch descriptor {
    case .deadly(let reason): .none(reason)
    case .refused(let reason) where needsSystemCalls || needsDescriptor: .none(reason)
    case .refused(let reason): choice(.sigsegv, "it needs no userfaultfd, and none can be had: \(reason)\(exception)")
    case .available where needsSystemCalls:
      choice(.eventLoop, "system calls have to be served, and they can only wait for another thread")
    // The event loop, which would serve this region, does not need the feature. But the runtime is made before its
    // providers are known, and so it has to be ready for those that permit the faulting thread.
    case .available(let features) where !features.contains(.sigbus):
      .none("auto needs UFFD_FEATURE_SIGBUS, which Linux 4.14 has")
    case .available where !permitsFaultingThread:
      choice(.eventLoop, "the provider does not permit the faulting thread")
    case .available where hasTimeout: choice(.eventLoop, "a timeout can only be kept by another thread")
    case .available: choice(.sigbus, "the faulting thread is fastest, where the provider permits it")
    }
  }

  /// The end of the reason where there is no userfaultfd. It says what this region has to do without.
  private var exception: String {
    if hasTimeout { return "; a region with a timeout is an error" }
    return permitsFaultingThread ? "" : "; the provider is asked on a thread of the runtime's own"
  }

  private func choice(_ delivery: Delivery, _ reason: String) -> Outcome {
    .choice(DeliveryChoice(delivery: delivery, reason: reason))
  }

  /// Returns the line that tells of a runtime without a userfaultfd: one cause, one remedy, and where the rest is.
  static func notice(of error: FaultRuntimeError) -> String {
    let remedy = error.brief?.remedy.map { "; remedy: \($0)" } ?? ""
    return """
      \(error.brief?.cause ?? error.message), so regions get sigsegv, the slowest delivery\(remedy); more: \
      lazy-mem-demo doctor
      """
  }

  /// Returns the deliveries that regions of a runtime with a userfaultfd may get. The runtime has to be ready for all
  /// of them.
  static func deliveries(needsSystemCalls: Bool) -> Set<Delivery> {
    var found: Set<Delivery> = []
    for permits in [false, true] {
      for hasTimeout in [false, true] {
        let region = AutomaticDelivery(
          descriptor: .available(.sigbus), needsSystemCalls: needsSystemCalls, permitsFaultingThread: permits,
          hasTimeout: hasTimeout)
        if case .choice(let choice) = region.outcome { found.insert(choice.delivery) }
      }
    }
    return found
  }
}

extension AutomaticDelivery.Outcome {
  /// The delivery; nil where no runtime can be made.
  var delivery: Delivery? { if case .choice(let choice) = self { choice.delivery } else { nil } }

  var reason: String {
    switch self {
    case .choice(let choice): choice.reason
    case .none(let reason): reason
    }
  }
}

extension AutomaticDelivery {
  /// Makes the decision for a region of a runtime with this configuration.
  init(
    _ configuration: FaultRuntimeConfiguration, _ descriptor: Descriptor, permitsFaultingThread: Bool, hasTimeout: Bool
  ) {
    self.init(
      descriptor: descriptor, needsDescriptor: configuration.descriptorChoice.onlyKind != nil,
      needsSystemCalls: configuration.needsSystemCalls, permitsFaultingThread: permitsFaultingThread,
      hasTimeout: hasTimeout)
  }
}
