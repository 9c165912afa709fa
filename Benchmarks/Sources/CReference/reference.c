#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

void creference_give_up(const char *call) {
  perror(call);
  abort();
}

const char *creference_map(creference *reference, int protection) {
  reference->base =
      mmap(NULL, reference->length, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reference->base == MAP_FAILED) return "mmap";
  // madvise fails only on a kernel without huge pages, where it is not needed.
  (void)madvise(reference->base, reference->length, MADV_NOHUGEPAGE);
  return NULL;
}

bool creference_contains(const creference *reference, const void *address) {
  return (uintptr_t)address - (uintptr_t)reference->base < reference->length;
}

static const struct creference_way *way_of(creference_strategy strategy) {
  switch (strategy) {
    case CREFERENCE_ANONYMOUS: return &creference_anonymous;
    case CREFERENCE_MAPPED: return &creference_mapped;
    case CREFERENCE_SIGSEGV: return &creference_sigsegv;
    case CREFERENCE_TWIN: return &creference_twin;
    case CREFERENCE_SIGBUS: return &creference_sigbus;
    case CREFERENCE_EPOLL: return &creference_epoll;
    case CREFERENCE_SPIN: return &creference_spin;
  }
  abort();
}

static void dispose(creference *reference) {
  if (reference->base != MAP_FAILED) munmap(reference->base, reference->length);
  if (reference->twin != MAP_FAILED) munmap(reference->twin, reference->length);
  if (reference->epoll >= 0) close(reference->epoll);
  if (reference->stop >= 0) close(reference->stop);
  if (reference->uffd >= 0) close(reference->uffd);
  free(reference);
}

creference *creference_start(size_t length, const void *source, struct creference_options options,
                             const char **failed_call, int *error) {
  creference *reference = malloc(sizeof *reference);
  if (reference == NULL) {
    *failed_call = "malloc";
    *error = ENOMEM;
    return NULL;
  }
  *reference = (creference){
      .base = MAP_FAILED,
      .twin = MAP_FAILED,
      .length = length,
      .source = source,
      .unit = options.unit,
      .way = way_of(options.strategy),
      .source_fd = options.source_fd,
      .uffd = -1,
      .stop = -1,
      .epoll = -1,
  };
  *failed_call = reference->way->begin(reference);
  if (*failed_call == NULL) return reference;
  *error = errno;
  dispose(reference);
  return NULL;
}

void *creference_base(const creference *reference) { return reference->base; }

void creference_stop(creference *reference) {
  reference->way->end(reference);
  dispose(reference);
}
