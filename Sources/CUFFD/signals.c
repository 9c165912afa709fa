#define _GNU_SOURCE
#include "cuffd_signals.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

// Code that holds the lock below writes these, and the handlers read them. Once they are set, they never change.
static _Atomic(cuffd_fault_server) server;
static _Atomic(cuffd_fault_explainer) explainer;
static _Atomic(void *) context;
static _Atomic uint64_t page_mask;

_Static_assert(CUFFD_SIGBUS == SIGBUS && CUFFD_SIGSEGV == SIGSEGV, "signals moved");
_Static_assert(sizeof(struct cuffd_signal_mask) >= sizeof(sigset_t), "a set of signals does not fit");

// The actions that our handler has replaced, the newest last: the action from before our first installation, and each
// action that the program has installed in place of our handler since then. A handler may be reading an entry, so an
// entry is written before the count includes it, and never changes afterwards.
enum { TAKEOVERS = 16 };
static struct predecessors {
  struct sigaction takeovers[TAKEOVERS];
  _Atomic bool spent[TAKEOVERS];  // whether an action with SA_RESETHAND has been called
  bool backtraces[TAKEOVERS];     // whether the action only reports where a program crashed
  _Atomic unsigned takeover_count;
} sigbus, sigsegv;

static struct predecessors *predecessors_of(int number) { return number == SIGSEGV ? &sigsegv : &sigbus; }

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

// While action `k` of the list handles a signal, the si_errno of the signal is this value plus `k`. The kernel sets
// it to 0 for a fault. A handler that has replaced ours may call ours in turn. Our handler then sees from this mark
// that it has to go on to the next older action, and the signal does not go round in circles. The mark is in the
// memory of the signal itself, so it stays right even if a handler leaves by siglongjmp.
enum { WITH_PREDECESSOR = 0x46520000 };

// The faults that this thread is answering, the latest one last. There may be several, because a provider that runs
// in the handler may touch lazy memory itself.
enum { NESTED = 16 };
struct answering {
  uint64_t page;
  uintptr_t stack;  // an address on the stack of the handler
  bool is_alternate;
};
static _Thread_local struct {
  struct answering faults[NESTED];
  unsigned count;
} answering __attribute__((tls_model("initial-exec")));

// The page that this thread has found in place when it came to answer a fault, and how many times in a row.
static _Thread_local struct {
  uint64_t page;
  unsigned count;
} repeats __attribute__((tls_model("initial-exec")));

// Adds a fault to those that this thread is answering, and returns 0. If the thread is already answering a fault of
// the same page, the answer would have to wait for itself. In this case, and if the thread is answering too many
// faults, the function adds nothing and returns the page of the latest fault.
static uint64_t begin_answer(uint64_t page, const ucontext_t *state) {
  struct answering own = {page, (uintptr_t)__builtin_frame_address(0), !(state->uc_stack.ss_flags & SS_DISABLE)};
  // This drops the faults whose handlers were left by siglongjmp. The frame of a handler that is still running lies
  // at a higher address on the same stack, or on the normal stack if this handler runs on the alternate one.
  while (answering.count > 0) {
    const struct answering *last = &answering.faults[answering.count - 1];
    bool is_live = last->is_alternate == own.is_alternate ? last->stack > own.stack : own.is_alternate;
    if (is_live) break;
    answering.count--;
  }
  for (unsigned i = 0; i < answering.count; i++) {
    if (answering.faults[i].page == page) return answering.faults[answering.count - 1].page;
  }
  if (answering.count == NESTED) return answering.faults[NESTED - 1].page;
  answering.faults[answering.count++] = own;
  return 0;
}

// Returns whether the access was a write; false if the architecture does not tell.
static bool was_write(const ucontext_t *state) {
#if defined(__x86_64__)
  return (state->uc_mcontext.gregs[REG_ERR] & 2) != 0;
#elif defined(__aarch64__)
  const struct _aarch64_ctx *record = (const struct _aarch64_ctx *)(const void *)state->uc_mcontext.__reserved;
  const char *end = (const char *)state->uc_mcontext.__reserved + sizeof state->uc_mcontext.__reserved;
  while ((const char *)record + sizeof *record <= end && record->size >= sizeof *record) {
    if (record->magic == ESR_MAGIC) return (((const struct esr_context *)(const void *)record)->esr & (1u << 6)) != 0;
    record = (const struct _aarch64_ctx *)(const void *)((const char *)record + record->size);
  }
  return false;
#else
  (void)state;
  return false;
#endif
}

// Restores the default action and raises the signal again, with its original information for the core file.
static void die(int number, siginfo_t *info) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = SIG_DFL;
  sigaction(number, &action, NULL);
  syscall(SYS_rt_tgsigqueueinfo, getpid(), (pid_t)syscall(SYS_gettid), number, info);
}

static void explain(int number, const siginfo_t *info) {
  cuffd_fault_explainer call = atomic_load(&explainer);
  if (call != NULL && info->si_code > 0) call(atomic_load(&context), number, (uint64_t)(uintptr_t)info->si_addr);
}

static void pass_on(int number, siginfo_t *info, void *state) {
  struct predecessors *own = predecessors_of(number);
  bool from_kernel = info->si_code > 0;
  int mark = info->si_errno;
  bool returned = mark >= WITH_PREDECESSOR && mark < WITH_PREDECESSOR + TAKEOVERS;
  unsigned newer = returned ? (unsigned)(mark - WITH_PREDECESSOR) : atomic_load(&own->takeover_count);
  if (newer == 0) {
    if (mark == 0) explain(number, info);
    die(number, info);
    return;
  }
  unsigned index = newer - 1;
  const struct sigaction *before = &own->takeovers[index];
  bool has_info = (before->sa_flags & SA_SIGINFO) != 0;
  if (!has_info && before->sa_handler == SIG_IGN) {
    // A fault that the kernel raises cannot be ignored. Without a handler it ends the program.
    if (!from_kernel) return;
    explain(number, info);
    die(number, info);
    return;
  }
  if ((!has_info && before->sa_handler == SIG_DFL) || atomic_load(&own->spent[index])) {
    explain(number, info);
    die(number, info);
    return;
  }
  if (own->backtraces[index]) explain(number, info);
  if ((unsigned)before->sa_flags & (unsigned)SA_RESETHAND) atomic_store(&own->spent[index], true);
  // Calls the handler as the kernel would: with its own mask, and with the signal blocked unless SA_NODEFER is set.
  sigset_t mask = before->sa_mask, outer;
  if (!(before->sa_flags & SA_NODEFER)) sigaddset(&mask, number);
  sigorset(&mask, &mask, &((const ucontext_t *)state)->uc_sigmask);
  pthread_sigmask(SIG_SETMASK, &mask, &outer);
  info->si_errno = WITH_PREDECESSOR + (int)index;
  if (has_info) {
    before->sa_sigaction(number, info, state);
  } else {
    before->sa_handler(number);
  }
  info->si_errno = mark;
  pthread_sigmask(SIG_SETMASK, &outer, NULL);
}

static void keep_faults(sigset_t *set) {
  sigdelset(set, SIGBUS);
  sigdelset(set, SIGSEGV);
  sigdelset(set, SIGILL);
  sigdelset(set, SIGFPE);
  sigdelset(set, SIGTRAP);
}

// Returns whether the cause of the signal may be a page that is not there.
static bool is_of_page(const siginfo_t *info) {
  if (info->si_errno != 0) return false;
  // BUS_ADRERR is a missing page of a userfaultfd. A poisoned page (BUS_MCEERR_AR) has been answered already.
  if (info->si_signo == SIGBUS) return info->si_code == BUS_ADRERR;
  // gVisor reports memory without access as not mapped. A general protection fault has another code and no address.
  return info->si_code == SEGV_ACCERR || info->si_code == SEGV_MAPERR;
}

static void on_fault(int number, siginfo_t *info, void *state) {
  int saved = errno;
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
  // ThreadSanitizer installs its own handler with all signals blocked, in spite of SA_NODEFER.
  sigset_t faults;
  sigemptyset(&faults);
  sigaddset(&faults, SIGBUS);
  sigaddset(&faults, SIGSEGV);
  sigaddset(&faults, SIGILL);
  sigaddset(&faults, SIGFPE);
  sigaddset(&faults, SIGTRAP);
  pthread_sigmask(SIG_UNBLOCK, &faults, NULL);
#endif
#endif
  bool served = false;
  if (is_of_page(info)) {
    cuffd_fault_server call = atomic_load(&server);
    if (call != NULL) {
      uint64_t address = (uint64_t)(uintptr_t)info->si_addr;
      uint64_t outer = begin_answer(address & atomic_load(&page_mask), state);
      // `begin_answer` may have dropped faults, so the count from before that call would be wrong here.
      unsigned own = answering.count;
      served = call(atomic_load(&context), number, address, was_write(state), outer);
      answering.count = outer == 0 ? own - 1 : own;
    }
  }
  errno = saved;
  if (!served) pass_on(number, info, state);
  errno = saved;
}

// Returns whether an action is the handler of Swift's runtime, which only reports where the program crashed.
static bool is_backtracer(const struct sigaction *action) {
  Dl_info info;
  const void *handler = (action->sa_flags & SA_SIGINFO) != 0 ? (const void *)action->sa_sigaction
                                                             : (const void *)action->sa_handler;
  return handler != NULL && dladdr(handler, &info) != 0 && info.dli_fname != NULL &&
         strstr(info.dli_fname, "libswiftCore.so") != NULL;
}

int cuffd_signal_install(
    int number, cuffd_fault_server new_server, cuffd_fault_explainer new_explainer, void *new_context) {
  struct predecessors *own = predecessors_of(number);
  struct sigaction action, current;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = on_fault;
  // SA_NODEFER: a provider may touch other lazy memory. SA_ONSTACK: the stack of the thread may be lazy memory, and
  // the thread may have an alternate stack for this case.
  action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  // While a fault is answered, all signals except those of faults are blocked.
  sigfillset(&action.sa_mask);
  keep_faults(&action.sa_mask);

  int result = 0;
  pthread_mutex_lock(&lock);
  atomic_store(&page_mask, ~((uint64_t)sysconf(_SC_PAGESIZE) - 1));
  atomic_store(&context, new_context);
  atomic_store(&explainer, new_explainer);
  atomic_store(&server, new_server);
  if (sigaction(number, NULL, &current) < 0) {
    result = -errno;
  } else if (!(current.sa_flags & SA_SIGINFO) || current.sa_sigaction != on_fault) {
    unsigned count = atomic_load(&own->takeover_count);
    // The program may replace our handler with the same handler again and again, for which one entry is enough.
    bool known = count > 0 && own->takeovers[count - 1].sa_sigaction == current.sa_sigaction;
    if (!known && count == TAKEOVERS) {
      result = -EBUSY;
    } else {
      if (!known) {
        own->takeovers[count] = current;
        own->backtraces[count] = is_backtracer(&current);
        atomic_store(&own->takeover_count, count + 1);
      }
      if (sigaction(number, &action, NULL) < 0) result = -errno;
    }
  }
  pthread_mutex_unlock(&lock);
  return result;
}

unsigned cuffd_signal_repeats(uint64_t page) {
  repeats.count = repeats.page == page ? repeats.count + 1 : 1;
  repeats.page = page;
  return repeats.count;
}

void cuffd_signals_hold(struct cuffd_signal_mask *before) {
  sigset_t all, outer;
  sigfillset(&all);
  keep_faults(&all);
  pthread_sigmask(SIG_BLOCK, &all, &outer);
  memcpy(before, &outer, sizeof outer);
}

void cuffd_signals_release(const struct cuffd_signal_mask *before) {
  sigset_t outer;
  memcpy(&outer, before, sizeof outer);
  pthread_sigmask(SIG_SETMASK, &outer, NULL);
}
