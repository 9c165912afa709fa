// What happens around fork(3).
#ifndef CUFFD_FORK_H
#define CUFFD_FORK_H

#include "cuffd_platform.h"

#include "cuffd_host.h"

#pragma clang assume_nonnull begin

// Has each fork wait for a lock, which is then held until the fork is over. At most 8 locks, which are never
// destroyed, and which are taken in the order of these calls.
void cuffd_fork_add(cuffd_monitor *monitor);

// Sets the ranges that a forked child keeps without access, in place of the ones from before. Each element begins with
// an address and a length, and has `stride` bytes. The caller holds one of the locks above.
void cuffd_fork_keep(const void *elements, size_t count, size_t stride);

#pragma clang assume_nonnull end

#endif
