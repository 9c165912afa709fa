#define _GNU_SOURCE
#include "cuffd_waiting.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int cuffd_thread_waits_for_event(uint32_t thread) {
  char path[64], text[256];
  snprintf(path, sizeof path, "/proc/self/task/%u/wchan", thread);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  ssize_t length = read(fd, text, sizeof text - 1);
  int error = errno;
  close(fd);
  if (length < 0) return -error;
  text[length] = 0;
  // The function is userfaultfd_event_wait_completion. A compiler may have put it into the functions that call it,
  // which begin with the same word. The function in which a fault waits does not.
  return strncmp(text, "userfaultfd_", strlen("userfaultfd_")) == 0;
}
