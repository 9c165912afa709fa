// swift-tools-version: 6.3
import PackageDescription

/// Every strictness setting that the toolchain offers and that is clean together.
let strictSwift: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .strictMemorySafety(),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
  .enableUpcomingFeature("InferIsolatedConformances"),
  .enableExperimentalFeature("Lifetimes"),
  .treatAllWarnings(as: .error),
]

let strictC: [CSetting] = [
  .treatAllWarnings(as: .error),
  .enableWarning("all"),
  .enableWarning("extra"),
  .enableWarning("conversion"),
]

let package = Package(
  name: "FaultRuntime",
  // The command is not declared here. A program that depends on this package fetches what the declared products need, so that
  // it would fetch the command's packages too. Where this package is the root, every executable target is a product anyway, and
  // `swift run lazy-mem-demo` works.
  products: [
    .library(name: "FaultRuntime", targets: ["FaultRuntime"])
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
    .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", from: "0.2.0"),
  ],
  targets: [
    .target(
      name: "CUFFD",
      // A kernel that makes trouble, for tests; release builds do not contain it.
      cSettings: strictC + [.define("CUFFD_TROUBLE", .when(configuration: .debug))]
    ),
    .target(name: "FaultRuntime", dependencies: ["CUFFD"], swiftSettings: strictSwift),
    // The C handlers that `lazy-mem-demo bench` measures against: the same files as in the package of the benchmarks.
    .target(name: "CFaultReference", path: "Benchmarks/Sources/CReference", cSettings: strictC),
    // Accesses that survive their signals, for `lazy-mem-demo stress` and for the tests.
    .target(name: "CStressSupport", cSettings: strictC),
    .executableTarget(
      name: "lazy-mem-demo",
      dependencies: [
        "FaultRuntime",
        "CFaultReference",
        "CStressSupport",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Histogram", package: "hdrhistogram-swift"),
      ],
      swiftSettings: strictSwift
    ),
    .target(
      name: "CTestSupport", dependencies: ["CStressSupport"], path: "Tests/CTestSupport", cSettings: strictC),
    // What the tests share. It sees the library as its users do: what needs more is beside the tests.
    .target(
      name: "TestSupport",
      dependencies: ["FaultRuntime", "CTestSupport", "CStressSupport"],
      path: "Tests/TestSupport",
      swiftSettings: strictSwift
    ),
    .testTarget(
      name: "FaultRuntimeTests",
      dependencies: ["FaultRuntime", "CUFFD", "CTestSupport", "TestSupport"],
      swiftSettings: strictSwift
    ),
    // The cases of the kernel's own uffd-unit-tests, under the same names: docs/conformance.md.
    .testTarget(
      name: "ConformanceTests",
      dependencies: ["FaultRuntime", "CUFFD", "CTestSupport", "TestSupport"],
      swiftSettings: strictSwift
    ),
    .testTarget(
      name: "LazyMemDemoTests",
      dependencies: ["lazy-mem-demo", "CTestSupport", "TestSupport"],
      swiftSettings: strictSwift
    ),
  ],
  cLanguageStandard: .gnu17
)
