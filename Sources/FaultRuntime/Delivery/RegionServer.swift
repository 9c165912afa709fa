/// What serves the faults of regions: one implementation for each delivery.
protocol RegionServer: AnyObject, Sendable {
  /// How faults are delivered; never `auto`.
  var delivery: Delivery { get }

  /// Which way to a userfaultfd was taken; nil where there is none.
  var descriptor: DescriptorKind? { get }

  /// The most that one fault may bring, in bytes.
  var widestFault: Int { get }

  var statistics: FaultStatistics { get }

  /// Maps memory of the kind that this delivery serves.
  ///
  /// - Parameters:
  ///   - byteCount: whole pages.
  ///   - alignment: a power of two of which the address is a multiple, where that can be had at no cost; 0 where any page will do.
  ///   - isTaken: whether a range is another region's.
  func makeMemory(
    byteCount: Int, alignment: Int, isWritable: Bool, pageSize: PageSize, isTaken: (AddressRange) -> Bool
  ) throws(HostCallError) -> any RegionMemory

  /// Begins to serve the faults of a region over memory of ``makeMemory(byteCount:alignment:isWritable:pageSize:isTaken:)``.
  func open(_ region: Region) throws(FaultRuntimeError)

  /// Ends the service of a region whose closing has begun, so that nobody can read a page that no provider gave.
  func close(_ region: Region)

  /// Fills a range, whole pages. Returns the first page that could not be filled.
  func prefetch(_ region: Region, _ range: Range<Int>) throws(FaultRuntimeError) -> BulkFiller.Failure?

  /// Asks the provider without putting the answer into the region. Returns false where it did not answer in time.
  func peek(_ job: PeekJob) throws(FaultRuntimeError) -> Bool
}
