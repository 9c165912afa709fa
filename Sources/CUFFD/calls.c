#include "cuffd_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NUMBER_API _IOWR(0xAA, CUFFD_REQUEST_API, struct cuffd_api)
#define NUMBER_REGISTER _IOWR(0xAA, CUFFD_REQUEST_REGISTER, struct cuffd_register)
#define NUMBER_UNREGISTER _IOR(0xAA, CUFFD_REQUEST_UNREGISTER, struct cuffd_range)
#define NUMBER_WAKE _IOR(0xAA, CUFFD_REQUEST_WAKE, struct cuffd_range)
#define NUMBER_COPY _IOWR(0xAA, CUFFD_REQUEST_COPY, struct cuffd_copy)
#define NUMBER_ZEROPAGE _IOWR(0xAA, CUFFD_REQUEST_ZEROPAGE, struct cuffd_zeropage)
#define NUMBER_MOVE _IOWR(0xAA, CUFFD_REQUEST_MOVE, struct cuffd_move)
#define NUMBER_WRITEPROTECT _IOWR(0xAA, CUFFD_REQUEST_WRITEPROTECT, struct cuffd_writeprotect)
#define NUMBER_CONTINUE _IOWR(0xAA, CUFFD_REQUEST_CONTINUE, struct cuffd_continue)
#define NUMBER_POISON _IOWR(0xAA, CUFFD_REQUEST_POISON, struct cuffd_poison)
#define NUMBER_NEW _IO(0xAA, 0x00)
#define NUMBER_PAGEMAP_SCAN _IOWR('f', 16, struct cuffd_pm_scan_arg)

#ifndef SYS_userfaultfd
#error "this architecture has no userfaultfd(2)"
#endif

// _IOWR and its like differ between architectures; these are the ones that it is built for.
#if defined(__x86_64__) || defined(__aarch64__)
_Static_assert(NUMBER_API == 0xc018aa3f, "UFFDIO_API");
_Static_assert(NUMBER_REGISTER == 0xc020aa00, "UFFDIO_REGISTER");
_Static_assert(NUMBER_UNREGISTER == 0x8010aa01, "UFFDIO_UNREGISTER");
_Static_assert(NUMBER_WAKE == 0x8010aa02, "UFFDIO_WAKE");
_Static_assert(NUMBER_COPY == 0xc028aa03, "UFFDIO_COPY");
_Static_assert(NUMBER_ZEROPAGE == 0xc020aa04, "UFFDIO_ZEROPAGE");
_Static_assert(NUMBER_MOVE == 0xc028aa05, "UFFDIO_MOVE");
_Static_assert(NUMBER_WRITEPROTECT == 0xc018aa06, "UFFDIO_WRITEPROTECT");
_Static_assert(NUMBER_CONTINUE == 0xc020aa07, "UFFDIO_CONTINUE");
_Static_assert(NUMBER_POISON == 0xc020aa08, "UFFDIO_POISON");
_Static_assert(NUMBER_NEW == 0xaa00, "USERFAULTFD_IOC_NEW");
_Static_assert(NUMBER_PAGEMAP_SCAN == 0xc0606610, "PAGEMAP_SCAN");
#endif

static int result_of(long returned) { return returned < 0 ? -errno : (int)returned; }

int cuffd_open(int flags) { return result_of(syscall(SYS_userfaultfd, (long)flags)); }

int cuffd_open_device(const char *path, int flags) {
  int device = open(path, O_RDWR | O_CLOEXEC);
  if (device < 0) return -errno;
  int fd = result_of(ioctl(device, NUMBER_NEW, (unsigned long)flags));
  close(device);
  return fd;
}

int cuffd_close(int fd) { return result_of(close(fd)); }

int cuffd_ioctl_api(int fd, struct cuffd_api *arg) { return result_of(ioctl(fd, NUMBER_API, arg)); }

int cuffd_ioctl_register(int fd, struct cuffd_register *arg) { return result_of(ioctl(fd, NUMBER_REGISTER, arg)); }

int cuffd_ioctl_unregister(int fd, uint64_t start, uint64_t length) {
  struct cuffd_range range = {.start = start, .len = length};
  return result_of(ioctl(fd, NUMBER_UNREGISTER, &range));
}

int cuffd_ioctl_wake(int fd, uint64_t start, uint64_t length) {
  struct cuffd_range range = {.start = start, .len = length};
  return result_of(ioctl(fd, NUMBER_WAKE, &range));
}

// Kernels before 6.15 leave the out field untouched on an early EAGAIN, and the field holds a negative errno on
// other failures: both mean that nothing was resolved.
static int resolved(int returned, int64_t reported, int64_t *done) {
  *done = reported > 0 ? reported : 0;
  return returned;
}

int cuffd_ioctl_copy(int fd, uint64_t dst, const void *src, uint64_t length, uint64_t mode, int64_t *done) {
  struct cuffd_copy arg = {.dst = dst, .src = (uint64_t)(uintptr_t)src, .len = length, .mode = mode, .copy = 0};
  return resolved(result_of(ioctl(fd, NUMBER_COPY, &arg)), arg.copy, done);
}

int cuffd_ioctl_zeropage(int fd, uint64_t start, uint64_t length, uint64_t mode, int64_t *done) {
  struct cuffd_zeropage arg = {.range = {.start = start, .len = length}, .mode = mode, .zeropage = 0};
  return resolved(result_of(ioctl(fd, NUMBER_ZEROPAGE, &arg)), arg.zeropage, done);
}

int cuffd_ioctl_move(int fd, uint64_t dst, uint64_t src, uint64_t length, uint64_t mode, int64_t *done) {
  struct cuffd_move arg = {.dst = dst, .src = src, .len = length, .mode = mode, .move = 0};
  return resolved(result_of(ioctl(fd, NUMBER_MOVE, &arg)), arg.move, done);
}

int cuffd_ioctl_continue(int fd, uint64_t start, uint64_t length, uint64_t mode, int64_t *done) {
  struct cuffd_continue arg = {.range = {.start = start, .len = length}, .mode = mode, .mapped = 0};
  return resolved(result_of(ioctl(fd, NUMBER_CONTINUE, &arg)), arg.mapped, done);
}

int cuffd_ioctl_poison(int fd, uint64_t start, uint64_t length, uint64_t mode, int64_t *done) {
  struct cuffd_poison arg = {.range = {.start = start, .len = length}, .mode = mode, .updated = 0};
  return resolved(result_of(ioctl(fd, NUMBER_POISON, &arg)), arg.updated, done);
}

int cuffd_ioctl_writeprotect(int fd, uint64_t start, uint64_t length, uint64_t mode) {
  struct cuffd_writeprotect arg = {.range = {.start = start, .len = length}, .mode = mode};
  return result_of(ioctl(fd, NUMBER_WRITEPROTECT, &arg));
}

int cuffd_read(int fd, struct cuffd_msg *messages, size_t capacity) {
  ssize_t count = read(fd, messages, capacity * sizeof(struct cuffd_msg));
  return count < 0 ? -errno : (int)((size_t)count / sizeof(struct cuffd_msg));
}

int64_t cuffd_pagemap_scan(int pagemap_fd, struct cuffd_pm_scan_arg *arg) {
  return result_of(ioctl(pagemap_fd, NUMBER_PAGEMAP_SCAN, arg));
}
