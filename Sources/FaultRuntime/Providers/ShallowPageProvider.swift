/// A provider of which it is known how much of the stack an answer needs (``StackNeed``).
protocol ShallowPageProvider: PageProvider {
  static var stackNeed: UInt64 { get }
}

extension ZeroProvider: ShallowPageProvider {
  static var stackNeed: UInt64 { StackNeed.ofSimpleAnswer }
}

extension MemoryProvider: ShallowPageProvider {
  static var stackNeed: UInt64 { StackNeed.ofSimpleAnswer }
}

extension FileProvider: ShallowPageProvider {
  static var stackNeed: UInt64 { StackNeed.ofFileAnswer }
}
