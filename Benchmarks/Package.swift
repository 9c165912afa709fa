// swift-tools-version: 6.3
import PackageDescription

// A package of its own, so that nobody who uses the library builds benchmarks, and because the executable replaces malloc.

/// The same strictness as the library's.
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
