package import FaultRuntime
import Synchronization

/// An archive with a part that cannot be read until the archive has been mended. Every byte of it has the same value.
package final class TornArchive: SizedPageProvider, CustomStringConvertible {
  /// The error for a request of the torn part.
  package struct Torn: Error, Hashable {
    package var offset: Int
  }

  package let byteCount: Int
  package let torn: Range<Int>
  private let isMended = Atomic(false)
  private let requestCount = Atomic(0)

  package init(byteCount: Int, torn: Range<Int> = 0..<0) {
    self.byteCount = byteCount
    self.torn = torn
  }

  package var description: String { "an archive of \(byteCount) bytes" }
  package var requestSize: RequestSize { .singlePage }
  package var permissions: ProviderPermissions { [.concurrentRequests, .signalHandler] }

  /// The number of requests so far.
  package var requests: Int { requestCount.load(ordering: .relaxed) }

  package func mend() { isMended.store(true, ordering: .relaxed) }

  package func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents {
    requestCount.add(1, ordering: .relaxed)
    guard isMended.load(ordering: .relaxed) || !request.range.overlaps(torn) else { throw Torn(offset: request.offset) }
    page.append(repeating: 0xA5, count: request.byteCount)
    return .filled
  }
}
