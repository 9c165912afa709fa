/// The name of a provider, for messages.
///
/// Swift's runtime takes a lock for the name of a type, each time. Another thread may fork meanwhile, and in the child
/// no thread would ever release that lock, so that a child which maps a region would wait without end. For that reason
/// forks wait until no region's provider is being named.
enum ProviderName {
  private static let naming = Monitor(())

  static func prepareForFork() { naming.prepareForFork() }

  /// The description of a provider that has one, and otherwise the name of its type. A description is code of the
  /// program, so no lock is held for it.
  static func of<Provider: PageProvider>(_ provider: Provider) -> String {
    (provider as? any CustomStringConvertible)?.description ?? naming.withLock { _ in "\(Provider.self)" }
  }
}
