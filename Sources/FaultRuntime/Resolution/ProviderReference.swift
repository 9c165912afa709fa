/// The provider of a region, without its type.
///
/// A region calls its provider through this class and not through a closure, because a call of a closure counts a
/// reference to what the closure has captured. All faulting threads would write to that count, and it would never go
/// down again if a handler of the program left the call by `siglongjmp`.
// Safe to share: the class has no field. Each subclass says the same of its own fields.
class ProviderReference: @unchecked Sendable {
  func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents {
    fatalError("FaultRuntime: a provider reference without a provider")
  }
}

/// A provider that may be asked as its permissions say.
// Safe to share: its only field is Sendable and never changes.
final class TypedProviderReference<Provider: PageProvider>: ProviderReference, @unchecked Sendable {
  private let provider: Provider

  init(_ provider: Provider) { self.provider = provider }

  override func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents {
    try provider.page(request, into: &page)
  }
}

/// A provider that several threads want to ask, but only one at a time may.
// Safe to share: its fields are Sendable and never change.
final class SoleProviderReference<Provider: PageProvider>: ProviderReference, @unchecked Sendable {
  private let provider: Provider
  private let sole: SoleAsker

  init(_ provider: Provider, _ sole: SoleAsker) {
    self.provider = provider
    self.sole = sole
  }

  override func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents {
    try sole.ask(request) { try provider.page(request, into: &page) }
  }
}
