/// The settings of a ``FaultRuntime``. The defaults suit most programs.
///
/// ```swift
/// var configuration = FaultRuntimeConfiguration(needsSystemCalls: true, providerThreads: 8)
/// configuration.onFailure = { failure in print(failure) }
/// let runtime = try FaultRuntime(configuration)
/// ```
///
/// A runtime copies its configuration when it is made, so later changes have no effect on it. Making a runtime throws
/// ``FaultRuntimeError`` with the code `invalidConfiguration` if a number is outside of its range, or if two settings
/// contradict each other. Durations below zero count as zero.
public struct FaultRuntimeConfiguration: Sendable {
  /// How faults are delivered. The default is ``Delivery/auto``, which picks the best delivery for each region that
  /// is mapped.
  public var delivery: Delivery

  /// Whether system calls may touch pages that are not resident, such as `write(2)` from a region. The default is
  /// false.
  ///
  /// If this is true, all regions are served by the event loop, over a descriptor that serves faults of the kernel as
  /// well. Making the runtime fails with the code `userfaultfdUnavailable` if the host does not allow such a
  /// descriptor, and with the code `invalidConfiguration` if ``delivery`` or ``descriptorChoice`` rules it out.
  ///
  /// If this is false, a system call that meets a page which is not resident fails with `EFAULT`, unless the region
  /// is served by the event loop over a descriptor that happens to serve faults of the kernel (``DescriptorKind``).
  /// `LazyRegion.withUnsafeResident(_:_:)` makes pages resident before a system call uses them, and needs no such
  /// descriptor.
  public var needsSystemCalls: Bool

  /// Which ways of opening a userfaultfd the runtime may try. The default is ``DescriptorChoice/automatic``.
  public var descriptorChoice: DescriptorChoice

  /// The number of handlers of the event loop, from 1 to 64, or nil. The default is nil.
  ///
  /// Each handler has a userfaultfd and threads of its own. One handler serves all faults of a region, so several
  /// handlers help only if several regions are used at the same time. With a number, the runtime starts all of the
  /// handlers when it is made, and assigns regions to them in turn.
  ///
  /// With nil, the runtime starts one handler when it is made. It starts another one when a region is mapped while
  /// each handler has a region already, up to the number of CPUs that the program may use, and up to four. If that
  /// fails, the handlers that exist serve the region as well. A new region goes to the handler that has the fewest.
  ///
  /// The deliveries `sigbus` and `sigsegv` use no handlers.
  public var handlerThreads: Int?

  /// The number of threads in the pool on which the runtime asks providers that may block, from 1 to 64. The default
  /// is 4.
  ///
  /// With the event loop these are all providers without ``ProviderPermissions/handlerThread``, and all providers of
  /// regions that have a ``RegionOptions/timeout`` or ask again after an error (``RegionOptions/retry``). With
  /// `sigsegv` the pool asks the providers that may not run on the faulting thread. The runtime starts the threads
  /// when the first such region is mapped.
  ///
  /// One region never occupies all threads: where there are two or more threads, at most `providerThreads - 1` of them
  /// work for one region at the same time, for its faults and its prefetches together. Faults go before prefetches, and
  /// all prefetches together occupy at most `providerThreads - 1` threads. If there is only one thread, it does
  /// everything.
  ///
  /// Providers that do not return, or not soon, do not hold up other regions, however many they are. When calls have
  /// lasted for 0.1 s, a region that has no thread gets one that is started for it. When they have lasted for 5 s, they
  /// do not count as occupied threads any more. Such threads end when they are not needed any more.
  ///
  /// A provider without ``ProviderPermissions/concurrentRequests`` is asked by one thread of the pool at a time for
  /// each region. With `sigsegv`, a serial thread asks all of these providers, and also those that permit the handler
  /// thread but not the faulting thread. The pool has the serial thread in addition to this number. While a call holds
  /// it up for longer than 0.1 s, further ones serve the other regions, so that up to `providerThreads` serial calls
  /// are under way that have not lasted for so long.
  ///
  /// So the pool has at most this many threads for calls that return at once, and as many serial ones while a serial
  /// call lasts; up to 64 more where threads of the pool wait in faults themselves; and those in calls that last. The
  /// last are at most `providerThreads - 1` for each region, though at least one, and up to 64 more for each region
  /// whose provider has exceeded the region's timeout.
  public var providerThreads: Int

  /// The CPU on which the handler threads of the event loop run. The default is ``HandlerPlacement/automatic``. The
  /// deliveries `sigbus` and `sigsegv` use no handlers.
  public var placement: HandlerPlacement

  /// Whether the runtime keeps the idle CPUs of the whole machine from sleeping, so that a thread on another CPU
  /// wakes sooner. The default is false.
  ///
  /// The runtime writes a 0 to `/dev/cpu_dma_latency`, which is a request to PM QoS in the kernel. The request helps
  /// with faults that are served on another CPU than the one on which they are made. It has a price: all CPUs use as
  /// much power as if they were busy, and a virtual machine takes that power from its neighbours.
  ///
  /// The request changes nothing if `/sys/devices/system/cpu/cpuidle/current_driver` says `none`, as in some virtual
  /// machines: idle CPUs then halt, whatever is requested.
  ///
  /// The request stands from the making of the runtime until the runtime and all its regions are gone, whether there
  /// are faults or not. A forked child holds the request as well, until the child ends or calls `execve(2)`.
  ///
  /// Making the runtime fails with the code `cannotKeepCPUsAwake` if the device cannot be opened and written. As a
  /// rule only root may do that.
  public var keepsCPUsAwake: Bool

  /// The largest number of messages that a handler takes from its userfaultfd with one read, from 1 to 4096. The
  /// default is 64.
  ///
  /// A handler merges faults of neighbouring pages that it reads together into one request. Messages that do not fit
  /// stay in the queue of the kernel until the next read.
  public var batchCapacity: Int

  /// How long the runtime waits for other threads when a region or the runtime itself ends. The default is 5 seconds.
  /// With zero it does not wait.
  ///
  /// ``LazyRegion/close()`` waits up to three times, each time for at most this long:
  ///
  /// - until all closures that use the region's bytes have returned (``LazyRegion/withBytes(_:)``,
  ///   `withResident(_:_:)` and the like);
  /// - with the event loop, until the handler has served the faults that are queued;
  /// - with the event loop, where the pool asks the provider, until the pool's requests for the region have ended.
  ///
  /// After that, the runtime takes the memory away. A thread that still uses the region gets SIGBUS or SIGSEGV.
  ///
  /// When a runtime ends, it waits up to five times, each time for at most this long: until the thread that watches
  /// the timeouts has returned from the program's hooks, until the handler threads have returned from their providers,
  /// until the thread that reads the events of `sigbus` has returned from `onEvent`, until the threads of the pool have
  /// returned, and until the thread of ``explainsFailures`` has returned from the text of an error. A thread that does
  /// not return in time ends when it returns.
  public var closeTimeout: Duration

  /// How long the kernel may ask for another try of one resolution (`EAGAIN`) before the page fails with a
  /// ``ResolutionError`` whose code is `resolveTimedOut`. The default is 10 seconds.
  ///
  /// This does not limit the time that a provider takes; ``RegionOptions/timeout`` does.
  public var resolveTimeout: Duration

  /// What the event loop does with a page that cannot be produced, where the kernel cannot poison it (before Linux
  /// 6.6). The default is ``PoisonFallback/abort``, which ends the program.
  public var poisonFallback: PoisonFallback

  /// Whether a program that dies because it touched a page that could not be produced first explains that in one line
  /// on standard error: region, offset, provider and cause. The default is true.
  ///
  /// This concerns programs that die of SIGBUS, or of SIGSEGV with the delivery `sigsegv`, and have no handler of
  /// their own for that signal. A handler that only prints a backtrace, as Swift's does, does not count. With the
  /// event loop the runtime installs a handler of SIGBUS for this purpose, which passes the signal on to the handler
  /// that was there before. The deliveries `sigbus` and `sigsegv` have such a handler in any case.
  ///
  /// The line is made by a thread of the runtime (`fault-words`), which starts with the first region. The thread that
  /// dies waits for it. The text of the error is made by code of the program, which may need a lock that the dying
  /// thread holds, so after 5 seconds the line is written without that text. Where `fault-words` cannot be started, or
  /// cannot even find the page in that time, nothing is written.
  public var explainsFailures: Bool

  /// A closure that is called when a page could not be produced, before the access to the page fails. The default is
  /// nil. ``LazyRegion/failures`` records the failures with and without a closure.
  ///
  /// The closure runs on a thread of the runtime or, with `sigbus` and `sigsegv`, on the faulting thread in its
  /// signal handler. Other faults may wait meanwhile, so keep the closure short. It must not touch lazy memory. It is
  /// not called for a page that a prefetch could not produce, because the prefetch throws.
  public var onFailure: (@Sendable (PageFailure) -> Void)?

  /// A closure that is called when the program has unmapped, moved or discarded memory of a region with system calls
  /// of its own. The default is nil. The event loop calls the closure, and so does `sigbus`, but not for discarded
  /// memory. `sigsegv` hears of nothing.
  ///
  /// The closure runs on a handler thread, or on another thread of the runtime while the handler thread waits in a
  /// fault. With `sigbus` it runs on a thread of the runtime that answers no faults. The system call that changed the
  /// memory may return before the closure does. Faults of the event loop wait until the closure has returned. So do
  /// further such calls, and all faults of the runtime while such a call waits. So keep the closure short. It must
  /// neither touch lazy memory nor change it.
  ///
  /// With nil the runtime does not hear of discarded memory (`MADV_DONTNEED` and the like), and discarding costs
  /// nothing extra. With a closure, a thread that discards memory waits until a handler has read the message about
  /// that.
  public var onEvent: (@Sendable (RegionEvent) -> Void)?

  /// A closure that is called when the runtime has to work in another way than usual although nothing has failed. The
  /// default is nil, which writes the text to standard error.
  ///
  /// There are two such cases: the host allows no userfaultfd, so that regions are served by `sigsegv`; and the limit
  /// of mappings (`vm.max_map_count`) is near. A runtime reports each of them at most once, in one line of text. The
  /// closure runs on the thread that finds the case. That may be a faulting thread in its signal handler, or a thread
  /// that makes a runtime, whose signals are blocked meanwhile. So keep the closure short, start no threads in it, and
  /// do not touch lazy memory.
  public var onNotice: (@Sendable (String) -> Void)?

  /// The features that are switched on in addition to those that the runtime needs itself. Tests ask for events in
  /// this way.
  var additionalFeatures: UserfaultfdFeatures = []

  /// The features that the runtime treats as missing. Tests use this to see what happens on older kernels.
  var withheldFeatures: UserfaultfdFeatures = []

  /// How often a resolution that gets `EAGAIN` is tried again at once. The thread whose event was read has to run
  /// before a resolution can succeed, which takes up to a tenth of a millisecond on another CPU of a virtual machine.
  var immediateRetries = 256

  /// How long a call of a provider on the pool may last before it holds up no other region any more, in nanoseconds.
  var providerPatience: UInt64 = 100_000_000

  /// How far a handler fills pages ahead of a sequential reader without another fault, in bytes.
  var streamDistance = 2 << 20

  /// Whether a handler follows the faulting thread even while every CPU is busy. Tests use this to see what happens
  /// then.
  var followsWhenBusy = false

  /// The path of the device to which `keepsCPUsAwake` writes. Tests name other files.
  var cpuLatencyDevice = CPULatencyHold.devicePath

  /// The number of mappings that the regions of this runtime may use with `sigsegv`; nil for the limit that all
  /// runtimes of the process share.
  var mappingLimit: Int?

  /// Whether `sigsegv` may tell absent pages by guard markers. Tests forbid it, so that protection tells them.
  var guardsPages = true

  /// Makes a configuration with the given values. Each parameter sets the property of the same name, which explains
  /// it. No value is checked before a ``FaultRuntime`` is made.
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
  /// The kinds of descriptor that handlers may open, in the order in which they are tried.
  var handlerKinds: [DescriptorKind] {
    descriptorChoice.candidates(servingSystemCalls: needsSystemCalls)
  }
}

extension FailureReporter {
  init(_ configuration: FaultRuntimeConfiguration) {
    self.init(onFailure: configuration.onFailure, withoutPoison: configuration.poisonFallback)
  }
}
