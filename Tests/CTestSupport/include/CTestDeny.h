// A host on which no userfaultfd can be had.
#ifndef CTEST_DENY_H
#define CTEST_DENY_H

#pragma clang assume_nonnull begin

// From now on the calling thread, and whatever it starts or becomes, has no userfaultfd: the system call fails with `number`
// (seccomp), and there is no /dev/userfaultfd (an empty directory in a mount namespace of its own, where this process could
// open the device otherwise). Returns 0 or -errno.
int cts_hide_userfaultfd(int number);

#pragma clang assume_nonnull end

#endif
