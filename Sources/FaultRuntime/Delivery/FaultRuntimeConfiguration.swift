/// How a runtime works. The defaults suit most programs.
public struct FaultRuntimeConfiguration: Sendable {
  /// How faults reach the runtime.
  public var delivery: Delivery

  /// Whether system calls that touch lazy memory have to be served. Regions then get the event loop over a descriptor
  /// that serves them, and making the runtime fails where there is none. Without it they fail with `EFAULT` where a
  /// page is not resident: see `LazyRegion.withUnsafeResident(_:_:)`.
  public var needsSystemCalls: Bool

  /// Which ways to a userfaultfd may be tried.
  public var descriptorChoice: DescriptorChoice

  /// Number of handlers, 1 to 64, each with a userfaultfd and threads of its own. Regions are dealt out to them in
  /// turn.
  ///
  /// Nil: one handler at first, and one more with each further region that is open, up to the number of CPUs that the
  /// program may use, and to four. Several handlers serve several regions at once; the faults of one region are always
  /// served by one.
  public var handlerThreads: Int?

  /// Number of threads on which providers run that may block (all without ``ProviderPermissions/handlerThread``), 1 to 64. They
  /// are started with the first region over such a provider.
  public var providerThreads: Int

  /// On which CPU handler threads run.
  public var placement: HandlerPlacement

  /// Whether idle CPUs of the whole machine are kept from sleeping, so that a thread on another CPU wakes sooner: a 0
  /// to `/dev/cpu_dma_latency`, the PM QoS request of the kernel.
  ///
  /// Held from the making of the runtime until it and its regions are gone, whether there are faults or not; by a
  /// forked child as well, until it ends or calls `execve(2)`. It helps faults that are served on another CPU than they
  /// are made on. All CPUs then burn power as if they were busy, of a virtual machine at its neighbours' cost. It changes
  /// nothing where `/sys/devices/system/cpu/cpuidle/current_driver` is `none`: idle CPUs then only halt, whatever is
  /// asked for.
  ///
  /// Making the runtime fails with `cannotKeepCPUsAwake` where the process may not write the device; as a rule only
  /// root may.
  public var keepsCPUsAwake: Bool

  /// The most messages that one read takes, 1 to 4096.
  public var batchCapacity: Int

  /// How long ``LazyRegion/close()`` waits, once for those who use the region's bytes in a closure
  /// (``LazyRegion/withBytes(_:)`` and its like), and once more for a handler thread that is busy.
  public var closeTimeout: Duration

  /// How long the kernel may ask for another try of one resolution before that is reported as a failure.
  public var resolveTimeout: Duration

  /// What to do with a page that cannot be produced, before Linux 6.6.
  public var poisonFallback: PoisonFallback

  /// Whether a program that dies of SIGBUS (SIGSEGV with `sigsegv`), because it touched a page that could not be
  /// produced and has no handler of its own, first says so in one line on standard error: region, offset, provider and
  /// cause. With the event loop it takes a handler of SIGBUS, which passes on every signal to whoever had it before;
  /// `sigbus` and `sigsegv` have such a handler anyway.
  public var explainsFailures: Bool

  /// Called when a page could not be produced, before the access to it fails: on a thread of the runtime's own, or with
  /// `sigbus` on the faulting thread. Keep it short; it must not touch lazy memory.
  public var onFailure: (@Sendable (PageFailure) -> Void)?

  /// Called on a handler thread when the program has unmapped, moved or discarded memory of a region behind the
  /// runtime's back; the system call that did so returns meanwhile. Keep it short; it must not touch lazy memory.
  ///
  /// Without it discarding (`MADV_DONTNEED` and the like) is not looked at, and costs what it does elsewhere; with it,
  /// whoever discards waits for the handler.
  public var onEvent: (@Sendable (RegionEvent) -> Void)?

  /// Called when a runtime does without something, or differently, and nothing has failed: no userfaultfd can be had,
  /// or the limit of mappings is near. The text is one line. On the thread that finds out, which may be a faulting one
  /// in its signal handler. Nil: the line goes to standard error. Each is said once for a runtime.
  public var onNotice: (@Sendable (String) -> Void)?

  /// Features to switch on beyond those that the runtime needs itself; tests ask for events with it.
  var additionalFeatures: UserfaultfdFeatures = []

  /// Features that are taken for missing; tests see with it what happens on older kernels.
  var withheldFeatures: UserfaultfdFeatures = []

  /// How often a resolution that gets `EAGAIN` is tried again at once. The thread whose event was read has to run
  /// first, which takes up to a tenth of a millisecond on another CPU of a virtual machine.
  var immediateRetries = 256

  /// How far a handler streams ahead of a sequential reader without another fault, in bytes.
  var streamDistance = 2 << 20

  /// Whether a handler follows the faulting thread even while every CPU is busy; tests want to see what happens then.
  var followsWhenBusy = false

  /// Where `keepsCPUsAwake` is asked for; tests name other files.
  var cpuLatencyDevice = CPULatencyHold.devicePath

  /// How many mappings the regions of this runtime may cost with `sigsegv`; nil for what all runtimes may cost
  /// together.
  var mappingLimit: Int?

  /// A configuration with the given values.
  public init(
    delivery: Delivery = .auto,
    needsSystemCalls: Bool = false,
    descriptorChoice: DescriptorChoice = .automatic,
    handlerThreads: Int? = nil,
    providerThreads: Int = 4,
    placement: HandlerPlacement = .automatic,
    keepsCPUsAwake: Bool = false,
    batchCapacity: Int = 64,
    closeTimeout: Duration = .seconds(5),
    resolveTimeout: Duration = .seconds(10),
    poisonFallback: PoisonFallback = .abort,
    explainsFailures: Bool = true,
    onFailure: (@Sendable (PageFailure) -> Void)? = nil,
    onEvent: (@Sendable (RegionEvent) -> Void)? = nil,
    onNotice: (@Sendable (String) -> Void)? = nil
  ) {
    self.delivery = delivery
    self.needsSystemCalls = needsSystemCalls
    self.descriptorChoice = descriptorChoice
    self.handlerThreads = handlerThreads
    self.providerThreads = providerThreads
    self.placement = placement
    self.keepsCPUsAwake = keepsCPUsAwake
    self.batchCapacity = batchCapacity
    self.closeTimeout = closeTimeout
    self.resolveTimeout = resolveTimeout
    self.poisonFallback = poisonFallback
    self.explainsFailures = explainsFailures
    self.onFailure = onFailure
    self.onEvent = onEvent
    self.onNotice = onNotice
  }
}

extension FaultRuntimeConfiguration {
  func validate() throws(FaultRuntimeError) {
    if let handlerThreads, !(1...64).contains(handlerThreads) {
      throw .invalidConfiguration("handlerThreads is \(handlerThreads); it has to be from 1 to 64")
    }
    guard (1...64).contains(providerThreads) else {
      throw .invalidConfiguration("providerThreads is \(providerThreads); it has to be from 1 to 64")
    }
    guard !(needsSystemCalls && (delivery == .sigbus || delivery == .sigsegv)) else {
      throw .invalidConfiguration(
        "delivery is \(delivery.rawValue), which never serves system calls, and needsSystemCalls is true")
    }
    if needsSystemCalls, let kind = descriptorChoice.onlyKind, !kind.servesKernelModeFaults {
      throw .invalidConfiguration("a user-mode-only descriptor never serves system calls, and needsSystemCalls is true")
    }
    guard (1...4096).contains(batchCapacity) else {
      throw .invalidConfiguration("batchCapacity is \(batchCapacity); it has to be from 1 to 4096")
    }
  }
}

extension FaultRuntimeConfiguration {
  /// The kinds of descriptor that handler threads may have.
  var handlerKinds: [DescriptorKind] {
    descriptorChoice.candidates(servingSystemCalls: needsSystemCalls)
  }
}

extension FailureReporter {
  init(_ configuration: FaultRuntimeConfiguration) {
    self.init(onFailure: configuration.onFailure, withoutPoison: configuration.poisonFallback)
  }
}
