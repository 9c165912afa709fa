#define _GNU_SOURCE
#include "CBenchmarkSupport.h"

#include <errno.h>
#include <sched.h>
#include <time.h>

uint64_t support_monotonic_nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

size_t support_touch(const void *base, size_t stride, const uint32_t *order, size_t count, uint8_t multiplier,
                     uint64_t *nanoseconds) {
  size_t wrong = 0;
  for (size_t i = 0; i < count; i++) {
    const volatile uint8_t *byte = (const uint8_t *)base + (size_t)order[i] * stride;
    uint64_t before = nanoseconds ? support_monotonic_nanoseconds() : 0;
    uint8_t value = *byte;
    if (nanoseconds) nanoseconds[i] = support_monotonic_nanoseconds() - before;
    if (value != support_pattern(order[i], multiplier)) wrong++;
  }
  return wrong;
}

int support_allowed_cpus(int *cpus, int capacity) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) < 0) return -errno;
  int count = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE && count < capacity; cpu++) {
    if (CPU_ISSET(cpu, &set)) cpus[count++] = cpu;
  }
  return count;
}

int support_pin(int cpu) {
  if (cpu < 0 || cpu >= CPU_SETSIZE) return -EINVAL;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  return sched_setaffinity(0, sizeof set, &set) < 0 ? -errno : 0;
}
