/// Tests one input; libFuzzer calls this function. The first byte selects the test, so that one program and one
/// corpus serve all tests.
@c(LLVMFuzzerTestOneInput)
public func testOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  var input = unsafe FuzzInput(UnsafeBufferPointer(start: start, count: count))
  switch input.byte() % 8 {
  case 0: InboxModel.check(&input)
  case 1: checkRuns(&input)
  case 2: checkAnswers(&input)
  case 3: checkTexts(&input)
  case 4: checkStreams(&input)
  case 5: checkPlacement(&input)
  case 6: checkParts(&input)
  default: checkResults(&input)
  }
  return 0
}

/// Ends the program if the condition does not hold. libFuzzer reports this as a crash.
func require(_ condition: @autoclosure () -> Bool, _ message: @autoclosure () -> String) {
  if !condition() { fatalError("broken: \(message())") }
}
