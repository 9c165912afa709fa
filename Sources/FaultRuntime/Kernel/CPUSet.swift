internal import CUFFD

/// A set of CPUs.
struct CPUSet: Sendable {
  private var cpus = cuffd_cpus()

  private static let capacity = 1024
  private static let wordBits = UInt64.bitWidth

  /// Returns the CPUs that the calling thread may run on. The set is empty if the kernel does not tell, for example
  /// because it is built for more than 1024 CPUs.
  static func ofCaller() -> CPUSet {
    var set = CPUSet()
    if unsafe cuffd_allowed_cpus(&set.cpus) < 0 { set.cpus = cuffd_cpus() }
    return set
  }

  private init() {}

  init(only cpu: Int) { set(cpu, true) }

  var count: Int { (0..<(Self.capacity / Self.wordBits)).reduce(0) { $0 + word($1).nonzeroBitCount } }

  func contains(_ cpu: Int) -> Bool {
    cpu < Self.capacity && word(cpu / Self.wordBits) & Self.bit(cpu) != 0
  }

  func without(_ cpu: Int) -> CPUSet {
    var rest = self
    rest.set(cpu, false)
    return rest
  }

  /// Confines the calling thread to the set. Returns false if the set is empty or the kernel refuses it.
  func confineCaller() -> Bool { count > 0 && cuffd_run_on(cpus) == 0 }

  private static func bit(_ cpu: Int) -> UInt64 { 1 << UInt64(cpu % wordBits) }

  private func word(_ index: Int) -> UInt64 {
    unsafe withUnsafeBytes(of: cpus) { unsafe $0.load(fromByteOffset: index * 8, as: UInt64.self) }
  }

  private mutating func set(_ cpu: Int, _ isIn: Bool) {
    precondition(cpu >= 0 && cpu < Self.capacity, "CPU \(cpu) is beyond what is counted here")
    let index = cpu / Self.wordBits
    let changed = isIn ? word(index) | Self.bit(cpu) : word(index) & ~Self.bit(cpu)
    unsafe withUnsafeMutableBytes(of: &cpus) {
      unsafe $0.storeBytes(of: changed, toByteOffset: index * 8, as: UInt64.self)
    }
  }
}
