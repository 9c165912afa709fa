#define _GNU_SOURCE
#include "cuffd_limits.h"
#include "cuffd_twin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

static int64_t soft_limit(__rlimit_resource_t resource) {
  struct rlimit limit;
  if (getrlimit(resource, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur > INT64_MAX) return -1;
  return (int64_t)limit.rlim_cur;
}

static ssize_t read_some(int fd, char *buffer, size_t capacity) {
  ssize_t count;
  do {
    count = read(fd, buffer, capacity);
  } while (count < 0 && errno == EINTR);
  return count;
}

// /proc/thread-self/maps has a line for each mapping, and so up to some MiB of text.
static int64_t count_mappings(void) {
  int fd = open("/proc/thread-self/maps", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  char buffer[1024];
  int64_t lines = 0;
  ssize_t count;
  while ((count = read_some(fd, buffer, sizeof buffer)) > 0) {
    for (ssize_t i = 0; i < count; i++) lines += buffer[i] == '\n';
  }
  close(fd);
  return count < 0 ? -1 : lines;
}

// Passes each line of a file, without the end of the line and at most 127 bytes of it, to `take`.
static void for_each_line(const char *path, void (*take)(const char *line, void *context), void *context) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  char buffer[256], line[128];
  size_t length = 0;
  ssize_t count;
  while ((count = read_some(fd, buffer, sizeof buffer)) > 0) {
    for (ssize_t i = 0; i < count; i++) {
      if (buffer[i] != '\n') {
        if (length < sizeof line - 1) line[length++] = buffer[i];
        continue;
      }
      line[length] = 0;
      take(line, context);
      length = 0;
    }
  }
  close(fd);
}

// Reads a line such as "VmSize:   1234 kB" into `value`, if it has this name.
static void take_kib(const char *line, const char *name, int64_t *value) {
  size_t length = strlen(name);
  if (strncmp(line, name, length) == 0 && line[length] == ':') *value = atoll(line + length + 1) * 1024;
}

static void take_status(const char *line, void *context) {
  struct cuffd_memory *facts = context;
  take_kib(line, "VmSize", &facts->address_space);
  take_kib(line, "VmData", &facts->data);
  take_kib(line, "VmLck", &facts->locked);
}

struct promises {
  int64_t limit, made;
};

static void take_promises(const char *line, void *context) {
  struct promises *promises = context;
  take_kib(line, "CommitLimit", &promises->limit);
  take_kib(line, "Committed_AS", &promises->made);
}

static void take_policy(const char *line, void *context) { *(bool *)context = atol(line) == 2; }

// `locked` is how many bytes are locked before the call.
static bool locks_mappings(int64_t locked) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  void *mapped = mmap(NULL, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return errno == EAGAIN;
  struct cuffd_memory now = {.locked = -1};
  for_each_line("/proc/thread-self/status", take_status, &now);
  munmap(mapped, page);
  return now.locked > locked;
}

void cuffd_memory_facts(struct cuffd_memory *facts) {
  *facts = (struct cuffd_memory){
      .mappings = count_mappings(),
      .mapping_limit = cuffd_mapping_limit(),
      .address_space = -1,
      .address_space_limit = soft_limit(RLIMIT_AS),
      .data = -1,
      .data_limit = soft_limit(RLIMIT_DATA),
      .locked = -1,
      .locked_limit = soft_limit(RLIMIT_MEMLOCK),
      .file_size_limit = soft_limit(RLIMIT_FSIZE),
      .promisable = -1,
  };
  for_each_line("/proc/thread-self/status", take_status, facts);
  facts->locks_mappings = locks_mappings(facts->locked);
  for_each_line("/proc/sys/vm/overcommit_memory", take_policy, &facts->promises_no_more);
  struct promises promises = {-1, -1};
  for_each_line("/proc/meminfo", take_promises, &promises);
  if (promises.limit >= 0 && promises.made >= 0) {
    facts->promisable = promises.limit > promises.made ? promises.limit - promises.made : 0;
  }
}
