// SIGBUS and SIGSEGV, delivered to the thread that touched a page which is not there: how the handler is installed, and how
// signals that are not ours reach whoever had the signal before. The only global state of the library is in signals.c.
#ifndef CUFFD_SIGNALS_H
#define CUFFD_SIGNALS_H

#include "cuffd_platform.h"

#include <stdbool.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

// The signals of faults; which one a delivery uses.
#define CUFFD_SIGBUS 7
#define CUFFD_SIGSEGV 11

// Answers the fault at `address`, of which the signal `number` told. False: not ours, or it cannot be answered, and the signal
// goes on. `outer` is 0, or a page that this thread is answering already, on whose way it came back to this one: answering would
// go on for ever.
typedef bool (*cuffd_fault_server)(void *context, int number, uint64_t address, bool is_write, uint64_t outer);

// Says on standard error what is known of the page at `address`, before the program ends because of it.
typedef void (*cuffd_fault_explainer)(void *context, int number, uint64_t address);

// Makes `server` the first to hear of the signal `number` in this process, for ever; whoever had it hears of what is not ours.
// Calling it again puts it first again, should somebody have taken the signal since. `context` is never released. There is one
// server for all signals. Takes a lock. Returns 0 or -errno.
int cuffd_signal_install(int number, cuffd_fault_server server, cuffd_fault_explainer explainer, void *context);

// How often in a row the calling thread has come here for `page`, this time included.
unsigned cuffd_signal_repeats(uint64_t page);

// Every signal but those of faults waits on the calling thread, from the one call to the other: nothing that interrupts it
// may fault on what it holds locked.
struct cuffd_signal_mask {
  uint64_t words[16];
};
void cuffd_signals_hold(struct cuffd_signal_mask *before);
void cuffd_signals_release(const struct cuffd_signal_mask *before);

#pragma clang assume_nonnull end

#endif
