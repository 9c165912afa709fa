// Where threads run: functions that find the CPU of another thread, choose the CPUs of the calling thread, and
// measure how long it waits for a CPU.
#ifndef CUFFD_PLACEMENT_H
#define CUFFD_PLACEMENT_H

#include "cuffd_platform.h"

#include "cuffd_attributes.h"
#include "cuffd_host.h"

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

// Finds the CPUs that the calling thread may run on. Returns their number or -errno.
int cuffd_allowed_cpus(cuffd_cpus *cpus);

// Confines the calling thread to `cpus`. Returns 0 or -errno.
int cuffd_run_on(cuffd_cpus cpus);

// Puts the calling thread under SCHED_IDLE. Without privileges this cannot be undone. Returns 0 or -errno.
int cuffd_run_when_idle(void);

// Opens the file that `cuffd_last_cpu` reads, for a thread of this process, and stores the facts about the file.
// Returns a descriptor or -errno. `cuffd_file_close_same` closes it.
int cuffd_open_thread_status(uint32_t thread, struct cuffd_file_facts *facts);

// Returns the CPU that the thread runs on or last ran on, or -errno: -ESRCH if the thread has ended, -EBUSY for a
// real-time thread, because no other thread gets its CPU, and -ENOTSUP if the text is that of another file.
int cuffd_last_cpu(int thread_status);

// Returns how long a thread of this process has run, in nanoseconds. The result is negative if the thread has ended.
int64_t cuffd_thread_run_nanoseconds(uint32_t thread);

// Returns how long the calling thread has waited for a CPU while it was runnable, in nanoseconds (the second number
// of schedstat). The result is negative if the kernel does not count this.
int64_t cuffd_run_delay_nanoseconds(void);

// Returns the number of runnable threads of the machine, including the caller. The result is negative if it is not
// known.
int cuffd_runnable_threads(void);

// These functions get the same results from the texts of /proc/TID/stat, schedstat and loadavg. A text ends with a
// zero. They return -ENOTSUP for what the text does not contain, or does not contain as a number.
int cuffd_parse_last_cpu(const char *status);
int64_t cuffd_parse_run_delay(const char *schedstat);
int cuffd_parse_runnable_threads(const char *loadavg);

// Returns the CPU that the caller runs on, or 0 if it is not known. Async-signal-safe.
CUFFD_NO_LOCKS int cuffd_ask_current_cpu(void);

// Returns the same from the place where the kernel keeps it for the thread (rseq(2)). This is faster than a call, and
// each fault needs it several times.
#ifdef CUFFD_HAS_RSEQ
CUFFD_NO_LOCKS static inline int cuffd_current_cpu(void) {
  const struct rseq *own = (const struct rseq *)((const char *)__builtin_thread_pointer() + __rseq_offset);
  int cpu = (int)((const volatile struct rseq *)own)->cpu_id;
  return cpu >= 0 ? cpu : cuffd_ask_current_cpu();
}
#else
CUFFD_NO_LOCKS static inline int cuffd_current_cpu(void) { return cuffd_ask_current_cpu(); }
#endif

// Returns the number of CPUs that are online.
int cuffd_online_cpus(void);

// Asks the system for the shortest wake-up time of idle CPUs, as long as the returned descriptor is open, by writing
// 0 to `path` (/dev/cpu_dma_latency). Returns the descriptor or -errno.
int cuffd_hold_cpu_latency(const char *path);

#pragma clang assume_nonnull end

#endif
