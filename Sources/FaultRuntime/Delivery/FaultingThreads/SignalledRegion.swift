/// A region together with the server of its faults in signal handlers. The dispatcher's table consists of these.
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
