// The yardsticks: every way to fill memory when it is touched. Each is as short as correct code can be, as one would
// write it in C for a single job, and has a file of its own.
#ifndef CREFERENCE_H
#define CREFERENCE_H

#include "creference_platform.h"

#include "creference_bulk.h"
#include "creference_stages.h"
#include "creference_touch.h"

#include <stddef.h>

#pragma clang assume_nonnull begin

typedef enum {
  // The kernel's own faults. The thread that touches a page copies its bytes; see `copied_from` in
  // creference_touch.h.
  CREFERENCE_ANONYMOUS,
  // A private mmap(2) of the file behind the source.
  CREFERENCE_MAPPED,
  // PROT_NONE, and a SIGSEGV handler that calls mprotect(2) and then memcpy(3). Between the two calls, another thread
  // finds the page open and still zero. The strategy is correct only as long as no two threads touch the same page.
  CREFERENCE_SIGSEGV,
  // A memfd that is mapped twice. The program's mapping is PROT_NONE; a SIGSEGV handler copies the page through the
  // other mapping and then calls mprotect(2). The strategy is correct as long as no thread writes to a page that
  // another thread touches.
  CREFERENCE_TWIN,
  // UFFD_FEATURE_SIGBUS: the faulting thread itself fills the page, in its signal handler.
  CREFERENCE_SIGBUS,
  // A handler thread that waits in epoll_wait(2) and reads messages.
  CREFERENCE_EPOLL,
  // A handler thread that reads messages all the time and never waits for one.
  CREFERENCE_SPIN,
} creference_strategy;

struct creference_options {
  creference_strategy strategy;
  // The bytes that one fault brings: whole pages, counted from the start of the mapping. Exactly one page for
  // ANONYMOUS, MAPPED, SIGSEGV and TWIN.
  size_t unit;
  // The file for MAPPED. Other strategies do not use it.
  int source_fd;
};

typedef struct creference creference;

// Maps `length` bytes (whole pages) and fills each unit from the same offset of `source` when it is touched. A
// handler thread inherits the CPUs of the caller. At most one reference at a time may have a SIGSEGV handler, and at
// most one a SIGBUS handler. On failure, returns null and stores the name of the call that failed in `*failed_call`
// and its errno in `*error`.
creference *_Nullable creference_start(size_t length, const void *source, struct creference_options options,
                                       const char *_Nullable *_Nonnull failed_call, int *error);

// Returns the start of the mapping.
void *creference_base(const creference *reference);

// Stops the handler thread or restores the former signal handler, and unmaps. No thread may be touching the mapping.
void creference_stop(creference *reference);

#pragma clang assume_nonnull end

#endif
