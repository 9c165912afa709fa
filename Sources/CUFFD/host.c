#define _GNU_SOURCE
#include "cuffd_host.h"
#include "cuffd_calls.h"
#include "cuffd_descriptors.h"
#include "cuffd_signals.h"
#include "fault_signals.h"
#include "futex.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

_Static_assert(CUFFD_FORMAT_REGULAR == S_IFREG, "S_IFREG moved");
_Static_assert(CUFFD_FORMAT_DIRECTORY == S_IFDIR, "S_IFDIR moved");
_Static_assert(sizeof(pthread_t) <= sizeof(uint64_t), "pthread_t does not fit cuffd_thread");

int cuffd_epoll_create(void) {
  int fd = epoll_create1(EPOLL_CLOEXEC);
  return fd < 0 ? -errno : cuffd_above_standard(fd);
}

int cuffd_epoll_add(int epoll_fd, int fd, uint32_t token) {
  struct epoll_event event = {.events = EPOLLIN, .data = {.u32 = token}};
  return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

struct cuffd_ready cuffd_epoll_wait(int epoll_fd, int timeout_milliseconds) {
  struct epoll_event events[4];
  int count = epoll_wait(epoll_fd, events, 4, timeout_milliseconds);
  struct cuffd_ready ready = {.result = count < 0 ? -errno : count};
  for (int i = 0; i < count; i++) {
    uint32_t bit = 1u << events[i].data.u32;
    if (events[i].events & EPOLLIN) ready.input |= bit;
    if (events[i].events & EPOLLERR) ready.error |= bit;
  }
  return ready;
}

int cuffd_eventfd(void) {
  int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  return fd < 0 ? -errno : cuffd_above_standard(fd);
}

// The number must not be written into a file of the program.
static void check_eventfd(int fd) {
  if (cuffd_is_foreign(fd)) cuffd_end_without("eventfd", fd);
}

int cuffd_eventfd_signal(int fd) {
  uint64_t one = 1;
  check_eventfd(fd);
  // EAGAIN means that the counter is full, so the reader has been told already.
  return write(fd, &one, sizeof one) < 0 && errno != EAGAIN ? -errno : 0;
}

int cuffd_eventfd_clear(int fd) {
  uint64_t count = 0;
  check_eventfd(fd);
  return read(fd, &count, sizeof count) < 0 && errno != EAGAIN ? -errno : 0;
}

struct start {
  void (*body)(void *);
  void *context;
};

// Signal handlers read this variable, so its storage must not be allocated at the first access.
static _Thread_local uint64_t thread_role __attribute__((tls_model("initial-exec")));

uint64_t cuffd_thread_role(void) { return thread_role; }

uint64_t cuffd_thread_token(void) { return (uintptr_t)&thread_role; }

void cuffd_thread_set_role(uint64_t role) { thread_role = role; }

// The threads that wait for the pages which this thread was to bring would wait without end.
static void end_with_thread(void *unused) {
  (void)unused;
  static const char line[] =
      "FaultRuntime: code of the program, such as a provider, has ended the thread that called it (pthread_exit, "
      "pthread_cancel). The thread belongs to the runtime, which cannot go on without it, so the process ends. Return "
      "from the provider, or throw an error.\n";
  (void)!write(STDERR_FILENO, line, sizeof line - 1);
  abort();
}

static void *run(void *argument) {
  struct start start = *(struct start *)argument;
  free(argument);
  thread_role = 1;
  pthread_cleanup_push(end_with_thread, NULL);
  start.body(start.context);
  pthread_cleanup_pop(0);
  return NULL;
}

int cuffd_thread_start(cuffd_thread *thread, size_t stack_size, const char *name, void (*body)(void *), void *context) {
  struct start *start = malloc(sizeof *start);
  if (start == NULL) return -ENOMEM;
  *start = (struct start){.body = body, .context = context};

  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  int result = pthread_attr_setstacksize(&attributes, stack_size);

  sigset_t all, before;
  sigfillset(&all);
  cuffd_keep_fault_signals(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t handle = 0;
  if (result == 0) result = pthread_create(&handle, &attributes, run, start);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);

  if (result != 0) {
    free(start);
    return -result;
  }
  pthread_setname_np(handle, name);
  thread->handle = (uint64_t)handle;
  return 0;
}

static struct timespec time_after(clockid_t clock, uint64_t nanoseconds) {
  struct timespec until;
  clock_gettime(clock, &until);
  until.tv_sec += (time_t)(nanoseconds / 1000000000u);
  until.tv_nsec += (long)(nanoseconds % 1000000000u);
  if (until.tv_nsec >= 1000000000L) {
    until.tv_sec += 1;
    until.tv_nsec -= 1000000000L;
  }
  return until;
}

int cuffd_thread_join_within(cuffd_thread thread, uint64_t timeout_nanoseconds) {
  // pthread_clockjoin_np(3) would take the monotonic clock, but ThreadSanitizer does not know that it joins a thread.
  struct timespec until = time_after(CLOCK_REALTIME, timeout_nanoseconds);
  // A thread that is cancelled while it waits would never join the other one.
  int cancellation = cuffd_cancellation_off();
  int result = -pthread_timedjoin_np((pthread_t)thread.handle, NULL, &until);
  cuffd_cancellation_restore(cancellation);
  return result;
}

int cuffd_thread_join(cuffd_thread thread) {
  int cancellation = cuffd_cancellation_off();
  int result = -pthread_join((pthread_t)thread.handle, NULL);
  cuffd_cancellation_restore(cancellation);
  return result;
}

int cuffd_thread_detach(cuffd_thread thread) { return -pthread_detach((pthread_t)thread.handle); }

bool cuffd_thread_is_current(cuffd_thread thread) {
  return pthread_equal(pthread_self(), (pthread_t)thread.handle) != 0;
}

struct cuffd_monitor {
  pthread_mutex_t mutex;
  pthread_cond_t changed;
};

cuffd_monitor *cuffd_monitor_create(void) {
  cuffd_monitor *monitor = malloc(sizeof *monitor);
  if (monitor == NULL) return NULL;
  pthread_mutex_init(&monitor->mutex, NULL);
  // Time limits use the monotonic clock, because a program can set the others.
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(&monitor->changed, &attributes);
  pthread_condattr_destroy(&attributes);
  return monitor;
}

void cuffd_monitor_enter(cuffd_monitor *monitor) { pthread_mutex_lock(&monitor->mutex); }

void cuffd_monitor_leave(cuffd_monitor *monitor) { pthread_mutex_unlock(&monitor->mutex); }

int cuffd_monitor_wait(cuffd_monitor *monitor, uint64_t timeout_nanoseconds) {
  if (timeout_nanoseconds == UINT64_MAX) return -pthread_cond_wait(&monitor->changed, &monitor->mutex);
  struct timespec until = time_after(CLOCK_MONOTONIC, timeout_nanoseconds);
  return -pthread_cond_timedwait(&monitor->changed, &monitor->mutex, &until);
}

void cuffd_monitor_announce(cuffd_monitor *monitor) { pthread_cond_broadcast(&monitor->changed); }

void cuffd_monitor_announce_to_one(cuffd_monitor *monitor) { pthread_cond_signal(&monitor->changed); }

void cuffd_monitor_destroy(cuffd_monitor *monitor) {
  pthread_cond_destroy(&monitor->changed);
  pthread_mutex_destroy(&monitor->mutex);
  free(monitor);
}

struct cuffd_event {
  _Atomic uint32_t is_announced;
};

cuffd_event *cuffd_event_create(void) { return calloc(1, sizeof(cuffd_event)); }

void cuffd_event_announce(cuffd_event *event) {
  atomic_store(&event->is_announced, 1);
  cuffd_futex_wake(&event->is_announced);
}

bool cuffd_event_wait(cuffd_event *event, uint64_t timeout_nanoseconds) {
  uint64_t start = cuffd_monotonic_nanoseconds(), passed = 0;
  while (atomic_load(&event->is_announced) == 0) {
    cuffd_futex_wait(&event->is_announced, 0, timeout_nanoseconds - passed);
    passed = cuffd_monotonic_nanoseconds() - start;
    if (passed >= timeout_nanoseconds) return atomic_load(&event->is_announced) != 0;
  }
  return true;
}

void cuffd_event_destroy(cuffd_event *event) { free(event); }

int cuffd_file_open(const char *path) {
  // O_NONBLOCK keeps the call from waiting without end when `path` is a FIFO without a writer. Regular files ignore it.
  int cancellation = cuffd_cancellation_off();
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  fd = fd < 0 ? -errno : cuffd_above_standard(fd);
  cuffd_cancellation_restore(cancellation);
  return fd;
}

int cuffd_file_facts_of(int fd, struct cuffd_file_facts *facts) {
  struct stat status;
  if (fstat(fd, &status) < 0) return -errno;
  facts->size = status.st_size;
  facts->format = status.st_mode & S_IFMT;
  facts->device = status.st_dev;
  facts->inode = status.st_ino;
  return 0;
}

static bool is_same(int fd, const struct cuffd_file_facts *facts) {
  struct stat status;
  return fstat(fd, &status) == 0 && status.st_dev == facts->device && status.st_ino == facts->inode;
}

int64_t cuffd_file_pread(int fd, void *buffer, size_t count, int64_t offset) {
  ssize_t result;
  do {
    result = pread(fd, buffer, count, offset);
  } while (result < 0 && errno == EINTR);
  return result < 0 ? -errno : result;
}

int64_t cuffd_file_pread_same(
    int fd, const struct cuffd_file_facts *facts, void *buffer, size_t count, int64_t offset) {
  int64_t result = cuffd_file_pread(fd, buffer, count, offset);
  return is_same(fd, facts) ? result : -EBADF;
}

void cuffd_file_close_same(int fd, const struct cuffd_file_facts *facts) {
  if (is_same(fd, facts)) cuffd_close(fd);
}

int cuffd_map_anonymous(size_t length, bool writable, void **address) {
  int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
  void *mapped = mmap(NULL, length, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return -errno;
  *address = mapped;
  return 0;
}

// Maps memory at an aligned address. It maps more than is needed, and unmaps what lies around the aligned part.
static void *map_aligned(size_t length, size_t alignment) {
  size_t extra = alignment > (size_t)sysconf(_SC_PAGESIZE) ? alignment : 0;
  if (length > SIZE_MAX - extra) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  char *mapped = mmap(NULL, length + extra, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED || extra == 0) return mapped;
  size_t before = (alignment - (uintptr_t)mapped % alignment) % alignment;
  if (before > 0) munmap(mapped, before);
  if (extra > before) munmap(mapped + before + length, extra - before);
  return mapped + before;
}

int cuffd_map_lazy(size_t length, size_t alignment, bool writable, void **address) {
  // The memory is without access at first, because after mlockall(MCL_FUTURE) the kernel would fill an accessible
  // mapping with zeros at once.
  void *mapped = map_aligned(length, alignment);
  // Not every refusal is ENOMEM: where mlockall(MCL_FUTURE) meets RLIMIT_MEMLOCK, it is EAGAIN.
  if (mapped == MAP_FAILED) return -errno;
  // MADV_DONTFORK: no thread would serve the faults of a forked child, which would read zeros.
  if (munlock(mapped, length) < 0 || madvise(mapped, length, MADV_DONTFORK) < 0 ||
      mprotect(mapped, length, writable ? PROT_READ | PROT_WRITE : PROT_READ) < 0) {
    int error = errno;
    munmap(mapped, length);
    return -error;
  }
  *address = mapped;
  return 0;
}

int cuffd_map_huge_staging(size_t size, void **address) {
  int result = cuffd_map_lazy(size, size, true, address);
  if (result == 0) madvise(*address, size, MADV_HUGEPAGE);
  return result;
}

static bool read_setting(const char *path, char *text, size_t capacity) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  ssize_t count = read(fd, text, capacity - 1);
  close(fd);
  text[count > 0 ? count : 0] = 0;
  return count > 0;
}

size_t cuffd_parse_huge_page_size(const char *enabled, const char *size) {
  if (strstr(enabled, "[never]") != NULL) return 0;
  unsigned long long bytes = strtoull(size, NULL, 10);
  // Addresses are aligned to this size, and buffers have this size, so a value that no kernel has would do harm.
  bool is_possible = bytes >= cuffd_page_size() && bytes <= 1ull << 30 && (bytes & (bytes - 1)) == 0;
  return is_possible ? (size_t)bytes : 0;
}

size_t cuffd_huge_page_size(void) {
  char enabled[64], size[64];
  bool is_known = read_setting("/sys/kernel/mm/transparent_hugepage/enabled", enabled, sizeof enabled) &&
                  read_setting("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", size, sizeof size);
  return is_known ? cuffd_parse_huge_page_size(enabled, size) : 0;
}

int cuffd_residency(uint64_t address, size_t length, unsigned char *residency) {
  return mincore((void *)(uintptr_t)address, length, residency) < 0 ? -errno : 0;
}

int cuffd_leave_out_of_core_dumps(uint64_t address, size_t length) {
  return madvise((void *)(uintptr_t)address, length, MADV_DONTDUMP) < 0 ? -errno : 0;
}

int cuffd_discard(uint64_t address, size_t length) {
  return madvise((void *)(uintptr_t)address, length, MADV_DONTNEED) < 0 ? -errno : 0;
}

int cuffd_is_resident(uint64_t page) {
  unsigned char residency = 0;
  return mincore((void *)(uintptr_t)page, 1, &residency) == 0 && (residency & 1) != 0;
}

bool cuffd_is_mapped(uint64_t address, size_t length) {
  enum { PAGES = 512 };
  unsigned char residency[PAGES];
  size_t page = cuffd_page_size(), step = PAGES * page;
  uint64_t end = address + length;
  if (end < address) return false;
  for (uint64_t at = address - address % page; at < end; at += step) {
    size_t part = end - at < step ? (size_t)(end - at) : step;
    if (mincore((void *)(uintptr_t)at, part, residency) < 0) return false;
  }
  return true;
}

int cuffd_try_copy(void *destination, const void *source, size_t length) {
  struct iovec to = {.iov_base = destination, .iov_len = length};
  struct iovec from = {.iov_base = (void *)(uintptr_t)source, .iov_len = length};
  ssize_t copied = process_vm_readv(getpid(), &to, 1, &from, 1, 0);
  if (copied == (ssize_t)length) return 0;
  return copied >= 0 ? -EFAULT : -errno;
}

int64_t cuffd_copy_if_readable(void *destination, const void *source, size_t length) {
  int result = cuffd_try_copy(destination, source, length);
  if (result == 0 || result == -EFAULT) return result;
  // A sandbox may forbid process_vm_readv(2). With memcpy, a source that cannot be read raises a signal.
  memcpy(destination, source, length);
  return 0;
}

int cuffd_unmap(uint64_t address, size_t length) {
  return munmap((void *)(uintptr_t)address, length) < 0 ? -errno : 0;
}

int cuffd_protect_none(uint64_t address, size_t length) {
  return mprotect((void *)(uintptr_t)address, length, PROT_NONE) < 0 ? -errno : 0;
}

const char *cuffd_error_text(int number, char *buffer, size_t capacity) {
  return strerror_r(number, buffer, capacity);
}

int cuffd_page_states(uint64_t address, size_t length, unsigned char *states) {
  int fd = open("/proc/thread-self/pagemap", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  size_t page_size = cuffd_page_size(), count = length / page_size, done = 0;
  int result = 0;
  while (done < count) {
    uint64_t entries[512];
    size_t wanted = count - done < 512 ? count - done : 512;
    off_t place = (off_t)((address / page_size + done) * sizeof entries[0]);
    ssize_t got = pread(fd, entries, wanted * sizeof entries[0], place);
    if (got < (ssize_t)sizeof entries[0]) {
      result = got < 0 ? -errno : -EIO;
      break;
    }
    // Bit 63 means a page in memory. Bit 62 means a page that was swapped out, or a marker such as poison.
    for (size_t i = 0; i < (size_t)got / sizeof entries[0]; i++) states[done++] = (entries[i] >> 62) != 0;
  }
  close(fd);
  return result;
}

int cuffd_page_states_without_file(uint64_t address, size_t length, bool may_be_swapped, unsigned char *states) {
  if (mincore((void *)(uintptr_t)address, length, states) < 0) return -errno;
  size_t page_size = cuffd_page_size(), count = length / page_size;
  for (size_t i = 0; i < count; i++) {
    states[i] &= 1;
    if (states[i] != 0 || !may_be_swapped) continue;
    char byte;
    int result = cuffd_try_copy(&byte, (const void *)(uintptr_t)(address + i * page_size), 1);
    if (result == 0) states[i] = 1;
    else if (result != -EFAULT) return result;
  }
  return 0;
}

bool cuffd_host_has_swap(void) {
  struct sysinfo info;
  return sysinfo(&info) < 0 || info.totalswap > 0;
}

int cuffd_write_error(const void *text, size_t length) {
  const char *rest = text;
  while (length > 0) {
    ssize_t count = write(STDERR_FILENO, rest, length);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return count < 0 ? -errno : -EIO;
    rest += count;
    length -= (size_t)count;
  }
  return 0;
}

const void *cuffd_zeros(void) {
  // This array is never written, so the kernel maps its zero page there.
  static char zeros[64 << 10];
  return zeros;
}

size_t cuffd_page_size(void) { return (size_t)sysconf(_SC_PAGESIZE); }

uint32_t cuffd_thread_id(void) { return (uint32_t)syscall(SYS_gettid); }

uint64_t cuffd_monotonic_nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void cuffd_pause(uint32_t nanoseconds) {
  if (nanoseconds == 0) {
    sched_yield();
    return;
  }
  struct timespec duration = {.tv_sec = 0, .tv_nsec = (long)nanoseconds};
  nanosleep(&duration, NULL);
}
