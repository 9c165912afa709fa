// Makes requests to the kernel fail on purpose, for tests, in debug builds only. A kernel may return each of these
// errors at any time.
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
  CUFFD_TROUBLE_SHORT_READ,     // one message, although more may be waiting
  CUFFD_TROUBLE_COUNT
};

// Makes `per_million` of a million requests fail from now on; 0 ends this. The kind of each error follows from `seed`
// and from the number of the request.
void cuffd_trouble_begin(uint64_t seed, uint64_t per_million);

// Returns how many errors of this kind were made.
uint64_t cuffd_trouble_made(enum cuffd_trouble kind);

// Returns the error that the next request gets. `allowed` has a bit for each kind that the request may get.
enum cuffd_trouble cuffd_trouble_next(uint32_t allowed);

// Returns how many of `length` bytes a partial result reports: whole pages, but not all of them; 0 if there is only
// one page.
uint64_t cuffd_trouble_part(uint64_t length);

#pragma clang assume_nonnull end

#endif
