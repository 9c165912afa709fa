/// What counts the bytes that go into regions.
protocol FillCounter: AnyObject, Sendable {
  /// Counts bytes that are put into a region, before the threads run that wait for them. The amount is negative for bytes that
  /// were counted and did not come.
  func countBytesFilled(_ amount: Int)
}
