/// The name of a provider, for messages.
///
/// Swift's runtime takes a lock for the name of a type, each time. Another thread may fork meanwhile, and in the child
/// no thread would ever release that lock, so that a child which maps a region would wait without end. For that reason
/// each name is asked for once, and forks wait meanwhile.
enum ProviderName {
  private static let names = Monitor<[ObjectIdentifier: String]>([:])

  static func prepareForFork() { names.prepareForFork() }

  /// The description of a provider that has one, and otherwise the name of its type. A description is code of the
  /// program, so no lock is held for it.
  static func of<Provider: PageProvider>(_ provider: Provider) -> String {
    if let provider = provider as? any CustomStringConvertible { return provider.description }
    return names.withLock { names in
      if let name = names[ObjectIdentifier(Provider.self)] { return name }
      let name = "\(Provider.self)"
      names[ObjectIdentifier(Provider.self)] = name
      return name
    }
  }
}
