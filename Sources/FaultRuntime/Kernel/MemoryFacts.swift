internal import CUFFD

/// What limits the memory of this process, and how much of it is used. A value is nil where there is no such limit, or
/// where the host does not tell.
struct MemoryFacts: Hashable, Sendable {
  var mappings: Int?
  var mappingLimit: Int?
  var addressSpaceByteCount: Int?
  var addressSpaceLimit: Int?
  var dataByteCount: Int?
  var dataLimit: Int?
  var lockedByteCount: Int?
  var lockedLimit: Int?
  /// Whether new mappings are locked (`mlockall(2)` with `MCL_FUTURE`).
  var locksMappings = false
  var fileSizeLimit: Int?
  /// Whether `vm.overcommit_memory` is 2.
  var promisesNoMore = false
  /// How many bytes the host may still promise.
  var promisableByteCount: Int?
}

extension MemoryFacts {
  /// How far from the limit of mappings the process may be although that limit is the cause. What had been mapped
  /// before the refusal is unmapped again when the facts are looked up, and other threads go on.
  static let mappingMargin = 40

  /// Looks the facts up, at the time of a failure. It reads small pieces of files in `/proc`, and allocates nothing, so
  /// that it works where there is no memory. Where the process has no descriptor left, little is known.
  static func ofThisProcess() -> MemoryFacts {
    var known = cuffd_memory()
    unsafe cuffd_memory_facts(&known)
    func value(_ number: Int64) -> Int? { number < 0 ? nil : Int(clamping: number) }
    return MemoryFacts(
      mappings: value(known.mappings), mappingLimit: value(known.mapping_limit),
      addressSpaceByteCount: value(known.address_space), addressSpaceLimit: value(known.address_space_limit),
      dataByteCount: value(known.data), dataLimit: value(known.data_limit),
      lockedByteCount: value(known.locked), lockedLimit: value(known.locked_limit),
      locksMappings: known.locks_mappings,
      fileSizeLimit: value(known.file_size_limit), promisesNoMore: known.promises_no_more,
      promisableByteCount: value(known.promisable))
  }

  /// Returns why the kernel refused to map `byteCount` bytes with this error; nil for an error that no limit explains.
  func shortage(mapping byteCount: Int, _ errno: KernelErrno) -> MemoryShortage? {
    switch errno {
    case .resourceTemporarilyUnavailable: return .lockedMemory(limit: lockedLimit)
    case .fileTooLarge: return .fileSize(limit: fileSizeLimit)
    case .tooManyOpenFiles, .tooManyOpenFilesInSystem: return .openFiles
    case .noMemory: break
    default: return nil
    }
    if let mappings, let mappingLimit, mappings &+ Self.mappingMargin >= mappingLimit {
      return .mappings(mappings, limit: mappingLimit)
    }
    func exceeds(_ used: Int?, _ limit: Int?) -> Bool {
      guard let limit else { return false }
      let (sum, overflows) = (used ?? 0).addingReportingOverflow(byteCount)
      return overflows || sum > limit
    }
    // No process has more than this, so that it is the cause whatever the limits are.
    if byteCount >= 1 << 47 { return .addresses }
    if let addressSpaceLimit, exceeds(addressSpaceByteCount, addressSpaceLimit) {
      return .addressSpace(limit: addressSpaceLimit)
    }
    if let dataLimit, exceeds(dataByteCount, dataLimit) { return .data(limit: dataLimit) }
    if locksMappings, let lockedLimit, exceeds(lockedByteCount, lockedLimit) {
      return .lockedMemory(limit: lockedLimit)
    }
    if promisesNoMore, exceeds(0, promisableByteCount) { return .overcommit }
    return byteCount >= 1 << 40 ? .addresses : .unknown
  }
}

extension ResolutionError {
  /// Makes the error of a request for which no buffer of `byteCount` bytes can be mapped, and looks up why.
  static func noBuffer(of byteCount: Int) -> ResolutionError {
    .noBuffer(MemoryFacts.ofThisProcess().shortage(mapping: byteCount, .noMemory) ?? .unknown)
  }
}
