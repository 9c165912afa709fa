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
    abstract: "Maps a file lazily, touches every page of it, and prints the SHA-256 of what was read.",
    discussion: """
      Compare the sum with that of sha256sum. The latency is that of each touch that faulted, as the touching \
      thread sees it; the time is from the first touch to the last.
      """
  )

  @Argument(help: "The file to map; this program itself, unless given.")
  var file: String?

  @Option(help: "The order in which the pages are touched.")
  var order: TouchOrder = .sequential

  @Option(help: "How many threads touch pages, each its share of them (1 to 256).")
  var threads = 1

  @Option(help: "How faults reach the program.")
  var delivery: DeliveryArgument = .auto

  @Option(help: "Which way to a userfaultfd to take.")
  var descriptor: DescriptorArgument = .auto

  @Flag(help: "Print one JSON object on standard output.")
  var json = false

  func validate() throws {
    guard (1...256).contains(threads) else { throw ValidationError("--threads is from 1 to 256, not \(threads).") }
  }

  func run() throws {
    let path = try file ?? Self.ownExecutable()
    let provider = try FileProvider(path)
    guard provider.byteCount > 0 else { throw CommandFailure(message: "\(path) is empty: there is nothing to map") }
    // Every touched page stays resident. An error now is better than the kernel's out-of-memory killer later.
    if let available = AvailableMemory.byteCount(), provider.byteCount > available {
      throw CommandFailure(
        message: "\(path) has \(provider.byteCount) bytes, and only \(available) bytes of memory are available")
    }

    let configuration = FaultRuntimeConfiguration(
      delivery: delivery.delivery,
      descriptorChoice: descriptor.choice,
      // A raw access cannot throw. Ending the process here, before the access fails, shows the reason.
      onFailure: { failure in Diagnostics.failImmediately("\(failure)") }
    )
    let runtime = try FaultRuntime(configuration)
    let region = try runtime.map(provider, options: RegionOptions(name: path, access: .readOnly))

    let toucher = PageToucher(region: region, order: order, threadCount: threads)
    let bar = ProgressBar.onTerminal()
    let touch = try toucher.run { fraction in bar?.show("touching", fraction) }
    let sum = Self.sum(of: region) { fraction in bar?.show("hashing", fraction) }
    bar?.finish()

    let report = MapReport(path: path, sum: sum, region: region, touch: touch, command: self, runtime: runtime)
    try printLine(json ? try report.json() : report.text())
  }

  private static func sum(of region: LazyRegion, progress: (Double) -> Void) -> String {
    let step = 4 << 20
    let bytes = region.bytes
    var hash = SHA256()
    var offset = 0
    while offset < bytes.byteCount {
      let end = min(offset + step, bytes.byteCount)
      hash.update(bytes.extracting(offset..<end))
      offset = end
      progress(Double(offset) / Double(bytes.byteCount))
    }
    return hash.finish()
  }

  private static func ownExecutable() throws -> String {
    guard let resolved = unsafe realpath("/proc/self/exe", nil) else {
      throw CommandFailure(message: "cannot find this program's own file: name a file to map")
    }
    defer { unsafe free(resolved) }
    return unsafe String(cString: resolved)
  }
}
