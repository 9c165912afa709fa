#define _GNU_SOURCE
#include "cuffd_descriptors.h"
#include "cuffd_calls.h"
#include "cuffd_fork.h"
#include "cuffd_host.h"
#include "futex.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int cuffd_above_standard(int fd) {
  if (fd < 0 || fd > STDERR_FILENO) return fd;
  int moved = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  // With EINVAL the limit of descriptors leaves no larger number.
  int error = errno == EINVAL ? EMFILE : errno;
  close(fd);
  return moved < 0 ? -error : moved;
}

static bool has_no_file_of_ours(int fd) {
  struct stat status;
  return fstat(fd, &status) < 0 || (status.st_mode & S_IFMT) != 0;
}

bool cuffd_is_userfaultfd(int fd) {
  int error = cuffd_ioctl_wake(fd, 0, 0);
  if (error == -EINVAL) return true;
  if (error == -EBADF || error == -ENOTTY) return false;
  // A seccomp filter refuses the request, whatever the descriptor is.
  return !has_no_file_of_ours(fd);
}

// For each number that a runtime has, the address space that it belongs to. A forked child has a copy of the numbers,
// but not of the address space. Larger numbers are not noted.
enum { NOTED = 4096 };
static _Atomic uint64_t owners[NOTED];

static bool is_noted(int fd) {
  return fd >= 0 && fd < NOTED && atomic_load(&owners[fd]) == cuffd_address_space();
}

void cuffd_note_own(const char *what, int fd) {
  if (is_noted(fd)) cuffd_end_without(what, fd);
  if (fd >= 0 && fd < NOTED) atomic_store(&owners[fd], cuffd_address_space());
}

bool cuffd_is_foreign(int fd) { return is_noted(fd) && has_no_file_of_ours(fd); }

void cuffd_close_own(int fd) {
  // The note goes first, because another runtime may get the number as soon as it is free.
  if (is_noted(fd)) atomic_store(&owners[fd], 0);
  if (!has_no_file_of_ours(fd)) cuffd_close(fd);
}

// Writes a number without the C library, which would need more of the stack.
static char *put_number(char *to, unsigned number) {
  char digits[10];
  unsigned count = 0;
  do {
    digits[count++] = (char)('0' + number % 10);
    number /= 10;
  } while (number > 0);
  while (count > 0) *to++ = digits[--count];
  return to;
}

static char *put_text(char *to, const char *text) {
  while (*text != 0) *to++ = *text++;
  return to;
}

void cuffd_end_without(const char *what, int fd) {
  char line[512], *end = put_text(line, "FaultRuntime: descriptor ");
  end = put_number(end, fd < 0 ? 0 : (unsigned)fd);
  end = put_text(end, " is not the ");
  end = put_text(end, what);
  end = put_text(
      end,
      " of the runtime any more. The program has closed it, or has put another file in its place (closefrom, dup2). "
      "Missing pages cannot be served without it, so the process ends. Close only what the program has opened itself, "
      "or do so before the runtime is made.\n");
  (void)!write(STDERR_FILENO, line, (size_t)(end - line));
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

// Replaces the table of the calling thread by one with nothing but `fd`.
static bool leave_table(int fd) {
#ifdef SYS_close_range
  enum { UNSHARE = 2 };  // CLOSE_RANGE_UNSHARE, which older headers do not have
  // The first call copies the table only up to `fd`, and the second one closes what is below it.
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
  if (atomic_compare_exchange_strong(&keeper->state, &before, reached)) cuffd_futex_wake(&keeper->state);
  if (reached == CANNOT_KEEP) return;
  while (atomic_load(&keeper->state) != ENDING) cuffd_futex_wait(&keeper->state, KEEPING, UINT64_MAX);
  // It is closed here, because the kernel closes the table of a thread that ends only after the thread can be joined.
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
  const uint64_t second = 1000000000;
  uint64_t end = cuffd_monotonic_nanoseconds() + second, now;
  while (atomic_load(&keeper->state) == STARTING && (now = cuffd_monotonic_nanoseconds()) < end) {
    cuffd_futex_wait(&keeper->state, STARTING, end - now);
  }
  return (uint64_t)(uintptr_t)keeper;
}

void cuffd_keep_no_more(uint64_t handle) {
  const uint64_t limit = UINT64_C(10000000000);
  struct keeper *keeper = (struct keeper *)(uintptr_t)handle;
  if (keeper == NULL || keeper->space != cuffd_address_space()) return;
  atomic_store(&keeper->state, ENDING);
  cuffd_futex_wake(&keeper->state);
  if (cuffd_thread_join_within(keeper->thread, limit) == 0) free(keeper);
}
