// What the benchmarks need and Swift cannot say: loads that cannot be optimised away, with a clock around each, and the
// scheduler's affinity calls.
#ifndef CBENCHMARKSUPPORT_H
#define CBENCHMARKSUPPORT_H

#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

// The byte that a page filled with the `multiplier` consists of. A multiplier of 0 makes pages of zeros.
static inline uint8_t support_pattern(uint32_t index, uint8_t multiplier) {
  return (uint8_t)((index + 1) * multiplier);
}

// Loads one byte at base + order[i] * stride for each i, in turn. Where `nanoseconds` is given, it gets how long each
// load took. Returns how many of the bytes were not what `support_pattern` says.
size_t support_touch(const void *base, size_t stride, const uint32_t *order, size_t count, uint8_t multiplier,
                     uint64_t *_Nullable nanoseconds);

uint64_t support_monotonic_nanoseconds(void);

// Puts the numbers of the CPUs that this thread may run on into `cpus`, and returns how many there are, or -errno.
int support_allowed_cpus(int *cpus, int capacity);

// Confines this thread, and those that it starts from now on, to one CPU. Returns 0 or -errno.
int support_pin(int cpu);

#pragma clang assume_nonnull end

#endif
