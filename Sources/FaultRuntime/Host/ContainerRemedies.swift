/// What helps in a container: options of the engine that has made it. Commands that change the host, such as
/// `mknod(1)` or `systemctl(1)`, have no effect there.
extension ContainerEngine {
  /// The device, which needs no change of a seccomp profile.
  var deviceRemedy: HostRemedy {
    let device = Userfaultfd.devicePath
    let (action, command): (String, String?) =
      switch self {
      case .docker, .podman:
        ("give the container the device; no change of its seccomp profile is needed", run("--device \(device)"))
      case .unknown:
        (
          "give the container the device (podman takes the same option; with runc it is linux.devices); no change of "
            + "its seccomp profile is needed", "docker run --device \(device) ..."
        )
      case .kubernetes:
        (
          "give the pod the device through a device plugin that offers \(device); a hostPath volume of it is enough "
            + "in a privileged container only", nil
        )
      case .lxc:
        (
          "give the container the device",
          "lxc config device add CONTAINER userfaultfd unix-char source=\(device) path=\(device)"
        )
      case .systemdNspawn:
        ("give the container the device", run("--bind=\(device) --property=DeviceAllow='\(device) rw'"))
      }
    return HostRemedy(
      action: action, command: command, cost: .deviceCost, brief: command ?? "a device plugin for \(device)")
  }

  /// The seccomp rule that lets only user-mode-only descriptors through.
  var filterRemedy: HostRemedy {
    let action = "allow the call in the seccomp profile, with UFFD_USER_MODE_ONLY and nothing else"
    let base = self == .podman ? "/usr/share/containers/seccomp.json" : "BASE.json"
    let make = "lazy-mem-demo seccomp-profile --base \(base) > PROFILE.json"
    let maker = " (by lazy-mem-demo seccomp-profile)"
    switch self {
    case .docker, .podman, .unknown:
      let use = (self == .podman ? "podman" : "docker") + " run --security-opt seccomp=PROFILE.json"
      return HostRemedy(action: action, command: "\(make) && \(use) ...", cost: .ruleCost, brief: use + maker)
    case .kubernetes:
      return HostRemedy(
        action: "\(action); the pod says seccompProfile: {type: Localhost, localhostProfile: PROFILE.json}, and the "
          + "file is in the kubelet's folder of profiles",
        command: make, cost: .ruleCost, brief: "a Localhost seccompProfile" + maker)
    case .lxc:
      return HostRemedy(
        action: "allow userfaultfd in the file that lxc.seccomp.profile names", command: nil, cost: .callCost)
    case .systemdNspawn:
      return HostRemedy(
        action: "allow userfaultfd in the filter of the container", command: run("--system-call-filter=userfaultfd"),
        cost: .callCost)
    }
  }

  /// The capability. Engines give added capabilities to the container's root user only.
  func capabilityRemedy(isRoot: Bool) -> HostRemedy {
    let rest = isRoot ? "" : ", and run as its root"
    let user = isRoot ? "" : " --user 0"
    let command: String? =
      switch self {
      case .docker, .podman: run("--cap-add SYS_PTRACE\(user)")
      case .unknown: "docker run --cap-add SYS_PTRACE\(user) ..."
      case .systemdNspawn: run("--capability=CAP_SYS_PTRACE\(isRoot ? "" : " --user=root")")
      case .kubernetes, .lxc: nil
      }
    let action =
      switch self {
      case .kubernetes: "give the container the capability in securityContext.capabilities.add: [SYS_PTRACE]"
      case .lxc: "leave sys_ptrace out of lxc.cap.drop"
      default: "give the container the capability"
      }
    return HostRemedy(action: action + rest, command: command, cost: .ptraceCost)
  }

  /// The rights of the node. The node in a container has the rights that the host's had when the container was made.
  var permissionRemedies: [HostRemedy] {
    [
      HostRemedy(
        action: "run as the container's root, which owns the device there",
        command: self == .unknown
          ? "docker run --user 0 --device \(Userfaultfd.devicePath) ..."
          : run("--user 0 --device \(Userfaultfd.devicePath)"),
        cost: "the program is root in its container, and may hold up the host's kernel in a fault"),
      HostRemedy(
        action: "on the host, let everybody open the device, and make the container anew",
        command: "chmod 0666 \(Userfaultfd.devicePath)", cost: .everybodyCost),
    ]
  }

  var openFilesRemedy: HostRemedy {
    HostRemedy(
      action: "raise the container's limit of open files",
      command: self == .podman || self == .docker ? run("--ulimit nofile=4096") : "ulimit -n 4096",
      cost: "none worth mentioning")
  }

  var otherRuntimeRemedy: HostRemedy {
    let (action, command): (String, String?) =
      switch self {
      case .kubernetes: ("run the pod on the host's kernel: without gVisor's runtimeClassName", nil)
      case .podman: ("run the container on the host's kernel", "podman --runtime runc run ...")
      default: ("run the container on the host's kernel", "docker run --runtime runc ...")
      }
    return HostRemedy(
      action: action, command: command, cost: "only the host's kernel then keeps the container from the host",
      brief: command ?? "a pod without gVisor's runtimeClassName")
  }

  var securityModuleRemedy: HostRemedy {
    HostRemedy(
      action: "run the container without the labels of the security module",
      command: self == .docker || self == .podman
        ? run("--security-opt label=disable") : "docker run --security-opt label=disable ...",
      cost: "the security module no longer confines the container")
  }

  /// Returns the command that starts a container with more options; nil where the engine has no such command.
  private func run(_ options: String) -> String? {
    switch self {
    case .docker: "docker run \(options) ..."
    case .podman: "podman run \(options) ..."
    case .systemdNspawn: "systemd-nspawn \(options) ..."
    case .kubernetes, .lxc, .unknown: nil
    }
  }
}
