/// A counter of the bytes that go into regions.
protocol FillCounter: AnyObject, Sendable {
  /// Counts bytes that are put into a region, before the threads that wait for them run again. The amount is negative
  /// for bytes that were counted and did not get in.
  func countBytesFilled(_ amount: Int)
}
