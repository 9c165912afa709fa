/// A type of which every pattern of bits is a valid value, so that it can be read from any bytes. The integers of a
/// fixed width and the floating-point types conform.
///
/// ``LazyRegion/load(fromByteOffset:as:)``, ``LazyRegion/store(_:toByteOffset:)``, ``LazyRegion/read(_:as:)`` and
/// ``LazyRegion/write(_:as:at:)`` work with such types. Values are in the byte order of the machine. For data in
/// another byte order, use `UInt32(littleEndian:)` and similar initialisers.
///
/// A type of your own may conform where it consists of such values only, with no gap between or behind them:
///
/// ```swift
/// struct Point: RegionScalar {
///   var x: Float
///   var y: Float
/// }
/// let points = try region.read(0..<region.byteCount, as: Point.self)
/// ```
///
/// An enum, a `Bool` and a type that contains a pointer must not conform: some of their patterns are no valid value,
/// and the compiler does not check this.
public protocol RegionScalar: BitwiseCopyable, Sendable {}

extension Int: RegionScalar {}
extension Int8: RegionScalar {}
extension Int16: RegionScalar {}
extension Int32: RegionScalar {}
extension Int64: RegionScalar {}
extension Int128: RegionScalar {}
extension UInt: RegionScalar {}
extension UInt8: RegionScalar {}
extension UInt16: RegionScalar {}
extension UInt32: RegionScalar {}
extension UInt64: RegionScalar {}
extension UInt128: RegionScalar {}
extension Float16: RegionScalar {}
extension Float: RegionScalar {}
extension Double: RegionScalar {}
