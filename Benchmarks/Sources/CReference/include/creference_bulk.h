// Filling a whole mapping that nobody touches meanwhile: what it costs at least, with nothing around the kernel's requests.
#ifndef CREFERENCE_BULK_H
#define CREFERENCE_BULK_H

#include "creference_platform.h"

#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

typedef enum {
  // The kernel's own faults in small pages, and memcpy(3) of each. The yardstick.
  CREFERENCE_BULK_FAULTS,
  // memcpy(3) alone, into huge pages that are there.
  CREFERENCE_BULK_MEMCPY,
  // The kernel's own faults in huge pages, and memcpy(3): no userfaultfd, and nobody kept from reading zeros.
  CREFERENCE_BULK_HUGE_FAULTS,
  // UFFDIO_COPY of that many small pages at a time.
  CREFERENCE_BULK_COPY_64,
  CREFERENCE_BULK_COPY_512,
  // 512 at a time by each of two threads.
  CREFERENCE_BULK_COPY_TWO_THREADS,
  // As many small pages as a huge page has in staging memory, memcpy(3), UFFDIO_MOVE.
  CREFERENCE_BULK_MOVE_SMALL,
  // A huge page in staging memory, memcpy(3), UFFDIO_MOVE.
  CREFERENCE_BULK_MOVE,
  // The same with stores that pass the caches by; memcpy(3) where the processor is not an x86-64.
  CREFERENCE_BULK_MOVE_NON_TEMPORAL,
  // The same with sixteen huge pages at a time.
  CREFERENCE_BULK_MOVE_16,
  // The same with one huge page at a time by each of two threads.
  CREFERENCE_BULK_MOVE_TWO_THREADS,
} creference_bulk_way;

enum { CREFERENCE_BULK_WAYS = CREFERENCE_BULK_MOVE_TWO_THREADS + 1 };

struct creference_filled {
  uint64_t nanoseconds;  // 0 where the kernel cannot do it this way
  // Of that, where it was taken apart: getting zeroed memory, copying, moving.
  uint64_t preparing, copying, moving;
  size_t wrong;  // pages that are not what the source has
};

// Fills `length` bytes of fresh memory, whole huge pages, from `source`, and gives them back.
struct creference_filled creference_fill(creference_bulk_way way, size_t length, const void *source);

const char *creference_bulk_name(creference_bulk_way way);

// How many pages of the two differ.
size_t creference_different_pages(const void *memory, const void *source, size_t length);

// creference_touch_free_memory with huge pages, which are what a virtual machine may give back to its host two seconds
// after they were freed.
void creference_touch_free_huge_pages(size_t length);

#pragma clang assume_nonnull end

#endif
