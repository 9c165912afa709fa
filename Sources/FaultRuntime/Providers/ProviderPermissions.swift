/// What a provider permits the runtime to do with it. Each permission can make faults faster, and each is a promise
/// of the provider.
///
/// ```swift
/// /// This provider takes no lock and does not allocate, but it reads from a disk.
/// var permissions: ProviderPermissions { [.concurrentRequests, .signalHandler] }
/// ```
///
/// The permissions and the delivery determine where a fault asks the provider:
///
/// | permissions | event loop | `sigbus` | `sigsegv` |
/// |---|---|---|---|
/// | none | pool, one thread at a time | refused | pool, on one thread |
/// | `.standard` | pool, several threads at a time | refused | pool, several threads at a time |
/// | `.handlerThread` | handler thread | refused | pool, on one thread |
/// | `.signalHandler`, `.concurrentRequests` | pool | faulting thread | faulting thread |
/// | `.inMemory` | handler thread | faulting thread | faulting thread |
///
/// With the event loop, a region with retries or a timeout always uses the pool.
public struct ProviderPermissions: OptionSet, Hashable, Sendable {
  /// The permissions as bits. The meaning of each bit may change between releases.
  public let rawValue: UInt32

  /// Creates permissions from bits.
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  /// Several threads may ask the provider at the same time. If the provider changes state of its own, a lock or
  /// atomics have to protect that state.
  ///
  /// Without this permission, one thread at a time asks for bytes of a region, for whatever purpose: a fault, a
  /// prefetch or a piece. A request that was given up after the timeout of the region still counts until the provider
  /// returns. The rule holds for each region by itself: a provider that is mapped twice may be asked by two threads
  /// at the same time, and has to be safe for that.
  public static let concurrentRequests = ProviderPermissions(rawValue: 1 << 0)

  /// The provider may run in a signal handler, on the thread that faulted. It must not allocate, must not take a lock
  /// that a thread may hold while it faults, and must not wait for another thread of this process. It may throw an
  /// error, although that allocates, because the access fails then.
  ///
  /// A thread can fault at any time, so the runtime uses this permission only together with ``concurrentRequests``.
  public static let signalHandler = ProviderPermissions(rawValue: 1 << 1)

  /// The provider returns quickly, so a handler thread of the event loop may ask it. All other faults of that handler
  /// wait meanwhile.
  ///
  /// Such a provider does not read from a disk or a network, does not wait for a lock that is held for long, and
  /// computes for microseconds only. Without this permission, the event loop asks the provider on the pool
  /// (``FaultRuntimeConfiguration/providerThreads``), where only the threads that need its pages wait.
  public static let handlerThread = ProviderPermissions(rawValue: 1 << 2)

  /// The permissions of a provider that does not state any: ``concurrentRequests``. Such a provider may take its
  /// time, allocate and use locks.
  public static let standard: ProviderPermissions = [.concurrentRequests]

  /// All permissions. They suit a provider whose bytes are in memory or follow from a little arithmetic.
  public static let inMemory: ProviderPermissions = [.concurrentRequests, .signalHandler, .handlerThread]
}

extension ProviderPermissions: CustomStringConvertible {
  /// The names of the permissions, or `none`.
  public var description: String {
    let names: [(ProviderPermissions, String)] = [
      (.concurrentRequests, "concurrentRequests"), (.signalHandler, "signalHandler"), (.handlerThread, "handlerThread"),
    ]
    let held = names.filter { contains($0.0) }.map(\.1)
    return held.isEmpty ? "none" : held.joined(separator: ", ")
  }
}

extension PageProvider {
  /// Whether the thread that faulted may ask this provider in its signal handler.
  var mayRunInFaultingThread: Bool { permissions.isSuperset(of: [.signalHandler, .concurrentRequests]) }
}
