@testable import FaultRuntime

/// Feeds arbitrary times and findings to the code that decides where a handler runs, in the order in which
/// `HandlerPlacer.place` does so.
func checkPlacement(_ input: inout FuzzInput) {
  var policy = FollowingPolicy(isUnconditional: input.bool())
  var looks = LookSchedule()
  var now: UInt64 = input.number()
  var hasGivenUp = false
  var notDue = 0
  while !input.isEmpty {
    // The clock may even go back.
    let choice = input.byte()
    now = choice & 1 == 0 ? now &+ UInt64(input.number(UInt16.self)) : now &+ input.magnitude()
    let wasIdle = policy.isIdle
    var advice = policy.served(at: now)
    if choice & 2 != 0, advice == .check || advice == .look { advice = .goOn }
    require(wasIdle ? advice != .look && advice != .tryIdle : advice != .check && advice != .leave, "\(advice)")
    require(!(hasGivenUp && advice == .tryIdle), "SCHED_IDLE was given up, and is tried")
    if advice == .check {
      advice = policy.checked(starvedNanoseconds: input.number(), moved: input.bool())
      require(advice == .leave || advice == .goOn, "a check ended in \(advice)")
    }
    switch advice {
    case .goOn, .check: break
    case .look: policy.looked(moved: input.bool())
    case .leave: policy.left()
    case .tryIdle where choice & 4 != 0:
      policy.postpone()
      policy.looked(moved: input.bool())
    case .tryIdle where choice & 8 != 0:
      policy.giveUpIdle()
      hasGivenUp = true
    case .tryIdle: policy.began()
    }
    require(policy.isIdle == (wasIdle ? advice != .leave : advice == .tryIdle && choice & 12 == 0), "it is elsewhere")

    notDue += 1
    if looks.isDue(isSlow: choice & 16 != 0) {
      looks.looked(moved: choice & 32 != 0)
      notDue = 0
    }
    require(notDue < 256, "nobody looked for \(notDue) batches")
  }
}
