#include "allocations.h"

#include <errno.h>
#include <execinfo.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

// What glibc calls its own functions, for programs that replace them.
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *memory);

static _Thread_local bool is_watched;
static _Thread_local unsigned long count;

static void note(void) {
  if (!is_watched) return;
  // The calls below may allocate too.
  is_watched = false;
  sigset_t mask;
  pthread_sigmask(SIG_BLOCK, NULL, &mask);
  if (!sigismember(&mask, SIGUSR1)) {
    count++;
    if (getenv("ALLOCATIONS_SHOW") != NULL) {
      void *frames[24];
      backtrace_symbols_fd(frames, backtrace(frames, 24), STDERR_FILENO);
      (void)!write(STDERR_FILENO, "\n", 1);
    }
  }
  is_watched = true;
}

void allocations_watch(void) {
  count = 0;
  is_watched = true;
}

unsigned long allocations_interruptible(void) {
  is_watched = false;
  return count;
}

void *malloc(size_t size) {
  note();
  return __libc_malloc(size);
}

void *calloc(size_t items, size_t size) {
  note();
  return __libc_calloc(items, size);
}

void *realloc(void *old, size_t size) {
  note();
  return __libc_realloc(old, size);
}

void *memalign(size_t alignment, size_t size) {
  note();
  return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void **result, size_t alignment, size_t size) {
  void *memory = memalign(alignment, size);
  if (memory == NULL) return ENOMEM;
  *result = memory;
  return 0;
}

void free(void *memory) {
  if (memory != NULL) note();
  __libc_free(memory);
}
