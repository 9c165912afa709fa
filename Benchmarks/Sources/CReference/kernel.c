// The strategies in which the kernel fills the pages by itself.
#define _GNU_SOURCE
#include "internal.h"

#include <sys/mman.h>

static const char *begin_anonymous(creference *reference) { return creference_map(reference, PROT_READ | PROT_WRITE); }

static const char *begin_mapped(creference *reference) {
  reference->base = mmap(NULL, reference->length, PROT_READ | PROT_WRITE, MAP_PRIVATE, reference->source_fd, 0);
  return reference->base == MAP_FAILED ? "mmap" : NULL;
}

static void end(creference *reference) { (void)reference; }

const struct creference_way creference_anonymous = {begin_anonymous, end};
const struct creference_way creference_mapped = {begin_mapped, end};
