/// Serves the faults of regions. Each delivery has an implementation.
protocol FaultServer: AnyObject, Sendable {
  /// Identifies the ``RegionGroup`` of this server's regions.
  var group: ObjectIdentifier { get }

  /// Serves a fault in a signal handler, on the thread that faulted.
  ///
  /// - Parameters:
  ///   - signal: the number of the signal.
  ///   - nesting: what the thread is answering already.
  /// - Returns: false where the signal is not about a missing page of the region. It then goes to the handler that the
  ///   process had before.
  func serve(_ fault: PendingFault, of region: Region, signal: CInt, _ nesting: FaultNesting) -> Bool
}
