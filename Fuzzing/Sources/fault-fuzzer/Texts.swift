import CUFFD
import Glibc

@testable import FaultRuntime

/// Parses texts of /proc and /sys, and compares the results with those of a parser that splits strings.
func checkTexts(_ input: inout FuzzInput) {
  let bytes = input.rest()
  // In C, the text ends at the first zero.
  let text = Array(bytes.prefix { $0 != 0 })
  let (cpu, delay, runnable, huge) = unsafe withText(bytes) { text in
    unsafe (
      cuffd_parse_last_cpu(text), cuffd_parse_run_delay(text), cuffd_parse_runnable_threads(text),
      cuffd_parse_huge_page_size(text, text)
    )
  }
  let missing = Int64(-ENOTSUP)

  let afterName = text.lastIndex(of: UInt8(ascii: ")")).map { fields(of: text[$0...]) } ?? []
  var expected = number(afterName, 37, limit: Int64(CInt.max)) ?? missing
  let schedulingClass = number(afterName, 39, limit: Int64(CInt.max)) ?? 0
  if expected >= 0, [1, 2, 6].contains(schedulingClass) { expected = Int64(-EBUSY) }
  require(Int64(cpu) == expected, "the CPU is \(cpu), not \(expected)")

  let all = fields(of: text[...])
  require(delay == number(all, 1, limit: .max) ?? missing, "the delay is \(delay)")
  require(Int64(runnable) == number(all, 3, limit: Int64(CInt.max)) ?? missing, "\(runnable) threads are runnable")
  require(huge == 0 || (huge.nonzeroBitCount == 1 && huge <= 1 << 30), "a huge page of \(huge) bytes")
  checkHostTexts(String(decoding: bytes, as: UTF8.self))
}

/// Parses what the report on the host reads. No text may cause a trap.
private func checkHostTexts(_ text: String) {
  var process = ProcessFacts()
  process.read(status: text)
  process.userMap = UserMap(text)
  require(!process.hasPtrace || process.isInInitialUserNamespace, "a capability of another namespace counts")
  for user in [0, 1000, UInt32.max] {
    let outside = process.userMap?.outside(user)
    let isSame = outside == nil || outside == user
    require(isSame || !process.isInInitialUserNamespace, "\(user) is \(outside ?? 0) outside")
  }
  for folder in CgroupFolder.all(text) {
    require(folder.path.hasPrefix("/sys/fs/cgroup/") && folder.path.hasSuffix("/"), "a cgroup at \(folder.path)")
  }
  require(CgroupFolder.limit(text) ?? 0 >= 0, "a limit below zero")
  if let version = KernelVersion(release: text) { require(version.major >= 0 && version.minor >= 0, "\(version)") }
  if let word = HostLimits.chosen(text) { require(text.contains("[\(word)]"), "nobody chose \(word)") }
  var host = HostFacts()
  host.containing.processNamespace = ContainerFacts.processNamespace(text)
  host.containing.processNumbers = ContainerFacts.processNumbers(text)
  host.containing.variable = ContainerFacts.variable("container", in: text)
  host.containing.cgroups = ContainerFacts.cgroups(text)
  host.containing.mounts = MountFacts(text)
  require(host.container?.evidence.isEmpty != true, "a container without evidence")
  _ = (HostFacts.MiscDevice(text), HostFacts.hypervisorFlag(text), HostLimits.meminfo("Hugepagesize", text))
}

private func fields(of text: ArraySlice<UInt8>) -> [ArraySlice<UInt8>] {
  text.split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
}

/// Returns the number at the start of a field.
private func number(_ fields: [ArraySlice<UInt8>], _ index: Int, limit: Int64) -> Int64? {
  guard index < fields.count else { return nil }
  let digits = fields[index].prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
  guard let value = Int64(String(decoding: digits, as: UTF8.self)), value <= limit else { return nil }
  return value
}

/// Calls `body` with the text in memory that ends with the terminating zero, so that AddressSanitizer sees a read
/// beyond it.
private func withText<Result>(_ bytes: [UInt8], _ body: (UnsafePointer<CChar>) -> Result) -> Result {
  let copy = UnsafeMutablePointer<CChar>.allocate(capacity: bytes.count + 1)
  defer { unsafe copy.deallocate() }
  for index in 0..<bytes.count { unsafe copy[index] = CChar(bitPattern: bytes[index]) }
  unsafe copy[bytes.count] = 0
  return unsafe body(UnsafePointer(copy))
}
