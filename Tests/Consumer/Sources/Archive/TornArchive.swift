package import FaultRuntime
import Synchronization

/// An archive of which a part cannot be read until it has been mended. The rest of it is one byte, again and again.
package final class TornArchive: SizedPageProvider, CustomStringConvertible {
  /// What a request for the torn part ends with.
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

  /// How often it has been asked for something.
  package var requests: Int { requestCount.load(ordering: .relaxed) }

  package func mend() { isMended.store(true, ordering: .relaxed) }

  package func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents {
    requestCount.add(1, ordering: .relaxed)
    guard isMended.load(ordering: .relaxed) || !request.range.overlaps(torn) else { throw Torn(offset: request.offset) }
    page.append(repeating: 0xA5, count: request.byteCount)
    return .filled
  }
}
