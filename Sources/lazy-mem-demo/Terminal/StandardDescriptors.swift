import Glibc

/// Standard input, output and error, as the program that started this one has left them.
enum StandardDescriptors {
  /// Opens those of the three that are closed. Otherwise the next file that is opened, such as the memory of a
  /// region, would get their numbers, and the report would be written into it.
  ///
  /// They are opened for the wrong direction, so that a report to a closed standard output is an error and not lost.
  static func openClosedOnes() {
    for descriptor in STDIN_FILENO...STDERR_FILENO where fcntl(descriptor, F_GETFD) < 0 {
      // The lowest free number is this one, because all lower ones are open.
      let direction = descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY
      // A folder cannot be written either. It serves where there is no /dev.
      if unsafe open("/dev/null", direction) < 0 { _ = unsafe open("/", O_RDONLY) }
    }
  }

  /// Throws an error if standard output cannot be written. Commands that take long ask before they begin.
  static func checkOutput() throws(CommandFailure) {
    let flags = fcntl(STDOUT_FILENO, F_GETFL)
    guard flags >= 0, flags & O_ACCMODE != O_RDONLY else {
      throw CommandFailure(message: "standard output is closed: there is nowhere to write the report to")
    }
  }
}
