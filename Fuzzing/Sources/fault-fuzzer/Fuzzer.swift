/// What libFuzzer calls for each input. The first byte says what is tried, so that one corpus and one program do for all.
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

/// Ends the program, which libFuzzer takes for a crash, where something that always holds does not.
func require(_ condition: @autoclosure () -> Bool, _ message: @autoclosure () -> String) {
  if !condition() { fatalError("broken: \(message())") }
}
