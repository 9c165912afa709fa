import CTestSupport
import FaultRuntime
import Foundation
import TestSupport
import Testing

@testable import lazy_mem_demo

/// Tests `lazy-mem-demo bench` as a user runs it. Sizes are small, and no test judges a time.
@Suite("lazy-mem-demo bench", .timeLimit(.minutes(6)))
struct BenchTests {
  private static let keys: Set = [
    "name", "pagesPerFault", "threads", "order", "access", "nanosecondsPerPage", "p50", "p90", "p99", "p999",
    "pagesPerSecond", "ratioToKernel", "ratioToSigsegv",
  ]

  private func bench(_ arguments: String...) throws -> ProcessOutcome { try DemoProcess.run(["bench"] + arguments) }

  /// Returns the names of all contenders that can run with the CPUs of this process.
  private func expectedNames(_ access: TouchAccess = .read) throws -> Set<String> {
    let all = BenchContender.all(cpus: try CPUs.allowed(), access: access)
    return Set(all.filter { $0.cpus != .impossible }.map(\.name))
  }

  @Test(
    "One JSON object: the machine, and everybody with each number",
    arguments: [(1, "sequential", "read"), (2, "random", "write")])
  func json(threads: Int, order: String, access: String) throws {
    let outcome = try bench(
      "--pages", "100", "--rounds", "2", "--threads", "\(threads)", "--order", order, "--access", access, "--json")
    #expect(outcome.code == 0)
    #expect(outcome.errors == "", "no progress bar in a pipe")
    let report = try outcome.object()
    #expect(Set(report.keys) == ["machine", "pages", "rounds", "contenders", "leftOut", "warnings"])
    let machine = try #require(report["machine"] as? [String: Any])
    for key in ["processor", "kernel", "cpus", "allowedCPUs", "pageSize"] { #expect(machine[key] != nil) }

    let contenders = try #require(report["contenders"] as? [[String: Any]])
    #expect(Set(contenders.compactMap { $0["name"] as? String }) == (try expectedNames()))
    for contender in contenders {
      #expect(Set(contender.keys) == Self.keys)
      #expect(contender["threads"] as? Int == threads)
      #expect(contender["order"] as? String == order)
      #expect(contender["access"] as? String == access)
      let percentiles = ["p50", "p90", "p99", "p999"].map { contender[$0] as? Int ?? -1 }
      #expect(percentiles == percentiles.sorted())
      #expect(percentiles[0] >= 0)
      let perPage = try #require(contender["nanosecondsPerPage"] as? Double)
      let perSecond = try #require(contender["pagesPerSecond"] as? Double)
      #expect(perPage > 0)
      #expect((perPage * perSecond / 1e9 - 1).magnitude < 1e-6)
    }
    func ratio(_ name: String, _ key: String) throws -> Double? {
      try #require(contenders.first { $0["name"] as? String == name })[key] as? Double
    }
    #expect(try ratio("kanon", "ratioToKernel") == 1)
    #expect(try ratio("c-sigsegv", "ratioToSigsegv") == 1)
    // With 100 pages, the last unit is shorter than the others.
    #expect(contenders.contains { $0["pagesPerFault"] as? Int == 16 })
  }

  private static let placements = ["", "-pinned", "-following", "-spinning", "-scheduler"]

  @Test("Every delivery and placement takes part, with a page a fault and with requests that grow")
  func everybody() {
    let names = BenchContender.all(cpus: [2, 5], access: .read).map(\.name)
    #expect(names.count == Set(names).count)
    let references = ["c-sigsegv", "c-sigbus-1p", "c-epoll-1p", "c-epoll-pinned-1p", "c-spin-1p"]
    for name in ["kanon", "mmap", "auto"] + references { #expect(names.contains(name)) }
    for size in ["1p", "16p", "wide"] {
      for way in ["sigbus", "event-loop", "event-loop-pinned"] { #expect(names.contains("\(way)-\(size)")) }
    }
    for placement in Self.placements {
      for size in ["1p", "wide"] { #expect(names.contains("event-loop\(placement)-\(size)")) }
    }
    for size in ["1p", "wide"] { #expect(names.contains("sigsegv-\(size)")) }
  }

  @Test("A name says which placement of the handler runs")
  func placements() {
    var found: [String: HandlerPlacement] = [:]
    for contender in BenchContender.all(cpus: [0, 1], access: .read) {
      guard case .library(.eventLoop, let placement) = contender.way else { continue }
      #expect((contender.cpus == .together(1)) == contender.name.contains("pinned"))
      found[contender.name] = placement
    }
    for size in ["1p", "wide"] {
      #expect(found["event-loop-\(size)"] == .automatic)
      #expect(found["event-loop-following-\(size)"] == .withFaultingThread)
      #expect(found["event-loop-scheduler-\(size)"] == .scheduler)
      #expect(found["event-loop-spinning-\(size)"]?.spinningDuration != nil)
    }
  }

  @Test("With one CPU nobody spins on another, and the run says so")
  func oneCPU() throws {
    let all = try CPUs.allowed()
    // The process inherits the CPU of this thread.
    try CPUs.run(on: [all[0]])
    defer { try? CPUs.run(on: all) }
    let outcome = try bench("--pages", "64", "--rounds", "1", "--json")
    #expect(outcome.code == 0)
    let report = try outcome.object()
    let leftOut = try #require(report["leftOut"] as? [[String: String]])
    #expect(
      Set(leftOut.compactMap { $0["name"] }) == ["c-spin-1p", "event-loop-spinning-1p", "event-loop-spinning-wide"])
    for one in leftOut { #expect(one["reason"] == "needs more CPUs than this process may use") }
  }

  @Test(
    "Requests that grow bring many pages to a reader that runs on, and one to a random one",
    arguments: TouchOrder.allCases)
  func growing(order: TouchOrder) throws {
    let outcome = try bench("--pages", "2048", "--rounds", "1", "--order", order.rawValue, "--json")
    #expect(outcome.code == 0, "\(outcome.errors)")
    let contenders = try #require(outcome.object()["contenders"] as? [[String: Any]])
    var growing: Set<String> = []
    for contender in contenders {
      let name = try #require(contender["name"] as? String)
      let pages = try #require(contender["pagesPerFault"] as? Double)
      if name.hasSuffix("-1p") { #expect(pages == 1) }
      if name.hasSuffix("-16p") { #expect(pages == 16) }
      guard name.hasSuffix("-wide") || name == "auto" else { continue }
      growing.insert(name)
      #expect(pages * 10 == (pages * 10).rounded())
      #expect(order == .sequential ? pages > 16 : (0.8...1.5).contains(pages), "\(name): \(pages)")
    }
    #expect(growing.isSuperset(of: ["auto", "sigbus-wide", "event-loop-wide", "event-loop-pinned-wide"]))
  }

  @Test("What to remember: what auto took, and who was fastest")
  func takeAway() throws {
    let outcome = try bench("--pages", "64", "--rounds", "1")
    #expect(outcome.code == 0)
    let end = outcome.output.components(separatedBy: "\n\n").suffix(2)
    let first = try #require(end.first)
    #expect(first.hasPrefix("auto     took sigbus: the faulting thread is fastest"))
    #expect(first.contains("\nfastest  "))
    #expect(first.contains(" x kernel, "))
    #expect(first.contains(" x sigsegv"))
    let columns = outcome.output.split(separator: "\n").drop { !$0.contains("contender ") }.map(\.count)
    #expect(columns.max() ?? 0 <= 100, "fits a terminal of 100 columns")
  }

  @Test("The page shows everybody and needs nothing from elsewhere; the table is printed as well")
  func page() throws {
    let file = FileManager.default.temporaryDirectory.appendingPathComponent("bench-\(UUID().uuidString).html")
    // The former content of the file must be gone, to its last byte.
    try Data(repeating: 0x78, count: 4 << 20).write(to: file)
    let outcome = try bench("--pages", "64", "--rounds", "1", "--html", file.path)
    #expect(outcome.code == 0)
    let page = try String(contentsOf: file, encoding: .utf8)
    #expect(page.hasPrefix("<!DOCTYPE html>"))
    #expect(page.hasSuffix("</html>\n"))
    for text in ["http:", "https:", "//", "src=", "url(", "@import", "<script"] { #expect(!page.contains(text)) }
    for name in try expectedNames() {
      #expect(page.contains(">\(name)</title>"), "a curve of \(name)")
      #expect(page.contains("<span class=\"name\">\(name)</span>"), "\(name) in the legend")
      #expect(page.contains("\">\(name)</div>"), "the rounds of \(name)")
      #expect(outcome.output.contains("\n\(name) "), "\(name) in the table")
    }
    // In a narrow window each row is by itself, with its dots below its name, as wide as the window.
    let rows = page.components(separatedBy: "<div class=\"row\">").dropFirst()
    #expect(rows.count == (try expectedNames().count) + 1)
    #expect(rows.allSatisfy { $0.contains("<svg class=\"dots\"") })
    #expect(page.contains(".plot .dots { grid-column: 1 / -1; grid-row: 2; }"))
    // The headings do not make the columns wider than their numbers, so the last column is within the page.
    #expect(page.contains("<th scope=\"col\">pages/<wbr>second</th>"))
    #expect(page.contains("thead th { color: var(--soft); font-weight: 600; white-space: normal;"))
    #expect(page.contains("<div class=\"title\">auto took sigbus</div>"))
    #expect(page.contains("<div class=\"title\">fastest: "))
    #expect(page.contains("fewer than 5 rounds"), "warnings are on the page")
    #expect(outcome.output.contains("WARNING: fewer than 5 rounds"))
  }

  @Test(
    "Wrong usage is 2",
    arguments: [
      ["--pages", "0"], ["--pages", "-1"], ["--pages", "64", "--size", "64k"], ["--rounds", "0"], ["--threads", "257"],
      ["--pages", "1", "--threads", "2"],
      ["--order", "up"], ["--access", "execute"], ["extra"],
    ])
  func wrongUsage(arguments: [String]) throws {
    let outcome = try DemoProcess.run(["bench"] + arguments)
    #expect(outcome.code == 2)
    #expect(outcome.errors.contains("Usage:"))
  }

  @Test("More pages than memory holds, and a file that cannot be written, are one line and 1")
  func failures() throws {
    for (arguments, reason) in [
      (["--pages", "2147483647"], "bytes) are available; ask for fewer"),
      (["--html", "/no/such/directory/page.html"], "cannot write /no/such/directory/page.html (ENOENT"),
    ] {
      let outcome = try bench(arguments[0], arguments[1])
      #expect(outcome.code == 1)
      #expect(outcome.output == "")
      #expect(outcome.errors.hasPrefix("lazy-mem-demo: "))
      #expect(outcome.errors.contains(reason))
      #expect(outcome.errors.split(separator: "\n").count == 1)
    }
  }

  @Test("On a host that forbids userfaultfd the rest is measured")
  func forbidden() async throws {
    let result = await #expect(
      processExitsWith: .success, observing: [\.standardOutputContent, \.standardErrorContent]
    ) {
      let descriptor = DemoProcess.openExecutable()
      #expect(cts_hide_userfaultfd(EPERM) == 0)
      DemoProcess.become(descriptor, "bench", "--pages=64")
    }
    let output = result.output
    let errors = result.errors
    #expect(output.contains("\nsigsegv-1p "))
    #expect(output.contains("auto     took sigsegv: it needs no userfaultfd, and none can be had"))
    #expect(!errors.contains("FaultRuntime:"), "said once for a run, not for each contender")
  }
}
