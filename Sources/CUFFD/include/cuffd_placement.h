// Where threads run: looking at another thread's CPU, choosing one's own, and noticing that one has to wait for it.
#ifndef CUFFD_PLACEMENT_H
#define CUFFD_PLACEMENT_H

#include "cuffd_platform.h"

#include "cuffd_attributes.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __GLIBC__
#if __GLIBC_PREREQ(2, 35)
#define CUFFD_HAS_RSEQ 1
#include <sys/rseq.h>
#endif
#endif

#pragma clang assume_nonnull begin

// A set of CPUs, numbered from 0 to 1023.
typedef struct cuffd_cpus {
  uint64_t bits[16];
} cuffd_cpus;

// The CPUs that the calling thread may run on. Returns how many, or -errno.
int cuffd_allowed_cpus(cuffd_cpus *cpus);

// Confines the calling thread. Returns 0 or -errno.
int cuffd_run_on(cuffd_cpus cpus);

// Puts the calling thread under SCHED_IDLE. Without privileges there is no way back. Returns 0 or -errno.
int cuffd_run_when_idle(void);

// Opens what `cuffd_last_cpu` reads of a thread of this process. Returns a descriptor or -errno.
int cuffd_open_thread_status(uint32_t thread);

// The CPU that the thread runs on, or last ran on. Returns it, or -errno: -ESRCH where the thread has ended, -EBUSY where it
// is a real-time thread, whose CPU is nobody else's.
int cuffd_last_cpu(int thread_status);

// How long a thread of this process has run, in nanoseconds; negative where it has ended.
int64_t cuffd_thread_run_nanoseconds(uint32_t thread);

// How long the calling thread has waited for a CPU while it could have run, in nanoseconds (the second number of
// schedstat); negative where the kernel does not count that.
int64_t cuffd_run_delay_nanoseconds(void);

// How many threads of the machine run or want to, the caller included; negative where that is not known.
int cuffd_runnable_threads(void);

// The same three, of texts that were read: /proc/TID/stat, schedstat and loadavg. A text ends with a zero; what it does not
// say, or not as a number, is -ENOTSUP.
int cuffd_parse_last_cpu(const char *status);
int64_t cuffd_parse_run_delay(const char *schedstat);
int cuffd_parse_runnable_threads(const char *loadavg);

// The CPU that the caller runs on just now; 0 where that is not known. Async-signal-safe.
CUFFD_NO_LOCKS int cuffd_ask_current_cpu(void);

// The same, read where the kernel keeps it for the thread (rseq(2)): each fault asks several times.
#ifdef CUFFD_HAS_RSEQ
CUFFD_NO_LOCKS static inline int cuffd_current_cpu(void) {
  const struct rseq *own = (const struct rseq *)((const char *)__builtin_thread_pointer() + __rseq_offset);
  int cpu = (int)((const volatile struct rseq *)own)->cpu_id;
  return cpu >= 0 ? cpu : cuffd_ask_current_cpu();
}
#else
CUFFD_NO_LOCKS static inline int cuffd_current_cpu(void) { return cuffd_ask_current_cpu(); }
#endif

// How many CPUs are online.
int cuffd_online_cpus(void);

// Asks the system for the shortest wake-up of idle CPUs (a 0 to `path`, /dev/cpu_dma_latency), for as long as the
// returned descriptor is open. Returns it, or -errno.
int cuffd_hold_cpu_latency(const char *path);

#pragma clang assume_nonnull end

#endif
