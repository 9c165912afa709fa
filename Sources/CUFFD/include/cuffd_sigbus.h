// SIGBUS, delivered to the thread that touched a page of a SIGBUS-mode userfaultfd: how the handler is installed, and how
// signals that are not ours reach whoever had the signal before. The only global state of the library is in sigbus.c.
#ifndef CUFFD_SIGBUS_H
#define CUFFD_SIGBUS_H

#include "cuffd_platform.h"

#include <stdbool.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

// Answers the fault at `address`. False: not ours, or it cannot be answered, and the signal goes on.
// `outer` is 0, or a page that this thread is answering already, on whose way it came back to this one: answering would go on
// for ever.
typedef bool (*cuffd_fault_server)(void *context, uint64_t address, bool is_write, uint64_t outer);

// Says on standard error what is known of the page at `address`, before the program ends because of it.
typedef void (*cuffd_fault_explainer)(void *context, uint64_t address);

// Makes `server` the first to hear of SIGBUS in this process, for ever; whoever had the signal hears of what is not ours.
// Calling it again puts it first again, should somebody have taken the signal since. `context` is never released.
// Takes a lock. Returns 0 or -errno.
int cuffd_sigbus_install(cuffd_fault_server server, cuffd_fault_explainer explainer, void *context);

#pragma clang assume_nonnull end

#endif
