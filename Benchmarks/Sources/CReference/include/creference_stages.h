// The parts of a fault, each measured by itself. They show what the kernel's work costs before a handler does
// anything.
#ifndef CREFERENCE_STAGES_H
#define CREFERENCE_STAGES_H

#include "creference_platform.h"

#pragma clang assume_nonnull begin

typedef enum {
  // A system call that does nothing.
  CREFERENCE_STAGE_CALL,
  // memcpy(3) of a page.
  CREFERENCE_STAGE_MEMCPY,
  // epoll_wait(2) on a descriptor that is ready.
  CREFERENCE_STAGE_EPOLL,
  // read(2) of a userfaultfd that has no message.
  CREFERENCE_STAGE_READ,
  // UFFDIO_COPY of a page that no thread waits for.
  CREFERENCE_STAGE_COPY,
  // A signal that a thread sends to itself: the system call that sends it, the handler, and the return from the
  // handler.
  CREFERENCE_STAGE_SIGNAL,
  // The kernel's own fault on a page of anonymous memory, without a copy.
  CREFERENCE_STAGE_FAULT,
  // One thread wakes another through an eventfd and waits for the answer: half of a round trip.
  CREFERENCE_STAGE_SWITCH,
  // A fault that ends in SIGBUS: the touch, a handler that only calls UFFDIO_COPY, and the return from the handler.
  CREFERENCE_STAGE_SIGBUS,
  // A fault that a handler thread answers, which waits in epoll_wait(2) on the same CPU.
  CREFERENCE_STAGE_HANDLER,
} creference_stage;

enum { CREFERENCE_STAGES = CREFERENCE_STAGE_HANDLER + 1 };

const char *creference_stage_name(creference_stage stage);

// Returns how many nanoseconds the stage takes once, measured over `count` repetitions on the caller's CPUs. The
// result is negative if the kernel refuses the operation.
double creference_stage_nanoseconds(creference_stage stage, int count);

#pragma clang assume_nonnull end

#endif
