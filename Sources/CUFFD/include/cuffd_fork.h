// Whose memory this is, and what happens around fork(3).
#ifndef CUFFD_FORK_H
#define CUFFD_FORK_H

#include "cuffd_platform.h"

#include "cuffd_host.h"

#pragma clang assume_nonnull begin

// Returns a number for the memory of this process. A forked child gets another number, and a child of vfork(2), which
// uses the memory of its parent, the same one. Costs no system call. Safe in a signal handler.
CUFFD_NO_LOCKS uint64_t cuffd_address_space(void);

// Has each fork wait for a lock, which is then held until the fork is over. At most 8 locks, which are never
// destroyed, and which are taken in the order of these calls.
void cuffd_fork_add(cuffd_monitor *monitor);

// Sets the ranges that a forked child keeps without access, in place of the ones from before. Each element begins with
// an address and a length, and has `stride` bytes. The caller holds one of the locks above.
void cuffd_fork_keep(const void *elements, size_t count, size_t stride);

#pragma clang assume_nonnull end

#endif
