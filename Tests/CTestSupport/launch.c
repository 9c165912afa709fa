#define _GNU_SOURCE
#include "CTestLaunch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

// Between fork and execve the child makes only system calls, because other threads of the tests may hold any lock at
// the fork.

static const char device_path[] = "/dev/userfaultfd";

static _Noreturn void give_up(const char *what) {
  const char *parts[] = {"cannot launch: ", what, "\n"};
  for (size_t i = 0; i < 3; i++) (void)!write(STDERR_FILENO, parts[i], strlen(parts[i]));
  _exit(120);
}

// Gives the child a /dev of its own, with the nodes that programs need and, if asked for, one for userfaultfd.
static void replace_device(enum cts_device device) {
  struct stat node = {0};
  if (stat(device_path, &node) < 0 && device == CTS_DEVICE_FOR_ALL) give_up("there is no device");
  if (unshare(CLONE_NEWNS) < 0) give_up("unshare");
  if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) give_up("mount private");
  if (mount("none", "/dev", "tmpfs", 0, "mode=755") < 0) give_up("mount /dev");
  umask(0);
  static const struct {
    const char *path;
    unsigned minor;
  } nodes[] = {{"/dev/null", 3}, {"/dev/zero", 5}, {"/dev/random", 8}, {"/dev/urandom", 9}};
  for (size_t i = 0; i < sizeof nodes / sizeof nodes[0]; i++) {
    if (mknod(nodes[i].path, S_IFCHR | 0666, makedev(1, nodes[i].minor)) < 0) give_up("mknod");
  }
  if (device == CTS_DEVICE_FOR_ALL && mknod(device_path, S_IFCHR | 0666, node.st_rdev) < 0) give_up("mknod device");
}

static void install(struct sock_filter *filter, size_t count) {
  struct sock_fprog program = {.len = (unsigned short)count, .filter = filter};
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0) give_up("seccomp");
}

#define LOW_HALF offsetof(struct seccomp_data, args[0])
#define HIGH_HALF (LOW_HALF + 4)

// Answers userfaultfd(2) with `matched` if argument & mask == datum, and with `other` if not.
static void install_masked(struct cts_rule rule, uint32_t matched, uint32_t other) {
  struct sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 0, 6),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, LOW_HALF),
      BPF_STMT(BPF_ALU | BPF_AND | BPF_K, (uint32_t)rule.mask),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)rule.datum, 0, 5),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, HIGH_HALF),
      BPF_STMT(BPF_ALU | BPF_AND | BPF_K, (uint32_t)(rule.mask >> 32)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(rule.datum >> 32), 1, 2),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, matched),
      BPF_STMT(BPF_RET | BPF_K, other),
  };
  install(filter, sizeof filter / sizeof filter[0]);
}

static void install_answer(uint32_t answer) {
  struct sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, answer),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  install(filter, sizeof filter / sizeof filter[0]);
}

static void install_filter(const struct cts_launch *launch) {
  const uint32_t refuse = SECCOMP_RET_ERRNO | ((uint32_t)launch->filter_errno & SECCOMP_RET_DATA);
  const uint32_t not_permitted = SECCOMP_RET_ERRNO | EPERM;
  const struct cts_rule user_mode_only = {.mask = ~(uint64_t)(O_CLOEXEC | O_NONBLOCK), .datum = 1, .allows = true};
  switch (launch->filter) {
    case CTS_FILTER_NONE: return;
    case CTS_FILTER_ERRNO: return install_answer(refuse);
    case CTS_FILTER_KILL: return install_answer(SECCOMP_RET_KILL_PROCESS);
    case CTS_FILTER_USER_MODE_ONLY: return install_masked(user_mode_only, SECCOMP_RET_ALLOW, refuse);
    case CTS_FILTER_RULE:
      return launch->rule.allows ? install_masked(launch->rule, SECCOMP_RET_ALLOW, not_permitted)
                                 : install_masked(launch->rule, not_permitted, SECCOMP_RET_ALLOW);
  }
}

static void drop_capabilities(void) {
  // The capabilities also leave the bounding set, because otherwise execve(2) gives them back to uid 0.
  for (unsigned long number = 0; prctl(PR_CAPBSET_READ, number, 0, 0, 0) >= 0; number++) {
    if (prctl(PR_CAPBSET_DROP, number, 0, 0, 0) < 0) give_up("bounding set");
  }
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct none[2];
  memset(none, 0, sizeof none);
  if (syscall(SYS_capset, &header, none) < 0) give_up("capset");
}

static void become_nobody(void) {
  // These are direct system calls, because the C library's functions would look for threads that the child does not
  // have.
  if (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, 65534, 65534, 65534) < 0 ||
      syscall(SYS_setresuid, 65534, 65534, 65534) < 0) {
    give_up("setresuid");
  }
}

static void write_text(const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text)) give_up(path);
  close(fd);
}

static void enter_namespace(void) {
  // After the change of the user, the files below would otherwise belong to root.
  if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0 || unshare(CLONE_NEWUSER) < 0) give_up("user namespace");
  write_text("/proc/self/setgroups", "deny");
  write_text("/proc/self/uid_map", "0 65534 1");
  write_text("/proc/self/gid_map", "0 65534 1");
}

static void become(enum cts_user user) {
  switch (user) {
    case CTS_USER_SAME: return;
    case CTS_USER_WITHOUT_CAPABILITIES: return drop_capabilities();
    case CTS_USER_NOBODY: return become_nobody();
    case CTS_USER_ROOT_OF_NAMESPACE:
      become_nobody();
      return enter_namespace();
  }
}

static int end_of(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void own_mounts(int namespaces) {
  if (unshare(CLONE_NEWNS | namespaces) < 0) give_up("unshare");
  if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) give_up("mount private");
}

// Returns in the first process of the new PID namespace. The calling process waits for that one, and ends as it does.
static void enter_container(void) {
  own_mounts(CLONE_NEWPID);
  pid_t first = fork();
  if (first < 0) give_up("fork");
  if (first > 0) {
    int end = end_of(first);
    _exit(end < 0 ? 128 - end : end);
  }
  if (mount("proc", "/proc", "proc", 0, NULL) < 0) give_up("mount /proc");
}

static void leave_file(void) {
  own_mounts(0);
  if (mount("none", "/run", "tmpfs", 0, "mode=755") < 0) give_up("mount /run");
  int fd = open("/run/.containerenv", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) give_up("/run/.containerenv");
  close(fd);
}

// Runs in the child. The filter is installed before the rights are dropped, because without no_new_privs it needs
// rights.
static void lower(const struct cts_launch *launch) {
  struct rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  if (launch->container == CTS_CONTAINER_NAMESPACES) enter_container();
  if (launch->container == CTS_CONTAINER_FILE) leave_file();
  if (launch->device != CTS_DEVICE_SAME) replace_device(launch->device);
  if (launch->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) give_up("no_new_privs");
  install_filter(launch);
  become(launch->user);
}

int cts_launch(
    const struct cts_launch *launch, int program, const char *_Nullable const *_Nonnull arguments, int output,
    int errors) {
  enum { MOST = 16 };
  const char *all[MOST + 2] = {"lazy-mem-demo"};
  for (size_t i = 0; i < MOST && arguments[i] != NULL; i++) all[i + 1] = arguments[i];
  pid_t child = fork();
  if (child < 0) return -1000 - errno;
  if (child == 0) {
    if (dup2(output, STDOUT_FILENO) < 0 || dup2(errors, STDERR_FILENO) < 0) _exit(121);
    lower(launch);
    fexecve(program, (char *const *)all, environ);
    give_up("fexecve");
  }
  return end_of(child);
}

int cts_try_userfaultfd(const struct cts_launch *launch, const uint64_t *flags, int *results, size_t count) {
  int *shared = mmap(NULL, count * sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return -1000 - errno;
  pid_t child = fork();
  if (child == 0) {
    lower(launch);
    for (size_t i = 0; i < count; i++) {
      long fd = syscall(SYS_userfaultfd, flags[i]);
      shared[i] = fd < 0 ? errno : 0;
      if (fd >= 0) syscall(SYS_close, fd);
    }
    _exit(0);
  }
  int end = child < 0 ? -1000 - errno : end_of(child);
  memcpy(results, shared, count * sizeof *shared);
  munmap(shared, count * sizeof *shared);
  return end;
}
