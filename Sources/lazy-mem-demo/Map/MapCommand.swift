import ArgumentParser
import FaultRuntime
import Glibc

/// The delivery to ask for, as named on the command line.
enum DeliveryArgument: String, CaseIterable, ExpressibleByArgument {
  case auto
  case eventLoop = "event-loop"
  case sigbus, sigsegv

  var delivery: Delivery {
    switch self {
    case .auto: .auto
    case .eventLoop: .eventLoop
    case .sigbus: .sigbus
    case .sigsegv: .sigsegv
    }
  }
}

/// The descriptor to ask for, as named on the command line.
enum DescriptorArgument: String, CaseIterable, ExpressibleByArgument {
  case auto, full, device
  case userModeOnly = "user-mode-only"
  case deviceUserModeOnly = "device-user-mode-only"

  var choice: DescriptorChoice {
    switch self {
    case .auto: .automatic
    case .full: .only(.full)
    case .device: .only(.device)
    case .userModeOnly: .only(.userModeOnly)
    case .deviceUserModeOnly: .only(.deviceUserModeOnly)
    }
  }
}

/// `lazy-mem-demo map`: reads a file through lazy memory.
struct MapCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "map",
    abstract: "Maps a file lazily, touches its pages, and prints the SHA-256 of what was read.",
    discussion: """
      Compare the sum with that of sha256sum. The latency is that of each touch that faulted, as the touching \
      thread sees it; the time is from the first touch to the last.

      What was touched stays in memory. Of a file that is larger than memory, touch a part: --touch 1GiB maps all of \
      it and touches its first gibibyte (compare the sum with that of head -c 1G FILE | sha256sum), and with --order \
      random as many pages all over the file, which have no sum to compare.
      """
  )

  @Argument(help: "The file to map; this program itself, unless given.")
  var file: FileName?

  @Option(help: "The order in which the pages are touched.")
  var order: TouchOrder = .sequential

  @Option(
    parsing: .unconditional, help: "How many threads touch pages, each its share of them (1 to 256; default: 1).",
    transform: NumberArgument.whole(1...256))
  var threads = 1

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Touch only so much of the file, in whole pages; such as 64k or 1.5GiB.", valueName: "size"),
    transform: NumberArgument.bytes)
  var touch: ByteCount?

  @Option(help: "How faults reach the program.")
  var delivery: DeliveryArgument = .auto

  @Option(help: "Which way to a userfaultfd to take.")
  var descriptor: DescriptorArgument = .auto

  @Flag(help: "Print one JSON object on standard output.")
  var json = false

  func validate() throws {
    guard delivery != .sigsegv || descriptor == .auto else {
      throw ValidationError(
        "--delivery sigsegv uses no userfaultfd, so --descriptor \(descriptor.rawValue) has no meaning: leave one out.")
    }
  }

  func run() throws {
    let name = try file ?? Self.ownExecutable()
    let provider = try MappableFile.open(name, maybeCommand: ArgumentBytes.ofThisProcess.first != "map")
    let path = VisibleText.line(name.text)
    let part = min(touch?.bytes ?? provider.byteCount, provider.byteCount)
    try Self.checkMemory(path, provider.byteCount, touched: part)

    let configuration = FaultRuntimeConfiguration(
      delivery: delivery.delivery,
      descriptorChoice: descriptor.choice,
      // A raw access cannot throw. Ending the process here, before the access fails, shows the reason.
      onFailure: { failure in Diagnostics.failImmediately("\(failure)") }
    )
    let runtime = try FaultRuntime(configuration)
    let region = try runtime.map(provider, options: RegionOptions(name: path, access: .readOnly))

    let toucher = PageToucher(region: region, order: order, threadCount: threads, byteCount: part)
    let bar = ProgressBar.onTerminal()
    let touch = try toucher.run { fraction in bar?.show("touching", fraction) }
    // Pages from all over a file have no sum that another program could compute.
    let hasSum = order == .sequential || part == provider.byteCount
    let sum = hasSum ? Self.sum(of: region, touch.byteCount) { fraction in bar?.show("hashing", fraction) } : nil
    bar?.finish()

    let report = MapReport(path: path, sum: sum, region: region, touch: touch, command: self, runtime: runtime)
    if json { try Output.printJSON(try report.json()) } else { try Output.printLine(report.text()) }
  }

  /// Every touched page stays resident. An error now is better than the kernel's out-of-memory killer later.
  private static func checkMemory(_ path: String, _ byteCount: Int, touched: Int) throws(CommandFailure) {
    guard let available = AvailableMemory.byteCount(), touched > available else { return }
    let what =
      touched == byteCount
      ? "\(path) has \(ByteCount(byteCount).text)"
      : "\(ByteCount(touched).text) of \(path) are to be touched"
    // Half of the memory leaves room for the rest of the machine.
    let room = [1 << 30, 64 << 20, 1 << 20].first { $0 <= available / 2 } ?? 64 << 10
    let size = ByteCount(room).short.filter { $0 != " " }
    throw CommandFailure(
      message: "\(what), and only \(ByteCount(available).text) of memory are available; "
        + "touch a part of it, for example --touch \(size)")
  }

  private static func sum(of region: LazyRegion, _ count: Int, progress: (Double) -> Void) -> String {
    let step = 4 << 20
    let bytes = region.bytes
    var hash = SHA256()
    var offset = 0
    while offset < count {
      let end = min(offset + step, count)
      hash.update(bytes.extracting(offset..<end))
      offset = end
      progress(Double(offset) / Double(count))
    }
    return hash.finish()
  }

  private static func ownExecutable() throws(CommandFailure) -> FileName {
    guard let resolved = unsafe realpath("/proc/self/exe", nil) else {
      throw CommandFailure(message: "cannot find this program's own file: name a file to map")
    }
    defer { unsafe free(resolved) }
    return unsafe FileName(cString: resolved)
  }
}
