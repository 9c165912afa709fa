package import FaultRuntime
import Synchronization

/// Asks another provider once for each range, and keeps its answers.
package struct Cached<Base: PageProvider>: PageProvider {
  private final class Memory: Sendable {
    let answers = Mutex<[Int: [UInt8]]>([:])
  }

  package let base: Base
  private let memory = Memory()

  package init(_ base: Base) { self.base = base }

  package var requestSize: RequestSize { .singlePage }

  package func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents {
    if let known = memory.answers.withLock({ $0[request.offset] }) {
      page.append(known)
      return .filled
    }
    let bytes = try base.bytes(of: request)
    memory.answers.withLock { $0[request.offset] = bytes }
    page.append(bytes)
    return .filled
  }
}
