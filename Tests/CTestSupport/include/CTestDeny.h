// Forbids system calls, and makes a host on which a process cannot have a userfaultfd.
#ifndef CTEST_DENY_H
#define CTEST_DENY_H

#include <stdint.h>

#pragma clang assume_nonnull begin

// From now on userfaultfd(2) fails with `number` in the calling thread and in its children. Returns 0 or -errno.
int cts_deny_userfaultfd(int number);
// The same, but userfaultfd(2) kills the process.
int cts_kill_for_userfaultfd(void);
// The same, but a handler of SIGSYS answers userfaultfd(2) with `number`.
int cts_trap_userfaultfd(int number);

// The same for sched_setscheduler(2) and sched_setaffinity(2).
int cts_deny_scheduling(int number);

// From now on ioctl(2) fails with `number` in every thread. Returns 0 or -errno.
int cts_deny_ioctl(int number);

// From now on mprotect(2) and munmap(2) of memory that begins at `address` fail with `number` in every thread. Other
// memory whose address has the same lower 32 bits is concerned as well. Returns 0 or -errno.
int cts_deny_taking_away(uintptr_t address, int number);

// From now on the calling thread, its children, and the programs that it executes have no userfaultfd. The system
// call fails with `number` (seccomp), and /dev/userfaultfd does not exist: if this process could open the device, the
// thread gets a mount namespace with an empty /dev. Returns 0 or -errno.
int cts_hide_userfaultfd(int number);

#pragma clang assume_nonnull end

#endif
