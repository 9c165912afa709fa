// swift-tools-version: 6.3
import PackageDescription

/// Every strict setting of the toolchain that the code can have at the same time without a warning.
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
  // `lazy-mem-demo` is not declared as a product. A program that depends on this package fetches the dependencies of
  // the declared products, so it would also fetch those of the command. In the root package every executable target
  // is a product anyway, so `swift run lazy-mem-demo` works.
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
      // The macro adds failures of the kernel's requests for tests. Release builds do not contain them.
      cSettings: strictC + [.define("CUFFD_TROUBLE", .when(configuration: .debug))]
    ),
    .target(name: "FaultRuntime", dependencies: ["CUFFD"], swiftSettings: strictSwift),
    // The C handlers that `lazy-mem-demo bench` compares with. The Benchmarks package builds the same files.
    .target(name: "CFaultReference", path: "Benchmarks/Sources/CReference", cSettings: strictC),
    // Accesses that survive the signals they raise, for `lazy-mem-demo stress` and for the tests.
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
    // Helpers that the tests share. They use only the public interface of the library, and its C functions; helpers
    // that need more are in the test targets.
    .target(
      name: "TestSupport",
      dependencies: ["FaultRuntime", "CUFFD", "CTestSupport", "CStressSupport"],
      path: "Tests/TestSupport",
      swiftSettings: strictSwift
    ),
    .testTarget(
      name: "FaultRuntimeTests",
      dependencies: ["FaultRuntime", "CUFFD", "CTestSupport", "TestSupport"],
      swiftSettings: strictSwift
    ),
    // The cases of the kernel's own uffd-unit-tests, under the same names; see docs/conformance.md.
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
