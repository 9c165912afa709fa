#define _GNU_SOURCE
#include "cuffd_facts.h"
#include "cuffd_abi.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

// Uses only plain system calls, because this function runs in the forked child of a program with threads, and any of
// those threads may have held a lock of the C library.
static int attempt(const char *path, int flags, uint64_t *features) {
  long fd;
  if (path == NULL) {
    fd = syscall(SYS_userfaultfd, (long)flags);
  } else {
    long device = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    if (device < 0) return -errno;
    fd = syscall(SYS_ioctl, device, _IO(0xAA, 0x00), (unsigned long)flags);
    int error = errno;
    syscall(SYS_close, device);
    errno = error;
  }
  if (fd < 0) return -errno;
  struct cuffd_api api = {.api = CUFFD_API_VERSION};
  long result = syscall(SYS_ioctl, fd, _IOWR(0xAA, CUFFD_REQUEST_API, struct cuffd_api), &api);
  int error = errno;
  syscall(SYS_close, fd);
  if (result < 0) return -error;
  *features = api.features;
  return 0;
}

struct cuffd_attempt cuffd_attempt_in_child(const char *path, int flags) {
  struct cuffd_attempt answer = {.result = -ENOMEM};
  struct cuffd_attempt *shared =
      mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return answer;
  shared->result = -EIO;

  // All signals are blocked, so that no handler of the program runs in the child, and so that a filter that raises
  // SIGSYS kills the child as well.
  sigset_t all, before;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, &before);
  // This child ends without SIGCHLD, and calls of wait() in the program do not find it, because it must not disturb
  // them.
  long child = syscall(SYS_clone, 0L, 0L, 0L, 0L, 0L);
  if (child == 0) {
    struct rlimit no_core = {0, 0};
    syscall(SYS_prlimit64, 0, RLIMIT_CORE, &no_core, NULL);
    shared->result = attempt(path, flags, &shared->features);
    syscall(SYS_exit_group, 0);
    __builtin_unreachable();
  }
  sigprocmask(SIG_SETMASK, &before, NULL);

  if (child < 0) {
    // No child can be made, so this process makes the attempt itself.
    answer.result = attempt(path, flags, &answer.features);
  } else {
    int status = 0;
    pid_t ended;
    do {
      ended = waitpid((pid_t)child, &status, (int)__WCLONE);
    } while (ended < 0 && errno == EINTR);
    answer = *shared;
    if (ended > 0 && WIFSIGNALED(status)) answer.killed_by = WTERMSIG(status);
  }
  munmap(shared, sizeof *shared);
  return answer;
}

static void copy_text(char *target, size_t capacity, const char *source) {
  size_t length = strnlen(source, capacity - 1);
  memcpy(target, source, length);
  target[length] = 0;
}

int cuffd_system_names(struct cuffd_system *names) {
  struct utsname system;
  if (uname(&system) < 0) return -errno;
  copy_text(names->release, sizeof names->release, system.release);
  copy_text(names->version, sizeof names->version, system.version);
  copy_text(names->machine, sizeof names->machine, system.machine);
  return 0;
}

int cuffd_node_facts(const char *path, struct cuffd_node *node) {
  struct stat status;
  if (stat(path, &status) < 0) return -errno;
  node->mode = status.st_mode & 0777;
  node->user = status.st_uid;
  node->group = status.st_gid;
  node->is_accessible = faccessat(AT_FDCWD, path, R_OK | W_OK, AT_EACCESS) == 0;
  return 0;
}

static uint64_t limit(__rlimit_resource_t resource) {
  struct rlimit limit;
  if (getrlimit(resource, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY) return UINT64_MAX;
  return limit.rlim_cur;
}

uint64_t cuffd_limit_of_open_files(void) { return limit(RLIMIT_NOFILE); }

uint64_t cuffd_limit_of_address_space(void) { return limit(RLIMIT_AS); }

uint32_t cuffd_effective_user(void) { return geteuid(); }

int cuffd_read_link(const char *path, char *buffer, size_t capacity) {
  ssize_t length = readlink(path, buffer, capacity - 1);
  if (length < 0) return -errno;
  buffer[length] = 0;
  return 0;
}
