// The system calls and ioctls of userfaultfd. Each function returns a result that is not negative, or -errno, so that
// no other code can run between the call and the reading of errno.
#ifndef CUFFD_CALLS_H
#define CUFFD_CALLS_H

#include "cuffd_platform.h"

#include <stddef.h>
#include <stdint.h>

#include "cuffd_abi.h"
#include "cuffd_attributes.h"

#pragma clang assume_nonnull begin

// Calls userfaultfd(2). The flags reach the kernel as a plain register argument, so that a seccomp filter can judge
// them.
int cuffd_open(int flags);

// Calls USERFAULTFD_IOC_NEW on the device node at `path`. The flags are those of userfaultfd(2).
int cuffd_open_device(const char *path, int flags);

int cuffd_close(int fd);

int cuffd_ioctl_api(int fd, struct cuffd_api *arg);
int cuffd_ioctl_register(int fd, struct cuffd_register *arg);
int cuffd_ioctl_unregister(int fd, uint64_t start, uint64_t length);
int cuffd_ioctl_wake(int fd, uint64_t start, uint64_t length);

// Ends the process with a line on standard error if the descriptor is not a userfaultfd any more.
CUFFD_NO_LOCKS void cuffd_end_if_lost(int fd);

// The resolving requests. They end the process as cuffd_end_if_lost does. On return `*done` is the number of bytes that
// the kernel reports as resolved, which may be 0. They return 0 or -errno. A partial result is -EAGAIN with *done > 0.
CUFFD_NO_LOCKS int cuffd_ioctl_copy(
    int fd, uint64_t dst, const void *src, uint64_t length, uint64_t mode, int64_t *done);
CUFFD_NO_LOCKS int cuffd_ioctl_zeropage(int fd, uint64_t start, uint64_t length, uint64_t mode, int64_t *done);
int cuffd_ioctl_move(int fd, uint64_t dst, uint64_t src, uint64_t length, uint64_t mode, int64_t *done);
CUFFD_NO_LOCKS int cuffd_ioctl_continue(int fd, uint64_t start, uint64_t length, uint64_t mode, int64_t *done);
CUFFD_NO_LOCKS int cuffd_ioctl_poison(int fd, uint64_t start, uint64_t length, uint64_t mode, int64_t *done);
int cuffd_ioctl_writeprotect(int fd, uint64_t start, uint64_t length, uint64_t mode);

// Reads up to `capacity` messages in one read(2). Returns their number or -errno (-EAGAIN: no message is waiting).
int cuffd_read(int fd, struct cuffd_msg *messages, size_t capacity);

// Calls PAGEMAP_SCAN on an open /proc/PID/pagemap. Returns the number of regions written, or -errno.
int64_t cuffd_pagemap_scan(int pagemap_fd, struct cuffd_pm_scan_arg *arg);

#pragma clang assume_nonnull end

#endif
