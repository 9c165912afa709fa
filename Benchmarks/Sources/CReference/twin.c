#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static creference *_Atomic current;

// No thread sees half of a page, because the handler opens the page after the copy. The handler is correct only as
// long as threads that touch the same page do not write to it, because the second thread copies the page again.
static void handle(int signal, siginfo_t *info, void *context) {
  (void)context;
  int saved = errno;
  creference *reference = atomic_load_explicit(&current, memory_order_acquire);
  if (reference != NULL && creference_contains(reference, info->si_addr)) {
    size_t offset = (size_t)((char *)info->si_addr - reference->base) / reference->unit * reference->unit;
    memcpy(reference->twin + offset, reference->source + offset, reference->unit);
    // Each run of open pages is a mapping of its own, so mprotect fails with ENOMEM at vm.max_map_count.
    if (mprotect(reference->base + offset, reference->unit, PROT_READ | PROT_WRITE) != 0) {
      creference_give_up("mprotect");
    }
  } else {
    // The address belongs to other code. With the default action restored, the retried access ends as it would have
    // ended without this handler.
    struct sigaction standard = {.sa_handler = SIG_DFL};
    sigaction(signal, &standard, NULL);
  }
  errno = saved;
}

static const char *map(creference *reference, int file) {
  if (ftruncate(file, (off_t)reference->length) != 0) return "ftruncate";
  reference->base = mmap(NULL, reference->length, PROT_NONE, MAP_SHARED | MAP_NORESERVE, file, 0);
  if (reference->base == MAP_FAILED) return "mmap";
  reference->twin = mmap(NULL, reference->length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0);
  return reference->twin == MAP_FAILED ? "mmap" : NULL;
}

static const char *begin(creference *reference) {
  int file = memfd_create("twin", MFD_CLOEXEC);
  if (file < 0) return "memfd_create";
  const char *failed = map(reference, file);
  int error = errno;
  close(file);
  errno = error;
  if (failed != NULL) return failed;
  struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO};
  atomic_store_explicit(&current, reference, memory_order_release);
  return sigaction(SIGSEGV, &action, &reference->former) == 0 ? NULL : "sigaction";
}

static void end(creference *reference) {
  if (sigaction(SIGSEGV, &reference->former, NULL) != 0) creference_give_up("sigaction");
  atomic_store_explicit(&current, NULL, memory_order_release);
}

const struct creference_way creference_twin = {begin, end};
