#define _GNU_SOURCE
#include "cuffd_bulk.h"

#include <sched.h>

int cuffd_allowed_cpu_count(void) {
  cpu_set_t set;
  // More CPUs than the set has room for, then.
  if (sched_getaffinity(0, sizeof set, &set) < 0) return CPU_SETSIZE;
  return CPU_COUNT(&set);
}
