package import FaultRuntime

/// Bytes that are not stored anywhere: each is computed from its offset. Every delivery may serve them.
package struct Squares: SizedPageProvider {
  package let byteCount: Int
  package let requestSize: RequestSize

  package init(byteCount: Int, requestSize: RequestSize = .standard) {
    self.byteCount = byteCount
    self.requestSize = requestSize
  }

  package var permissions: ProviderPermissions { .inMemory }

  package static func byte(at offset: Int) -> UInt8 { UInt8(truncatingIfNeeded: offset &* offset &+ offset >> 8) }

  package func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents {
    page.append { free in
      for offset in request.range { free.append(Self.byte(at: offset)) }
    }
    return .filled
  }
}
