// swift-tools-version: 6.3
import PackageDescription

// The fuzzer is a package of its own, because nothing that is built for fuzzing may get into the library that
// programs use.

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

let package = Package(
  name: "Fuzzing",
  dependencies: [
    .package(name: "FaultRuntime", path: "..")
  ],
  targets: [
    .executableTarget(
      name: "fault-fuzzer",
      dependencies: [
        .product(name: "FaultRuntime", package: "FaultRuntime")
      ],
      swiftSettings: strictSwift
    )
  ]
)
