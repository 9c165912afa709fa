/// A type of which every pattern of bits is a value, so that it can be read from any bytes: the integers of a fixed
/// width, and the floating-point types.
///
/// What ``LazyRegion/load(fromByteOffset:as:)``, ``LazyRegion/store(_:toByteOffset:)``, ``LazyRegion/read(_:as:)`` and
/// ``LazyRegion/write(_:as:at:)`` work with. Values are in the byte order of the machine; `UInt32(littleEndian:)` and
/// its like turn those that are in another one.
///
/// A type of your own may conform where it is nothing but such values, without a gap between or behind them. Not an
/// enum, a
/// `Bool`, or anything with a pointer in it: of those some patterns are no value, and the compiler does not check this.
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
