/// The delivery that a region gets, and the reason. ``FaultRuntime/deliveryChoice(for:options:)`` returns it.
///
/// ```swift
/// let choice = runtime.deliveryChoice(for: ZeroProvider())
/// print(choice.delivery, choice.reason)
/// ```
public struct DeliveryChoice: Hashable, Sendable {
  /// The delivery; never `auto`.
  public let delivery: Delivery
  /// The reason, in one line.
  public let reason: String
}
