#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void *run(void *argument) {
  const creference *reference = argument;
  while (true) {
    struct epoll_event events[2];
    int count = epoll_wait(reference->epoll, events, 2, -1);
    if (count < 0 && errno != EINTR) creference_give_up("epoll_wait");
    for (int i = 0; i < count; i++) {
      if (events[i].data.fd == reference->stop) return NULL;
      creference_serve(reference);
    }
  }
}

static bool watch(int epoll, int fd) {
  struct epoll_event event = {.events = EPOLLIN, .data = {.fd = fd}};
  return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

static const char *begin(creference *reference) {
  const char *failed = creference_open_uffd(reference, 0);
  if (failed != NULL) return failed;
  if ((reference->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0) return "eventfd";
  if ((reference->epoll = epoll_create1(EPOLL_CLOEXEC)) < 0) return "epoll_create1";
  if (!watch(reference->epoll, reference->uffd) || !watch(reference->epoll, reference->stop)) return "epoll_ctl";
  errno = pthread_create(&reference->thread, NULL, run, reference);
  return errno == 0 ? NULL : "pthread_create";
}

static void end(creference *reference) {
  uint64_t one = 1;
  if (write(reference->stop, &one, sizeof one) != sizeof one) creference_give_up("write to an eventfd");
  pthread_join(reference->thread, NULL);
}

const struct creference_way creference_epoll = {begin, end};
