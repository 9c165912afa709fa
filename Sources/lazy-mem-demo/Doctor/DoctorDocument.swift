import FaultRuntime
import FoundationEssentials

/// The report as JSON for programs. Its names stay the same if names of the library change. A value that the host
/// does not report is null.
struct DoctorDocument: Encodable {
  struct Kernel: Encodable {
    var release: String
    var architecture: String
    var pageSize: Int
    var isGVisor: Bool
  }

  struct Process: Encodable {
    var user: UInt32
    var hasPtraceCapability: Bool
    @Explicit var hasSeccompFilter: Bool?
    @Explicit var hasNoNewPrivileges: Bool?
  }

  struct Feature: Encodable {
    var bit: Int
    var name: String
    @Explicit var since: String?
    @Explicit var isAvailable: Bool?
  }

  struct Descriptor: Encodable {
    var kind: String
    var isAvailable: Bool
    @Explicit var errno: String?
    var findings: [Finding]
  }

  struct Finding: Encodable {
    var cause: String
    var text: String
    var remedies: [Remedy]
  }

  struct Remedy: Encodable {
    var action: String
    @Explicit var command: String?
    var cost: String
  }

  struct Limits: Encodable {
    @Explicit var mappings: Int?
    @Explicit var openFiles: Int?
    @Explicit var addressSpaceBytes: Int?
    @Explicit var cgroupBytes: Int?
    @Explicit var cgroupUsedBytes: Int?
    @Explicit var freeHugePages: Int?
    @Explicit var hugePageBytes: Int?
    @Explicit var transparentHugePages: String?
    @Explicit var transparentHugePageBytes: Int?
  }

  struct Pick: Encodable {
    @Explicit var delivery: String?
    @Explicit var deliveryOfOtherProviders: String?
    @Explicit var descriptor: String?
    var reason: String
  }

  struct Auto: Encodable {
    var works: Bool
    var userModeFaults: Pick
    var kernelModeFaults: Pick
  }

  var kernel: Kernel
  @Explicit var isVirtualMachine: Bool?
  var isContainer: Bool
  var process: Process
  var descriptors: [Descriptor]
  var features: [Feature]
  var limits: Limits
  var warnings: [String]
  var auto: Auto

  init(_ report: HostReport) {
    kernel = Kernel(
      release: report.kernelRelease, architecture: report.architecture, pageSize: report.pageSize,
      isGVisor: report.isGVisor)
    isVirtualMachine = report.isVirtualMachine
    isContainer = report.isContainer
    process = Process(
      user: report.user, hasPtraceCapability: report.hasPtraceCapability, hasSeccompFilter: report.hasSeccompFilter,
      hasNoNewPrivileges: report.hasNoNewPrivileges)
    descriptors = report.ways.map { way in
      Descriptor(
        kind: way.kind.rawValue, isAvailable: way.isAvailable, errno: way.errno.map { "\($0)" },
        findings: way.findings.map { finding in
          Finding(
            cause: finding.cause.rawValue, text: finding.text,
            remedies: finding.remedies.map { Remedy(action: $0.action, command: $0.command, cost: $0.cost) })
        })
    }
    features = report.features.map { Feature(bit: $0.bit, name: $0.name, since: $0.since, isAvailable: $0.isAvailable) }
    let known = report.limits
    limits = Limits(
      mappings: known.mappings, openFiles: known.openFiles, addressSpaceBytes: known.addressSpaceByteCount,
      cgroupBytes: known.cgroupByteCount, cgroupUsedBytes: known.cgroupUsedByteCount,
      freeHugePages: known.freeHugePages,
      hugePageBytes: known.hugePageByteCount, transparentHugePages: known.transparentHugePages,
      transparentHugePageBytes: known.transparentHugePageByteCount)
    warnings = report.warnings
    auto = Auto(
      works: report.autoWorks, userModeFaults: Pick(report.userModeFaults),
      kernelModeFaults: Pick(report.kernelModeFaults))
  }

  func json() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(self), as: UTF8.self)
  }
}

extension DoctorDocument.Pick {
  init(_ pick: HostPick) {
    self.init(
      delivery: pick.delivery?.rawValue, deliveryOfOtherProviders: pick.deliveryOfOtherProviders?.rawValue,
      descriptor: pick.descriptor?.rawValue, reason: pick.reason)
  }
}

/// A value that is encoded as null if it is absent, so that every object has all its keys.
@propertyWrapper
struct Explicit<Value: Encodable>: Encodable {
  var wrappedValue: Value?

  init(wrappedValue: Value?) { self.wrappedValue = wrappedValue }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    if let wrappedValue { try container.encode(wrappedValue) } else { try container.encodeNil() }
  }
}
