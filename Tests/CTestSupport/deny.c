#define _GNU_SOURCE
#include "CTestDeny.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

static int install(struct sock_filter *filter, unsigned short count, unsigned flags) {
  struct sock_fprog program = {.len = count, .filter = filter};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return -errno;
  long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
  // A positive result is a thread that cannot have the filter.
  return result > 0 ? -ESRCH : result < 0 ? -errno : 0;
}

static int answer(long call, uint32_t answer, unsigned flags) {
  struct sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, answer),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  return install(filter, sizeof filter / sizeof filter[0], flags);
}

static uint32_t refusal(int number) { return SECCOMP_RET_ERRNO | ((uint32_t)number & SECCOMP_RET_DATA); }

static int deny(long call, int number) { return answer(call, refusal(number), 0); }

int cts_kill_for_userfaultfd(void) { return answer(SYS_userfaultfd, SECCOMP_RET_KILL_PROCESS, 0); }

static volatile int trapped_answer;

static void answer_call(int number, siginfo_t *info, void *context) {
  (void)number;
  (void)info;
  ucontext_t *state = context;
#if defined(__x86_64__)
  state->uc_mcontext.gregs[REG_RAX] = -trapped_answer;
#else
  state->uc_mcontext.regs[0] = (uint64_t)-trapped_answer;
#endif
}

int cts_trap_userfaultfd(int number) {
  trapped_answer = number;
  struct sigaction action = {.sa_sigaction = answer_call, .sa_flags = SA_SIGINFO};
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGSYS);
  if (sigaction(SIGSYS, &action, NULL) < 0 || pthread_sigmask(SIG_UNBLOCK, &set, NULL) != 0) return -errno;
  return answer(SYS_userfaultfd, SECCOMP_RET_TRAP, 0);
}

int cts_deny_userfaultfd(int number) { return deny(SYS_userfaultfd, number); }

int cts_deny_scheduling(int number) {
  int result = deny(SYS_sched_setscheduler, number);
  return result < 0 ? result : deny(SYS_sched_setaffinity, number);
}

int cts_deny_ioctl(int number) { return answer(SYS_ioctl, refusal(number), SECCOMP_FILTER_FLAG_TSYNC); }

int cts_deny_taking_away(uintptr_t address, int number) {
  struct sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 1, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_munmap, 0, 3),
      // The lower half of the first argument, on a little-endian machine.
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)address, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, refusal(number)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  return install(filter, sizeof filter / sizeof filter[0], SECCOMP_FILTER_FLAG_TSYNC);
}

static const char device[] = "/dev/userfaultfd";

int cts_hide_userfaultfd(int number) {
  if (access(device, R_OK | W_OK) == 0) {
    if (unshare(CLONE_NEWNS) < 0) return -errno;
    // With private propagation, the mounts below do not affect the rest of the machine.
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) return -errno;
    if (mount("none", "/dev", "tmpfs", 0, NULL) < 0) return -errno;
  }
  if (access(device, R_OK | W_OK) == 0) return -EEXIST;
  return cts_deny_userfaultfd(number);
}
