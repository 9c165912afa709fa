#include "cuffd_calls.h"
#include "cuffd_descriptors.h"
#include "cuffd_signals.h"
#include "cuffd_trouble.h"

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

// _IOWR and similar macros differ between architectures. These are the numbers of the architectures that the
// library is built for.
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

// Calls ioctl(2) without the C library on the architectures that the library is built for. A fault finds the caches
// cold, because the kernel has just been at work, so each cache line of code that it does not need makes it faster.
static inline int request(int fd, unsigned long number, void *argument) {
#if defined(__x86_64__) && defined(__LP64__)
  long result = SYS_ioctl;
  __asm__ volatile("syscall" : "+a"(result) : "D"((long)fd), "S"(number), "d"(argument) : "rcx", "r11", "memory");
  return (int)result;
#elif defined(__aarch64__) && defined(__LP64__)
  register long result __asm__("x0") = fd;
  register unsigned long second __asm__("x1") = number;
  register void *third __asm__("x2") = argument;
  register long call __asm__("x8") = SYS_ioctl;
  __asm__ volatile("svc 0" : "+r"(result) : "r"(second), "r"(third), "r"(call) : "memory");
  return (int)result;
#else
  return result_of(ioctl(fd, number, argument));
#endif
}

int cuffd_open(int flags) { return cuffd_above_standard(result_of(syscall(SYS_userfaultfd, (long)flags))); }

int cuffd_open_device(const char *path, int flags) {
  int device = open(path, O_RDWR | O_CLOEXEC);
  device = device < 0 ? -errno : cuffd_above_standard(device);
  if (device < 0) return device;
  int fd = result_of(ioctl(device, NUMBER_NEW, (unsigned long)flags));
  close(device);
  return cuffd_above_standard(fd);
}

int cuffd_close(int fd) {
  // close(2) is a cancellation point before it closes anything.
  int cancellation = cuffd_cancellation_off();
  int result = result_of(close(fd));
  cuffd_cancellation_restore(cancellation);
  return result;
}

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

void cuffd_end_if_lost(int fd) {
  if (!cuffd_is_userfaultfd(fd)) cuffd_end_without("userfaultfd", fd);
}

enum {
  MAY_STOP = 1 << CUFFD_TROUBLE_AGAIN | 1 << CUFFD_TROUBLE_PARTIAL | 1 << CUFFD_TROUBLE_NO_MEMORY,
  MAY_BE_BUSY = MAY_STOP | 1 << CUFFD_TROUBLE_BUSY,
  // A lack of memory for poison ends the program, so it is not simulated.
  MAY_WAIT = 1 << CUFFD_TROUBLE_AGAIN,
  MAY_READ_LESS = 1 << CUFFD_TROUBLE_INTERRUPTED | 1 << CUFFD_TROUBLE_SHORT_READ,
};

// Makes a resolving request. `length` and `reported` are fields of its argument. Kernels before 6.15 leave the output
// field unchanged on an early EAGAIN, and on other failures the field contains a negative errno. Both mean that
// nothing was resolved.
static int resolve(
    int fd, unsigned long number, void *argument, uint64_t *length, const int64_t *reported, int64_t *done,
    uint32_t troubles) {
  *done = 0;
#ifdef CUFFD_TROUBLE
  enum cuffd_trouble trouble = cuffd_trouble_next(troubles);
  if (trouble == CUFFD_TROUBLE_NO_MEMORY) return -ENOMEM;
  if (trouble == CUFFD_TROUBLE_BUSY) return -EBUSY;
  if (trouble == CUFFD_TROUBLE_AGAIN) return -EAGAIN;
  if (trouble == CUFFD_TROUBLE_PARTIAL) {
    *length = cuffd_trouble_part(*length);
    if (*length == 0) return -EAGAIN;
  }
#else
  (void)length;
  (void)troubles;
#endif
  int result = request(fd, number, argument);
  // These two come from a userfaultfd, and are not rare.
  if (result < 0 && result != -EEXIST && result != -EAGAIN) cuffd_end_if_lost(fd);
  *done = *reported > 0 ? *reported : 0;
#ifdef CUFFD_TROUBLE
  if (trouble == CUFFD_TROUBLE_PARTIAL && result >= 0) result = -EAGAIN;
#endif
  return result;
}

int cuffd_ioctl_copy(int fd, uint64_t dst, const void *src, uint64_t length, uint64_t mode, int64_t *done) {
  struct cuffd_copy arg = {.dst = dst, .src = (uint64_t)(uintptr_t)src, .len = length, .mode = mode, .copy = 0};
  return resolve(fd, NUMBER_COPY, &arg, &arg.len, &arg.copy, done, MAY_STOP);
}

int cuffd_ioctl_zeropage(int fd, uint64_t start, uint64_t length, uint64_t mode, int64_t *done) {
  struct cuffd_zeropage arg = {.range = {.start = start, .len = length}, .mode = mode, .zeropage = 0};
  return resolve(fd, NUMBER_ZEROPAGE, &arg, &arg.range.len, &arg.zeropage, done, MAY_STOP);
}

int cuffd_ioctl_move(int fd, uint64_t dst, uint64_t src, uint64_t length, uint64_t mode, int64_t *done) {
  struct cuffd_move arg = {.dst = dst, .src = src, .len = length, .mode = mode, .move = 0};
  return resolve(fd, NUMBER_MOVE, &arg, &arg.len, &arg.move, done, MAY_BE_BUSY);
}

int cuffd_ioctl_continue(int fd, uint64_t start, uint64_t length, uint64_t mode, int64_t *done) {
  struct cuffd_continue arg = {.range = {.start = start, .len = length}, .mode = mode, .mapped = 0};
  return resolve(fd, NUMBER_CONTINUE, &arg, &arg.range.len, &arg.mapped, done, MAY_STOP);
}

int cuffd_ioctl_poison(int fd, uint64_t start, uint64_t length, uint64_t mode, int64_t *done) {
  struct cuffd_poison arg = {.range = {.start = start, .len = length}, .mode = mode, .updated = 0};
  return resolve(fd, NUMBER_POISON, &arg, &arg.range.len, &arg.updated, done, MAY_WAIT);
}

int cuffd_ioctl_writeprotect(int fd, uint64_t start, uint64_t length, uint64_t mode) {
  struct cuffd_writeprotect arg = {.range = {.start = start, .len = length}, .mode = mode};
  return result_of(ioctl(fd, NUMBER_WRITEPROTECT, &arg));
}

int cuffd_read(int fd, struct cuffd_msg *messages, size_t capacity) {
#ifdef CUFFD_TROUBLE
  enum cuffd_trouble trouble = cuffd_trouble_next(MAY_READ_LESS);
  if (trouble == CUFFD_TROUBLE_INTERRUPTED) return -EINTR;
  if (trouble == CUFFD_TROUBLE_SHORT_READ) capacity = 1;
#endif
  ssize_t count = read(fd, messages, capacity * sizeof(struct cuffd_msg));
  return count < 0 ? -errno : (int)((size_t)count / sizeof(struct cuffd_msg));
}

int64_t cuffd_pagemap_scan(int pagemap_fd, struct cuffd_pm_scan_arg *arg) {
  return result_of(ioctl(pagemap_fd, NUMBER_PAGEMAP_SCAN, arg));
}
