// What the benchmarks need and Swift cannot express: loads that the compiler cannot remove, each timed by a clock,
// and the scheduler's affinity calls.
#ifndef CBENCHMARKSUPPORT_H
#define CBENCHMARKSUPPORT_H

#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

// Returns the byte that page number `index` consists of. With a multiplier of 0, every page consists of zeros.
static inline uint8_t support_pattern(uint32_t index, uint8_t multiplier) {
  return (uint8_t)((index + 1) * multiplier);
}

// Loads one byte at base + order[i] * stride for each i, in turn. If `nanoseconds` is not null, it receives how long
// each load took. Returns how many of the bytes differ from what `support_pattern` returns.
size_t support_touch(const void *base, size_t stride, const uint32_t *order, size_t count, uint8_t multiplier,
                     uint64_t *_Nullable nanoseconds);

uint64_t support_monotonic_nanoseconds(void);

// Writes the numbers of the CPUs that the calling thread may run on to `cpus`. Returns how many there are, or -errno.
int support_allowed_cpus(int *cpus, int capacity);

// Confines the calling thread, and the threads that it starts from now on, to one CPU. Returns 0 or -errno.
int support_pin(int cpu);

#pragma clang assume_nonnull end

#endif
