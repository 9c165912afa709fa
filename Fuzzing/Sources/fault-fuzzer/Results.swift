@testable import FaultRuntime

/// Tries results of requests, reports of present pages, and times, including those that the kernel never returns.
func checkResults(_ input: inout FuzzInput) {
  var reports = PresentReports()
  var counts: [UInt: Int] = [:]
  var now: UInt64 = 2_000_000_000
  while !input.isEmpty {
    checkStep(&input)
    checkDuration(&input)
    let page = UInt(1 + input.below(200)) << 12
    now += input.bool() ? 1000 : 1_500_000_000
    if input.bool() {
      reports.add(page, now: now)
      counts[page, default: 0] += 1
    }
    let count = reports.count(for: page, now: now)
    require(count <= counts[page, default: 0], "\(count) reports of a page, more than there were")
    if input.byte() == 0 {
      reports.forget(page)
      counts[page] = 0
      require(reports.count(for: page, now: now) == 0, "reports were not forgotten")
    }
  }
}

private func checkStep(_ input: inout FuzzInput) {
  let request = ResolveRequest.allCases[input.below(ResolveRequest.allCases.count)]
  let completed = Int(input.number(Int64.self))
  let number = input.bool() ? input.number(CInt.self) : CInt(input.byte())
  let errno = number == 0 ? nil : KernelErrno(rawValue: number)
  let step = ResolutionStep.after(request, completed: completed, errno: errno)
  require((step == .done) == (errno == nil), "\(String(describing: errno)) is \(step)")
  switch step {
  case .done: break
  case .goOn(let count): require(count == completed && count > 0, "going on after \(count)")
  case .later: require(errno == .resourceTemporarilyUnavailable, "waiting for \(number)")
  case .present: require(errno == .fileExists, "present")
  case .copyInstead: require(request == .move, "copying in place of \(request)")
  case .gone: require(errno == .noSuchFileOrDirectory, "gone")
  case .targetGone: require(errno == .noSuchProcess, "the target is gone")
  case .failForMappings: require(false, "the limit of mappings, of which the kernel says nothing")
  case .fail(let reason), .misuse(let reason): require(reason == errno && completed <= 0, "failed with \(reason)")
  }
}

private func checkDuration(_ input: inout FuzzInput) {
  let seconds = input.number(Int64.self) >> Int64(input.byte() & 63)
  let duration = Duration(secondsComponent: seconds / 2, attosecondsComponent: input.number(Int64.self) / 10)
  let nanoseconds = duration.clampedNanoseconds
  require(nanoseconds <= UInt64(Int64.max), "\(duration) is \(nanoseconds) ns")
  require((nanoseconds > 0) == (duration >= .nanoseconds(1)), "\(duration) is \(nanoseconds) ns")
}
