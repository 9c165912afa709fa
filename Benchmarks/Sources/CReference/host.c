// The source, touching free memory, and the choice of CPUs.
#define _GNU_SOURCE
#include "creference_touch.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// Defined in touch.c, beside the code that checks these bytes.
void creference_fill_source(char *bytes, size_t length, size_t page_size);

const void *creference_source_create(size_t length, size_t page_size, int *fd, int *error) {
  void *source = MAP_FAILED;
  *fd = memfd_create("source", MFD_CLOEXEC);
  if (*fd >= 0 && ftruncate(*fd, (off_t)length) == 0) {
    source = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, *fd, 0);
  }
  *error = errno;
  if (source == MAP_FAILED) {
    if (*fd >= 0) close(*fd);
    return NULL;
  }
  creference_fill_source(source, length, page_size);
  return source;
}

void creference_source_destroy(const void *source, size_t length, int fd) {
  munmap((void *)(uintptr_t)source, length);
  close(fd);
}

void creference_touch_free_memory(size_t length) {
  void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return;
  (void)madvise(memory, length, MADV_NOHUGEPAGE);
  memset(memory, 1, length);
  // Without this, the compiler would remove the memset, because the memory is never read.
  __asm__ volatile("" : : "r"(memory) : "memory");
  munmap(memory, length);
}

int creference_allowed_cpus(int *cpus, int capacity) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) < 0) return -errno;
  int count = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE && count < capacity; cpu++) {
    if (CPU_ISSET(cpu, &set)) cpus[count++] = cpu;
  }
  return count;
}

int creference_run_on(const int *cpus, int count) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (int i = 0; i < count; i++) CPU_SET((size_t)cpus[i], &set);
  return sched_setaffinity(0, sizeof set, &set) < 0 ? -errno : 0;
}
