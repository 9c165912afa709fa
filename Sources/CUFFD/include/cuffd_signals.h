// SIGBUS and SIGSEGV, which the kernel raises in a thread that touches a page which is not there. This file declares
// how our handler is installed, how it passes signals that are not ours on to the handler that was there before, and
// what a thread holds while it answers a fault. A process has one action for each signal, so the state is global.
#ifndef CUFFD_SIGNALS_H
#define CUFFD_SIGNALS_H

#include "cuffd_platform.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cuffd_attributes.h"

#pragma clang assume_nonnull begin

// The signals of faults. Each delivery uses one of them at most.
#define CUFFD_SIGBUS 7
#define CUFFD_SIGSEGV 11

// Memory that the answer to a fault uses meanwhile: a slot of a pool, or a mapping.
struct cuffd_loan {
  const void *_Nullable pool;  // the owner of the slot; NULL for a mapping
  uint64_t start;              // the number of the slot, or the address of the mapping
  uint64_t length;             // the length of the mapping
};

// What a thread holds while it answers a fault. A handler of the program may leave the answer by siglongjmp, and a
// provider may end the thread. The runtime then lets go of these things at the thread's next fault, or at its end.
struct cuffd_answer;

struct cuffd_fault {
  int number;  // the signal
  bool is_write;
  uint64_t address;
  // Usually 0. If the thread is already answering a fault of the same page, or answers too many faults at once, this
  // is the page of the latest fault that the thread is answering. The server then has to fail the page instead of
  // asking for it, because the answers would never end, or the stack would.
  uint64_t outer;
  // How many faults the thread is answering, if they are too many; otherwise 0.
  unsigned too_many;
  // How much of the alternate stack is left, in bytes; UINT64_MAX if the handler runs on another stack.
  uint64_t stack_room;
  // Where the server notes what it holds; NULL if it must not ask.
  struct cuffd_answer *_Nullable answer;
};

// What our handler calls. `context` is never released.
struct cuffd_fault_calls {
  void *context;
  // Answers a fault. Returns false if the fault is not ours or cannot be answered; the signal is then passed on.
  bool (*serve)(void *context, const struct cuffd_fault *fault);
  // Lets go of what an answer held that was left without a return.
  void (*let_go)(void *context, const void *_Nullable region, const struct cuffd_loan *loans, unsigned loan_count);
};

// Installs our handler for the signal `number` for the rest of the process. The handler passes signals that are not
// ours on to the action that was there before. A further call installs our handler again if the program has replaced
// it in the meantime. Takes a lock. Returns 0 or -errno.
int cuffd_signal_install(int number, const struct cuffd_fault_calls *calls);

// The lock that the installation takes, for the time of a fork.
void cuffd_signals_lock_for_fork(void);
void cuffd_signals_unlock_after_fork(void);

// Switches off the cancellation of the calling thread, and returns the state before.
int cuffd_cancellation_off(void);
// The same, at the beginning of a call of the library. A thread that has left a fault by siglongjmp(3) has its
// cancellation off; the state before that fault is returned then.
int cuffd_cancellation_off_for_call(void);
// Ends the thread if it may be cancelled at any instruction, and was cancelled meanwhile.
void cuffd_cancellation_restore(int state);

// Notes the region that an answer holds, or NULL when it holds none any more.
void cuffd_answer_set_region(struct cuffd_answer *answer, const void *_Nullable region);

// Notes memory that the latest answer of the calling thread uses. The parameters are the members of a cuffd_loan.
// Returns the answer, or NULL if the thread is not answering a fault or the answer has no room for the note.
CUFFD_NO_LOCKS struct cuffd_answer *_Nullable cuffd_answer_borrow(
    const void *_Nullable pool, uint64_t start, uint64_t length);

// Notes that an answer does not use the memory any more that it has borrowed last.
CUFFD_NO_LOCKS void cuffd_answer_return(struct cuffd_answer *answer);

// Returns how much is left of the alternate stack on which the calling thread is answering a fault, in bytes;
// UINT64_MAX if it is answering none, or is not on such a stack.
uint64_t cuffd_stack_room(void);

// Returns whether the calling thread is answering a fault, or has left one by siglongjmp(3).
bool cuffd_is_answering(void);

// Writes to standard error that a thread has too little left of its alternate stack to go on, and ends the process
// (abort(3)). Needs little of the stack itself.
_Noreturn void cuffd_end_without_stack(void);

// Lets go of what the calling thread holds of answers that were left without a return. Its next fault does the same,
// but may be a long time away.
void cuffd_answers_clean_up(void);

// Returns how many times in a row the calling thread has called this for `page`, including this call.
unsigned cuffd_signal_repeats(uint64_t page);

// The first function blocks every signal except those of faults on the calling thread and switches its cancellation
// off. The second one restores both. No handler that interrupts the thread in between can fault on memory whose lock
// the thread holds, and the thread cannot end while it holds the lock.
struct cuffd_signal_mask {
  uint64_t words[16];
  int cancellation;
};
void cuffd_signals_hold(struct cuffd_signal_mask *before);
void cuffd_signals_release(const struct cuffd_signal_mask *before);

// Ends what cuffd_signals_hold began, and leaves alone what other code has done to the mask meanwhile.
void cuffd_signals_release_added(const struct cuffd_signal_mask *before);

#pragma clang assume_nonnull end

#endif
