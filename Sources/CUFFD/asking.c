#define _GNU_SOURCE
#include "cuffd_asking.h"
#include "signal_internal.h"

_Thread_local struct cuffd_asking_list cuffd_asking_list;

unsigned cuffd_asking_prune(void) {
  stack_t alternate;
  if (sigaltstack(NULL, &alternate) != 0) return cuffd_asking_list.count;
  struct cuffd_place now = cuffd_place_of((uintptr_t)__builtin_frame_address(0), &alternate);
  while (cuffd_asking_list.count > 0) {
    struct cuffd_place earlier =
        cuffd_place_of(cuffd_asking_list.entries[cuffd_asking_list.count - 1].stack, &alternate);
    if (cuffd_still_runs(&earlier, &now)) break;
    cuffd_asking_list.count--;
  }
  return cuffd_asking_list.count;
}

bool cuffd_asking_includes(uint64_t region) {
  unsigned count = cuffd_asking_prune();
  for (unsigned i = 0; i < count; i++) {
    if (cuffd_asking_list.entries[i].region == region) return true;
  }
  return false;
}
