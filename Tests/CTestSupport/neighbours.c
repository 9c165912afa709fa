#define _GNU_SOURCE
#include "CTestNeighbours.h"
#include "CTestSupport.h"

#include "CStressSupport.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct sigaction replaced;
static enum cts_reporter reporter;
static atomic_int reports;
static int most_reports;

static void report(int number, siginfo_t *info, void *state) {
  (void)info;
  (void)state;
  if (++reports > most_reports) _exit(99);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, number);
  switch (reporter) {
  case CTS_RESTORES: sigaction(number, &replaced, NULL); break;
  case CTS_RAISES:
    sigaction(number, &replaced, NULL);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    raise(number);
    break;
  case CTS_RAISES_BLOCKED: raise(number); break;
  case CTS_RAISES_TO_LIMIT:
    if (reports < most_reports) raise(number);
    break;
  case CTS_ONLY_RETURNS: break;
  case CTS_RESTORES_HANDLER: signal(number, (void (*)(int))(void (*)(void))replaced.sa_sigaction); break;
  }
}

int cts_report_crashes(int number, enum cts_reporter kind, int limit) {
  reporter = kind;
  most_reports = limit;
  struct sigaction action = {.sa_flags = SA_SIGINFO | SA_ONSTACK};
  action.sa_sigaction = report;
  return sigaction(number, &action, &replaced) < 0 ? -errno : 0;
}

int cts_report_count(void) { return reports; }

static void ignore_signal(int number) { (void)number; }

int cts_take_variant(int number, int variant) {
  struct sigaction action = {.sa_handler = ignore_signal};
  for (int also = 0; also < variant; also++) sigaddset(&action.sa_mask, SIGRTMIN - 32 + also % 20 + 10);
  // The flags tell variants apart whose masks are the same.
  if (variant & 1) action.sa_flags |= SA_RESTART;
  if (variant & 2) action.sa_flags |= SA_NODEFER;
  if (variant & 4) action.sa_flags |= SA_NOCLDSTOP;
  if (variant & 8) action.sa_flags |= SA_ONSTACK;
  if (variant & 16) action.sa_flags |= SA_NOCLDWAIT;
  return sigaction(number, &action, NULL) < 0 ? -errno : 0;
}

static bool is_alarm_blocked(void) {
  sigset_t now;
  return pthread_sigmask(SIG_BLOCK, NULL, &now) == 0 && sigismember(&now, SIGALRM) == 1;
}

static bool was_blocked;

static void note_mask(void) { was_blocked = is_alarm_blocked(); }

// The handlers that are installed later run earlier.
void cts_watch_forks(void) { pthread_atfork(note_mask, NULL, NULL); }

bool cts_fork_holds_signals(void) {
  // The threads of Swift's tests block it.
  sigset_t alarm;
  sigemptyset(&alarm);
  sigaddset(&alarm, SIGALRM);
  pthread_sigmask(SIG_UNBLOCK, &alarm, NULL);
  was_blocked = false;
  pid_t child = fork();
  if (child < 0) return false;
  if (child == 0) _exit(was_blocked && !is_alarm_blocked() ? 0 : 1);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return was_blocked && !is_alarm_blocked() && status == 0;
}

uint8_t cts_load(uintptr_t address) { return *(volatile uint8_t *)address; }

struct cts_walker {
  pthread_t thread;
  uintptr_t address;
  size_t length;
  bool is_asynchronous;
  atomic_bool may_go;
  atomic_size_t done;
};

static void *walk(void *context) {
  struct cts_walker *walker = context;
  int before;
  if (walker->is_asynchronous) pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &before);
  while (!walker->may_go) {
  }
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  for (size_t at = 0; at < walker->length; at += page) {
    cts_load(walker->address + at);
    walker->done++;
  }
  return walker;
}

struct cts_walker *cts_start_walker(uintptr_t address, size_t length, bool is_asynchronous) {
  struct cts_walker *walker = calloc(1, sizeof *walker);
  walker->address = address;
  walker->length = length;
  walker->is_asynchronous = is_asynchronous;
  if (pthread_create(&walker->thread, NULL, walk, walker) != 0) abort();
  return walker;
}

long cts_cancel_walker(struct cts_walker *walker, size_t pages) {
  if (pages == 0) {
    pthread_cancel(walker->thread);
    walker->may_go = true;
  } else {
    walker->may_go = true;
    while (walker->done < pages) {
    }
    pthread_cancel(walker->thread);
  }
  void *result = NULL;
  pthread_join(walker->thread, &result);
  long done = result == PTHREAD_CANCELED || result == walker ? (long)walker->done : -1;
  free(walker);
  return done;
}

static uintptr_t touched;
static size_t touched_pages, touched_page_size;
static atomic_long touches, mistakes;
static timer_t touch_timer;

static void touch_next(int number) {
  (void)number;
  int saved = errno;
  size_t page = (size_t)(touches++) % touched_pages;
  if (cts_load(touched + page * touched_page_size) != page % 251 + 1) mistakes++;
  errno = saved;
}

int cts_touch_by_timer(uintptr_t address, size_t length, unsigned microseconds) {
  if (microseconds == 0) return timer_delete(touch_timer) < 0 ? -errno : 0;
  touched = address;
  touched_page_size = (size_t)sysconf(_SC_PAGESIZE);
  touched_pages = length / touched_page_size;
  struct sigaction action = {.sa_handler = touch_next, .sa_flags = SA_RESTART};
  if (sigaction(SIGPROF, &action, NULL) < 0) return -errno;
  struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGPROF};
  event._sigev_un._tid = cts_thread_id();
  if (timer_create(CLOCK_MONOTONIC, &event, &touch_timer) < 0) return -errno;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGPROF);
  pthread_sigmask(SIG_UNBLOCK, &set, NULL);
  struct timespec period = {.tv_sec = microseconds / 1000000, .tv_nsec = (long)(microseconds % 1000000) * 1000};
  struct itimerspec times = {period, period};
  return timer_settime(touch_timer, 0, &times, NULL) < 0 ? -errno : 0;
}

long cts_timer_touches(void) { return touches; }
long cts_timer_mistakes(void) { return mistakes; }

int cts_read_in_vfork(uintptr_t address) {
  static volatile int value;
  value = -1;
  pid_t child = vfork();
  if (child == 0) {
    value = cts_load(address);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? -WTERMSIG(status) : value;
}

int cts_as_first_process(int (*body)(void *context), void *context) {
  if (unshare(CLONE_NEWPID) < 0) return -1000 - errno;
  // The kernel lets only a process outside of the namespace kill its first one.
  return cstress_fork_and_run(body, context, 60);
}

enum { BELOW = 64 << 10, FILLING = 0xA5 };

struct stack_user {
  size_t size;
  bool is_disarmed;
  uintptr_t address;
  size_t overwritten;
  int result;
};

static void *use_stack(void *argument) {
  struct stack_user *user = argument;
  size_t total = BELOW + user->size;
  unsigned char *memory = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  user->result = -1000 - errno;
  if (memory == MAP_FAILED) return NULL;
  memset(memory, FILLING, total);
  enum { AUTODISARM = (int)(1U << 31) };  // older headers do not have it
  stack_t stack = {
      .ss_sp = memory + BELOW, .ss_size = user->size, .ss_flags = user->is_disarmed ? AUTODISARM : 0};
  if (sigaltstack(&stack, NULL) == 0) {
    uint8_t byte = 0;
    int number = cstress_read(user->address, &byte, 1);
    user->result = number == 0 ? byte : -number;
    stack.ss_flags = SS_DISABLE;
    sigaltstack(&stack, NULL);
    for (size_t i = 0; i < BELOW; i++) user->overwritten += memory[i] != FILLING;
  } else {
    user->result = -1000 - errno;
  }
  munmap(memory, total);
  return NULL;
}

int cts_read_with_stack(size_t size, bool is_disarmed, uintptr_t address, size_t *overwritten) {
  struct stack_user user = {.size = size, .is_disarmed = is_disarmed, .address = address};
  pthread_t thread;
  int error = pthread_create(&thread, NULL, use_stack, &user);
  if (error != 0) return -1000 - error;
  pthread_join(thread, NULL);
  *overwritten = user.overwritten;
  return user.result;
}

static uintptr_t frame_of_handler;

static void note_frame(int number) {
  (void)number;
  frame_of_handler = (uintptr_t)__builtin_frame_address(0);
}

size_t cts_signal_frame(void) {
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  static unsigned char memory[64 << 10];
  pthread_mutex_lock(&lock);
  stack_t stack = {.ss_sp = memory, .ss_size = sizeof memory}, before;
  struct sigaction action = {.sa_handler = note_frame, .sa_flags = SA_ONSTACK}, action_before;
  sigset_t set, set_before;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  if (sigaltstack(&stack, &before) < 0 || sigaction(SIGUSR2, &action, &action_before) < 0) abort();
  pthread_sigmask(SIG_UNBLOCK, &set, &set_before);
  raise(SIGUSR2);
  pthread_sigmask(SIG_SETMASK, &set_before, NULL);
  sigaction(SIGUSR2, &action_before, NULL);
  before.ss_flags &= SS_DISABLE;
  sigaltstack(&before, NULL);
  size_t size = (size_t)((uintptr_t)memory + sizeof memory - frame_of_handler);
  pthread_mutex_unlock(&lock);
  return size;
}

void cts_exit_in_handler(int number) {
  (void)number;
  syscall(SYS_exit_group, 42);
}

static void *use_guarded_stack(void *argument) {
  struct stack_user *user = argument;
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  unsigned char *memory =
      mmap(NULL, page + user->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  user->result = -1000 - errno;
  if (memory == MAP_FAILED) return NULL;
  stack_t stack = {.ss_sp = memory + page, .ss_size = user->size};
  if (mprotect(memory, page, PROT_NONE) < 0 || sigaltstack(&stack, NULL) < 0) {
    user->result = -1000 - errno;
    return NULL;
  }
  user->result = cts_load(user->address);
  return NULL;
}

int cts_read_above_guard(size_t size, uintptr_t address) {
  struct stack_user user = {.size = size, .address = address};
  pthread_t thread;
  int error = pthread_create(&thread, NULL, use_guarded_stack, &user);
  if (error != 0) return -1000 - error;
  pthread_join(thread, NULL);
  return user.result;
}

void cts_with_disarmed_stack(void (*body)(void *context), void *context) {
  // The stack is right above the frames that `body` gets.
  unsigned char memory[128 << 10];
  enum { AUTODISARM = (int)(1U << 31) };  // older headers do not have it
  stack_t stack = {.ss_sp = memory, .ss_size = sizeof memory, .ss_flags = AUTODISARM}, before;
  if (sigaltstack(&stack, &before) < 0) abort();
  body(context);
  before.ss_flags &= SS_DISABLE;
  sigaltstack(&before, NULL);
}

uint8_t cts_load_deep(uintptr_t address) {
  volatile unsigned char used[40 << 10];
  used[0] = 1;
  uint8_t byte = cts_load(address);
  return used[0] == 1 ? byte : 0;
}

static _Thread_local sigjmp_buf back;

int cts_load_until_jump(uintptr_t address) { return sigsetjmp(back, 1) == 0 ? cts_load(address) : -1; }

void cts_jump_back(void) { siglongjmp(back, 1); }

static struct sigaction former;
static uintptr_t touched_after;
static volatile int after_former = -1;

static void call_former(int number, siginfo_t *info, void *context) {
  former.sa_sigaction(number, info, context);
  after_former = cts_load(touched_after);
}

int cts_touch_after_former(int number, uintptr_t address) {
  touched_after = address;
  struct sigaction action = {.sa_sigaction = call_former, .sa_flags = SA_SIGINFO | SA_NODEFER};
  return sigaction(number, &action, &former) < 0 ? -errno : 0;
}

int cts_touched_after_former(void) { return after_former; }

int cts_map_behind_end_of_file(uintptr_t address) {
  int fd = memfd_create("empty", MFD_CLOEXEC);
  if (fd < 0) return -errno;
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  void *mapped = mmap((void *)address, page, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);
  int error = errno;
  close(fd);
  return mapped == MAP_FAILED ? -error : 0;
}
