#include "touch.h"

#include <setjmp.h>
#include <signal.h>
#include <stddef.h>

static sigjmp_buf back;

static void leave(int number) {
  (void)number;
  siglongjmp(back, 1);
}

void touch_prepare(void) {
  struct sigaction action = {.sa_handler = leave};
  sigaction(SIGBUS, &action, NULL);
  sigaction(SIGSEGV, &action, NULL);
}

bool touch_fails(const void *address) {
  if (sigsetjmp(back, 1) != 0) return true;
  (void)*(const volatile char *)address;
  return false;
}
