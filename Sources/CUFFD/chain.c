#define _GNU_SOURCE
#include "signal_internal.h"

#include "cuffd_last_words.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// The chain of the actions that our handler has replaced. Link 0 has the action from before our first installation,
// and each further link has one that the program has installed in place of our handler since then. Every link has a
// handler function of its own, which passes signals on to the action of that link. So a handler of the program that
// puts back what it has replaced, or that calls it, reaches the handlers that are older than itself, and never itself.
enum { LINKS = 32 };

struct replaced {
  struct sigaction action;
  bool backtraces;  // whether the action only reports where a program crashed
  // What the link had before. It is kept, because a handler may still be reading it, and a search for leaks finds it.
  const struct replaced *before;
};

static struct chain {
  // A handler may be reading an action, so an action never changes, and is never freed.
  _Atomic(struct replaced *) links[LINKS];
  _Atomic bool spent[LINKS];  // whether an action with SA_RESETHAND has been called
  _Atomic unsigned count;
  unsigned overwritten;  // the link that was used again last
} sigbus, sigsegv;

static struct chain *chain_of(int number) { return number == SIGSEGV ? &sigsegv : &sigbus; }

#define ENTRY(k) \
  static void entry_##k(int number, siginfo_t *info, void *state) { cuffd_on_fault(k, number, info, state); }
#define EIGHT(F, k) F(k##0) F(k##1) F(k##2) F(k##3) F(k##4) F(k##5) F(k##6) F(k##7)
// The numbers are octal.
EIGHT(ENTRY, 0) EIGHT(ENTRY, 01) EIGHT(ENTRY, 02) EIGHT(ENTRY, 03)
#define NAME(k) entry_##k,
static void (*const entries[LINKS])(int, siginfo_t *, void *) = {
    EIGHT(NAME, 0) EIGHT(NAME, 01) EIGHT(NAME, 02) EIGHT(NAME, 03)};

// Returns the link whose handler an action has, or LINKS if the action is not ours.
static unsigned link_of(const struct sigaction *action) {
  unsigned link = 0;
  while (link < LINKS && action->sa_sigaction != entries[link]) link++;
  return link;
}

// While the action of link `k` handles a signal, the si_errno of the signal is this value plus `k`. The kernel sets
// it to 0. A handler to which we have passed the signal on may call ours in turn. This mark tells ours to go on to the
// older links, so the signal does not go round in circles. The mark is in the memory of the signal itself, and a
// handler that leaves by siglongjmp leaves no mark on the thread.
enum { WITH_LINK = 0x46520000 };

bool cuffd_is_passed_on(const siginfo_t *info) {
  return info->si_errno >= WITH_LINK && info->si_errno < WITH_LINK + LINKS;
}

// How often in a row a handler has left its signal pending when it returned, and since when. A handler that raises its
// signal again each time would get it for ever. A signal that another thread has sent meanwhile looks the same, so only
// a row that no program means is ended: the older links get the signal then.
enum { MOST_RAISES = 1000 };
static const uint64_t RAISING_NANOSECONDS = 1000000000, RAISING_PAUSE_NANOSECONDS = 10000000000;
static CUFFD_THREAD_LOCAL struct {
  uint64_t since, latest;
  unsigned count;
  unsigned skipped;  // how many links are passed over
} raised;

static uint64_t monotonic_time(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void forget_raises(void) { raised.count = raised.skipped = 0; }

// Notes whether the signal is pending now that a handler for it has returned, and returns that.
static bool note_return(int number) {
  sigset_t pending;
  if (sigpending(&pending) != 0 || sigismember(&pending, number) != 1) {
    forget_raises();
    return false;
  }
  uint64_t now = monotonic_time();
  if (raised.count++ == 0) raised.since = now;
  raised.latest = now;
  if (raised.count <= MOST_RAISES || now - raised.since < RAISING_NANOSECONDS) return true;
  raised.count = 0;
  raised.skipped++;
  return true;
}

// Returns how many links a signal that is not a fault passes over.
static unsigned links_passed_over(void) {
  // A handler may have ended the row without a return, by siglongjmp.
  if (raised.skipped > 0 && monotonic_time() - raised.latest > RAISING_PAUSE_NANOSECONDS) forget_raises();
  return raised.skipped;
}

// The latest fault that this thread has passed on. A handler that neither mends the cause nor puts another handler in
// its place gets the same fault again at once, and would get it for ever.
enum { MOST_REPEATS = 500, REPEAT_NANOSECONDS = 1000000000 };
static CUFFD_THREAD_LOCAL struct {
  uintptr_t address, instruction;
  uint64_t registers;  // a hash
  uint64_t time;
  unsigned count;
  unsigned skipped;  // how many links are passed over, because their handlers have mended nothing
} repeated;

static uint64_t hash_of(const void *bytes, size_t count) {
  const uint64_t *words = bytes;
  uint64_t hash = 0;
  for (size_t i = 0; i < count / sizeof *words; i++) hash = (hash ^ words[i]) * 0x9E3779B97F4A7C15u + i;
  return hash;
}

// Returns how many links are to be passed over for a fault, because their handlers got it again and again.
static unsigned skipped_links(const siginfo_t *info, const ucontext_t *state) {
#if defined(__x86_64__)
  uintptr_t instruction = (uintptr_t)state->uc_mcontext.gregs[REG_RIP];
  uint64_t registers = hash_of(state->uc_mcontext.gregs, sizeof state->uc_mcontext.gregs);
#else
  uintptr_t instruction = (uintptr_t)state->uc_mcontext.pc;
  uint64_t registers = hash_of(state->uc_mcontext.regs, sizeof state->uc_mcontext.regs) ^ state->uc_mcontext.sp;
#endif
  uint64_t time = monotonic_time();
  bool is_same = repeated.address == (uintptr_t)info->si_addr && repeated.instruction == instruction &&
                 repeated.registers == registers && time - repeated.time < REPEAT_NANOSECONDS;
  if (!is_same) repeated.skipped = 0;
  repeated.count = is_same ? repeated.count + 1 : 1;
  repeated.address = (uintptr_t)info->si_addr;
  repeated.instruction = instruction;
  repeated.registers = registers;
  repeated.time = time;
  if (repeated.count > MOST_REPEATS) {
    repeated.count = 1;
    repeated.skipped++;
  }
  return repeated.skipped;
}

void cuffd_chain_bind(void) {
  sigset_t set, pending;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigorset(&set, &set, &set);
  if (sigismember(&set, SIGUSR1) == 1) (void)monotonic_time();
  pthread_sigmask(SIG_BLOCK, NULL, &set);
  sigpending(&pending);
  raise(0);
}

// Has a thread of the runtime write what is known of the page that the signal is about.
static void explain(int number, const siginfo_t *info) {
  if (info->si_code > 0) cuffd_last_words(number, (uint64_t)(uintptr_t)info->si_addr);
}

// Ends the program by the default action. The signal keeps its original information for the core file.
static void die(int number, siginfo_t *info) {
  bool is_fault = info->si_code > 0;
  pid_t process = (pid_t)syscall(SYS_getpid);
  // The kernel ignores a signal without a handler if it was sent to the first process of a PID namespace. Our handler
  // stays, because other threads need it. Only a fault ends such a process.
  if (!is_fault && process == 1) return;
  explain(number, info);
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = SIG_DFL;
  sigaction(number, &action, NULL);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, number);
  pthread_sigmask(SIG_UNBLOCK, &set, NULL);
  if (syscall(SYS_rt_tgsigqueueinfo, process, (pid_t)syscall(SYS_gettid), number, info) == 0 || is_fault) return;
  // A sandbox forbids the call.
  raise(number);
}

void cuffd_pass_on(unsigned link, int number, siginfo_t *info, void *state) {
  struct chain *own = chain_of(number);
  const ucontext_t *context = state;
  bool is_fault = info->si_code > 0;
  int mark = info->si_errno;
  // The links below `newer` are older than the handlers that have had this signal.
  unsigned newer = link + 1, others = newer;
  if (cuffd_is_passed_on(info)) {
    others = (unsigned)(mark - WITH_LINK);
  } else {
    unsigned skipped = is_fault ? skipped_links(info, context) : links_passed_over();
    others = skipped < newer ? newer - skipped : 0;
  }
  if (others < newer) newer = others;
  if (newer == 0) {
    forget_raises();
    die(number, info);
    return;
  }
  unsigned index = newer - 1;
  const struct replaced *before = atomic_load(&own->links[index]);
  bool has_info = (before->action.sa_flags & SA_SIGINFO) != 0;
  // A fault that the kernel raises cannot be ignored. Without a handler it ends the program.
  if (!has_info && before->action.sa_handler == SIG_IGN && !is_fault) {
    forget_raises();
    return;
  }
  bool is_none = !has_info && (before->action.sa_handler == SIG_DFL || before->action.sa_handler == SIG_IGN);
  if (is_none || atomic_load(&own->spent[index])) {
    forget_raises();
    die(number, info);
    return;
  }
  if (before->backtraces) explain(number, info);
  if ((unsigned)before->action.sa_flags & (unsigned)SA_RESETHAND) atomic_store(&own->spent[index], true);
  // Calls the handler as the kernel would: with its own mask, with the signal blocked unless SA_NODEFER is set, and
  // with the cancellation of the thread as it was where the thread faulted.
  sigset_t mask = before->action.sa_mask, outer;
  if (!(before->action.sa_flags & SA_NODEFER)) sigaddset(&mask, number);
  sigorset(&mask, &mask, &context->uc_sigmask);
  int cancellation = cuffd_cancellation_off();
  cuffd_change_mask(SIG_SETMASK, &mask, &outer);
  cuffd_cancellation_restore(cuffd_cancellation_outside(cancellation));
  info->si_errno = WITH_LINK + (int)index;
  if (has_info) {
    before->action.sa_sigaction(number, info, state);
  } else {
    before->action.sa_handler(number);
  }
  info->si_errno = mark;
  // A signal that is pending comes when our handler has returned, and not on top of this frame.
  if (note_return(number)) sigaddset(&outer, number);
  cuffd_change_mask(SIG_SETMASK, &outer, NULL);
  cuffd_cancellation_restore(cancellation);
}

// Returns whether an action is the handler of Swift's runtime, which only reports where the program crashed.
static bool is_backtracer(const struct sigaction *action) {
  Dl_info info;
  const void *handler = (action->sa_flags & SA_SIGINFO) != 0 ? (const void *)action->sa_sigaction
                                                             : (const void *)action->sa_handler;
  return handler != NULL && dladdr(handler, &info) != 0 && info.dli_fname != NULL &&
         strstr(info.dli_fname, "libswiftCore.so") != NULL;
}

bool cuffd_chain_repair(unsigned link, int number) {
  struct sigaction current, ours = cuffd_complete_action();
  if (sigaction(number, NULL, &current) < 0 || current.sa_sigaction != entries[link]) return false;
  if (current.sa_flags & SA_SIGINFO) return false;
  ours.sa_sigaction = entries[link];
  return sigaction(number, &ours, NULL) == 0;
}

static bool is_same_action(const struct sigaction *one, const struct sigaction *other) {
  enum { RESTORER = 0x04000000 };  // SA_RESTORER, which the C library sets
  // The kernel's sets of signals have 64 bits.
  return one->sa_sigaction == other->sa_sigaction && ((one->sa_flags ^ other->sa_flags) & ~RESTORER) == 0 &&
         memcmp(&one->sa_mask, &other->sa_mask, sizeof(uint64_t)) == 0;
}

// Returns the link for an action that is to be replaced: one that has the same action already, a new one, or, if there
// are none left, one that is used again. Returns -ENOMEM if there is no memory.
static int link_for(struct chain *own, const struct sigaction *action) {
  unsigned count = atomic_load(&own->count), link = 0;
  while (link < count && !is_same_action(&atomic_load(&own->links[link])->action, action)) link++;
  if (link == count) {
    struct replaced *added = malloc(sizeof *added);
    if (added == NULL) return -ENOMEM;
    if (count == LINKS) {
      // The first link stays: it has what the process began with.
      own->overwritten = own->overwritten % (LINKS - 1) + 1;
      link = own->overwritten;
    }
    *added = (struct replaced){
        *action, is_backtracer(action), link == count ? NULL : atomic_load(&own->links[link])};
    atomic_store(&own->links[link], added);
    if (link == count) atomic_store(&own->count, count + 1);
  }
  // An action with SA_RESETHAND that is installed again can be called once more.
  atomic_store(&own->spent[link], false);
  return (int)link;
}

int cuffd_chain_install(int number) {
  struct chain *own = chain_of(number);
  struct sigaction current, ours = cuffd_complete_action(), replaced;
  if (sigaction(number, NULL, &current) < 0) return -errno;
  while (true) {
    unsigned held = link_of(&current);
    int link = held < LINKS ? (int)held : link_for(own, &current);
    if (link < 0) return link;
    ours.sa_sigaction = entries[link];
    if (held < LINKS && is_same_action(&current, &ours)) return 0;
    if (sigaction(number, &ours, &replaced) < 0) return -errno;
    // Another thread may have installed a handler in between.
    if (is_same_action(&replaced, &current)) return 0;
    current = replaced;
  }
}
