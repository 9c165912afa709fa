// swift-tools-version: 6.3
import PackageDescription

// The benchmarks are a package of their own for two reasons: programs that use the library do not build them, and the
// executable replaces malloc.

/// The same strict settings as the library's own.
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
  name: "Benchmarks",
  products: [
    .executable(name: "fault-benchmarks", targets: ["fault-benchmarks"])
  ],
  dependencies: [
    .package(name: "FaultRuntime", path: ".."),
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
  ],
  targets: [
    .target(name: "CReference", cSettings: strictC),
    .target(name: "CAllocationCount", cSettings: strictC),
    .target(name: "CBenchmarkSupport", cSettings: strictC),
    .executableTarget(
      name: "fault-benchmarks",
      dependencies: [
        "CReference",
        "CAllocationCount",
        "CBenchmarkSupport",
        .product(name: "FaultRuntime", package: "FaultRuntime"),
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: strictSwift
    ),
  ],
  cLanguageStandard: .gnu17
)
