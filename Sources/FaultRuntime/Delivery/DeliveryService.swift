/// What a runtime has for one delivery: the servers of its regions, and the threads behind them.
protocol DeliveryService: AnyObject, Sendable {
  /// The delivery; never `auto`.
  var delivery: Delivery { get }

  /// The kind of the userfaultfd; nil where there is none.
  var descriptor: DescriptorKind? { get }

  /// The features that the kernel offers for this descriptor; empty where there is none.
  var availableFeatures: UserfaultfdFeatures { get }

  /// The work that all servers have done.
  var statistics: FaultStatistics { get }

  /// Returns the server for one more region, and counts that region as one of the server's until ``release(_:)`` is
  /// called with the server.
  func takeServer() -> any RegionServer

  /// Notes that a region of `server` has ended, or could not be opened.
  func release(_ server: any RegionServer)

  /// Ends the threads, and waits for them: for the watchdog as long as `nanoseconds`, and as long again for all others
  /// together. Every region has to be closed before.
  func stop(nanoseconds: UInt64)
}

/// A delivery with a single server.
extension DeliveryService where Self: RegionServer {
  func takeServer() -> any RegionServer { self }
  func release(_ server: any RegionServer) {}
  func stop(nanoseconds: UInt64) {}
}
