// Touches memory and measures how long each touch takes. The loads cannot be removed by the compiler, the threads
// start together, and the source determines the value of every byte.
#ifndef CREFERENCE_TOUCH_H
#define CREFERENCE_TOUCH_H

#include "creference_platform.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

// Makes a memfd of `length` bytes that differ from page to page, and maps all of it, resident and readable. On
// success, `*fd` is the memfd. On failure, returns null and stores the errno in `*error`.
const void *_Nullable creference_source_create(size_t length, size_t page_size, int *fd, int *error);
void creference_source_destroy(const void *source, size_t length, int fd);

struct creference_touch {
  void *base;
  // If not null, each touch first copies the page from here, as a program does that fills memory by itself.
  const void *_Nullable copied_from;
  size_t page_size;
  // The numbers of the pages to touch, in turn. Each thread takes a part of equal length.
  const uint32_t *order;
  size_t count;
  int threads;
  // Whether a touch is a store instead of a load.
  bool writes;
  // Receives how long each touch took on its thread, at the same index as in `order`.
  uint64_t *nanoseconds;
};

struct creference_touched {
  int error;  // 0, or -errno if a thread could not be started; then no page was touched
  uint64_t wall_nanoseconds;  // from the first touch of the first thread to the last touch of the last one
  size_t wrong;  // the loads that returned another value than the source has
};

struct creference_touched creference_touch(struct creference_touch touch);

// Compares every byte after every page was touched. Returns how many pages hold wrong bytes.
size_t creference_wrong_pages(struct creference_touch touch, const void *source);

// Returns how long one call of the clock takes. Each touch includes one such call.
uint64_t creference_clock_nanoseconds(void);

// Writes to `length` bytes of fresh memory and frees them. The host of a virtual machine backs memory when the guest
// first touches it, which takes longer than any fault that is measured here.
void creference_touch_free_memory(size_t length);

// Writes the numbers of the CPUs that the calling thread may run on to `cpus`. Returns how many there are, or -errno.
int creference_allowed_cpus(int *cpus, int capacity);

// Confines the calling thread, and the threads that it starts from now on, to `count` CPUs. Returns 0 or -errno.
int creference_run_on(const int *cpus, int count);

#pragma clang assume_nonnull end

#endif
