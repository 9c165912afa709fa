/// Returns bytes as one line of text. Control characters and bytes that are not UTF-8 become `\xNN`, a NUL becomes
/// `\0`, and everything else stays as it is.
func readableText(_ bytes: some Collection<UInt8>) -> String {
  var text = ""
  var rest = bytes[...]
  var input = bytes.makeIterator()
  var parser = Unicode.UTF8.ForwardParser()
  while true {
    let byteCount: Int
    switch parser.parseScalar(from: &input) {
    case .emptyInput:
      return text
    case .error(let length):
      byteCount = length
      text += escaped(rest.prefix(length))
    case .valid(let encoded):
      byteCount = encoded.count
      let scalar = Unicode.UTF8.decode(encoded)
      if scalar.properties.generalCategory == .control {
        text += scalar.value == 0 ? "\\0" : escaped(rest.prefix(byteCount))
      } else {
        text.unicodeScalars.append(scalar)
      }
    }
    rest = rest.dropFirst(byteCount)
  }
}

private func escaped(_ bytes: some Collection<UInt8>) -> String {
  bytes.map { byte in
    let digits = String(byte, radix: 16)
    return "\\x" + (digits.count == 1 ? "0" : "") + digits
  }.joined()
}
