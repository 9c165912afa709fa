#define _GNU_SOURCE
#include "CTestSupport.h"

#include "CStressSupport.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <grp.h>
#include <ucontext.h>
#include <unistd.h>

// Installed before main, as a program could do it. The library passes on to these handlers the signals that are not
// its own.
__attribute__((constructor)) static void install(void) {
  if (cstress_take_signals() < 0) abort();
}

long cts_write_to_pipe(uintptr_t address, size_t length, uint8_t *copy) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0) return -errno;
  ssize_t written = write(ends[1], (const void *)address, length);
  long result = written < 0 ? -errno : written;
  if (written > 0 && read(ends[0], copy, (size_t)written) != written) result = -EIO;
  close(ends[0]);
  close(ends[1]);
  return result;
}

int cts_run_on_cpu(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  return sched_setaffinity(0, sizeof set, &set) < 0 ? -errno : 0;
}

// The few requests that a child without the library needs.
struct range {
  uint64_t start, length;
};
struct api {
  uint64_t api, features, requests;
};
struct registration {
  struct range range;
  uint64_t mode, requests;
};

static int send_descriptor(int socket, int fd, uintptr_t address) {
  char control[CMSG_SPACE(sizeof fd)] = {0};
  struct iovec part = {.iov_base = &address, .iov_len = sizeof address};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fd);
  memcpy(CMSG_DATA(header), &fd, sizeof fd);
  return sendmsg(socket, &message, 0) < 0 ? -errno : 0;
}

static int receive_descriptor(int socket, uintptr_t *address) {
  int fd = -1;
  char control[CMSG_SPACE(sizeof fd)] = {0};
  struct iovec part = {.iov_base = address, .iov_len = sizeof *address};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) <= 0) return -EPIPE;
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  if (header == NULL) return -EPIPE;
  memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return fd;
}

int cts_userfaultfd_of_dead_process(uintptr_t *address, size_t length) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) return -errno;
  pid_t child = fork();
  if (child < 0) return -errno;
  if (child == 0) {
    void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | 1);
    struct api api = {.api = 0xAA};
    struct registration registration = {.range = {(uint64_t)(uintptr_t)memory, length}, .mode = 1};
    int ok = memory != MAP_FAILED && fd >= 0 && ioctl(fd, _IOWR(0xAA, 0x3F, struct api), &api) == 0 &&
             ioctl(fd, _IOWR(0xAA, 0x00, struct registration), &registration) == 0;
    if (ok) send_descriptor(ends[1], fd, (uintptr_t)memory);
    _exit(ok ? 0 : 1);
  }
  close(ends[1]);
  int fd = receive_descriptor(ends[0], address);
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  return fd;
}

struct cts_discard {
  uintptr_t address;
  size_t length;
  pthread_t thread;
};

static void *discard(void *argument) {
  struct cts_discard *work = argument;
  madvise((void *)work->address, work->length, MADV_DONTNEED);
  return NULL;
}

struct cts_discard *cts_discard_on_thread(uintptr_t address, size_t length) {
  struct cts_discard *work = calloc(1, sizeof *work);
  if (work == NULL) abort();
  work->address = address;
  work->length = length;
  pthread_create(&work->thread, NULL, discard, work);
  return work;
}

void cts_join(struct cts_discard *work) {
  pthread_join(work->thread, NULL);
  free(work);
}

int cts_become_nobody(void) {
  if (setgroups(0, NULL) < 0 || setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0) return -errno;
  return 0;
}

int cts_execute(int descriptor, const char *first, const char *second) {
  const char *arguments[] = {"lazy-mem-demo", first, second, NULL};
  fexecve(descriptor, (char *const *)arguments, environ);
  return -errno;
}

int cts_forked(int (*body)(void *context), void *context) {
  pid_t child = fork();
  if (child < 0) return -1000 - errno;
  if (child == 0) _exit(body(context));
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void *run_without_first_thread(void *body) {
  time_t end = time(NULL) + 30;
  while (time(NULL) < end) {
    // The process shows no memory there once its first thread has none.
    char byte;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, &byte, 1) <= 0) _exit(((int (*)(void))body)());
    close(fd);
    sched_yield();
  }
  _exit(99);
}

static int leave_first_thread(void *body) {
  pthread_t thread;
  int error = pthread_create(&thread, NULL, run_without_first_thread, body);
  if (error != 0) return 98;
  // pthread_exit(3) would end the process where the thread was one of Dispatch.
  return (int)syscall(SYS_exit, 0);
}

int cts_forked_without_first_thread(int (*body)(void)) { return cts_forked(leave_first_thread, (void *)body); }

uintptr_t cts_page_of_stack(void) {
  volatile char here = 1;
  return (uintptr_t)&here & ~((uintptr_t)sysconf(_SC_PAGESIZE) - 1);
}

int cts_lock_future_memory(void) { return mlockall(MCL_FUTURE) < 0 ? -errno : 0; }

int cts_is_mapped(uintptr_t address, size_t length) {
  // MS_ASYNC does nothing but check that the whole range is mapped.
  return msync((void *)address, length, MS_ASYNC) == 0;
}

int cts_open_terminal(int *side) {
  int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  char name[128];
  if (terminal < 0 || grantpt(terminal) < 0 || unlockpt(terminal) < 0) return -errno;
  if (ptsname_r(terminal, name, sizeof name) != 0) return -errno;
  *side = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
  return *side < 0 ? -errno : terminal;
}

int cts_errno_after_read(uintptr_t address, int number) {
  errno = number;
  (void)*(volatile uint8_t *)address;
  return errno;
}

static ucontext_t back, lazy;
static int deep_result;

static __attribute__((noinline)) int deep(int level) {
  volatile uint8_t frame[1024];
  for (size_t i = 0; i < sizeof frame; i++) frame[i] = (uint8_t)(level + (int)i);
  int below = level == 0 ? 0 : deep(level - 1);
  int wrong = 0;
  for (size_t i = 0; i < sizeof frame; i++) wrong += frame[i] != (uint8_t)(level + (int)i);
  return below + wrong;
}

static void on_lazy_stack(void) { deep_result = deep(31) == 0 ? 42 : 1; }

int cts_on_lazy_stack(uintptr_t stack, size_t length) {
  static uint8_t alternate[64 << 10];
  stack_t other = {.ss_sp = alternate, .ss_size = sizeof alternate}, before;
  if (sigaltstack(&other, &before) < 0) return -errno;
  getcontext(&lazy);
  lazy.uc_stack.ss_sp = (void *)stack;
  lazy.uc_stack.ss_size = length;
  lazy.uc_link = &back;
  makecontext(&lazy, on_lazy_stack, 0);
  deep_result = 0;
  swapcontext(&back, &lazy);
  sigaltstack(&before, NULL);
  return deep_result;
}

uintptr_t cts_page_behind_end_of_file(void) {
  int fd = (int)syscall(SYS_memfd_create, "short", 1u);
  size_t length = (size_t)sysconf(_SC_PAGESIZE);
  if (fd < 0 || ftruncate(fd, (off_t)length) < 0) return 0;
  void *memory = mmap(NULL, length, PROT_READ, MAP_SHARED, fd, 0);
  if (ftruncate(fd, 0) < 0) return 0;
  close(fd);
  return memory == MAP_FAILED ? 0 : (uintptr_t)memory;
}

uintptr_t cts_foreign_page(int number) {
  if (number == SIGBUS) return cts_page_behind_end_of_file();
  void *memory = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? 0 : (uintptr_t)memory;
}

static struct sigaction taken_from;
static _Atomic int taken_count;
static int taken_chain;

static void taken_with_info(int number, siginfo_t *info, void *state) {
  taken_count++;
  if (taken_chain) {
    taken_from.sa_sigaction(number, info, state);
  } else {
    cstress_escape(100 + number);
  }
}

static void taken_plain(int number) {
  taken_count++;
  cstress_escape(100 + number);
}

int cts_take(int number, int chain, int flags_with_info) {
  struct sigaction action = {0};
  taken_chain = chain;
  if (flags_with_info) {
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    action.sa_sigaction = taken_with_info;
  } else {
    action.sa_handler = taken_plain;
  }
  return sigaction(number, &action, &taken_from) < 0 ? -errno : 0;
}

int cts_taken_count(void) { return taken_count; }

static sigset_t mask_when_taken;

static void taken_with_mask(int number) {
  pthread_sigmask(SIG_BLOCK, NULL, &mask_when_taken);
  taken_plain(number);
}

int cts_take_as(int number, enum cts_taker kind, int also_blocked) {
  struct sigaction action = {.sa_handler = taken_with_mask};
  if (kind == CTS_NODEFER) action.sa_flags = SA_NODEFER;
  if (kind == CTS_RESETHAND) action.sa_flags = (int)SA_RESETHAND;
  sigaddset(&action.sa_mask, also_blocked);
  return sigaction(number, &action, NULL) < 0 ? -errno : 0;
}

int cts_was_blocked(int number) { return sigismember(&mask_when_taken, number); }

int cts_thread_id(void) { return (int)syscall(SYS_gettid); }

void cts_end_after(unsigned seconds) {
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
  struct itimerspec time = {.it_value = {.tv_sec = seconds}};
  timer_t timer;
  if (timer_create(CLOCK_MONOTONIC, &event, &timer) < 0 || timer_settime(timer, 0, &time, NULL) < 0) abort();
}

static atomic_int signal_count;

static void count_signal(int number) {
  (void)number;
  signal_count++;
}

int cts_count_signals(int thread) {
  struct sigaction action = {.sa_handler = count_signal, .sa_flags = SA_RESTART};
  sigemptyset(&action.sa_mask);
  sigaction(SIGUSR1, &action, NULL);
  return syscall(SYS_tgkill, getpid(), thread, SIGUSR1) < 0 ? -errno : 0;
}

void cts_unblock_signals(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

int cts_signal_count(void) { return signal_count; }

struct cts_reader {
  pthread_t thread;
  uintptr_t address;
};

static void *read_until_cancelled(void *context) {
  struct cts_reader *reader = context;
  int before;
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &before);
  uint8_t value = *(volatile uint8_t *)reader->address;
  (void)value;
  return NULL;
}

struct cts_reader *cts_start_reader(uintptr_t address) {
  struct cts_reader *reader = malloc(sizeof *reader);
  reader->address = address;
  if (pthread_create(&reader->thread, NULL, read_until_cancelled, reader) != 0) abort();
  return reader;
}

int cts_cancel_and_join(struct cts_reader *reader) {
  void *result = NULL;
  pthread_cancel(reader->thread);
  pthread_join(reader->thread, &result);
  free(reader);
  return result == PTHREAD_CANCELED ? 0 : 1;
}

void cts_keep_heap(void) {
  enum { PIECES = 256, SIZE = 64 << 10 };
  static void *pieces[PIECES];
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_MMAP_THRESHOLD, 256 << 20);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  for (int i = 0; i < PIECES; i++) {
    pieces[i] = malloc(SIZE);
    if (pieces[i] != NULL) memset(pieces[i], 1, SIZE);
  }
  for (int i = 0; i < PIECES; i++) free(pieces[i]);
}

long cts_use_up_mappings(void) {
  size_t size = (size_t)sysconf(_SC_PAGESIZE);
  long count = 0;
  // Afterwards the heap cannot grow, and Swift ends the program where it gets no memory.
  cts_keep_heap();
  // Neighbouring mappings with different rights cannot be merged.
  while (mmap(NULL, size, count % 2 == 0 ? PROT_READ : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED) {
    count++;
  }
  return count;
}

int cts_lock_memory(void) { return mlockall(MCL_CURRENT) < 0 ? -errno : 0; }
