// What the strategies share.
#ifndef CREFERENCE_INTERNAL_H
#define CREFERENCE_INTERNAL_H

#include "creference_platform.h"

#include "CReference.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

struct creference {
  char *base;
  // Where the same pages can be written before the program may see them; MAP_FAILED where there is no such mapping.
  char *twin;
  size_t length;
  const char *source;
  size_t unit;
  const struct creference_way *way;
  int source_fd;
  int uffd;
  // Of those with a thread.
  pthread_t thread;
  int stop;
  int epoll;
  atomic_bool stopping;
  // Of those with a signal handler.
  struct sigaction former;
};

// One strategy. Both functions find what they need in the reference, and `end` is not called after a failed `begin`.
struct creference_way {
  // Returns null, or the name of the call that failed, with errno set. What it opened is closed by the caller.
  const char *(*begin)(struct creference *);
  void (*end)(struct creference *);
};

extern const struct creference_way creference_anonymous, creference_mapped, creference_sigsegv, creference_twin,
    creference_sigbus, creference_epoll, creference_spin;

// There is no way to answer a fault wrongly and have a benchmark that means something.
_Noreturn void creference_give_up(const char *call);

// Address space for `reference->base`, of small pages only. Like `begin`.
const char *creference_map(struct creference *reference, int protection);

// Opens a userfaultfd with these features for the mapping. Like `begin`.
const char *creference_open_uffd(struct creference *reference, unsigned long long features);

// Fills the unit around `address`. False where somebody else has done so.
bool creference_copy(const struct creference *reference, uint64_t address);

// Reads the messages that are there, and answers them.
void creference_serve(const struct creference *reference);

// Whether the address is one of the mapping's.
bool creference_contains(const struct creference *reference, const void *address);

#endif
