#define _GNU_SOURCE
#include "CStressSupport.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// The first word of a page, which readers compare.
static uint64_t wanted_word(const struct cstress_range *range, size_t page) {
  uint64_t word;
  cstress_make(range->seed, page * range->page_size, (uint8_t *)&word, sizeof word);
  return word;
}

static void look_at(const struct cstress_range *range, size_t page, struct cstress_outcome *outcome) {
  uint64_t word = 0;
  if (cstress_read(range->address + page * range->page_size, (uint8_t *)&word, sizeof word) != 0) {
    outcome->failed++;
  } else if (word != wanted_word(range, page)) {
    outcome->wrong++;
  }
}

static void read_all(
    const struct cstress_range *range, size_t first, size_t step, struct cstress_outcome *outcome) {
  for (size_t page = first; page < range->page_count; page += step) look_at(range, page, outcome);
}

struct cstress_outcome cstress_read_words(const struct cstress_range *range) {
  struct cstress_outcome outcome = {0};
  read_all(range, 0, 1, &outcome);
  return outcome;
}

// --- A signal handler that touches memory.

static _Thread_local struct {
  const struct cstress_range *range;
  size_t page;
  struct cstress_outcome outcome;
} interrupted;

static void on_tick(int number) {
  (void)number;
  int saved = errno;
  const struct cstress_range *range = interrupted.range;
  if (range != NULL) look_at(range, interrupted.page++ % range->page_count, &interrupted.outcome);
  errno = saved;
}

struct cstress_outcome cstress_read_with_ticks(
    const struct cstress_range *range, const struct cstress_range *touched, unsigned microseconds) {
  int number = SIGRTMIN + 3;
  struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
  sigemptyset(&action.sa_mask);
  if (sigaction(number, &action, NULL) < 0) return (struct cstress_outcome){.error = errno};
  struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = number};
  event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
  timer_t timer;
  if (timer_create(CLOCK_MONOTONIC, &event, &timer) < 0) return (struct cstress_outcome){.error = errno};
  memset(&interrupted, 0, sizeof interrupted);
  interrupted.range = touched;
  long nanoseconds = microseconds * 1000L;
  struct itimerspec time = {.it_interval = {.tv_nsec = nanoseconds}, .it_value = {.tv_nsec = nanoseconds}};
  timer_settime(timer, 0, &time, NULL);
  struct cstress_outcome outcome = {0};
  read_all(range, 0, 1, &outcome);
  timer_delete(timer);
  // A signal that is pending still arrives, but finds no range.
  interrupted.range = NULL;
  outcome.wrong += interrupted.outcome.wrong;
  outcome.failed += interrupted.outcome.failed;
  outcome.ticks = (long)interrupted.page;
  return outcome;
}

// --- A thread that is cancelled.

struct walker {
  const struct cstress_range *range;
  bool is_asynchronous;
  struct cstress_outcome outcome;
  _Atomic size_t done;
};

static void *walk(void *argument) {
  struct walker *walker = argument;
  int old;
  if (walker->is_asynchronous) pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
  for (size_t page = 0; page < walker->range->page_count; page++) {
    look_at(walker->range, page, &walker->outcome);
    walker->done++;
  }
  return walker;
}

struct cstress_outcome cstress_cancel_reader(
    const struct cstress_range *range, bool is_asynchronous, size_t after, unsigned patience_seconds) {
  struct walker *walker = calloc(1, sizeof *walker);
  if (walker == NULL) return (struct cstress_outcome){.error = ENOMEM};
  walker->range = range;
  walker->is_asynchronous = is_asynchronous;
  pthread_t thread;
  int error = pthread_create(&thread, NULL, walk, walker);
  if (error != 0) {
    free(walker);
    return (struct cstress_outcome){.error = error};
  }
  struct timespec until, now;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += patience_seconds;
  do {
    sched_yield();
    clock_gettime(CLOCK_REALTIME, &now);
  } while (walker->done < after && now.tv_sec < until.tv_sec);
  pthread_cancel(thread);
  void *result = NULL;
  error = pthread_timedjoin_np(thread, &result, &until);
  // A thread that has not ended still uses its memory.
  if (error != 0) return (struct cstress_outcome){.error = error};
  struct cstress_outcome outcome = walker->outcome;
  if (result != PTHREAD_CANCELED && result != walker) outcome.error = ECANCELED;
  free(walker);
  return outcome;
}

// --- Threads beside a provider that does not return.

struct member {
  const struct cstress_range *range;
  size_t count, number;
  pthread_t thread;
  struct cstress_outcome outcome;
};

static void *read_share(void *argument) {
  struct member *member = argument;
  read_all(member->range, member->number, member->count, &member->outcome);
  return NULL;
}

enum { LARGEST_CROWD = 16 };

struct cstress_crowd {
  size_t count;
  struct cstress_range ranges[LARGEST_CROWD];
  struct member members[LARGEST_CROWD];
};

cstress_crowd *cstress_start_crowd(const struct cstress_range *ranges, size_t range_count, size_t thread_count) {
  cstress_crowd *crowd = calloc(1, sizeof *crowd);
  if (crowd == NULL) return NULL;
  if (range_count > LARGEST_CROWD) range_count = LARGEST_CROWD;
  if (thread_count > LARGEST_CROWD) thread_count = LARGEST_CROWD;
  if (range_count == 0) return crowd;
  for (size_t i = 0; i < range_count; i++) crowd->ranges[i] = ranges[i];
  for (size_t i = 0; i < thread_count; i++) {
    size_t range = i % range_count;
    crowd->members[i] = (struct member){
        .range = &crowd->ranges[range],
        // The threads of this range are `range`, `range + range_count` and so on.
        .count = (thread_count - range + range_count - 1) / range_count,
        .number = i / range_count};
    if (pthread_create(&crowd->members[i].thread, NULL, read_share, &crowd->members[i]) != 0) break;
    crowd->count++;
  }
  return crowd;
}

size_t cstress_crowd_size(const cstress_crowd *crowd) { return crowd->count; }

struct cstress_outcome cstress_join_crowd(cstress_crowd *crowd) {
  struct cstress_outcome sum = {0};
  for (size_t i = 0; i < crowd->count; i++) {
    pthread_join(crowd->members[i].thread, NULL);
    sum.wrong += crowd->members[i].outcome.wrong;
    sum.failed += crowd->members[i].outcome.failed;
  }
  free(crowd);
  return sum;
}

// --- Changes of the mapping.

int cstress_protect(uintptr_t address, size_t length, int protection) {
  return mprotect((void *)address, length, protection) < 0 ? -errno : 0;
}

int cstress_reserve(size_t length, uintptr_t *address) {
  void *memory = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  *address = (uintptr_t)memory;
  return memory == MAP_FAILED ? -errno : 0;
}

int cstress_move(uintptr_t from, size_t length, uintptr_t to) {
  return mremap((void *)from, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)to) == MAP_FAILED ? -errno : 0;
}

void cstress_unmap(uintptr_t address, size_t length) { munmap((void *)address, length); }

uint8_t cstress_load(uintptr_t address) { return *(const volatile uint8_t *)address; }

bool cstress_has_guards(void) {
  enum { GUARD_INSTALL = 102 };
  size_t length = (size_t)sysconf(_SC_PAGESIZE);
  void *memory = mmap(NULL, length, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return false;
  bool has_guards = madvise(memory, length, GUARD_INSTALL) == 0;
  munmap(memory, length);
  return has_guards;
}

bool cstress_blocks_faults_in_handlers(void) {
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
  return true;
#endif
#endif
  return false;
}

bool cstress_is_sanitized(void) {
#if defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
  return true;
#endif
#endif
  return false;
}
