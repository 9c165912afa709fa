// The parts that a fault consists of, each by itself: what the kernel's work costs before anybody's handler does any.
#ifndef CREFERENCE_STAGES_H
#define CREFERENCE_STAGES_H

#include "creference_platform.h"

#pragma clang assume_nonnull begin

typedef enum {
  // A system call that does nothing.
  CREFERENCE_STAGE_CALL,
  // memcpy(3) of a page.
  CREFERENCE_STAGE_MEMCPY,
  // epoll_wait(2) where something is ready.
  CREFERENCE_STAGE_EPOLL,
  // read(2) of a userfaultfd that has nothing to say.
  CREFERENCE_STAGE_READ,
  // UFFDIO_COPY of a page that nobody waits for.
  CREFERENCE_STAGE_COPY,
  // A signal that a thread sends itself, its handler, and the way back; the system call that sends it included.
  CREFERENCE_STAGE_SIGNAL,
  // The kernel's own fault on a page of anonymous memory, without a copy.
  CREFERENCE_STAGE_FAULT,
  // One thread wakes another one on its CPU through an eventfd, and waits: half of a round trip.
  CREFERENCE_STAGE_SWITCH,
  // A fault that ends in SIGBUS, the way back from a handler that does nothing but UFFDIO_COPY, and the touch.
  CREFERENCE_STAGE_SIGBUS,
  // A fault that a thread on the same CPU answers, which waits in epoll_wait(2).
  CREFERENCE_STAGE_HANDLER,
} creference_stage;

enum { CREFERENCE_STAGES = CREFERENCE_STAGE_HANDLER + 1 };

const char *creference_stage_name(creference_stage stage);

// Nanoseconds that it takes once, measured over `count` times on the caller's CPUs; negative where the kernel refuses it.
double creference_stage_nanoseconds(creference_stage stage, int count);

#pragma clang assume_nonnull end

#endif
