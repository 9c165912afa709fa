/// A region, and what serves its faults in signal handlers. This is what the table of the process holds.
@safe
final class SignalledRegion: TableMember {
  let range: AddressRange
  let region: Region
  let server: any FaultingThreadServer

  init(_ region: Region, server: any FaultingThreadServer) {
    range = region.range
    self.region = region
    self.server = server
  }
}
