/// Which delivery a region gets, and why.
public struct DeliveryChoice: Hashable, Sendable {
  /// The delivery; never `auto`.
  public let delivery: Delivery
  /// Why, in one line.
  public let reason: String
}
