// Fills a whole mapping that no thread touches meanwhile. The times are the least that the kernel's requests cost,
// because nothing else happens around them.
#ifndef CREFERENCE_BULK_H
#define CREFERENCE_BULK_H

#include "creference_platform.h"

#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

typedef enum {
  // The kernel's own faults in small pages, and memcpy(3) of each. The yardstick.
  CREFERENCE_BULK_FAULTS,
  // memcpy(3) alone, into huge pages that are already resident.
  CREFERENCE_BULK_MEMCPY,
  // The kernel's own faults in huge pages, and memcpy(3). There is no userfaultfd, so other threads could read zeros.
  CREFERENCE_BULK_HUGE_FAULTS,
  // UFFDIO_COPY of 64 or 512 small pages at a time.
  CREFERENCE_BULK_COPY_64,
  CREFERENCE_BULK_COPY_512,
  // UFFDIO_COPY of 512 pages at a time by each of two threads.
  CREFERENCE_BULK_COPY_TWO_THREADS,
  // A huge page's worth of small pages in staging memory, memcpy(3) into them, then UFFDIO_MOVE.
  CREFERENCE_BULK_MOVE_SMALL,
  // A huge page in staging memory, memcpy(3) into it, then UFFDIO_MOVE.
  CREFERENCE_BULK_MOVE,
  // The same with stores that bypass the caches. On processors other than x86-64, memcpy(3) is used instead.
  CREFERENCE_BULK_MOVE_NON_TEMPORAL,
  // The same with sixteen huge pages at a time.
  CREFERENCE_BULK_MOVE_16,
  // The same with one huge page at a time by each of two threads.
  CREFERENCE_BULK_MOVE_TWO_THREADS,
} creference_bulk_way;

enum { CREFERENCE_BULK_WAYS = CREFERENCE_BULK_MOVE_TWO_THREADS + 1 };

struct creference_filled {
  uint64_t nanoseconds;  // 0 if the kernel cannot fill in this way
  // The parts of that time, for the ways that measure them: getting zeroed memory, copying, and moving.
  uint64_t preparing, copying, moving;
  size_t wrong;  // the pages that differ from the source
};

// Fills `length` bytes of fresh memory (whole huge pages) from `source`, then frees the memory.
struct creference_filled creference_fill(creference_bulk_way way, size_t length, const void *source);

const char *creference_bulk_name(creference_bulk_way way);

// Returns how many pages differ between the two ranges.
size_t creference_different_pages(const void *memory, const void *source, size_t length);

// Like creference_touch_free_memory, but with huge pages. A virtual machine may return free huge pages to its host
// two seconds after they were freed.
void creference_touch_free_huge_pages(size_t length);

#pragma clang assume_nonnull end

#endif
