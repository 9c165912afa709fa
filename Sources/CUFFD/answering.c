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

// The faults that this thread is answering, the latest one last. There may be several, because a provider that runs
// in the handler may touch lazy memory itself. The memory for the first ones is small, because a library that is
// loaded late has little room for the variables of threads.
static CUFFD_THREAD_LOCAL struct {
  struct cuffd_answer near[NEAR];
  struct cuffd_answer *far;
  unsigned count;
  bool ends_with_thread;
} own;

static pthread_key_t at_end_of_thread;

extern void cuffd_let_go(const void *region, const struct cuffd_loan *loans, unsigned loan_count);

static struct cuffd_answer *answer_at(unsigned index) {
  return index < NEAR ? &own.near[index] : &own.far[index - NEAR];
}

static void drop_last(void) {
  // The answer is copied and removed first, because letting go of it may call code that faults.
  struct cuffd_answer last = *answer_at(--own.count);
  if (last.region != NULL || last.loan_count > 0) cuffd_let_go(last.region, last.loans, last.loan_count);
}

void cuffd_answers_drop_left(const struct cuffd_place *now) {
  while (own.count > 0 && !cuffd_still_runs(&answer_at(own.count - 1)->place, now)) drop_last();
}

void cuffd_answers_clean_up(void) {
  if (own.count == 0) return;
  stack_t alternate;
  if (sigaltstack(NULL, &alternate) < 0) return;
  struct cuffd_place now = cuffd_place_of((uintptr_t)__builtin_frame_address(0), &alternate);
  cuffd_answers_drop_left(&now);
}

static void thread_ends(void *unused) {
  (void)unused;
  while (own.count > 0) drop_last();
  if (own.far != NULL) munmap(own.far, BLOCK);
  own.far = NULL;
  // Another destructor of the thread may still touch lazy memory.
  own.ends_with_thread = false;
}

int cuffd_answers_prepare(void) { return -pthread_key_create(&at_end_of_thread, thread_ends); }

int cuffd_cancellation_off(void) {
  int state = PTHREAD_CANCEL_ENABLE;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  return state;
}

void cuffd_cancellation_restore(int state) { pthread_setcancelstate(state, &state); }

int cuffd_cancellation_outside(int state) { return own.count > 0 ? answer_at(0)->cancellation : state; }

// Makes room for one more answer. Returns false if there is none.
static bool make_room(void) {
  if (own.count < NEAR) return true;
  if (own.count == NEAR + FAR) return false;
  if (own.far != NULL) return true;
  void *block = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (block == MAP_FAILED) return false;
  own.far = block;
  return true;
}

struct cuffd_answer *cuffd_answer_begin(uint64_t page, const struct cuffd_place *now, struct cuffd_fault *fault) {
  fault->outer = 0;
  fault->too_many = 0;
  // A thread that has left an answer is as cancellable as it was before that answer.
  int left = own.count > 0 ? answer_at(0)->cancellation : PTHREAD_CANCEL_DISABLE;
  cuffd_answers_drop_left(now);
  int before = cuffd_cancellation_off();
  if (own.count == 0 && left == PTHREAD_CANCEL_ENABLE) before = PTHREAD_CANCEL_ENABLE;
  for (unsigned i = 0; i < own.count; i++) {
    if (answer_at(i)->page == page) fault->outer = answer_at(own.count - 1)->page;
  }
  if (fault->outer == 0 && !make_room()) {
    fault->outer = answer_at(own.count - 1)->page;
    fault->too_many = own.count;
  }
  if (fault->outer != 0) {
    // The answers of this thread have switched the cancellation off, so it stays off.
    return NULL;
  }
  if (!own.ends_with_thread) own.ends_with_thread = pthread_setspecific(at_end_of_thread, &own) == 0;
  struct cuffd_answer *answer = answer_at(own.count);
  answer->page = page;
  answer->place = *now;
  answer->cancellation = before;
  answer->loan_count = 0;
  answer->region = NULL;
  own.count++;
  return answer;
}

void cuffd_answer_end(struct cuffd_answer *answer) {
  int before = answer->cancellation;
  // Most answers are the latest one and hold nothing any more. Without this short way a fault takes a hundredth longer.
  if (own.count > 0 && answer_at(own.count - 1) == answer && answer->region == NULL && answer->loan_count == 0) {
    own.count--;
    cuffd_cancellation_restore(before);
    return;
  }
  unsigned index = own.count;
  while (index > 0 && answer_at(index - 1) != answer) index--;
  // Answers that were left inside this one are above it in the list.
  while (index > 0 && own.count >= index) drop_last();
  cuffd_cancellation_restore(before);
}

uint64_t cuffd_stack_room(void) {
  if (own.count == 0) return UINT64_MAX;
  return cuffd_room_at(&answer_at(own.count - 1)->place, (uintptr_t)__builtin_frame_address(0));
}

void cuffd_end_without_stack(void) {
  static const char line[] =
      "FaultRuntime: a thread touched lazy memory that is missing, and its alternate signal stack (sigaltstack) has "
      "too little room for the answer. The answer would overwrite what lies below the stack, so the process ends. Give "
      "the thread a stack of FaultRuntime.signalStackByteCount bytes, or none.\n";
  (void)!write(STDERR_FILENO, line, sizeof line - 1);
  // A handler of the program would find no room either.
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = SIG_DFL;
  sigaction(SIGABRT, &action, NULL);
  abort();
}

void cuffd_answer_set_region(struct cuffd_answer *answer, const void *region) { answer->region = region; }

struct cuffd_answer *cuffd_answer_borrow(struct cuffd_loan loan) {
  if (own.count == 0) return NULL;
  struct cuffd_answer *answer = answer_at(own.count - 1);
  if (answer->loan_count == LOANS) return NULL;
  answer->loans[answer->loan_count++] = loan;
  return answer;
}

void cuffd_answer_return(struct cuffd_answer *answer) { answer->loan_count--; }
