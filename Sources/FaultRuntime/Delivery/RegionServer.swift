/// Serves regions from their opening to their end. Each delivery is one implementation.
protocol RegionServer: FaultServer {
  /// How faults are delivered; never `auto`.
  var delivery: Delivery { get }

  /// The way in which the userfaultfd was opened; nil where there is none.
  var descriptor: DescriptorKind? { get }

  /// The most that one fault may bring, in bytes.
  var widestFault: Int { get }

  /// Maps memory of the kind that this delivery serves.
  ///
  /// - Parameters:
  ///   - byteCount: the length in bytes, a multiple of the page size.
  ///   - alignment: a power of two. The address is a multiple of it where that costs nothing. With 0 any page will
  ///     do.
  /// - Throws: a ``HostCallError`` where the kernel refuses the memory.
  func makeMemory(
    byteCount: Int, alignment: Int, isWritable: Bool, pageSize: PageSize
  ) throws(HostCallError) -> any RegionMemory

  /// Begins to serve the faults of a region, whose memory comes from
  /// ``makeMemory(byteCount:alignment:isWritable:pageSize:)``.
  func open(_ region: Region) throws(FaultRuntimeError)

  /// Ends the service of a region whose closing has begun. No thread can read a page that no provider gave.
  func close(_ region: Region)

  /// Fills a range of whole pages, and waits until that has ended. Returns nil, or the first page that could not be
  /// filled.
  func prefetch(_ region: Region, _ range: Range<Int>) throws(FaultRuntimeError) -> BulkFiller.Failure?

  /// Asks the provider for bytes without putting them into the region, and waits for them. Returns false if the
  /// answer did not come in time.
  func peek(_ job: PeekJob) throws(FaultRuntimeError) -> Bool
}
