// SIGBUS and SIGSEGV, which the kernel raises in a thread that touches a page which is not there. This file declares
// how our handler is installed, and how it passes signals that are not ours on to the handler that was there before.
// A process has one action for each signal, so the state in signals.c is global.
#ifndef CUFFD_SIGNALS_H
#define CUFFD_SIGNALS_H

#include "cuffd_platform.h"

#include <stdbool.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

// The signals of faults. Each delivery uses one of them at most.
#define CUFFD_SIGBUS 7
#define CUFFD_SIGSEGV 11

// Answers the fault at `address`, which raised the signal `number`. Returns false if the fault is not ours or cannot
// be answered; the signal is then passed on.
//
// `outer` is usually 0. If the thread is already answering a fault of the same page, or answers too many faults at
// once, `outer` is the page of the latest fault that the thread is answering. The server then has to fail the page
// instead of asking for it, because the answers would never end.
typedef bool (*cuffd_fault_server)(void *context, int number, uint64_t address, bool is_write, uint64_t outer);

// Writes to standard error what is known of the page at `address`, before the program ends because of that page.
typedef void (*cuffd_fault_explainer)(void *context, int number, uint64_t address);

// Installs our handler for the signal `number` for the rest of the process, with `server` for its faults. The handler
// passes signals that are not ours on to the action that was there before. A further call installs our handler again
// if the program has replaced it in the meantime. There is one server for all signals, and `context` is never
// released. Takes a lock. Returns 0 or -errno: -EBUSY if our handler was replaced too many times.
int cuffd_signal_install(int number, cuffd_fault_server server, cuffd_fault_explainer explainer, void *context);

// Returns how many times in a row the calling thread has called this for `page`, including this call.
unsigned cuffd_signal_repeats(uint64_t page);

// The first function blocks every signal except those of faults on the calling thread, and the second one restores the
// mask from before. No handler that interrupts the thread in between can fault on memory whose lock the thread holds.
struct cuffd_signal_mask {
  uint64_t words[16];
};
void cuffd_signals_hold(struct cuffd_signal_mask *before);
void cuffd_signals_release(const struct cuffd_signal_mask *before);

#pragma clang assume_nonnull end

#endif
