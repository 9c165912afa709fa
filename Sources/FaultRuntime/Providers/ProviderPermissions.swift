/// What a provider permits the runtime to do with it. Each permission makes it faster, and is a promise of the provider's.
///
/// | permissions | event loop | `sigbus` | `sigsegv` |
/// |---|---|---|---|
/// | none | on the pool, one thread at a time | refused | on one helper thread |
/// | `.standard` | on the pool, several threads at a time | refused | on several helper threads |
/// | `.handlerThread` | on the handler thread | refused | on one helper thread |
/// | `.signalHandler`, `.concurrentRequests` | on the pool | on the thread that faulted | on the thread that faulted |
/// | `.inMemory` | on the handler thread | on the thread that faulted | on the thread that faulted |
public struct ProviderPermissions: OptionSet, Hashable, Sendable {
  /// The permissions as bits. Which bit is which permission may change between releases.
  public let rawValue: UInt32

  /// Permissions with these bits.
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  /// Several threads may ask at a time. Where the provider changes state of its own, a lock or atomics protect it.
  ///
  /// Without it, one thread at a time asks for bytes of a region, whatever they are wanted for: a fault, a prefetch or a piece.
  /// A request that was given up after the region's deadline counts until it returns. Each region is by itself: a provider that
  /// is mapped twice may be asked by two threads all the same, and needs this permission and what it takes.
  public static let concurrentRequests = ProviderPermissions(rawValue: 1 << 0)

  /// The provider may run in a signal handler, on the thread that faulted: it does not allocate, takes no lock that a thread may
  /// hold while it faults, and does not wait for another thread of this process. Throwing an error is fine, though it
  /// allocates: the access ends there.
  ///
  /// Threads fault whenever they want, so the runtime makes use of this only together with ``concurrentRequests``.
  public static let signalHandler = ProviderPermissions(rawValue: 1 << 1)

  /// The provider returns promptly, so it may be asked on a handler thread of the event loop, where every fault behind it waits.
  ///
  /// It does not read a disk or a network, waits for no lock that is held for long, and computes for microseconds. Without it
  /// the event loop asks the provider on the pool (``FaultRuntimeConfiguration/providerThreads``), where it holds up nobody but
  /// those who wait for its pages.
  public static let handlerThread = ProviderPermissions(rawValue: 1 << 2)

  /// What a provider permits that says nothing: ``concurrentRequests``. It may take its time, allocate and use locks.
  public static let standard: ProviderPermissions = [.concurrentRequests]

  /// All of them: for a provider whose bytes are in memory, or follow from a little arithmetic.
  public static let inMemory: ProviderPermissions = [.concurrentRequests, .signalHandler, .handlerThread]
}

extension ProviderPermissions: CustomStringConvertible {
  /// The names of the permissions, in words.
  public var description: String {
    let names: [(ProviderPermissions, String)] = [
      (.concurrentRequests, "concurrentRequests"), (.signalHandler, "signalHandler"), (.handlerThread, "handlerThread"),
    ]
    let held = names.filter { contains($0.0) }.map(\.1)
    return held.isEmpty ? "none" : held.joined(separator: ", ")
  }
}

extension PageProvider {
  /// Whether the thread that faulted may ask.
  var mayRunInFaultingThread: Bool { permissions.isSuperset(of: [.signalHandler, .concurrentRequests]) }
}
