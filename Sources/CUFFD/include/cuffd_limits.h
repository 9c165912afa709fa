// What limits the memory of this process, looked up when the kernel has refused memory.
#ifndef CUFFD_LIMITS_H
#define CUFFD_LIMITS_H

#include "cuffd_platform.h"

#include <stdbool.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

// Each number is -1 if there is no such limit, or if it cannot be read. Sizes are in bytes.
struct cuffd_memory {
  int64_t mappings, mapping_limit;
  int64_t address_space, address_space_limit;
  int64_t data, data_limit;
  int64_t locked, locked_limit;
  bool locks_mappings;  // whether mlockall(MCL_FUTURE) is in force
  int64_t file_size_limit;
  bool promises_no_more;  // whether vm.overcommit_memory is 2
  int64_t promisable;     // how many bytes the host may still promise
};

// Allocates nothing, and needs less than 2 KiB of stack. It maps a page and unmaps it again: the kernel does not
// tell in another way whether new mappings are locked.
void cuffd_memory_facts(struct cuffd_memory *facts);

#pragma clang assume_nonnull end

#endif
