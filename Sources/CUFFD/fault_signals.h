// The signals that are never blocked.
#ifndef CUFFD_FAULT_SIGNALS_H
#define CUFFD_FAULT_SIGNALS_H

#include "cuffd_platform.h"

#include <signal.h>

// Takes the signals that an instruction of the thread itself raises out of a set. The kernel ends the process where one
// of them is blocked. A provider may touch lazy memory of another delivery, which is served by such a signal, and a
// sandbox may answer system calls in a handler of SIGSYS (`SECCOMP_RET_TRAP`).
static inline void cuffd_keep_fault_signals(sigset_t *set) {
  sigdelset(set, SIGBUS);
  sigdelset(set, SIGSEGV);
  sigdelset(set, SIGILL);
  sigdelset(set, SIGFPE);
  sigdelset(set, SIGTRAP);
  sigdelset(set, SIGSYS);
}

#endif
