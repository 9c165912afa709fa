#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <linux/userfaultfd.h>

static creference *_Atomic current;

static void handle(int signal, siginfo_t *info, void *context) {
  (void)context;
  int saved = errno;
  creference *reference = atomic_load_explicit(&current, memory_order_acquire);
  if (reference != NULL && creference_contains(reference, info->si_addr)) {
    // If another thread is filling the unit, this thread retries the access and gets here again if the retry was too
    // early.
    (void)creference_copy(reference, (uint64_t)(uintptr_t)info->si_addr);
  } else {
    // The address belongs to other code. With the default action restored, the retried access ends as it would have
    // ended without this handler.
    struct sigaction standard = {.sa_handler = SIG_DFL};
    sigaction(signal, &standard, NULL);
  }
  errno = saved;
}

static const char *begin(creference *reference) {
  const char *failed = creference_open_uffd(reference, UFFD_FEATURE_SIGBUS);
  if (failed != NULL) return failed;
  struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO};
  atomic_store_explicit(&current, reference, memory_order_release);
  return sigaction(SIGBUS, &action, &reference->former) == 0 ? NULL : "sigaction";
}

static void end(creference *reference) {
  if (sigaction(SIGBUS, &reference->former, NULL) != 0) creference_give_up("sigaction");
  atomic_store_explicit(&current, NULL, memory_order_release);
}

const struct creference_way creference_sigbus = {begin, end};
