@testable import FaultRuntime

/// A server that serves nothing, for regions that no delivery knows.
final class NoServer: FaultServer {
  var group: ObjectIdentifier { ObjectIdentifier(self) }
  func serve(_ fault: PendingFault, of region: Region, signal: CInt, _ nesting: FaultNesting) -> Bool { false }
}

extension Region {
  /// Creates a region over anonymous memory that no delivery knows, for tests of single parts.
  convenience init(
    testing provider: some PageProvider, byteCount: Int, options: RegionOptions = RegionOptions(),
    userfaultfd: SharedUserfaultfd? = nil
  ) throws {
    let owner = try userfaultfd ?? SharedUserfaultfd(Userfaultfd.open(DescriptorKind.allCases, wanting: []))
    try self.init(
      provider: provider, byteCount: byteCount, options: options, name: "test", pageSize: .ofHost(),
      server: NoServer()
    ) { mapped throws(HostCallError) in
      let range = try AddressRange.reservedForRegion(
        byteCount: mapped, alignment: 0, isWritable: options.access == .readWrite, isTaken: { _ in false })
      return AnonymousMemory(
        range, isWritable: options.access == .readWrite, pageSize: .ofHost(), userfaultfd: owner)
    }
  }
}

extension SigsegvServer {
  /// Creates a server that belongs to no runtime, for tests of a pool.
  convenience init(testing pool: ProviderPool) throws {
    try self.init(
      configuration: FaultRuntimeConfiguration(delivery: .sigsegv), pageSize: .ofHost(), pool: pool,
      notices: Notices(hook: nil))
  }
}

extension LazyRegion {
  /// The handler that serves this region; nil for another delivery.
  var eventLoop: EventLoop? { server as? EventLoop }
  /// The memory of a region that is served by `sigsegv`; nil for another delivery.
  var twin: TwinMemory? { core.memory as? TwinMemory }
}

extension Region {
  /// The number of users of all handles of this region in the table; nil if it has none.
  var usersInTable: Int? {
    unsafe AddressSpace.ofThisProcess.regions.reading { snapshot in
      guard let entry = unsafe snapshot.pointee.entry(containing: range.start),
        let handles = unsafe entry.pointee.handles
      else { return nil }
      return (0..<Lane.count).reduce(0) { count, lane in
        unsafe count
          + Unmanaged<TableHandle<Region>>.fromOpaque(handles[lane])._withUnsafeGuaranteedRef { $0.userCount }
      }
    }
  }
}
