// The regions whose providers the calling thread is asking. A provider may touch or fill other lazy memory, so there
// may be several, the latest one last.
#ifndef CUFFD_ASKING_H
#define CUFFD_ASKING_H

#include "cuffd_platform.h"

#include "cuffd_attributes.h"

#include <stdbool.h>
#include <stdint.h>

enum { CUFFD_ASKING_DEPTH = 16 };

struct cuffd_asking {
  uint64_t region;
  uintptr_t stack;  // an address on the stack of the function that asks
};

struct cuffd_asking_list {
  unsigned count;
  struct cuffd_asking entries[CUFFD_ASKING_DEPTH];
};

// Signal handlers use this variable, so its storage must not be allocated at the first access.
extern _Thread_local struct cuffd_asking_list cuffd_asking_list __attribute__((tls_model("initial-exec")));

// Drops the entries of calls that were left by siglongjmp. Returns how many are left.
CUFFD_NO_LOCKS unsigned cuffd_asking_prune(void);

// Notes that the calling thread begins to ask the provider of the region that starts at this address. Returns what has
// to be given to cuffd_asking_end. Where the list is full, nothing is noted.
CUFFD_NO_LOCKS static inline unsigned cuffd_asking_begin(uint64_t region) {
  unsigned count = cuffd_asking_list.count;
  if (count == CUFFD_ASKING_DEPTH) count = cuffd_asking_prune();
  if (count < CUFFD_ASKING_DEPTH) {
    struct cuffd_asking *own = &cuffd_asking_list.entries[count];
    own->region = region;
    own->stack = (uintptr_t)__builtin_frame_address(0);
    cuffd_asking_list.count = count + 1;
  }
  return count;
}

// Notes that the provider has returned.
CUFFD_NO_LOCKS static inline void cuffd_asking_end(unsigned before) { cuffd_asking_list.count = before; }

// Returns whether the calling thread is asking the provider of the region that starts at this address.
bool cuffd_asking_includes(uint64_t region);

#endif
