#include "internal.h"

#include <errno.h>

static void *run(void *argument) {
  creference *reference = argument;
  while (!atomic_load_explicit(&reference->stopping, memory_order_relaxed)) creference_serve(reference);
  return NULL;
}

static const char *begin(creference *reference) {
  const char *failed = creference_open_uffd(reference, 0);
  if (failed != NULL) return failed;
  errno = pthread_create(&reference->thread, NULL, run, reference);
  return errno == 0 ? NULL : "pthread_create";
}

static void end(creference *reference) {
  atomic_store_explicit(&reference->stopping, true, memory_order_relaxed);
  pthread_join(reference->thread, NULL);
}

const struct creference_way creference_spin = {begin, end};
