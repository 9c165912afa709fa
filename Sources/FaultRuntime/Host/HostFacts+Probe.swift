internal import CUFFD

extension HostFacts {
  /// Looks at the host, and tries every way to a userfaultfd, each in a child process.
  static func ofThisHost() -> HostFacts {
    var facts = surroundings()
    for kind in DescriptorKind.allCases { facts.attempts[kind] = attempt(kind) }
    return facts
  }

  /// Tries a way to a userfaultfd in a child process, because a seccomp filter may kill for it.
  private static func attempt(_ kind: DescriptorKind) -> Attempt {
    let flags = CUFFD_OPEN_FLAGS | (kind.servesKernelModeFaults ? 0 : CUFFD_USER_MODE_ONLY)
    let attempt =
      if kind.isOfDevice {
        unsafe cuffd_attempt_in_child(Userfaultfd.devicePath, flags)
      } else {
        cuffd_attempt_in_child(nil, flags)
      }
    if attempt.killed_by != 0 { return .killed }
    if let errno = KernelErrno(returned: attempt.result) { return .refused(errno) }
    return .granted(UserfaultfdFeatures(rawValue: attempt.features))
  }

  /// Looks at the host after a runtime has tried these ways and was refused. No way is tried again. Another one is
  /// tried where only its answer tells whether a filter or a lack of rights has refused.
  static func ofThisHost(after refusals: [Userfaultfd.Refusal]) -> HostFacts {
    var facts = surroundings()
    for refusal in refusals { facts.attempts[refusal.kind] = .refused(refusal.errno) }
    let others: [KernelErrno] = [.noFunction, .tooManyOpenFiles, .tooManyOpenFilesInSystem]
    if facts.process.isFiltered, facts.attempts[.userModeOnly] == nil,
      case .refused(let errno)? = facts.attempts[.full], !others.contains(errno)
    {
      facts.attempts[.userModeOnly] = attempt(.userModeOnly)
    }
    return facts
  }

  /// Returns all facts except for the attempts.
  private static func surroundings() -> HostFacts {
    var facts = HostFacts()
    var names = cuffd_system()
    if unsafe cuffd_system_names(&names) == 0 {
      facts.release = text(of: &names.release)
      facts.systemVersion = text(of: &names.version)
      facts.machine = text(of: &names.machine)
    }
    facts.pageByteCount = PageSize.ofHost().bytes
    facts.unprivilegedSetting = HostFile.number("/proc/sys/vm/unprivileged_userfaultfd")
    facts.limits = .ofThisHost()
    facts.showsSettings = facts.limits.mappings != nil
    facts.miscDevice = HostFile.text("/proc/misc").map(MiscDevice.init) ?? .notTold
    var node = cuffd_node()
    if unsafe cuffd_node_facts(Userfaultfd.devicePath, &node) == 0 {
      facts.node = Node(mode: node.mode, user: node.user, group: node.group, isAccessible: node.is_accessible)
    }
    facts.process = .ofThisProcess()
    facts.containing = .ofThisProcess()
    facts.isVirtualMachine = virtualMachine()
    facts.hasGuardMarkers = cuffd_has_guards()
    return facts
  }

  private static func virtualMachine() -> Bool? {
    if let cpus = HostFile.text("/proc/cpuinfo"), let answer = hypervisorFlag(cpus) { return answer }
    // Only processors of the x86 family have such a flag.
    let isSaid = HostFile.text("/sys/hypervisor/type") != nil || HostFile.exists("/proc/device-tree/hypervisor")
    return isSaid ? true : nil
  }

  /// Returns what the text of `/proc/cpuinfo` says about a hypervisor; nil where the processor has no such flag.
  static func hypervisorFlag(_ text: String) -> Bool? {
    text.split(separator: "\n").first { $0.hasPrefix("flags") }.map { line in
      line.split(whereSeparator: { $0 == " " || $0 == "\t" }).contains("hypervisor")
    }
  }

  private static func text<Field>(of field: inout Field) -> String {
    unsafe withUnsafeBytes(of: &field) { bytes in
      unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
  }
}

extension HostFacts.MiscDevice {
  /// Reads the text of `/proc/misc`.
  init(_ text: String) {
    for line in text.split(separator: "\n") {
      let parts = line.split(separator: " ")
      if parts.count == 2, parts[1] == "userfaultfd", let number = Int(parts[0]) {
        self = .number(number)
        return
      }
    }
    self = .absent
  }
}

extension ProcessFacts {
  fileprivate static func ofThisProcess() -> ProcessFacts {
    var facts = ProcessFacts()
    facts.effectiveUser = cuffd_effective_user()
    if let status = HostFile.text("/proc/thread-self/status") { facts.read(status: status) }
    facts.userMap = HostFile.text("/proc/thread-self/uid_map").flatMap { UserMap($0) }
    facts.executable = HostFile.target("/proc/thread-self/exe")
    return facts
  }
}

extension ContainerFacts {
  fileprivate static func ofThisProcess() -> ContainerFacts {
    var facts = ContainerFacts()
    facts.processNamespace = HostFile.target("/proc/thread-self/ns/pid").map(processNamespace) ?? .notTold
    facts.processNumbers = HostFile.text("/proc/thread-self/status").flatMap(processNumbers)
    // Only a process with rights over process 1 may look at these two.
    if let own = HostFile.target("/proc/thread-self/ns/mnt"), let first = HostFile.target("/proc/1/ns/mnt") {
      facts.sharesMountsWithInit = own == first
    }
    facts.variableOfInit = HostFile.text("/proc/1/environ").flatMap { variable("container", in: $0) }
    if let environment = HostFile.text("/proc/thread-self/environ") {
      facts.variable = variable("container", in: environment)
      facts.hasKubernetesService = variable("KUBERNETES_SERVICE_HOST", in: environment) != nil
    }
    facts.systemdSays = HostFile.text("/run/systemd/container")?.split(separator: "\n").first.map { String($0) }
    facts.markers = Set(markerFiles.filter(HostFile.exists))
    facts.cgroups = HostFile.text("/proc/thread-self/cgroup").map { cgroups($0) } ?? []
    facts.mounts = MountFacts(HostFile.text("/proc/thread-self/mountinfo") ?? "")
    return facts
  }
}

extension HostLimits {
  fileprivate static func ofThisHost() -> HostLimits {
    var cgroup: (byteCount: Int, usedByteCount: Int?)?
    for folder in CgroupFolder.all(HostFile.text("/proc/thread-self/cgroup") ?? "") {
      guard let bytes = HostFile.text(folder.path + folder.limitName).flatMap(CgroupFolder.limit),
        bytes < cgroup?.byteCount ?? Int.max
      else { continue }
      cgroup = (bytes, HostFile.number(folder.path + folder.usedName))
    }
    let memory = HostFile.text("/proc/meminfo")
    return HostLimits(
      mappings: HostFile.number("/proc/sys/vm/max_map_count"),
      openFiles: Int(exactly: cuffd_limit_of_open_files()),
      addressSpaceByteCount: Int(exactly: cuffd_limit_of_address_space()),
      cgroupByteCount: cgroup?.byteCount,
      cgroupUsedByteCount: cgroup?.usedByteCount,
      freeHugePages: memory.flatMap { meminfo("HugePages_Free", $0) },
      hugePageByteCount: memory.flatMap { meminfo("Hugepagesize", $0) }.map { $0 &* 1024 },
      transparentHugePages: HostFile.text("/sys/kernel/mm/transparent_hugepage/enabled").flatMap(chosen),
      transparentHugePageByteCount: HostFile.number("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"))
  }

  /// Returns a number from the text of `/proc/meminfo`; nil where there is no such line.
  static func meminfo(_ name: String, _ text: String) -> Int? {
    guard let line = text.split(separator: "\n").first(where: { $0.hasPrefix(name + ":") }) else { return nil }
    return line.split(separator: " ").dropFirst().first.flatMap { Int($0) }
  }

  /// Returns the word in brackets from the text of a setting that lists its choices.
  static func chosen(_ text: String) -> String? {
    guard let start = text.firstIndex(of: "["), let end = text[start...].firstIndex(of: "]") else { return nil }
    return String(text[text.index(after: start)..<end])
  }
}

/// A folder where the limit of a memory cgroup may be written.
struct CgroupFolder: Hashable {
  var path: String
  var limitName: String
  var usedName: String

  /// Returns the folders of the cgroups in the text of `/proc/thread-self/cgroup`, and of the cgroups above them, where
  /// these are mounted as a rule. In a container, only the folder of the topmost cgroup may be there.
  static func all(_ text: String) -> [CgroupFolder] {
    text.split(separator: "\n").flatMap { line -> [CgroupFolder] in
      let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard parts.count == 3 else { return [] }
      if parts[0] == "0", parts[1].isEmpty {
        return ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].flatMap { root in
          ancestors(parts[2]).map { CgroupFolder(path: root + $0, limitName: "memory.max", usedName: "memory.current") }
        }
      }
      guard parts[1].split(separator: ",").contains("memory") else { return [] }
      return ancestors(parts[2]).map {
        CgroupFolder(
          path: "/sys/fs/cgroup/memory" + $0, limitName: "memory.limit_in_bytes", usedName: "memory.usage_in_bytes")
      }
    }
  }

  /// Returns the folder and the folders above it, each with a slash at its end.
  private static func ancestors(_ path: Substring) -> [String] {
    let names = path.split(separator: "/")
    return (0...names.count).reversed().map { count in names.prefix(count).reduce("/") { $0 + $1 + "/" } }
  }

  /// Returns the number of bytes in the text of a limit; nil for `max`, and for a number so large that it stands for
  /// no limit.
  static func limit(_ text: String) -> Int? {
    guard let bytes = Int(text.prefix { $0.isNumber }), bytes < 1 << 60 else { return nil }
    return bytes
  }
}

/// Access to small files that the kernel writes.
enum HostFile {
  private static let longest = 64 << 10

  /// Returns the text of a file, up to 64 KiB; nil where the file cannot be read.
  static func text(_ path: String) -> String? {
    let file = unsafe cuffd_file_open(path)
    guard file >= 0 else { return nil }
    defer { _ = cuffd_close(file) }
    var bytes = [UInt8](repeating: 0, count: longest)
    var count = 0
    while count < longest {
      let start = count
      let read = unsafe bytes.withUnsafeMutableBytes { buffer in
        unsafe cuffd_file_pread(file, buffer.baseAddress! + start, longest - start, Int64(start))
      }
      if read < 0 { return nil }
      if read == 0 { break }
      count += Int(read)
    }
    return String(decoding: bytes.prefix(count), as: UTF8.self)
  }

  /// Returns the number at the start of a file; nil where there is none.
  static func number(_ path: String) -> Int? { text(path).flatMap { Int($0.prefix { $0.isNumber }) } }

  static func exists(_ path: String) -> Bool {
    var node = cuffd_node()
    return unsafe cuffd_node_facts(path, &node) == 0
  }

  /// Returns the target of a symbolic link; nil where the link cannot be read.
  static func target(_ path: String) -> String? {
    var name = [CChar](repeating: 0, count: 4 << 10)
    let capacity = name.count
    guard unsafe cuffd_read_link(path, &name, capacity) == 0 else { return nil }
    return unsafe name.withUnsafeBufferPointer { unsafe String(cString: $0.baseAddress!) }
  }
}
