// Touching memory and taking the time of it: loads that cannot be optimised away, by threads that start together, over a
// source that says of every byte what it has to be.
#ifndef CREFERENCE_TOUCH_H
#define CREFERENCE_TOUCH_H

#include "creference_platform.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

// Makes a memfd of `length` bytes that differ from page to page, and maps all of it, resident and readable. Returns null,
// with the errno in `*error`, where that fails; otherwise `*fd` is the memfd.
const void *_Nullable creference_source_create(size_t length, size_t page_size, int *fd, int *error);
void creference_source_destroy(const void *source, size_t length, int fd);

struct creference_touch {
  void *base;
  // Where given, each touch first copies the page from here: what a program does that fills memory by itself.
  const void *_Nullable copied_from;
  size_t page_size;
  // The numbers of the pages to touch, in turn. Each thread takes an equal stretch of the list.
  const uint32_t *order;
  size_t count;
  int threads;
  // Whether a touch is a store instead of a load.
  bool writes;
  // Gets how long each touch took the thread that made it, at the same place as in `order`.
  uint64_t *nanoseconds;
};

struct creference_touched {
  int error;  // 0, or -errno of the thread that could not be started; then nothing was touched
  uint64_t wall_nanoseconds;  // from the first thread's first touch to the last one's last
  size_t wrong;  // loads that did not find what the source has
};

struct creference_touched creference_touch(struct creference_touch touch);

// How many pages are not what they have to be after every page was touched, byte by byte.
size_t creference_wrong_pages(struct creference_touch touch, const void *source);

// How long one look at the clock takes; there is one in each touch.
uint64_t creference_clock_nanoseconds(void);

// Writes to `length` bytes of fresh memory and gives them back: the host of a virtual machine backs memory when it is
// first touched, which takes longer than any fault of ours.
void creference_touch_free_memory(size_t length);

// Puts the numbers of the CPUs that the calling thread may run on into `cpus`; returns how many there are, or -errno.
int creference_allowed_cpus(int *cpus, int capacity);

// Confines the calling thread, and those that it starts from now on, to `count` CPUs. Returns 0 or -errno.
int creference_run_on(const int *cpus, int count);

#pragma clang assume_nonnull end

#endif
