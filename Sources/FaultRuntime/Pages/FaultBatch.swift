/// Faults in an array of fixed size, sorted by page. The batch has one entry for each page and kind of fault, however
/// many threads wait for the page.
struct FaultBatch: ~Copyable {
  private var storage: [PendingFault]
  private(set) var count = 0

  init(capacity: Int) {
    storage = Array(repeating: PendingFault(page: 0, isWrite: false), count: capacity)
  }

  var isFull: Bool { count == storage.count }

  @inline(__always)
  subscript(index: Int) -> PendingFault {
    precondition(index >= 0 && index < count, "no such fault")
    return storage[index]
  }

  /// Inserts a fault in its place, or merges it with an entry for the same page and kind. Traps if a new entry does
  /// not fit.
  @inline(__always)
  mutating func insert(_ fault: PendingFault) {
    var index = count
    while index > 0, storage[index - 1].comesAfter(fault) { index -= 1 }
    if index > 0, storage[index - 1].isSameFault(as: fault) {
      storage[index - 1].merge(fault)
      return
    }
    precondition(count < storage.count, "a batch was overfilled")
    var moved = count
    while moved > index {
      storage[moved] = storage[moved - 1]
      moved -= 1
    }
    storage[index] = fault
    count += 1
  }

  mutating func removeAll() { count = 0 }
}
