import Testing

/// What the process of an exit test wrote, as far as the test observes it.
extension ExitTest.Result? {
  package var output: String { String(decoding: self?.standardOutputContent ?? [], as: UTF8.self) }
  package var errors: String { String(decoding: self?.standardErrorContent ?? [], as: UTF8.self) }
}
