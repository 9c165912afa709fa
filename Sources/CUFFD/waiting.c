#define _GNU_SOURCE
#include "cuffd_waiting.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

// Reads the start of a file about a thread of this process into `text`, and adds a terminating zero. Returns 0 or
// -errno.
static int read_thread_file(uint32_t thread, const char *name, char *text, size_t capacity) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/task/%u/%s", thread, name);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  ssize_t length = read(fd, text, capacity - 1);
  int error = errno;
  close(fd);
  if (length < 0) return -error;
  text[length] = 0;
  return 0;
}

int cuffd_thread_waits_in_fault(uint32_t thread) {
  char text[256];
  int result = read_thread_file(thread, "wchan", text, sizeof text);
  if (result < 0) return result;
  if (strcmp(text, "0") != 0) return strcmp(text, "handle_userfault") == 0;
  // The text is "0" for a thread that is runnable, but on a kernel without symbols it is "0" for every thread. The
  // state in the file `stat` tells whether the thread is runnable.
  result = read_thread_file(thread, "stat", text, sizeof text);
  if (result < 0) return result;
  const char *name_end = strrchr(text, ')');
  return name_end != NULL && strncmp(name_end, ") R", 3) == 0 ? 0 : -ENOSYS;
}

int cuffd_thread_waits_for_event(uint32_t thread) {
  char text[256];
  int result = read_thread_file(thread, "wchan", text, sizeof text);
  if (result < 0) return result;
  // The function is userfaultfd_event_wait_completion. A compiler may have put it into the functions that call it,
  // which begin with the same word. The function in which a fault waits does not.
  return strncmp(text, "userfaultfd_", strlen("userfaultfd_")) == 0;
}
