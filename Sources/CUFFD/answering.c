#define _GNU_SOURCE
#include "signal_internal.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
  LOANS = 2,
  NEAR = 2,         // the answers for which every thread has room
  BLOCK = 4 << 10  // the size of the memory that a thread gets for more answers
};

struct cuffd_answer {
  uint64_t page;
  struct cuffd_place place;
  int cancellation;  // the state before
  unsigned loan_count;
  const void *region;
  struct cuffd_loan loans[LOANS];
};

enum { FAR = BLOCK / sizeof(struct cuffd_answer) };

// The faults that this thread is answering. There may be several, because a provider that runs in the handler may touch
// lazy memory itself. The memory for the first ones is small, because a library that is loaded late has little room for
// the variables of threads.
// The order of the members keeps what every fault uses close together.
static CUFFD_THREAD_LOCAL struct {
  struct cuffd_answer *latest;
  bool ends_with_thread;
  struct cuffd_answer near[NEAR];
  struct cuffd_answer *far;
} own;

static pthread_key_t at_end_of_thread;

extern void cuffd_let_go(const void *region, const struct cuffd_loan *loans, unsigned loan_count);

// Returns the answer before this one; NULL if this one is the oldest.
static struct cuffd_answer *outer_of(struct cuffd_answer *answer) {
  if (answer == &own.near[0]) return NULL;
  return answer == own.far ? &own.near[NEAR - 1] : answer - 1;
}

static void drop_latest(void) {
  // The answer is copied and removed first, because letting go of it may call code that faults.
  struct cuffd_answer latest = *own.latest;
  own.latest = outer_of(own.latest);
  if (latest.region != NULL || latest.loan_count > 0) cuffd_let_go(latest.region, latest.loans, latest.loan_count);
}

void cuffd_answers_drop_left(const struct cuffd_place *now) {
  while (own.latest != NULL && !cuffd_still_runs(&own.latest->place, now)) drop_latest();
}

void cuffd_place_complete(struct cuffd_place *now, uintptr_t interrupted) {
  if (own.latest == NULL) return;
  const struct cuffd_place *outer = &own.latest->place;
  if (outer->low != 0 && interrupted >= outer->low && interrupted < outer->frame) now->low = outer->low;
}

bool cuffd_is_answering(void) { return own.latest != NULL; }

void cuffd_answers_clean_up(void) {
  if (own.latest == NULL) return;
  // A signal handler of the program may touch lazy memory, and drop the same answers.
  struct cuffd_signal_mask mask;
  cuffd_signals_hold(&mask);
  stack_t alternate;
  if (sigaltstack(NULL, &alternate) == 0) {
    struct cuffd_place now = cuffd_place_of((uintptr_t)__builtin_frame_address(0), &alternate);
    cuffd_answers_drop_left(&now);
  }
  cuffd_signals_release(&mask);
}

static void thread_ends(void *unused) {
  (void)unused;
  struct cuffd_signal_mask mask;
  cuffd_signals_hold(&mask);
  while (own.latest != NULL) drop_latest();
  if (own.far != NULL) munmap(own.far, BLOCK);
  own.far = NULL;
  // Another destructor of the thread may still touch lazy memory.
  own.ends_with_thread = false;
  cuffd_signals_release(&mask);
}

int cuffd_cancellation_off(void) {
  int state = PTHREAD_CANCEL_ENABLE;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  return state;
}

void cuffd_cancellation_restore(int state) {
  int type = PTHREAD_CANCEL_DEFERRED;
  // A thread that was cancelled meanwhile, and can be cancelled at any instruction, ends here. With glibc,
  // pthread_setcancelstate(3) would leave its result as it is, and pthread_setcanceltype(3) sets PTHREAD_CANCELED.
  if (state == PTHREAD_CANCEL_ENABLE) pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
  pthread_setcancelstate(state, &state);
  if (type != PTHREAD_CANCEL_DEFERRED) pthread_setcanceltype(type, &type);
}

int cuffd_cancellation_off_for_call(void) {
  int before = cuffd_cancellation_off();
  if (own.latest == NULL) return before;
  // A thread that has left an answer is as cancellable as it was before that answer.
  int left = own.near[0].cancellation;
  cuffd_answers_clean_up();
  return own.latest == NULL && left == PTHREAD_CANCEL_ENABLE ? PTHREAD_CANCEL_ENABLE : before;
}

int cuffd_answers_prepare(void) {
  int error = pthread_key_create(&at_end_of_thread, thread_ends);
  if (error != 0) return -error;
  // The first call of each of these functions needs much of the stack, and is not to be made in a handler.
  pthread_setspecific(at_end_of_thread, NULL);
  stack_t stack;
  sigaltstack(NULL, &stack);
  int state = cuffd_cancellation_off(), type = PTHREAD_CANCEL_DEFERRED;
  pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
  pthread_setcanceltype(type, &type);
  cuffd_cancellation_restore(state);
  return 0;
}

int cuffd_cancellation_outside(int state) { return own.latest != NULL ? own.near[0].cancellation : state; }

// Returns room for one more answer, or NULL if there is none.
static struct cuffd_answer *room(void) {
  if (own.latest == NULL) return &own.near[0];
  if (own.far != NULL && own.latest == &own.far[FAR - 1]) return NULL;
  if (own.latest != &own.near[NEAR - 1]) return own.latest + 1;
  if (own.far == NULL) {
    void *block = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED) return NULL;
    own.far = block;
  }
  return &own.far[0];
}

static inline struct cuffd_answer *add(
    struct cuffd_answer *answer, uint64_t page, const struct cuffd_place *now, int cancellation) {
  if (!own.ends_with_thread) own.ends_with_thread = pthread_setspecific(at_end_of_thread, &own) == 0;
  answer->page = page;
  answer->place = *now;
  answer->cancellation = cancellation;
  answer->loan_count = 0;
  answer->region = NULL;
  own.latest = answer;
  return answer;
}

// The thread has notes of other answers, which it may have left.
__attribute__((cold, noinline)) static struct cuffd_answer *begin_beside_others(
    uint64_t page, const struct cuffd_place *now, struct cuffd_fault *fault) {
  // A thread that has left an answer is as cancellable as it was before that answer.
  int left = own.near[0].cancellation;
  cuffd_answers_drop_left(now);
  int before = cuffd_cancellation_off();
  if (own.latest == NULL && left == PTHREAD_CANCEL_ENABLE) before = PTHREAD_CANCEL_ENABLE;
  bool is_asked_for = false;
  unsigned count = 0;
  for (struct cuffd_answer *other = own.latest; other != NULL; other = outer_of(other)) {
    if (other->page == page) is_asked_for = true;
    count++;
  }
  struct cuffd_answer *answer = is_asked_for ? NULL : room();
  if (answer != NULL) return add(answer, page, now, before);
  // The answers of this thread have switched the cancellation off, so it stays off.
  fault->outer = own.latest->page;
  if (!is_asked_for) fault->too_many = count;
  return NULL;
}

// A thread seldom has notes of other answers, so the way without them is short.
struct cuffd_answer *cuffd_answer_begin(uint64_t page, const struct cuffd_place *now, struct cuffd_fault *fault) {
  if (own.latest != NULL) return begin_beside_others(page, now, fault);
  return add(&own.near[0], page, now, cuffd_cancellation_off());
}

// The answer is not the latest one, or it holds something.
__attribute__((cold, noinline)) static void end_with_others(struct cuffd_answer *answer) {
  struct cuffd_answer *other = own.latest;
  while (other != NULL && other != answer) other = outer_of(other);
  if (other == NULL) return;
  // Answers that were left inside this one are above it in the list.
  while (own.latest != NULL && own.latest != answer) drop_latest();
  if (own.latest != NULL) drop_latest();
}

void cuffd_answer_end(struct cuffd_answer *answer) {
  int before = answer->cancellation;
  if (own.latest == answer && answer->region == NULL && answer->loan_count == 0) {
    own.latest = outer_of(answer);
  } else {
    end_with_others(answer);
  }
  cuffd_cancellation_restore(before);
}

uint64_t cuffd_stack_room(void) {
  if (own.latest == NULL) return UINT64_MAX;
  return cuffd_room_at(&own.latest->place, (uintptr_t)__builtin_frame_address(0));
}

void cuffd_end_without_stack(void) {
  static const char line[] =
      "FaultRuntime: a thread got SIGBUS or SIGSEGV, and its alternate signal stack (sigaltstack) has "
      "too little room for the answer. The answer would overwrite what lies below the stack, so the process ends. Give "
      "the thread a stack of FaultRuntime.signalStackByteCount bytes, or none.\n";
  syscall(SYS_write, STDERR_FILENO, line, sizeof line - 1);
  // A handler of the program would find no room either.
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = SIG_DFL;
  sigaction(SIGABRT, &action, NULL);
  // The first call of abort(3) in a process would need more of the stack, to find the function.
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGABRT);
  cuffd_change_mask(SIG_UNBLOCK, &set, NULL);
  syscall(SYS_tgkill, (pid_t)syscall(SYS_getpid), (pid_t)syscall(SYS_gettid), SIGABRT);
  // The first process of a PID namespace has ignored the signal.
  abort();
}

void cuffd_answer_set_region(struct cuffd_answer *answer, const void *region) { answer->region = region; }

struct cuffd_answer *cuffd_answer_borrow(const void *pool, uint64_t start, uint64_t length) {
  struct cuffd_answer *answer = own.latest;
  if (answer == NULL || answer->loan_count == LOANS) return NULL;
  answer->loans[answer->loan_count++] = (struct cuffd_loan){pool, start, length};
  return answer;
}

void cuffd_answer_return(struct cuffd_answer *answer) { answer->loan_count--; }
