#define _GNU_SOURCE
#include "cuffd_placement.h"
#include "cuffd_descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

_Static_assert(sizeof(cuffd_cpus) == sizeof(cpu_set_t), "cpu_set_t is not 1024 bits");

int cuffd_allowed_cpus(cuffd_cpus *cpus) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) < 0) return -errno;
  memcpy(cpus, &set, sizeof set);
  return CPU_COUNT(&set);
}

int cuffd_run_on(cuffd_cpus cpus) {
  cpu_set_t set;
  memcpy(&set, &cpus, sizeof set);
  return sched_setaffinity(0, sizeof set, &set) < 0 ? -errno : 0;
}

int cuffd_run_when_idle(void) {
  struct sched_param parameters = {0};
  return sched_setscheduler(0, SCHED_IDLE, &parameters) < 0 ? -errno : 0;
}

// Reads a small file of /proc from its start into `text`, and adds a terminating zero. Returns its length or -errno.
static ssize_t read_path(const char *path, char *text, size_t capacity) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  fd = fd < 0 ? -errno : cuffd_above_standard(fd);
  if (fd < 0) return fd;
  ssize_t count = pread(fd, text, capacity - 1, 0);
  if (count < 0) count = -errno;
  close(fd);
  if (count >= 0) text[count] = 0;
  return count;
}

int cuffd_open_thread_status(uint32_t thread, struct cuffd_file_facts *facts) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/task/%u/stat", thread);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  fd = fd < 0 ? -errno : cuffd_above_standard(fd);
  if (fd < 0) return fd;
  int error = cuffd_file_facts_of(fd, facts);
  if (error == 0) return fd;
  close(fd);
  return error;
}

// Returns the decimal number that starts at `at`, which may be NULL. Returns -ENOTSUP if there is none, or if it is
// larger than `limit`.
static int64_t number_at(const char *at, int64_t limit) {
  if (at == NULL || *at < '0' || *at > '9') return -ENOTSUP;
  int64_t number = 0;
  for (; *at >= '0' && *at <= '9'; at++) {
    int digit = *at - '0';
    if (number > (limit - digit) / 10) return -ENOTSUP;
    number = number * 10 + digit;
  }
  return number;
}

// Returns the text behind the next `count` spaces, or NULL if there are fewer.
static const char *behind_spaces(const char *at, int count) {
  for (int i = 0; at != NULL && i < count; i++) {
    at = strchr(at, ' ');
    if (at != NULL) at++;
  }
  return at;
}

int cuffd_parse_last_cpu(const char *status) {
  // The name of the thread, in parentheses, may contain any characters. Field 3 follows it; the CPU is field 39.
  const char *at = behind_spaces(strrchr(status, ')'), 39 - 2);
  int cpu = (int)number_at(at, INT_MAX);
  if (cpu < 0) return cpu;
  // Field 41 is the scheduling class. No other thread gets a CPU on which a real-time thread computes.
  int64_t class = number_at(behind_spaces(at, 41 - 39), INT_MAX);
  enum { DEADLINE = 6 };
  return class == SCHED_FIFO || class == SCHED_RR || class == DEADLINE ? -EBUSY : cpu;
}

int64_t cuffd_parse_run_delay(const char *schedstat) { return number_at(behind_spaces(schedstat, 1), INT64_MAX); }

int cuffd_parse_runnable_threads(const char *loadavg) {
  return (int)number_at(behind_spaces(loadavg, 3), INT_MAX);
}

int cuffd_last_cpu(int thread_status) {
  char text[1024];
  ssize_t count = pread(thread_status, text, sizeof text - 1, 0);
  if (count < 0) return -errno;
  text[count] = 0;
  return cuffd_parse_last_cpu(text);
}

int64_t cuffd_thread_run_nanoseconds(uint32_t thread) {
  // This is the kernel's number for the clock that measures the time of one thread on CPUs.
  clockid_t clock = (clockid_t)((~thread << 3) | 6u);
  struct timespec time;
  if (clock_gettime(clock, &time) < 0) return -errno;
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

int64_t cuffd_run_delay_nanoseconds(void) {
  char text[128];
  ssize_t count = read_path("/proc/thread-self/schedstat", text, sizeof text);
  return count < 0 ? count : cuffd_parse_run_delay(text);
}

int cuffd_runnable_threads(void) {
  char text[128];
  ssize_t count = read_path("/proc/loadavg", text, sizeof text);
  return count < 0 ? (int)count : cuffd_parse_runnable_threads(text);
}

int cuffd_ask_current_cpu(void) {
  int cpu = sched_getcpu();
  return cpu < 0 ? 0 : cpu;
}

int cuffd_online_cpus(void) { return (int)sysconf(_SC_NPROCESSORS_ONLN); }

int cuffd_hold_cpu_latency(const char *path) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  fd = fd < 0 ? -errno : cuffd_above_standard(fd);
  if (fd < 0) return fd;
  int32_t microseconds = 0;
  if (write(fd, &microseconds, sizeof microseconds) != sizeof microseconds) {
    int error = errno;
    close(fd);
    return -error;
  }
  return fd;
}
