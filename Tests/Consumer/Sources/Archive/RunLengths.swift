package import FaultRuntime

/// Decodes run lengths: each two bytes of the inner provider are a count and a value. Every run has the same count,
/// so that an offset in the decoded bytes determines the offset in the encoded ones.
package struct RunLengths<Encoded: PageProvider>: PageProvider {
  package let encoded: Encoded
  /// The count of every run.
  package let runLength: Int

  package init(_ encoded: Encoded, runLength: Int) {
    self.encoded = encoded
    self.runLength = runLength
  }

  /// What the encoded provider permits, without the signal handler: `bytes(of:)` allocates.
  package var permissions: ProviderPermissions { encoded.permissions.subtracting(.signalHandler) }

  package func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents {
    let runs = (request.offset / runLength)..<((request.range.upperBound + runLength - 1) / runLength)
    let pairs = PageRequest(offset: 2 * runs.lowerBound, byteCount: 2 * runs.count)
    let decoded = try encoded.bytes(of: pairs)
    for run in runs {
      let start = max(request.offset, run * runLength)
      let end = min(request.range.upperBound, (run + 1) * runLength)
      page.append(repeating: decoded[2 * (run - runs.lowerBound) + 1], count: end - start)
    }
    return .filled
  }
}
