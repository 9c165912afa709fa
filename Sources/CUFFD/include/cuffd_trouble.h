// A kernel that makes trouble: for tests, and in debug builds only. What it says is what a kernel may say at any time.
#ifndef CUFFD_TROUBLE_H
#define CUFFD_TROUBLE_H

#include "cuffd_platform.h"

#include <stdint.h>

#pragma clang assume_nonnull begin

enum cuffd_trouble {
  CUFFD_TROUBLE_NONE,
  CUFFD_TROUBLE_AGAIN,          // EAGAIN, and nothing was done
  CUFFD_TROUBLE_PARTIAL,        // EAGAIN, and the first part was done
  CUFFD_TROUBLE_NO_MEMORY,      // ENOMEM, and nothing was done
  CUFFD_TROUBLE_BUSY,           // EBUSY, from a move
  CUFFD_TROUBLE_INTERRUPTED,    // EINTR, from a read
  CUFFD_TROUBLE_SHORT_READ,     // one message, where more may wait
  CUFFD_TROUBLE_COUNT
};

// From now on this many of a million requests meet trouble; 0 for none. What they meet follows from `seed` and their number.
void cuffd_trouble_begin(uint64_t seed, uint64_t per_million);

// How often this trouble was made.
uint64_t cuffd_trouble_made(enum cuffd_trouble kind);

// What the next request meets. `allowed` has a bit for each kind that it may meet.
enum cuffd_trouble cuffd_trouble_next(uint32_t allowed);

// The bytes that are done of `length` where the result is partial: whole pages, fewer than all; 0 where there is but one.
uint64_t cuffd_trouble_part(uint64_t length);

#pragma clang assume_nonnull end

#endif
