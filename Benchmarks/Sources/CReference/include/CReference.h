// The yardsticks: each way to fill memory when it is touched, as short as it can be and still be correct, as one would
// write it in C for one job. One strategy to a file.
#ifndef CREFERENCE_H
#define CREFERENCE_H

#include "creference_platform.h"

#include "creference_bulk.h"
#include "creference_stages.h"
#include "creference_touch.h"

#include <stddef.h>

#pragma clang assume_nonnull begin

typedef enum {
  // The kernel's own faults; whoever touches a page copies it. See `copied_from` in creference_touch.h.
  CREFERENCE_ANONYMOUS,
  // mmap(2) of the file that the source is a mapping of, private.
  CREFERENCE_MAPPED,
  // PROT_NONE, and a SIGSEGV handler that calls mprotect(2) and memcpy(3). Between the two calls another thread finds the
  // page open and still zero: right only as long as no two threads touch the same page.
  CREFERENCE_SIGSEGV,
  // A memfd that is mapped twice: the program's mapping is PROT_NONE, and a SIGSEGV handler copies the page through the
  // other mapping and then calls mprotect(2). Right as long as no two threads touch one page and one of them writes.
  CREFERENCE_TWIN,
  // UFFD_FEATURE_SIGBUS: the faulting thread itself fills the page, in the signal handler.
  CREFERENCE_SIGBUS,
  // A thread that waits in epoll_wait(2), and reads messages.
  CREFERENCE_EPOLL,
  // A thread that reads messages without ever waiting for one.
  CREFERENCE_SPIN,
} creference_strategy;

struct creference_options {
  creference_strategy strategy;
  // Bytes that one fault brings: whole pages, counted from the start. Only one page for ANONYMOUS, MAPPED, SIGSEGV and TWIN.
  size_t unit;
  // The file for MAPPED; not looked at otherwise.
  int source_fd;
};

typedef struct creference creference;

// Maps `length` bytes (whole pages), and has each of them filled from the same offset of `source` when it is touched. A
// thread that does it inherits the CPUs of the caller. At most one reference at a time may have a handler of SIGSEGV, and
// one of SIGBUS. On failure returns null and puts the name of the call that failed into `*failed_call` and its errno into
// `*error`.
creference *_Nullable creference_start(size_t length, const void *source, struct creference_options options,
                                       const char *_Nullable *_Nonnull failed_call, int *error);

// Where the mapping starts.
void *creference_base(const creference *reference);

// Ends the thread, or puts the signal's former handler back, and unmaps. Nobody may be touching the mapping.
void creference_stop(creference *reference);

#pragma clang assume_nonnull end

#endif
