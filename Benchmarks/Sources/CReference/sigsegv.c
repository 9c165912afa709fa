#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

static creference *_Atomic current;

// This handler is wrong if two threads touch one page: between mprotect and memcpy, the page is open and still zero.
static void handle(int signal, siginfo_t *info, void *context) {
  (void)context;
  int saved = errno;
  creference *reference = atomic_load_explicit(&current, memory_order_acquire);
  if (reference != NULL && creference_contains(reference, info->si_addr)) {
    size_t offset = (size_t)((char *)info->si_addr - reference->base) / reference->unit * reference->unit;
    char *page = reference->base + offset;
    // A page between pages that are still closed is a mapping of its own, so mprotect fails with ENOMEM at
    // vm.max_map_count.
    if (mprotect(page, reference->unit, PROT_READ | PROT_WRITE) != 0) creference_give_up("mprotect");
    memcpy(page, reference->source + offset, reference->unit);
  } else {
    struct sigaction standard = {.sa_handler = SIG_DFL};
    sigaction(signal, &standard, NULL);
  }
  errno = saved;
}

static const char *begin(creference *reference) {
  const char *failed = creference_map(reference, PROT_NONE);
  if (failed != NULL) return failed;
  struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO};
  atomic_store_explicit(&current, reference, memory_order_release);
  return sigaction(SIGSEGV, &action, &reference->former) == 0 ? NULL : "sigaction";
}

static void end(creference *reference) {
  if (sigaction(SIGSEGV, &reference->former, NULL) != 0) creference_give_up("sigaction");
  atomic_store_explicit(&current, NULL, memory_order_release);
}

const struct creference_way creference_sigsegv = {begin, end};
