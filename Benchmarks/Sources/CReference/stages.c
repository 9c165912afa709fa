#define _GNU_SOURCE
#include "creference_stages.h"

#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static size_t page_size(void) { return (size_t)sysconf(_SC_PAGESIZE); }

static char *pages_of(int count) {
  size_t length = (size_t)count * page_size();
  char *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) creference_give_up("mmap");
  (void)madvise(memory, length, MADV_NOHUGEPAGE);
  return memory;
}

static double call(int count) {
  double start = now();
  for (int i = 0; i < count; i++) (void)syscall(SYS_getppid);
  return now() - start;
}

static double copy_memory(int count) {
  char *from = pages_of(count), *to = pages_of(count);
  size_t length = (size_t)count * page_size();
  memset(from, 1, length);
  memset(to, 1, length);
  double start = now();
  for (int i = 0; i < count; i++) {
    memcpy(to + (size_t)i * page_size(), from + (size_t)i * page_size(), page_size());
    // Without this, the compiler could merge the copies.
    __asm__ volatile("" : : "r"(to) : "memory");
  }
  double time = now() - start;
  munmap(from, length);
  munmap(to, length);
  return time;
}

static double wait_for_ready(int count) {
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  int ready = eventfd(1, EFD_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, ready, &event) != 0) creference_give_up("epoll_ctl");
  double start = now();
  for (int i = 0; i < count; i++) (void)epoll_wait(epoll, &event, 1, -1);
  double time = now() - start;
  close(epoll);
  close(ready);
  return time;
}

static void fill_source(char *source, size_t length) {
  for (size_t i = 0; i < length; i += page_size()) memset(source + i, 1, page_size());
}

// Calls `body` with a userfaultfd over `count` pages. Returns a negative number if the kernel refuses the
// userfaultfd.
static double with_uffd(int count, double (*body)(creference *, int)) {
  size_t length = (size_t)count * page_size();
  char *source = pages_of(count);
  fill_source(source, length);
  creference reference = {.base = MAP_FAILED, .length = length, .source = source, .unit = page_size(), .uffd = -1};
  double time = creference_open_uffd(&reference, 0) == NULL ? body(&reference, count) : -1;
  if (reference.uffd >= 0) close(reference.uffd);
  if (reference.base != MAP_FAILED) munmap(reference.base, length);
  munmap(source, length);
  return time;
}

static double read_nothing(creference *reference, int count) {
  struct uffd_msg messages[64];
  double start = now();
  for (int i = 0; i < count; i++) {
    if (read(reference->uffd, messages, sizeof messages) >= 0) creference_give_up("read");
  }
  return now() - start;
}

static double copy_missing(creference *reference, int count) {
  double start = now();
  for (int i = 0; i < count; i++) {
    (void)creference_copy(reference, (uint64_t)(uintptr_t)(reference->base + (size_t)i * page_size()));
  }
  return now() - start;
}

static void ignore(int signal) { (void)signal; }

static double signal_self(int count) {
  struct sigaction action = {.sa_handler = ignore}, former;
  if (sigaction(SIGUSR2, &action, &former) != 0) creference_give_up("sigaction");
  double start = now();
  for (int i = 0; i < count; i++) (void)syscall(SYS_tgkill, getpid(), gettid(), SIGUSR2);
  double time = now() - start;
  sigaction(SIGUSR2, &former, NULL);
  return time;
}

static double touch(char *memory, int count) {
  double start = now();
  for (int i = 0; i < count; i++) (void)*(volatile char *)(memory + (size_t)i * page_size());
  return now() - start;
}

static double fault(int count) {
  char *memory = pages_of(count);
  double start = now();
  for (int i = 0; i < count; i++) *(volatile char *)(memory + (size_t)i * page_size()) = 1;
  double time = now() - start;
  munmap(memory, (size_t)count * page_size());
  return time;
}

struct pair {
  int to, from, count;
};

static void *answer(void *argument) {
  struct pair *pair = argument;
  uint64_t value;
  for (int i = 0; i < pair->count; i++) {
    if (read(pair->to, &value, sizeof value) != sizeof value) creference_give_up("read");
    value = 1;
    if (write(pair->from, &value, sizeof value) != sizeof value) creference_give_up("write");
  }
  return NULL;
}

static double switch_threads(int count) {
  struct pair pair = {.to = eventfd(0, EFD_CLOEXEC), .from = eventfd(0, EFD_CLOEXEC), .count = count / 2};
  pthread_t thread;
  if (pthread_create(&thread, NULL, answer, &pair) != 0) creference_give_up("pthread_create");
  double start = now();
  for (int i = 0; i < pair.count; i++) {
    uint64_t value = 1;
    if (write(pair.to, &value, sizeof value) != sizeof value) creference_give_up("write");
    if (read(pair.from, &value, sizeof value) != sizeof value) creference_give_up("read");
  }
  double time = now() - start;
  pthread_join(thread, NULL);
  close(pair.to);
  close(pair.from);
  return time;
}

static double touch_reference(creference_strategy strategy, int count) {
  size_t length = (size_t)count * page_size();
  char *source = pages_of(count);
  fill_source(source, length);
  const char *failed;
  int error;
  struct creference_options options = {.strategy = strategy, .unit = page_size(), .source_fd = -1};
  creference *reference = creference_start(length, source, options, &failed, &error);
  double time = -1;
  if (reference != NULL) {
    time = touch(creference_base(reference), count);
    creference_stop(reference);
  }
  munmap(source, length);
  return time;
}

double creference_stage_nanoseconds(creference_stage stage, int count) {
  double time = -1;
  switch (stage) {
    case CREFERENCE_STAGE_CALL: time = call(count); break;
    case CREFERENCE_STAGE_MEMCPY: time = copy_memory(count); break;
    case CREFERENCE_STAGE_EPOLL: time = wait_for_ready(count); break;
    case CREFERENCE_STAGE_READ: time = with_uffd(count, read_nothing); break;
    case CREFERENCE_STAGE_COPY: time = with_uffd(count, copy_missing); break;
    case CREFERENCE_STAGE_SIGNAL: time = signal_self(count); break;
    case CREFERENCE_STAGE_FAULT: time = fault(count); break;
    case CREFERENCE_STAGE_SWITCH: time = switch_threads(count); break;
    case CREFERENCE_STAGE_SIGBUS: time = touch_reference(CREFERENCE_SIGBUS, count); break;
    case CREFERENCE_STAGE_HANDLER: time = touch_reference(CREFERENCE_EPOLL, count); break;
  }
  return time / count;
}

const char *creference_stage_name(creference_stage stage) {
  switch (stage) {
    case CREFERENCE_STAGE_CALL: return "a system call that does nothing";
    case CREFERENCE_STAGE_MEMCPY: return "memcpy of a page";
    case CREFERENCE_STAGE_EPOLL: return "epoll_wait, something is ready";
    case CREFERENCE_STAGE_READ: return "read of a userfaultfd, nothing is there";
    case CREFERENCE_STAGE_COPY: return "UFFDIO_COPY of a page, nobody waits";
    case CREFERENCE_STAGE_SIGNAL: return "a signal to oneself, and back";
    case CREFERENCE_STAGE_FAULT: return "the kernel's own fault, no copy";
    case CREFERENCE_STAGE_SWITCH: return "a wake-up and a switch of threads";
    case CREFERENCE_STAGE_SIGBUS: return "SIGBUS fault in C, all of it";
    case CREFERENCE_STAGE_HANDLER: return "fault through an epoll thread in C, all of it";
  }
  return "";
}
