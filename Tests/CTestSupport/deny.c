#define _GNU_SOURCE
#include "CTestDeny.h"

#include <errno.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mount.h>
#include <unistd.h>

#include "CTestSupport.h"

static const char device[] = "/dev/userfaultfd";

int cts_hide_userfaultfd(int number) {
  if (access(device, R_OK | W_OK) == 0) {
    if (unshare(CLONE_NEWNS) < 0) return -errno;
    // Nothing of this reaches the rest of the machine.
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) return -errno;
    if (mount("none", "/dev", "tmpfs", 0, NULL) < 0) return -errno;
  }
  if (access(device, R_OK | W_OK) == 0) return -EEXIST;
  return cts_deny_userfaultfd(number);
}
