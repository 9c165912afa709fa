#define _GNU_SOURCE
#include "cuffd_asking.h"

#include <signal.h>

_Thread_local struct cuffd_asking_list cuffd_asking_list;

unsigned cuffd_asking_prune(void) {
  stack_t alternate;
  if (sigaltstack(NULL, &alternate) != 0) return cuffd_asking_list.count;
  uintptr_t start = (uintptr_t)alternate.ss_sp;
  bool has_alternate = !(alternate.ss_flags & SS_DISABLE);
  bool is_on_alternate = (alternate.ss_flags & SS_ONSTACK) != 0;
  uintptr_t here = (uintptr_t)__builtin_frame_address(0);
  // The frame of a call that has not been left lies at a higher address of the same stack, or on the normal stack if
  // this function runs on the alternate one.
  while (cuffd_asking_list.count > 0) {
    uintptr_t stack = cuffd_asking_list.entries[cuffd_asking_list.count - 1].stack;
    bool was_on_alternate = has_alternate && stack >= start && stack - start < alternate.ss_size;
    bool is_live = was_on_alternate == is_on_alternate ? stack > here : is_on_alternate;
    if (is_live) break;
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
