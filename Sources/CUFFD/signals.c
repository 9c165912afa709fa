#define _GNU_SOURCE
#include "fault_signals.h"
#include "signal_internal.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

// Code that holds the lock below writes these, and the handlers read them. Once they are set, they never change.
static _Atomic(bool (*)(void *, const struct cuffd_fault *)) serve;
static _Atomic(void (*)(void *, const void *, const struct cuffd_loan *, unsigned)) let_go;
static _Atomic(void *) context;
static _Atomic uint64_t page_mask;

_Static_assert(CUFFD_SIGBUS == SIGBUS && CUFFD_SIGSEGV == SIGSEGV, "signals moved");
_Static_assert(sizeof(((struct cuffd_signal_mask *)0)->words) >= sizeof(sigset_t), "a set of signals does not fit");

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool is_prepared;

// The page that this thread has found in place when it came to answer a fault, and how many times in a row.
static CUFFD_THREAD_LOCAL struct {
  uint64_t page;
  unsigned count;
} repeats;

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

// Returns whether the signal came without information about the fault, although the registers say that it is a fault.
// This happens if the program has put our handler back with signal(2), which does not know SA_SIGINFO.
static bool lacks_information(int number, const siginfo_t *info, const ucontext_t *state) {
#if defined(__x86_64__)
  enum { PAGE_FAULT = 14 };
  if (state->uc_mcontext.gregs[REG_TRAPNO] != PAGE_FAULT) return false;
  // The registers keep the numbers of an earlier fault, so a signal that was sent says so by its code.
  if (info->si_signo == number && info->si_code <= 0) return false;
  return info->si_signo != number || (uintptr_t)info->si_addr != (uintptr_t)state->uc_mcontext.gregs[REG_CR2];
#else
  (void)state;
  return info->si_signo != number;
#endif
}

void cuffd_let_go(const void *region, const struct cuffd_loan *loans, unsigned loan_count) {
  atomic_load(&let_go)(atomic_load(&context), region, loans, loan_count);
}

static void add_cancellation(sigset_t *set) {
  uint64_t word;
  memcpy(&word, set, sizeof word);
  word |= (uint64_t)1 << (CUFFD_CANCELLATION_SIGNAL - 1);
  memcpy(set, &word, sizeof word);
}

// The action that all links share. While a fault is answered, all signals except those of faults are blocked.
struct sigaction cuffd_complete_action(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  // SA_NODEFER: a provider may touch other lazy memory. SA_ONSTACK: the stack of the thread may be lazy memory, and
  // the thread may have an alternate stack for this case.
  action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  sigfillset(&action.sa_mask);
  cuffd_keep_fault_signals(&action.sa_mask);
  // sigfillset(3) leaves out the two signals of the C library. The first one cancels threads, and a thread that is
  // cancelled in the middle of an answer would never let go of what it holds. The second one has to arrive: setuid(2)
  // waits until every thread has handled it.
  add_cancellation(&action.sa_mask);
  return action;
}

// Returns whether the cause of the signal may be a page that is not there.
static bool is_of_page(const siginfo_t *info) {
  // BUS_ADRERR is a missing page of a userfaultfd. A poisoned page (BUS_MCEERR_AR) has been answered already.
  if (info->si_signo == SIGBUS) return info->si_code == BUS_ADRERR;
  // gVisor reports memory without access as not mapped. A general protection fault has another code and no address.
  return info->si_code == SEGV_ACCERR || info->si_code == SEGV_MAPERR;
}

static bool serve_fault(int number, const siginfo_t *info, const ucontext_t *state, const struct cuffd_place *now) {
  bool (*call)(void *, const struct cuffd_fault *) = atomic_load(&serve);
  if (call == NULL) return false;
  struct cuffd_fault fault = {
      .number = number,
      .is_write = was_write(state),
      .address = (uint64_t)(uintptr_t)info->si_addr,
      .stack_room = cuffd_room_at(now, now->frame)};
  fault.answer = cuffd_answer_begin(fault.address & atomic_load(&page_mask), now, &fault);
  bool is_served = call(atomic_load(&context), &fault);
  if (fault.answer != NULL) cuffd_answer_end(fault.answer);
  return is_served;
}

// What the handler and the way to the handlers before it take below the frame of the handler, in a debug build too.
enum { OWN_ROOM = 3072 };

static uintptr_t stack_pointer(const ucontext_t *state) {
#if defined(__x86_64__)
  return (uintptr_t)state->uc_mcontext.gregs[REG_RSP];
#else
  return (uintptr_t)state->uc_mcontext.sp;
#endif
}

void cuffd_on_fault(unsigned link, int number, siginfo_t *info, void *state) {
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
  const ucontext_t *registers = state;
  if (lacks_information(number, info, registers) && cuffd_chain_repair(link, number)) {
    // The access is repeated, and its signal then comes with all information.
    errno = saved;
    return;
  }
  struct cuffd_place now = cuffd_place_of((uintptr_t)__builtin_frame_address(0), &registers->uc_stack);
  if (now.low == 0) cuffd_place_complete(&now, stack_pointer(registers));
  if (cuffd_room_at(&now, now.frame) < OWN_ROOM) cuffd_end_without_stack();
  // A handler to which this signal was passed on may call us in turn. The page was asked for before.
  bool is_repeated = info->si_errno != 0 && cuffd_is_passed_on(info);
  bool is_served = is_of_page(info) && !is_repeated && serve_fault(number, info, registers, &now);
  errno = saved;
  if (!is_served) cuffd_pass_on(link, number, info, state);
  errno = saved;
}

// Most programs are linked lazily: the first call of a function looks it up, and saves all registers on the stack
// meanwhile. That takes more than 3 KiB where the CPU has AVX-512, and a small alternate stack does not have them. So
// what a handler calls before it looks for more room is called once here.
static void bind_calls(int number, const struct cuffd_fault_calls *calls) {
  cuffd_chain_bind();
  // No region is at address 0.
  struct cuffd_fault none = {.number = number, .stack_room = UINT64_MAX};
  calls->serve(calls->context, &none);
}

int cuffd_signal_install(int number, const struct cuffd_fault_calls *calls) {
  pthread_mutex_lock(&lock);
  int result = is_prepared ? 0 : cuffd_answers_prepare();
  if (!is_prepared) bind_calls(number, calls);
  if (result == 0) {
    is_prepared = true;
    atomic_store(&page_mask, ~((uint64_t)sysconf(_SC_PAGESIZE) - 1));
    atomic_store(&context, calls->context);
    atomic_store(&let_go, calls->let_go);
    atomic_store(&serve, calls->serve);
    result = cuffd_chain_install(number);
  }
  pthread_mutex_unlock(&lock);
  return result;
}

void cuffd_signals_lock_for_fork(void) { pthread_mutex_lock(&lock); }

void cuffd_signals_unlock_after_fork(void) { pthread_mutex_unlock(&lock); }

unsigned cuffd_signal_repeats(uint64_t page) {
  repeats.count = repeats.page == page ? repeats.count + 1 : 1;
  repeats.page = page;
  return repeats.count;
}

// The signals that are held: all but those of faults.
static sigset_t held_signals(void) {
  sigset_t all;
  sigfillset(&all);
  cuffd_keep_fault_signals(&all);
  add_cancellation(&all);
  return all;
}

void cuffd_signals_hold(struct cuffd_signal_mask *before) {
  sigset_t all = held_signals(), outer;
  before->cancellation = cuffd_cancellation_off();
  cuffd_change_mask(SIG_BLOCK, &all, &outer);
  memcpy(before->words, &outer, sizeof outer);
}

void cuffd_signals_release_added(const struct cuffd_signal_mask *before) {
  sigset_t added = held_signals(), outer;
  memcpy(&outer, before->words, sizeof outer);
  for (int number = 1; number < NSIG; number++) {
    if (sigismember(&outer, number) == 1) sigdelset(&added, number);
  }
  cuffd_cancellation_restore(before->cancellation);
  cuffd_change_mask(SIG_UNBLOCK, &added, NULL);
}

void cuffd_signals_release(const struct cuffd_signal_mask *before) {
  sigset_t outer;
  memcpy(&outer, before->words, sizeof outer);
  // The state comes first, because a cancellation that waits takes place where the signal is unblocked.
  cuffd_cancellation_restore(before->cancellation);
  cuffd_change_mask(SIG_SETMASK, &outer, NULL);
}
