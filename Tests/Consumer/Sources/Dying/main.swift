// Dies with a core dump in the folder FOLDER, where the file `address` then has the address of its region: of 4 GiB, of
// which two pages are resident.
//
// Dying FOLDER DELIVERY in|out

import Archive
import FaultRuntime
import Glibc

let arguments = CommandLine.arguments
var limit = rlimit(rlim_cur: rlim_t.max, rlim_max: rlim_t.max)
guard chdir(arguments[1]) == 0, setrlimit(__rlimit_resource_t(4), &limit) == 0 else { exit(2) }  // RLIMIT_CORE
let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: Delivery(rawValue: arguments[2])!))
let region = try runtime.map(
  Squares(byteCount: 4 << 30), options: RegionOptions(advice: .random, isInCoreDumps: arguments[3] == "in"))
let page = HostReport().pageSize
for offset in [0, 3 * page] {
  let byte = unsafe region.bytes.unsafeLoad(fromByteOffset: offset, as: UInt8.self)
  guard byte == Squares.byte(at: offset) else { exit(3) }
}
guard let file = fopen("address", "w") else { exit(4) }
fputs("\(unsafe UInt(bitPattern: region.unsafeBytes.baseAddress!))", file)
fclose(file)
abort()
