// What the files about signals share: signals.c (the handler), chain.c (the handlers of others) and answering.c (the
// faults that a thread is answering).
#ifndef CUFFD_SIGNAL_INTERNAL_H
#define CUFFD_SIGNAL_INTERNAL_H

#include "cuffd_signals.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

// Signal handlers read these variables, so their storage must not be allocated at the first access.
#define CUFFD_THREAD_LOCAL _Thread_local __attribute__((tls_model("initial-exec")))

// The signal by which the C library cancels threads. Its functions leave this signal out of every mask.
#define CUFFD_CANCELLATION_SIGNAL 32

// Changes the mask of the calling thread without the C library, which would unblock the signal above.
static inline void cuffd_change_mask(int how, const sigset_t *set, sigset_t *before) {
  if (before != NULL) sigemptyset(before);
  syscall(SYS_rt_sigprocmask, (long)how, set, before, sizeof(uint64_t));
}

// Where a signal handler runs: an address in its frame, and the lowest address of the alternate stack that the frame
// is on. On another stack `low` is 0.
struct cuffd_place {
  uintptr_t frame, low;
};

static inline struct cuffd_place cuffd_place_of(uintptr_t frame, const stack_t *alternate) {
  uintptr_t low = (uintptr_t)alternate->ss_sp;
  bool is_on_it = !(alternate->ss_flags & SS_DISABLE) && frame >= low && frame - low < alternate->ss_size;
  return (struct cuffd_place){frame, is_on_it ? low : 0};
}

// Returns how many bytes of the alternate stack of a handler are left below `frame`; UINT64_MAX on another stack.
static inline uint64_t cuffd_room_at(const struct cuffd_place *place, uintptr_t frame) {
  enum { BEYOND = 64 << 10 };
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
  // The frames of sanitizers are larger than the needs that were measured.
  (void)frame;
  if (place->low != 0) return UINT64_MAX;
#endif
#endif
  if (place->low == 0) return UINT64_MAX;
  if (frame >= place->low) return frame - place->low;
  // A frame right below the stack is beyond its end. One that is farther away is on another stack.
  return place->low - frame < BEYOND ? 0 : UINT64_MAX;
}

// Returns whether the handler that ran at `earlier` is still running, now that another one runs at `now` on the same
// thread. If it is not, it was left by siglongjmp or by the end of the thread. The frame of a handler that is still
// running lies at a higher address on the same stack, or on the normal stack if `now` is on the alternate one.
static inline bool cuffd_still_runs(const struct cuffd_place *earlier, const struct cuffd_place *now) {
  if (earlier->low == 0 && now->low != 0) return true;
  return now->frame >= earlier->low && now->frame < earlier->frame;
}

// signals.c

// Our handler for one place in the chain. `link` tells the places apart: a handler of the program that puts back the
// action that it has replaced puts back the place, and the signal then goes to the handlers before that place only.
void cuffd_on_fault(unsigned link, int number, siginfo_t *info, void *state);

// Our action, without the handler of a place.
struct sigaction cuffd_complete_action(void);

// chain.c

// Passes a signal on to the action that was there before, as the kernel would have done.
void cuffd_pass_on(unsigned link, int number, siginfo_t *info, void *state);

// Puts our complete action back if the program has installed the handler of this link again without SA_SIGINFO.
// Returns false if that is not so.
bool cuffd_chain_repair(unsigned link, int number);

// Returns whether this signal has come back to us from a handler to which we have passed it on.
bool cuffd_is_passed_on(const siginfo_t *info);

// Calls each function that a handler needs on the way to the handlers before it, or to the end of the program. The
// first call needs much of the stack, and is not to be made in a handler.
void cuffd_chain_bind(void);

// Installs our handler as cuffd_signal_install does.
int cuffd_chain_install(int number);

// answering.c

// Completes the place of a handler that seems to be on no alternate stack. The kernel reports a stack with
// SS_AUTODISARM as none while a handler runs on it. `interrupted` is the stack pointer of the interrupted code: where
// it is in the frames of the latest answer on an alternate stack, the handler is on that stack as well.
void cuffd_place_complete(struct cuffd_place *now, uintptr_t interrupted);

// Removes the faults whose handlers were left without a return, and lets go of what they held.
void cuffd_answers_drop_left(const struct cuffd_place *now);

// Makes sure that what this thread holds is let go of when the thread ends. Called once for the process.
int cuffd_answers_prepare(void);

// Begins the answer to a fault of this thread. Returns the answer, or NULL where nothing may be asked. In that case
// `outer` and `too_many` of the fault say why; the caller has set both to 0.
struct cuffd_answer *cuffd_answer_begin(uint64_t page, const struct cuffd_place *now, struct cuffd_fault *fault);
void cuffd_answer_end(struct cuffd_answer *answer);

// The state of cancellation outside of all faults that the thread is answering; `state` if there are none.
int cuffd_cancellation_outside(int state);

#endif
