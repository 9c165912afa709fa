#define _GNU_SOURCE
#include "cuffd_descriptors.h"
#include "cuffd_calls.h"
#include "cuffd_fork.h"
#include "cuffd_host.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int cuffd_above_standard(int fd) {
  if (fd < 0 || fd > STDERR_FILENO) return fd;
  int moved = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  int error = errno;
  close(fd);
  return moved < 0 ? -error : moved;
}

bool cuffd_is_userfaultfd(int fd) { return cuffd_ioctl_wake(fd, 0, 0) == -EINVAL; }

bool cuffd_is_foreign(int fd) {
  struct stat status;
  return fstat(fd, &status) < 0 || (status.st_mode & S_IFMT) != 0;
}

void cuffd_close_own(int fd) {
  if (!cuffd_is_foreign(fd)) close(fd);
}

void cuffd_end_without(const char *what, int fd) {
  char line[512];
  int length = snprintf(
      line, sizeof line,
      "FaultRuntime: descriptor %d is not the %s of the runtime any more. The program has closed it, or has put "
      "another file in its place (closefrom, dup2). Missing pages cannot be served without it, so the process ends. "
      "Close only what the program has opened itself, or do so before the runtime is made.\n",
      fd, what);
  if (length > 0) (void)!write(STDERR_FILENO, line, (size_t)length);
  abort();
}

// The thread of a keeper goes from the first state to the second or third, and its owner sets the last one.
enum { STARTING, KEEPING, CANNOT_KEEP, ENDING };

struct keeper {
  cuffd_thread thread;
  uint64_t space;
  int fd;
  _Atomic uint32_t state;
};

static void announce(struct keeper *keeper) {
  syscall(SYS_futex, &keeper->state, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, INT_MAX, NULL, NULL, 0);
}

static bool wait_while(struct keeper *keeper, uint32_t state, const struct timespec *limit) {
  return syscall(SYS_futex, &keeper->state, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, state, limit, NULL, 0) == 0 ||
         errno != ETIMEDOUT;
}

// Replaces the table of the calling thread by one with nothing but `fd`.
static bool leave_table(int fd) {
#ifdef SYS_close_range
  enum { UNSHARE = 2 };  // CLOSE_RANGE_UNSHARE, which older headers do not have
  // This order copies only the descriptors up to `fd` before the first ones are closed.
  if (syscall(SYS_close_range, (unsigned)fd + 1, ~0u, UNSHARE) < 0) return false;
  return fd == 0 || syscall(SYS_close_range, 0u, (unsigned)fd - 1, 0) == 0;
#else
  (void)fd;
  return false;
#endif
}

static void keep(void *context) {
  struct keeper *keeper = context;
  uint32_t reached = leave_table(keeper->fd) ? KEEPING : CANNOT_KEEP;
  uint32_t before = STARTING;
  // The owner may have ended the keeper already, because it does not wait long.
  if (atomic_compare_exchange_strong(&keeper->state, &before, reached)) announce(keeper);
  if (reached == CANNOT_KEEP) return;
  while (atomic_load(&keeper->state) != ENDING) (void)wait_while(keeper, KEEPING, NULL);
  // The end of the thread would close it as well, but only after another thread has been able to join this one.
  close(keeper->fd);
}

uint64_t cuffd_keep(int fd) {
  enum { STACK = 1 << 17 };
  struct keeper *keeper = calloc(1, sizeof *keeper);
  if (keeper == NULL) return 0;
  keeper->fd = fd;
  keeper->space = cuffd_address_space();
  if (cuffd_thread_start(&keeper->thread, STACK, "fault-keep-fd", keep, keeper) < 0) {
    free(keeper);
    return 0;
  }
  // Where the thread gets no CPU for that long, it begins to keep the descriptor later.
  struct timespec limit = {.tv_sec = 1};
  while (atomic_load(&keeper->state) == STARTING && wait_while(keeper, STARTING, &limit)) continue;
  return (uint64_t)(uintptr_t)keeper;
}

void cuffd_keep_no_more(uint64_t handle) {
  const uint64_t limit = UINT64_C(10000000000);
  struct keeper *keeper = (struct keeper *)(uintptr_t)handle;
  if (keeper == NULL || keeper->space != cuffd_address_space()) return;
  atomic_store(&keeper->state, ENDING);
  announce(keeper);
  if (cuffd_thread_join_within(keeper->thread, limit) == 0) free(keeper);
}
