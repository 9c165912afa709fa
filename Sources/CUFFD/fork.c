#define _GNU_SOURCE
#include "cuffd_fork.h"
#include "cuffd_last_words.h"
#include "cuffd_signals.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

// The number of this address space. It lies in a page that the kernel fills with zeros in a forked child, so that a
// child is told from its parent without a system call. A process id would not do: a child of vfork(2) has another one
// and the same memory, and the first processes of two PID namespaces have the same one and different memory.
static _Atomic uint64_t *_Atomic space_page;
static _Atomic uint64_t space_without_page;
static _Atomic uint64_t latest_space;

static void forget_space(void) { atomic_store(&space_without_page, 0); }

static void __attribute__((constructor)) make_space_page(void) {
  size_t size = cuffd_page_size();
  void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page != MAP_FAILED && madvise(page, size, MADV_WIPEONFORK) == 0) {
    atomic_store(&space_page, page);
    return;
  }
  // Kernels before 4.14 and some sandboxes do not know the advice. There fork(3) of the C library is noticed.
  if (page != MAP_FAILED) munmap(page, size);
  pthread_atfork(NULL, NULL, forget_space);
}

uint64_t cuffd_address_space(void) {
  _Atomic uint64_t *page = atomic_load_explicit(&space_page, memory_order_relaxed);
  _Atomic uint64_t *number = page != NULL ? page : &space_without_page;
  uint64_t known = atomic_load_explicit(number, memory_order_relaxed);
  if (known != 0) return known;
  // The child has a copy of the latest number, so it gets one that no process above it has.
  uint64_t next = atomic_fetch_add(&latest_space, 1) + 1;
  return atomic_compare_exchange_strong(number, &known, next) ? next : known;
}

enum { LOCKS = 8 };
static cuffd_monitor *locks[LOCKS];
static unsigned lock_count;
static const char *elements;
static size_t element_count, element_stride;
static pthread_once_t once = PTHREAD_ONCE_INIT;

// The mask of the thread that forks. While fork(3) holds the locks of the allocator, threads of the runtime may wait
// for them, and a signal handler of the program that touches lazy memory would wait for those threads.
// The locks protect the variable.
static struct cuffd_signal_mask held;

static void before(void) {
  struct cuffd_signal_mask mask;
  cuffd_signals_hold(&mask);
  for (unsigned i = 0; i < lock_count; i++) cuffd_monitor_enter(locks[i]);
  cuffd_signals_lock_for_fork();
  held = mask;
}

static void in_parent(void) {
  struct cuffd_signal_mask mask = held;
  cuffd_signals_unlock_after_fork();
  for (unsigned i = lock_count; i > 0; i--) cuffd_monitor_leave(locks[i - 1]);
  // Other handlers of forks may have changed the mask.
  cuffd_signals_release_added(&mask);
}

// Maps memory without access over a range, unless something is mapped there.
static void guard(uint64_t address, size_t length) {
  enum { FIXED_NOREPLACE = 0x100000 };  // older headers do not have it
  void *place = (void *)(uintptr_t)address;
  void *mapped =
      mmap(place, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | FIXED_NOREPLACE, -1, 0);
  // Kernels before 4.17 take the address for a wish.
  if (mapped != MAP_FAILED && mapped != place) munmap(mapped, length);
}

static void in_child(void) {
  uint64_t start = 0, end = 0;
  for (size_t i = 0; i < element_count; i++) {
    uint64_t range[2];
    memcpy(range, elements + i * element_stride, sizeof range);
    // Neighbours without a gap become one mapping.
    if (range[0] != end) {
      if (end > start) guard(start, (size_t)(end - start));
      start = range[0];
    }
    end = range[0] + range[1];
  }
  if (end > start) guard(start, (size_t)(end - start));
  cuffd_writers_forget();
  in_parent();
}

// Without memory for the registration, a fork goes on as if there were no runtime.
static void prepare(void) { (void)pthread_atfork(before, in_parent, in_child); }

void cuffd_fork_add(cuffd_monitor *monitor) {
  if (lock_count == LOCKS) abort();
  locks[lock_count++] = monitor;
  pthread_once(&once, prepare);
}

void cuffd_fork_keep(const void *new_elements, size_t count, size_t stride) {
  elements = new_elements;
  element_count = count;
  element_stride = stride;
}
