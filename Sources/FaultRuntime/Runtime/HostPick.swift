/// What `Delivery.auto` can do for one kind of fault.
public struct HostPick: Hashable, Sendable {
  /// The delivery for providers that permit the faulting thread (``ProviderPermissions/signalHandler``); nil where
  /// none works.
  public let delivery: Delivery?
  /// The delivery for all other providers; nil where none works. Where it is ``Delivery/eventLoop``, regions with a
  /// timeout have it, too; otherwise they are an error.
  public let deliveryOfOtherProviders: Delivery?
  /// The descriptor that it goes over; nil where none works, and where none is needed.
  public let descriptor: DescriptorKind?
  /// Why, in one line.
  public let reason: String
}
