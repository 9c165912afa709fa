// System calls that are forbidden, and a host on which no userfaultfd can be had.
#ifndef CTEST_DENY_H
#define CTEST_DENY_H

#pragma clang assume_nonnull begin

// From now on userfaultfd(2) fails with `number` in this process and its children. Returns 0 or -errno.
int cts_deny_userfaultfd(int number);
// The same, but it kills the process.
int cts_kill_for_userfaultfd(void);

// The same for sched_setscheduler(2) and sched_setaffinity(2).
int cts_deny_scheduling(int number);

// From now on the calling thread, and whatever it starts or becomes, has no userfaultfd: the system call fails with `number`
// (seccomp), and there is no /dev/userfaultfd (an empty directory in a mount namespace of its own, where this process could
// open the device otherwise). Returns 0 or -errno.
int cts_hide_userfaultfd(int number);

#pragma clang assume_nonnull end

#endif
