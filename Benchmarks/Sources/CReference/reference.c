#define _GNU_SOURCE
#include "CReference.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { BATCH = 64 };

struct creference {
  char *base;
  size_t length;
  const char *source;
  size_t page_size;
  int uffd;
  int stop;
  int epoll;
  pthread_t thread;
};

// There is no way to answer a fault wrongly and have a benchmark that means something.
static void give_up(const char *call) {
  perror(call);
  abort();
}

static void fill(const creference *reference, uint64_t address) {
  uint64_t page = address & ~((uint64_t)reference->page_size - 1);
  struct uffdio_copy copy = {
      .dst = page,
      .src = (uint64_t)(uintptr_t)(reference->source + (page - (uint64_t)(uintptr_t)reference->base)),
      .len = reference->page_size,
  };
  if (ioctl(reference->uffd, UFFDIO_COPY, &copy) == 0) return;
  // Two threads met in one page. The kernel wakes nobody in this case, so the second one needs it done.
  if (errno != EEXIST) give_up("UFFDIO_COPY");
  struct uffdio_range range = {.start = page, .len = reference->page_size};
  if (ioctl(reference->uffd, UFFDIO_WAKE, &range) != 0) give_up("UFFDIO_WAKE");
}

static void serve(const creference *reference) {
  struct uffd_msg messages[BATCH];
  ssize_t size = read(reference->uffd, messages, sizeof messages);
  if (size < 0) {
    // The page that these messages were about has been filled meanwhile.
    if (errno == EAGAIN || errno == EINTR) return;
    give_up("read");
  }
  size_t count = (size_t)size / sizeof messages[0];
  for (size_t i = 0; i < count; i++) {
    if (messages[i].event == UFFD_EVENT_PAGEFAULT) fill(reference, messages[i].arg.pagefault.address);
  }
}

static void *run(void *argument) {
  const creference *reference = argument;
  while (true) {
    struct epoll_event events[2];
    int count = epoll_wait(reference->epoll, events, 2, -1);
    if (count < 0 && errno != EINTR) give_up("epoll_wait");
    for (int i = 0; i < count; i++) {
      if (events[i].data.fd == reference->stop) return NULL;
      serve(reference);
    }
  }
}

static bool watch(int epoll, int fd) {
  struct epoll_event event = {.events = EPOLLIN, .data = {.fd = fd}};
  return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

static int open_uffd(void) {
  int flags = O_CLOEXEC | O_NONBLOCK;
  int fd = (int)syscall(SYS_userfaultfd, flags);
  // The touches come from user code, so the restricted kind serves as well, and costs the same.
  return fd < 0 && errno == EPERM ? (int)syscall(SYS_userfaultfd, flags | UFFD_USER_MODE_ONLY) : fd;
}

// Returns null, or the name of the call that failed.
static const char *prepare(creference *reference) {
  reference->base = mmap(NULL, reference->length, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reference->base == MAP_FAILED) return "mmap";
  if ((reference->uffd = open_uffd()) < 0) return "userfaultfd";
  struct uffdio_api api = {.api = UFFD_API};
  if (ioctl(reference->uffd, UFFDIO_API, &api) != 0) return "UFFDIO_API";
  struct uffdio_register range = {
      .range = {.start = (uint64_t)(uintptr_t)reference->base, .len = reference->length},
      .mode = UFFDIO_REGISTER_MODE_MISSING,
  };
  if (ioctl(reference->uffd, UFFDIO_REGISTER, &range) != 0) return "UFFDIO_REGISTER";
  if ((reference->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0) return "eventfd";
  if ((reference->epoll = epoll_create1(EPOLL_CLOEXEC)) < 0) return "epoll_create1";
  if (!watch(reference->epoll, reference->uffd) || !watch(reference->epoll, reference->stop)) return "epoll_ctl";
  errno = pthread_create(&reference->thread, NULL, run, reference);
  return errno == 0 ? NULL : "pthread_create";
}

static void dispose(creference *reference) {
  if (reference->base != MAP_FAILED) munmap(reference->base, reference->length);
  if (reference->epoll >= 0) close(reference->epoll);
  if (reference->stop >= 0) close(reference->stop);
  if (reference->uffd >= 0) close(reference->uffd);
  free(reference);
}

creference *creference_start(size_t length, const void *source, const char **failed_call, int *error) {
  creference *reference = malloc(sizeof *reference);
  if (reference == NULL) {
    *failed_call = "malloc";
    *error = ENOMEM;
    return NULL;
  }
  *reference = (creference){
      .base = MAP_FAILED,
      .length = length,
      .source = source,
      .page_size = (size_t)sysconf(_SC_PAGESIZE),
      .uffd = -1,
      .stop = -1,
      .epoll = -1,
  };
  *failed_call = prepare(reference);
  if (*failed_call == NULL) return reference;
  *error = errno;
  dispose(reference);
  return NULL;
}

const void *creference_base(const creference *reference) { return reference->base; }

void creference_stop(creference *reference) {
  uint64_t one = 1;
  if (write(reference->stop, &one, sizeof one) != sizeof one) give_up("write to an eventfd");
  pthread_join(reference->thread, NULL);
  dispose(reference);
}
