// Declarations that the strategies share.
#ifndef CREFERENCE_INTERNAL_H
#define CREFERENCE_INTERNAL_H

#include "creference_platform.h"

#include "CReference.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

struct creference {
  char *base;
  // A second mapping of the same pages, through which they can be written before the program sees them; MAP_FAILED
  // for the strategies that have none.
  char *twin;
  size_t length;
  const char *source;
  size_t unit;
  const struct creference_way *way;
  int source_fd;
  int uffd;
  // Used by the strategies with a handler thread.
  pthread_t thread;
  int stop;
  int epoll;
  atomic_bool stopping;
  // Used by the strategies with a signal handler.
  struct sigaction former;
};

// One strategy. Both functions take what they need from the reference. `end` is not called after a failed `begin`.
struct creference_way {
  // Returns null on success. On failure, returns the name of the call that failed and sets errno; the caller then
  // closes what `begin` has opened.
  const char *(*begin)(struct creference *);
  void (*end)(struct creference *);
};

extern const struct creference_way creference_anonymous, creference_mapped, creference_sigsegv, creference_twin,
    creference_sigbus, creference_epoll, creference_spin;

// Prints the error of `call` and aborts. A benchmark whose faults are answered wrongly measures nothing.
_Noreturn void creference_give_up(const char *call);

// Maps address space at `reference->base`, in small pages only. Returns what `begin` returns.
const char *creference_map(struct creference *reference, int protection);

// Maps memory and opens a userfaultfd with these features for it. Returns what `begin` returns.
const char *creference_open_uffd(struct creference *reference, unsigned long long features);

// Fills the unit around `address`. Returns false if another thread has already filled it.
bool creference_copy(const struct creference *reference, uint64_t address);

// Reads the messages that are waiting and answers them.
void creference_serve(const struct creference *reference);

// Returns whether the address belongs to the mapping.
bool creference_contains(const struct creference *reference, const void *address);

#endif
