/// What the library has seen that may tell whether the process runs in a container, without any conclusion. Nil means
/// that the host does not tell.
struct ContainerFacts: Hashable, Sendable {
  /// Whether a namespace of this process is the one that the host began with.
  enum Namespace: Hashable, Sendable {
    case initial
    case other
    case notTold
  }

  var processNamespace = Namespace.notTold
  /// The number of process numbers in `NSpid`, the line of `/proc/thread-self/status`. It has one for each PID
  /// namespace from that of the mounted `/proc` down to that of the process.
  var processNumbers: Int?
  /// Whether process 1, as far as this process sees one, has the same mount namespace.
  var sharesMountsWithInit: Bool?
  /// The variable `container` in the environment of process 1.
  var variableOfInit: String?
  /// The variable `container` in the environment of this process.
  var variable: String?
  /// The text of `/run/systemd/container`, where systemd as process 1 says what it runs in.
  var systemdSays: String?
  /// Those of ``markerFiles`` that are there.
  var markers: Set<String> = []
  /// Whether the environment names the service of Kubernetes.
  var hasKubernetesService = false
  /// The paths of the cgroups of this process.
  var cgroups: [String] = []
  var mounts = MountFacts()
}

extension ContainerFacts {
  /// Files that container engines put into containers. A file alone proves nothing: where an image has become the disk
  /// of a machine, its files are still there.
  static let markerFiles = [dockerMarker, podmanMarker, kubernetesMarker]
  static let dockerMarker = "/.dockerenv"
  static let podmanMarker = "/run/.containerenv"
  static let kubernetesMarker = "/var/run/secrets/kubernetes.io"

  /// Reads the target of a link in `/proc/thread-self/ns`, such as `pid:[4026531836]`. The first namespaces of a host
  /// have numbers that are part of the kernel's interface.
  static func processNamespace(_ link: String) -> Namespace {
    guard link.hasPrefix("pid:[") else { return .notTold }
    guard let number = UInt32(link.dropFirst(5).prefix { $0.isNumber }) else { return .notTold }
    return number == 0xefff_fffc ? .initial : .other
  }

  /// Returns how many numbers the line `NSpid` in the text of `/proc/thread-self/status` has.
  static func processNumbers(_ status: String) -> Int? {
    guard let line = status.split(separator: "\n").first(where: { $0.hasPrefix("NSpid:") }) else { return nil }
    let numbers = line.dropFirst(6).split(whereSeparator: { $0 == "\t" || $0 == " " }).count
    return numbers > 0 ? numbers : nil
  }

  /// Returns the value of a variable in the text of a file `environ`, where a zero ends each variable.
  static func variable(_ name: String, in environment: String) -> String? {
    let line = environment.split(separator: "\0").first { $0.hasPrefix(name + "=") }
    return line.flatMap { $0.count > name.count + 1 ? String($0.dropFirst(name.count + 1)) : nil }
  }

  /// Returns the paths in the text of a file `cgroup`, each once.
  static func cgroups(_ text: String) -> [String] {
    var found: [String] = []
    for line in text.split(separator: "\n") {
      let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      if parts.count == 3, !found.contains(String(parts[2])) { found.append(String(parts[2])) }
    }
    return found
  }
}

/// What the text of `/proc/thread-self/mountinfo` says about the root of the process and the files that engines put
/// there.
struct MountFacts: Hashable, Sendable {
  /// The type of the file system of the root.
  var rootType: String?
  /// Where the root lies in its file system, with the options of that file system, which name the layers of an overlay.
  var rootSource = ""
  /// Whether the root is a folder of its file system, and no subvolume or deployment from which machines boot.
  var rootIsFolder = false
  /// Those of ``engineFiles`` on which something is mounted.
  var mountedFiles: Set<String> = []

  /// The files that engines write for each container and mount over those of the image.
  static let engineFiles = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"]
}

extension MountFacts {
  init(_ text: String) {
    for line in text.split(separator: "\n") {
      // 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
      let words = line.split(separator: " ")
      guard words.count >= 7, let dash = words.dropFirst(6).firstIndex(of: "-") else { continue }
      guard words.count > dash + 1 else { continue }
      let place = String(words[4])
      if place == "/" {
        // A later mount lies over an earlier one.
        rootType = String(words[dash + 1])
        rootIsFolder = words[3] != "/" && !words[3].hasPrefix("/ostree/") && rootType != "btrfs"
        rootSource = ([words[3]] + words.dropFirst(dash + 2)).joined(separator: " ")
      } else if Self.engineFiles.contains(place) {
        mountedFiles.insert(place)
      }
    }
  }
}
