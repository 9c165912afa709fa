#define _GNU_SOURCE
#include "CStressSupport.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t word_at(uint64_t seed, uint64_t offset) {
  uint64_t x = seed + offset * 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return (x ^ (x >> 31)) | 0x0101010101010101u;
}

void cstress_make(uint64_t seed, uint64_t offset, uint8_t *bytes, size_t count) {
  size_t done = 0;
  for (; count - done >= 8; done += 8) {
    uint64_t word = word_at(seed, offset + done);
    memcpy(bytes + done, &word, 8);
  }
  if (done < count) {
    uint64_t word = word_at(seed, offset + done);
    memcpy(bytes + done, &word, count - done);
  }
}

static uint8_t byte_of(uint64_t word, uint64_t offset) { return (uint8_t)(word >> (8 * (offset % 8))); }

static bool is_right(
    uint8_t byte, uint64_t offset, const struct cstress_page *page, uint64_t source, uint64_t written) {
  uint8_t first = byte_of(source, offset), second = byte_of(written, offset);
  if (page->is_racing) return byte == first || byte == second;
  uint64_t part = offset % page->page_size / (page->page_size / 64);
  return byte == ((page->mask >> part & 1) != 0 ? second : first);
}

ptrdiff_t cstress_compare(const uint8_t *bytes, uint64_t offset, size_t count, const struct cstress_page *page) {
  uint64_t source = 0, written = 0, made_for = UINT64_MAX;
  for (size_t i = 0; i < count; i++) {
    uint64_t at = offset + i;
    if (at >= page->end) {
      if (bytes[i] != 0) return (ptrdiff_t)i;
      continue;
    }
    if (at / 8 != made_for) {
      made_for = at / 8;
      source = page->source == 0 ? 0 : word_at(page->source, made_for * 8);
      written = word_at(page->written, made_for * 8);
    }
    if (!is_right(bytes[i], at, page, source, written)) return (ptrdiff_t)i;
  }
  return -1;
}

static int status_of(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status); }

int cstress_fork_and_run(int (*body)(void *), void *context, unsigned patience_seconds) {
  pid_t child = fork();
  if (child < 0) return -1000 - errno;
  if (child == 0) _exit(body(context));
  int status = 0;
  struct timespec now, start;
  clock_gettime(CLOCK_MONOTONIC, &start);
  do {
    if (waitpid(child, &status, WNOHANG) == child) return status_of(status);
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    clock_gettime(CLOCK_MONOTONIC, &now);
  } while (now.tv_sec - start.tv_sec < (time_t)patience_seconds);
  kill(child, SIGKILL);
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
  return -1000 - ETIMEDOUT;
}

int cstress_fork(enum cstress_child kind, uintptr_t address) {
  pid_t child = fork();
  if (child < 0) return -1000 - errno;
  if (child == 0) {
    signal(SIGBUS, SIG_DFL);
    signal(SIGSEGV, SIG_DFL);
    if (kind == CSTRESS_TOUCH) _exit(100 + *(volatile uint8_t *)address % 100);
    if (kind == CSTRESS_EXECUTE) {
      // Containers need not have any other program than this one.
      char *const arguments[] = {(char[]){"lazy-mem-demo"}, (char[]){"--version"}, NULL};
      dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDOUT_FILENO);
      execv("/proc/self/exe", arguments);
      _exit(99);
    }
    _exit(0);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return -1000 - errno;
  }
  return status_of(status);
}
