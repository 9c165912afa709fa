import FaultRuntime

/// The report as text for people. The verdict comes first. Each way that is closed is shown with what would open it.
struct DoctorText {
  private var report: HostReport
  private var layout: TextLayout

  init(_ report: HostReport, _ layout: TextLayout = TextLayout()) {
    self.report = report
    self.layout = layout
  }

  var text: String {
    [verdict, table(host), ways, features, table(limits)].joined(separator: "\n\n")
  }

  private var host: [(String, String)] {
    var process = "user \(report.user), " + (report.hasPtraceCapability ? "CAP_SYS_PTRACE" : "no CAP_SYS_PTRACE")
    if report.hasSeccompFilter == true { process += ", a seccomp filter" }
    if report.hasNoNewPrivileges == true { process += ", no_new_privs" }
    let machine: String =
      switch report.isVirtualMachine {
      case true?: "virtual: waking a thread on another CPU is slow"
      case false?: "no hypervisor says that it is there"
      case nil: "the processor does not say whether it is virtual"
      }
    let container = report.isContainer ? "; a container: \(report.containerEvidence.joined(separator: ", "))" : ""
    return [
      (
        "kernel",
        (report.isGVisor ? "gVisor, calling itself Linux " : "Linux ")
          + "\(report.kernelRelease), \(report.architecture), "
          + "pages of \(report.pageSize) bytes"
      ),
      ("machine", machine + container),
      ("process", process),
    ]
  }

  private var ways: String {
    report.ways.map { way in
      let name = padded(way.kind.rawValue, 24)
      guard !way.isAvailable else { return name + "yes" }
      let said = way.errno.map { ", \($0)" } ?? ""
      var lines = [name + "no\(said)"]
      // The same device node guards both kinds of descriptor from the device, so the second kind refers to the first.
      if let same = report.ways.first(where: { !$0.isAvailable && $0.findings == way.findings }), same.kind != way.kind
      {
        return lines[0] + ", as for \(same.kind.rawValue)"
      }
      for finding in way.findings {
        lines += wrapped("because", finding.text)
        for remedy in finding.remedies {
          lines += wrapped("remedy", remedy.action)
          // The line is not wrapped, so that a user can copy it.
          if let command = remedy.command { lines.append(padded("    command", 14) + command) }
          lines += wrapped("cost", remedy.cost)
        }
      }
      return lines.joined(separator: "\n")
    }.joined(separator: "\n")
  }

  private var features: String {
    let rows = report.features.map { feature in
      let answer = feature.isAvailable.map { $0 ? "yes" : "no" } ?? "?"
      return padded(answer, 5) + padded(feature.name, 22) + "Linux \(feature.since ?? "later than this library")"
    }
    return rows.joined(separator: "\n")
  }

  private var limits: [(String, String)] {
    let known = report.limits
    func shown(_ value: Int?) -> String { value.map { "\($0)" } ?? "no limit told" }
    func size(_ value: Int?) -> String { value.map { ByteCount($0).text } ?? "no limit told" }
    let cgroup = known.cgroupByteCount.map { "\(ByteCount($0).text), \(size(known.cgroupUsedByteCount)) used" }
    return [
      ("mappings", shown(known.mappings)),
      ("open files", shown(known.openFiles)),
      ("address space", size(known.addressSpaceByteCount)),
      ("cgroup", cgroup ?? "no limit told"),
      ("huge pages", "\(shown(known.freeHugePages)) free, of \(size(known.hugePageByteCount)) each"),
      (
        "transparent",
        "\(known.transparentHugePages ?? "none"), of \(size(known.transparentHugePageByteCount))"
      ),
    ]
  }

  /// What works here and what the library uses, before the details.
  private var verdict: String {
    var lines = [report.autoWorks ? "auto works here" : "auto does not work here"]
    lines += wrapped("user code", sentence(report.userModeFaults), indent: 0)
    lines += wrapped("system calls", sentence(report.kernelModeFaults), indent: 0)
    lines += report.warnings.map { layout.wrapped("WARNING: \($0)") }
    return lines.joined(separator: "\n")
  }

  private func sentence(_ pick: HostPick) -> String {
    guard let delivery = pick.delivery else { return "none: \(pick.reason)" }
    let other =
      pick.deliveryOfOtherProviders.flatMap { $0 == delivery ? nil : ", \($0.rawValue) for other providers" } ?? ""
    return "\(delivery.rawValue)\(other)" + (pick.descriptor.map { ", over \($0.rawValue)" } ?? "") + ": \(pick.reason)"
  }

  private func table(_ rows: [(String, String)]) -> String {
    rows.flatMap { wrapped($0.0, $0.1, indent: 0) }.joined(separator: "\n")
  }

  /// Returns a name and a text beside it.
  private func wrapped(_ name: String, _ text: String, indent: Int = 4) -> [String] {
    layout.entry(name, text, indent: indent, width: indent == 0 ? 15 : 14)
  }

  private func padded(_ text: String, _ width: Int) -> String { TextLayout.padded(text, width) }
}
