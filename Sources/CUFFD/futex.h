// Waiting for a number to change (futex(2)), without a lock. Safe in a signal handler, and no cancellation point.
#ifndef CUFFD_FUTEX_H
#define CUFFD_FUTEX_H

#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static inline void cuffd_futex_wake(_Atomic uint32_t *word) {
  syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, INT_MAX, NULL, NULL, 0);
}

// Sleeps while `*word` is `value`, for at most `nanoseconds`. May return early. A time that is too long for the kernel
// means no limit.
static inline void cuffd_futex_wait(_Atomic uint32_t *word, uint32_t value, uint64_t nanoseconds) {
  struct timespec time = {
      .tv_sec = (time_t)(nanoseconds / 1000000000u), .tv_nsec = (long)(nanoseconds % 1000000000u)};
  const struct timespec *limit = nanoseconds > (uint64_t)INT64_MAX ? NULL : &time;
  syscall(SYS_futex, word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, value, limit, NULL, 0);
}

#endif
