#define _GNU_SOURCE
#include "CTestMemory.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "CStressSupport.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

int cts_reserve(size_t length, size_t alignment, uintptr_t *address) {
  size_t total = length + alignment;
  void *memory = mmap(NULL, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return -errno;
  uintptr_t start = (uintptr_t)memory;
  uintptr_t aligned = (start + alignment - 1) & ~((uintptr_t)alignment - 1);
  if (aligned > start) munmap(memory, aligned - start);
  if (start + total > aligned + length) munmap((void *)(aligned + length), start + total - aligned - length);
  *address = aligned;
  return 0;
}

static int map_at_reserved(size_t length, size_t alignment, int flags, int fd, uintptr_t *address) {
  int result = cts_reserve(length, alignment, address);
  if (result < 0) return result;
  if (mmap((void *)*address, length, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0) != MAP_FAILED) return 0;
  result = -errno;
  munmap((void *)*address, length);
  return result;
}

int cts_map_memory(enum cts_memory kind, size_t length, size_t alignment, uintptr_t *address, uintptr_t *alias) {
  int huge = kind == CTS_HUGETLB || kind == CTS_HUGETLB_PRIVATE;
  *alias = 0;
  if (kind == CTS_ANON || kind == CTS_HUGETLB_PRIVATE) {
    return map_at_reserved(length, alignment, MAP_PRIVATE | MAP_ANONYMOUS | (huge ? MAP_HUGETLB : 0), -1, address);
  }
  int fd = (int)syscall(SYS_memfd_create, "conformance", 1u | (huge ? 4u : 0u));
  if (fd < 0) return -errno;
  int result = ftruncate(fd, (off_t)length) < 0 ? -errno : 0;
  int flags = kind == CTS_SHMEM_PRIVATE ? MAP_PRIVATE : MAP_SHARED;
  if (result == 0) result = map_at_reserved(length, alignment, flags, fd, address);
  if (result == 0 && flags == MAP_SHARED) {
    result = map_at_reserved(length, alignment, flags, fd, alias);
    if (result < 0) munmap((void *)*address, length);
  }
  close(fd);
  return result;
}

int cts_move_mapping(uintptr_t from, size_t length, uintptr_t to) {
  void *moved = mremap((void *)from, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)to);
  return moved == MAP_FAILED ? -errno : 0;
}

int cts_move_pages(uintptr_t from, size_t length, uintptr_t to) {
  enum { DONT_UNMAP = 4 };  // older headers do not have it
  int flags = MREMAP_MAYMOVE | MREMAP_FIXED | DONT_UNMAP;
  return mremap((void *)from, length, length, flags, (void *)to) == MAP_FAILED ? -errno : 0;
}

int cts_seal(uintptr_t address, size_t length) {
  enum { MSEAL = 462 };  // older headers do not have it
  return syscall(MSEAL, address, length, 0) < 0 ? -errno : 0;
}

int cts_collapse(uintptr_t address, size_t length) {
  return madvise((void *)address, length, MADV_COLLAPSE) < 0 ? -errno : 0;
}

int cts_page_bits(uintptr_t address) {
  uint64_t entry = 0;
  int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  off_t offset = (off_t)(address / (uintptr_t)sysconf(_SC_PAGESIZE) * sizeof entry);
  ssize_t count = pread(fd, &entry, sizeof entry, offset);
  int result = count < 0 ? -errno : (int)(entry >> 55);
  close(fd);
  return result;
}

int cts_pin(uintptr_t address, size_t length) {
  struct io_uring_params parameters = {0};
  struct iovec buffer = {(void *)address, length};
  int fd = (int)syscall(SYS_io_uring_setup, 1, &parameters);
  if (fd < 0) return -errno;
  if (syscall(SYS_io_uring_register, fd, IORING_REGISTER_BUFFERS, &buffer, 1) == 0) return fd;
  int result = -errno;
  close(fd);
  return result;
}

struct order {
  enum cts_command command;
  uint8_t value;
  uintptr_t address;
};

static int obey(struct order order) {
  uint8_t byte = order.value;
  int number = 0;
  switch (order.command) {
    case CTS_READ: number = cstress_read(order.address, &byte, 1); break;
    case CTS_WRITE: number = cstress_write(order.address, &byte, 1); break;
    case CTS_LOOK: {
      int bits = cts_page_bits(order.address);
      return bits < 0 ? -1000 + bits : bits;
    }
  }
  return number != 0 ? -number : byte;
}

struct cts_child cts_child_start(void) {
  int orders[2], replies[2];
  struct cts_child child = {.process = -1};
  if (pipe2(orders, O_CLOEXEC) < 0 || pipe2(replies, O_CLOEXEC) < 0) return child;
  // glibc's fork holds the locks of malloc meanwhile, so the thread that has to read the event could not allocate.
  child.process = (int)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
  if (child.process == 0) {
    struct order order;
    close(orders[1]);
    while (read(orders[0], &order, sizeof order) == (ssize_t)sizeof order) {
      int reply = obey(order);
      if (write(replies[1], &reply, sizeof reply) < 0) break;
    }
    _exit(0);
  }
  close(orders[0]);
  close(replies[1]);
  child.orders = orders[1];
  child.replies = replies[0];
  return child;
}

void cts_child_begin(struct cts_child child, enum cts_command command, uintptr_t address, uint8_t value) {
  struct order order = {.command = command, .value = value, .address = address};
  if (write(child.orders, &order, sizeof order) < 0) abort();
}

int cts_child_finish(struct cts_child child, int timeout_milliseconds) {
  int reply = 0;
  struct pollfd entry = {.fd = child.replies, .events = POLLIN};
  if (poll(&entry, 1, timeout_milliseconds) <= 0) return -1000 - ETIMEDOUT;
  return read(child.replies, &reply, sizeof reply) == (ssize_t)sizeof reply ? reply : -1000 - EPIPE;
}

void cts_child_end(struct cts_child child) {
  kill(child.process, SIGKILL);
  waitpid(child.process, NULL, 0);
  close(child.orders);
  close(child.replies);
}
