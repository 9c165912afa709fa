#define _GNU_SOURCE
#include "cuffd_last_words.h"

#include "cuffd_fork.h"
#include "cuffd_host.h"

#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static const uint64_t PATIENCE_NANOSECONDS = 5000000000;

// The way of a request: FREE, FILLING (a thread that dies has it), ASKED, TAKEN (a writer has it), FOUND (the page is
// known, and the text of its error is being made), WRITING, ANSWERED, and FREE again. If the text is not made in time,
// EXPIRED comes after FOUND, and is the end: the process dies.
enum { FREE, FILLING, ASKED, TAKEN, FOUND, WRITING, ANSWERED, EXPIRED };

// Threads that die at the same time ask one after the other.
static struct {
  _Atomic uint32_t state;
  // Changes when there is something new for the writers.
  _Atomic uint32_t bell;
  _Atomic uint32_t writers;
  // The address space of the writers. A child that was made without fork(3) of the C library has none of them.
  _Atomic uint64_t space;
  // The thread that has taken the request.
  _Atomic uint32_t writer;
  int number;
  uint64_t address;
  struct cuffd_failed_page page;
} words;

struct cuffd_writer {
  _Atomic bool is_stopping;
};

static void wake(_Atomic uint32_t *word) {
  syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, INT_MAX, NULL, NULL, 0);
}

// Waits while `*word` is `value`, at most until `end`. Returns false if the time is up. May return early.
static bool wait_while(_Atomic uint32_t *word, uint32_t value, uint64_t end) {
  uint64_t now = cuffd_monotonic_nanoseconds();
  if (now >= end) return false;
  uint64_t left = end - now;
  struct timespec time = {.tv_sec = (time_t)(left / 1000000000), .tv_nsec = (long)(left % 1000000000)};
  syscall(SYS_futex, word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, value, &time, NULL, 0);
  return true;
}

static void set_state(uint32_t state) {
  atomic_store(&words.state, state);
  wake(&words.state);
}

static bool change_state(uint32_t before, uint32_t after) {
  if (!atomic_compare_exchange_strong(&words.state, &before, after)) return false;
  wake(&words.state);
  return true;
}

static void ring(void) {
  atomic_fetch_add(&words.bell, 1);
  wake(&words.bell);
}

static void write_without_cause(const struct cuffd_failed_page *page) {
  static const char start[] = "FaultRuntime: region '", offset_follows[] = "', page at offset ";
  static const char provider_follows[] = ", provider ";
  static const char end[] = ": the page failed, and the text of its error was not made within 5 seconds\n";
  char digits[20];
  size_t first = sizeof digits;
  uint64_t rest = page->offset;
  do {
    digits[--first] = (char)('0' + rest % 10);
    rest /= 10;
  } while (rest > 0);
  const struct iovec parts[] = {
      {(void *)start, sizeof start - 1},
      {(void *)page->region, page->region_length},
      {(void *)offset_follows, sizeof offset_follows - 1},
      {digits + first, sizeof digits - first},
      {(void *)provider_follows, sizeof provider_follows - 1},
      {(void *)page->provider, page->provider_length},
      {(void *)end, sizeof end - 1},
  };
  (void)!writev(STDERR_FILENO, parts, sizeof parts / sizeof *parts);
}

void cuffd_last_words(int number, uint64_t address) {
  if (atomic_load(&words.writers) == 0 || atomic_load(&words.space) != cuffd_address_space()) return;
  uint32_t state = atomic_load(&words.state);
  // A text may touch memory that fails. The writer is then the thread that dies.
  if (state != FREE && atomic_load(&words.writer) == cuffd_thread_id()) {
    if (change_state(FOUND, EXPIRED)) write_without_cause(&words.page);
    return;
  }
  uint64_t end = cuffd_monotonic_nanoseconds() + PATIENCE_NANOSECONDS;
  while (!change_state(FREE, FILLING)) {
    state = atomic_load(&words.state);
    if (state == EXPIRED || (state != FREE && !wait_while(&words.state, state, end))) return;
  }
  words.number = number;
  words.address = address;
  atomic_store(&words.state, ASKED);
  ring();
  end = cuffd_monotonic_nanoseconds() + PATIENCE_NANOSECONDS;
  while ((state = atomic_load(&words.state)) != ANSWERED) {
    if (state == EXPIRED) return;
    // A writer that has begun to write is given the same time again.
    if (wait_while(&words.state, state, state == WRITING ? end + PATIENCE_NANOSECONDS : end)) continue;
    if (change_state(FOUND, EXPIRED)) {
      write_without_cause(&words.page);
      return;
    }
    if (atomic_load(&words.state) == state) return;
  }
  set_state(FREE);
}

cuffd_writer *cuffd_writer_create(void) { return calloc(1, sizeof(cuffd_writer)); }

void cuffd_writer_destroy(cuffd_writer *writer) { free(writer); }

void cuffd_writer_begin(void) {
  // The first call of a function of another library takes much of the stack, and a thread that dies may have little.
  (void)!writev(-1, NULL, 0);
  atomic_store(&words.space, cuffd_address_space());
  atomic_fetch_add(&words.writers, 1);
}

void cuffd_writer_end(void) { atomic_fetch_sub(&words.writers, 1); }

bool cuffd_writer_next(cuffd_writer *writer, int *number, uint64_t *address) {
  while (true) {
    uint32_t bell = atomic_load(&words.bell);
    if (atomic_load(&words.state) == ASKED && change_state(ASKED, TAKEN)) {
      atomic_store(&words.writer, cuffd_thread_id());
      *number = words.number;
      *address = words.address;
      return true;
    }
    if (atomic_load(&writer->is_stopping)) return false;
    syscall(SYS_futex, &words.bell, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, bell, NULL, NULL, 0);
  }
}

void cuffd_writer_found(const struct cuffd_failed_page *page) {
  words.page = *page;
  change_state(TAKEN, FOUND);
}

void cuffd_writer_text_made(void) {
  if (change_state(FOUND, WRITING)) return;
  while (true) wait_while(&words.state, EXPIRED, UINT64_MAX);
}

void cuffd_writer_finish(void) {
  atomic_store(&words.writer, 0);
  set_state(ANSWERED);
}

void cuffd_writer_stop(cuffd_writer *writer) {
  atomic_store(&writer->is_stopping, true);
  ring();
}

void cuffd_last_words_after_fork(void) {
  atomic_store(&words.writers, 0);
  atomic_store(&words.writer, 0);
  atomic_store(&words.state, FREE);
}
