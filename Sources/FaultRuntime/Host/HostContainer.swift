/// The engine that has made a container. It decides which commands change what the container may do.
enum ContainerEngine: Hashable, Sendable {
  case docker
  case podman
  case kubernetes
  case lxc
  case systemdNspawn
  /// Nothing tells which one.
  case unknown
}

/// The conclusion that the process runs in a container.
struct HostContainer: Hashable, Sendable {
  var engine: ContainerEngine
  /// What the conclusion rests on, each in a few words; never empty.
  var evidence: [String]
}

extension HostFacts {
  /// The container that the process runs in; nil where it runs in none, as far as the facts show.
  ///
  /// A PID namespace of its own, the name of a cgroup, and what process 1 was told are enough by themselves. Files and
  /// variables can be left over, or inherited, so they count only together with the mounts of a container.
  var container: HostContainer? {
    let proofs = proofsOfContainer
    let mounts = containerMounts
    let marks = containerMarks
    let isContainer =
      !proofs.isEmpty || (!seesWhatInitSees && (!mounts.isEmpty && !marks.isEmpty || mounts.count > 1))
    return isContainer ? HostContainer(engine: containerEngine, evidence: proofs + mounts + marks) : nil
  }

  var isContainer: Bool { container != nil }

  /// Whether the process has the mounts and the PID namespace of the host's own process 1.
  private var seesWhatInitSees: Bool {
    containing.processNamespace == .initial && containing.sharesMountsWithInit == true
  }

  private var proofsOfContainer: [String] {
    var found: [String] = []
    if isGVisor { found.append("gVisor runs containers only") }
    let hasOtherNamespace = containing.processNamespace == .other || containing.processNumbers ?? 1 > 1
    // Each distribution of the Windows Subsystem for Linux has a PID namespace of its own.
    if hasOtherNamespace, !isGVisor, !isWindowsSubsystem { found.append("a PID namespace of its own") }
    if let name = containing.variableOfInit { found.append("container=\(name) in the environment of process 1") }
    if let path = containing.cgroups.first(where: Self.isOfContainer) { found.append("the cgroup \(path)") }
    return found
  }

  private var containerMounts: [String] {
    var found: [String] = []
    if ["/docker/", "/containers/storage/", "containerd", "/lib/lxc/", "/libpod/"].contains(
      where: containing.mounts.rootSource.contains)
    {
      found.append("a root among the files of an engine")
    } else if containing.sharesMountsWithInit == false, containing.mounts.rootType?.contains("overlay") == true {
      found.append("an overlay as its root, and another one than process 1")
    }
    if containing.mounts.mountedFiles.count == MountFacts.engineFiles.count {
      found.append("mounts over " + containing.mounts.mountedFiles.sorted().joined(separator: ", "))
      // Units of systemd and chroots have such a root as well, but not these mounts.
      if containing.mounts.rootIsFolder { found.append("a folder as its root") }
    }
    return found
  }

  private var containerMarks: [String] {
    var found = containing.markers.sorted()
    if let name = containing.variable { found.append("container=\(name)") }
    if let name = containing.systemdSays { found.append("\(name) in /run/systemd/container") }
    if containing.hasKubernetesService { found.append("KUBERNETES_SERVICE_HOST") }
    return found
  }

  private var isWindowsSubsystem: Bool { release.lowercased().contains("microsoft") }

  /// Whether the path of a cgroup is one that an engine gives to a container.
  static func isOfContainer(_ cgroup: String) -> Bool {
    let names = cgroup.split(separator: "/")
    return names.contains { name in
      if ["kubepods", "lxc.payload"].contains(where: { name.hasPrefix($0) }) || name == "payload" { return true }
      // podman's monitor of a container runs on the host, in a cgroup with the number of the container.
      guard !name.contains("conmon") else { return false }
      // A number as engines give it stands alone, or behind the engine's name in the name of a unit of systemd.
      let unit = name.hasSuffix(".scope") ? name.dropLast(6) : name
      let number = unit.split(separator: "-").last ?? ""
      return number.count == 64 && number.allSatisfy(\.isHexDigit)
    }
  }

  private var containerEngine: ContainerEngine {
    let said = [containing.variableOfInit, containing.variable, containing.systemdSays].compactMap(\.self)
    func isSeen(_ names: String...) -> Bool {
      names.contains { name in
        said.contains(name) || containing.cgroups.contains { $0.contains(name) }
          || containing.mounts.rootSource.contains("/\(name)/")
      }
    }
    if containing.hasKubernetesService || containing.markers.contains(ContainerFacts.kubernetesMarker)
      || isSeen("kubepods")
    {
      return .kubernetes
    }
    if containing.markers.contains(ContainerFacts.podmanMarker) || isSeen("podman", "libpod") { return .podman }
    if containing.markers.contains(ContainerFacts.dockerMarker) || isSeen("docker") { return .docker }
    if isSeen("lxc", "lxc.payload") { return .lxc }
    return isSeen("systemd-nspawn") ? .systemdNspawn : .unknown
  }
}
