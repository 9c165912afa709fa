/// What ``Delivery/auto`` does on a host, either for faults of user code only, or with system calls served as well.
public struct HostPick: Hashable, Sendable {
  /// The delivery for providers that permit the faulting thread (``ProviderPermissions/signalHandler`` together with
  /// ``ProviderPermissions/concurrentRequests``); nil where no delivery works.
  public let delivery: Delivery?
  /// The delivery for all other providers; nil where no delivery works. Where this is ``Delivery/eventLoop``, regions
  /// with a timeout get it, too. Otherwise such regions are an error.
  public let deliveryOfOtherProviders: Delivery?
  /// The kind of userfaultfd that the delivery uses; nil where no delivery works, and where the delivery needs none.
  public let descriptor: DescriptorKind?
  /// The reason, in one line.
  public let reason: String
}
