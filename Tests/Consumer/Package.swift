// swift-tools-version: 6.2
import PackageDescription

// A program outside the library's package, which depends on the library as any program would. Everything that it uses
// must be public, and it has none of the library's own settings. `scripts/check-consumer` builds and tests it.

let usersSettings: [SwiftSetting] = [.swiftLanguageMode(.v6), .treatAllWarnings(as: .error)]
let library: [Target.Dependency] = [.product(name: "FaultRuntime", package: "FaultRuntime")]

let package = Package(
  name: "Consumer",
  dependencies: [.package(name: "FaultRuntime", path: "../..")],
  targets: [
    .target(name: "Archive", dependencies: library, swiftSettings: usersSettings),
    // The tests do not depend on this program, because its own malloc(3) would become theirs.
    .target(name: "CAllocations"),
    .executableTarget(
      name: "Allocating", dependencies: library + ["CAllocations"], swiftSettings: usersSettings),
    .executableTarget(name: "Dying", dependencies: library + ["Archive"], swiftSettings: usersSettings),
    .testTarget(name: "ConsumerTests", dependencies: library + ["Archive", "Dying"], swiftSettings: usersSettings),
  ]
)

// The examples of README.md, which `scripts/check-consumer` has just written to this directory. They are not kept in
// the tree, because they would be second copies.
if Context.environment["README_EXAMPLES"] != nil {
  package.targets += [
    .executableTarget(
      name: "ReadmeProgram", dependencies: library, path: ".build/readme/program", swiftSettings: usersSettings),
    .target(
      name: "ReadmeFragments", dependencies: library, path: ".build/readme/fragments", swiftSettings: usersSettings),
  ]
}
