// SIGBUS, delivered to the thread that touched a page of a SIGBUS-mode userfaultfd: how the handler is installed, and how
// signals that are not ours reach whoever had the signal before. The only global state of the library is in sigbus.c.
#ifndef CUFFD_SIGBUS_H
#define CUFFD_SIGBUS_H

#include <stdbool.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

// Answers the fault at `address`. False: not ours, or it cannot be answered, and the signal goes on.
typedef bool (*cuffd_fault_server)(void *context, uint64_t address, bool is_write);

// Makes `server` the first to hear of SIGBUS in this process, for ever; whoever had the signal hears of what is not ours.
// Calling it again puts it first again, should somebody have taken the signal since. `context` is never released.
// Takes a lock. Returns 0 or -errno.
int cuffd_sigbus_install(cuffd_fault_server server, void *context);

#pragma clang assume_nonnull end

#endif
