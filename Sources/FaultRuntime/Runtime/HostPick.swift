/// What `Delivery.auto` can do for one kind of fault.
public struct HostPick: Hashable, Sendable {
  /// The delivery for providers that permit the faulting thread (``PageProvider/mayRunInFaultingThread``); nil where
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

extension HostPick {
  static func none(because reasons: [String]) -> HostPick {
    HostPick(delivery: nil, deliveryOfOtherProviders: nil, descriptor: nil, reason: sentence(reasons))
  }

  static func withoutDescriptor(because reasons: [String]) -> HostPick {
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
