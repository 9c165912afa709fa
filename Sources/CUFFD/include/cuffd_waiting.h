// What the kernel says a thread of this process sleeps in.
#ifndef CUFFD_WAITING_H
#define CUFFD_WAITING_H

#include "cuffd_platform.h"

#include <stdint.h>

// Returns 1 if a thread of this process sleeps in a fault of a userfaultfd, 0 if it does not, or -errno if /proc does
// not tell. The result is -ENOSYS for a thread that sleeps, if the kernel has no symbols.
int cuffd_thread_waits_in_fault(uint32_t thread);

// Returns 1 if the thread sleeps until the event of a change that it has made to registered memory (discarding,
// unmapping, moving) has been read, 0 if not, or -errno. A kernel without symbols does not say: see
// cuffd_thread_waits_in_fault, which is not 0 there either way.
int cuffd_thread_waits_for_event(uint32_t thread);

#endif
