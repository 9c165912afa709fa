#define _GNU_SOURCE
#include "cuffd_bulk.h"

#include <sched.h>

int cuffd_allowed_cpu_count(void) {
  cpu_set_t set;
  // The call fails if the kernel supports more CPUs than the set has room for.
  if (sched_getaffinity(0, sizeof set, &set) < 0) return CPU_SETSIZE;
  return CPU_COUNT(&set);
}
