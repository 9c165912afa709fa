#define _GNU_SOURCE
#include "CStressSupport.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>

static _Thread_local sigjmp_buf escape;
static _Thread_local volatile sig_atomic_t armed;

void cstress_escape(int number) {
  if (armed) siglongjmp(escape, number);
}

static void on_signal(int number) {
  cstress_escape(number);
  signal(number, SIG_DFL);
  raise(number);
}

int cstress_take_signals(void) {
  struct sigaction action = {.sa_handler = on_signal};
  // The signal is blocked while this handler runs. A handler of another signal that touched lazy memory then would end
  // the process.
  sigfillset(&action.sa_mask);
  sigdelset(&action.sa_mask, SIGBUS);
  sigdelset(&action.sa_mask, SIGSEGV);
  if (sigaction(SIGBUS, &action, NULL) < 0 || sigaction(SIGSEGV, &action, NULL) < 0) return -errno;
  return 0;
}

// Several threads access the same bytes at the same time on purpose, so the sanitizers do not check these functions.
// Each word is read and written as a whole.
__attribute__((noinline, no_sanitize("thread", "address"))) static void copy_words(
    volatile uint64_t *to, const volatile uint64_t *from, size_t count) {
  for (size_t i = 0; i < count; i++) to[i] = from[i];
}

__attribute__((noinline, no_sanitize("thread", "address"))) static void copy_bytes(
    volatile uint8_t *to, const volatile uint8_t *from, size_t count) {
  if ((((uintptr_t)to | (uintptr_t)from | count) & 7) == 0) {
    const volatile uint64_t *source = (const volatile uint64_t *)(const volatile void *)from;
    copy_words((volatile uint64_t *)(volatile void *)to, source, count / 8);
    return;
  }
  for (size_t i = 0; i < count; i++) to[i] = from[i];
}

static int try_to_copy(uint8_t *to, const uint8_t *from, size_t count) {
  // A provider that runs in a signal handler may call this while an outer access of the same thread is under way.
  sigjmp_buf outer;
  memcpy(&outer, &escape, sizeof outer);
  volatile sig_atomic_t was_armed = armed;
  int number = sigsetjmp(escape, 1);
  if (number == 0) {
    armed = 1;
    copy_bytes(to, from, count);
  }
  armed = was_armed;
  memcpy(&escape, &outer, sizeof outer);
  return number;
}

int cstress_read(uintptr_t address, uint8_t *bytes, size_t count) {
  return try_to_copy(bytes, (const uint8_t *)address, count);
}

int cstress_write(uintptr_t address, const uint8_t *bytes, size_t count) {
  return try_to_copy((uint8_t *)address, bytes, count);
}
