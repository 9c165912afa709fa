// What the event loop needs from the host beside userfaultfd: epoll, eventfd, threads with all signals blocked.
#ifndef CUFFD_HOST_H
#define CUFFD_HOST_H

#include "cuffd_platform.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cuffd_attributes.h"

#pragma clang assume_nonnull begin

int cuffd_epoll_create(void);

// Watches `fd` for input, level-triggered, under a `token` from 0 to 31.
int cuffd_epoll_add(int epoll_fd, int fd, uint32_t token);

// What one wait found, one bit for each token.
struct cuffd_ready {
  int result;  // how many descriptors are ready, or -errno
  uint32_t input;
  uint32_t error;
};

// Waits up to `timeout_milliseconds`; -1 means for ever.
struct cuffd_ready cuffd_epoll_wait(int epoll_fd, int timeout_milliseconds);

int cuffd_eventfd(void);
int cuffd_eventfd_signal(int fd);
int cuffd_eventfd_clear(int fd);

// A thread that has every signal blocked from its first instruction, except those of its own faults: a handler of the
// program must not run on the thread that serves faults, because it may touch lazy memory.
typedef struct cuffd_thread {
  uint64_t handle;
} cuffd_thread;

int cuffd_thread_start(cuffd_thread *thread, size_t stack_size, const char *name, void (*body)(void *), void *context);
int cuffd_thread_join(cuffd_thread thread);
int cuffd_thread_detach(cuffd_thread thread);
// Joins, or returns -ETIMEDOUT.
int cuffd_thread_join_within(cuffd_thread thread, uint64_t timeout_nanoseconds);
bool cuffd_thread_is_current(cuffd_thread thread);

// What the calling thread works for: 0 for a thread of the program, and 1 for a thread of the runtime's own until it says more.
// Safe in a signal handler.
CUFFD_NO_LOCKS uint64_t cuffd_thread_role(void);
void cuffd_thread_set_role(uint64_t role);

// A number that no other living thread of this process has. It costs no system call, as the thread's number does.
CUFFD_NO_LOCKS uint64_t cuffd_thread_token(void);

// A mutex, and a condition of what it protects, which threads wait for; for what is off the fault path. pthread's, because the
// sanitizers know them.
typedef struct cuffd_monitor cuffd_monitor;

cuffd_monitor *_Nullable cuffd_monitor_create(void);
void cuffd_monitor_enter(cuffd_monitor *monitor);
void cuffd_monitor_leave(cuffd_monitor *monitor);
// With the monitor entered; it is left while the thread sleeps. Returns 0, or -ETIMEDOUT; waits for ever where
// `timeout_nanoseconds` is UINT64_MAX.
int cuffd_monitor_wait(cuffd_monitor *monitor, uint64_t timeout_nanoseconds);
// Has all threads that wait look again, or one of them.
void cuffd_monitor_announce(cuffd_monitor *monitor);
void cuffd_monitor_announce_to_one(cuffd_monitor *monitor);
void cuffd_monitor_destroy(cuffd_monitor *monitor);

// The regular-file facts that the file provider needs, in one call.
struct cuffd_file_facts {
  int64_t size;
  uint32_t format;  // st_mode & S_IFMT
};

#define CUFFD_FORMAT_REGULAR 0100000u
#define CUFFD_FORMAT_DIRECTORY 0040000u

int cuffd_file_open(const char *path);
int cuffd_file_facts_of(int fd, struct cuffd_file_facts *facts);
// pread(2), retried on EINTR.
int64_t cuffd_file_pread(int fd, void *buffer, size_t count, int64_t offset);

// Anonymous private memory of the runtime's own, which reserves no swap. Returns 0 or -errno.
int cuffd_map_anonymous(size_t length, bool writable, void *_Nullable *_Nonnull address);
int cuffd_unmap(uint64_t address, size_t length);
int cuffd_protect_none(uint64_t address, size_t length);
int cuffd_discard(uint64_t address, size_t length);

// Memory for a lazy region: anonymous, reserves no swap, not inherited by fork, and certain to hold no page yet, even
// after mlockall(MCL_FUTURE). Returns 0 or -errno.
// `alignment` is a power of two that the address is a multiple of; 0 where any page will do.
int cuffd_map_lazy(size_t length, size_t alignment, bool writable, void *_Nullable *_Nonnull address);

// Memory of the runtime's own for one transparent huge page of `size` bytes, aligned to it, not inherited by fork (the
// kernel refuses to move a page that a child shares). Returns 0 or -errno.
int cuffd_map_huge_staging(size_t size, void *_Nullable *_Nonnull address);

// The size of a transparent huge page; 0 where there are none, or where the system never makes them.
size_t cuffd_huge_page_size(void);

// The same, of the texts of the two settings of the system, which end with a zero. 0 for a size that cannot be.
size_t cuffd_parse_huge_page_size(const char *enabled, const char *size);

// mincore(2): one byte for each page of the range, the lowest bit set where the page is there. Returns 0 or -errno.
int cuffd_residency(uint64_t address, size_t length, unsigned char *residency);

// 1 where mincore(2) says that the page is there; 0 for a page that is missing or poisoned.
int cuffd_is_resident(uint64_t page);

// /proc/self/pagemap: one byte for each page of the range, 1 where there is something in it (a page, or one that was swapped
// out, or a marker such as poison), 0 where there is nothing. Returns 0 or -errno.
int cuffd_page_states(uint64_t address, size_t length, unsigned char *states);

// mincore(2): whether there is memory in all of a range. Whether it can be read is not known.
bool cuffd_is_mapped(uint64_t address, size_t length);

// memcpy by the kernel (process_vm_readv(2)): -EFAULT, instead of a signal, where the source cannot be read; another -errno where
// a sandbox forbids the call. Returns 0 or -errno.
int cuffd_try_copy(void *destination, const void *source, size_t length);

// The same, or memcpy where that is forbidden.
int64_t cuffd_copy_if_readable(void *destination, const void *source, size_t length);

// strerror_r(3): the text for an error number, in `buffer` or in static memory.
const char *cuffd_error_text(int number, char *buffer, size_t capacity);

// Writes all of it to standard error, as far as that goes. Safe in a signal handler. Returns 0 or -errno.
int cuffd_write_error(const void *text, size_t length);

// As many zeros as the largest page of any Linux has bytes.
const void *cuffd_zeros(void);

size_t cuffd_page_size(void);
int64_t cuffd_process_id(void);
// gettid(2).
uint32_t cuffd_thread_id(void);
// 1 where a thread of this process sleeps in a fault of a userfaultfd, 0 where it does not, or -errno where /proc does not say:
// -ENOSYS of a thread that sleeps somewhere, on a kernel without symbols.
int cuffd_thread_waits_in_fault(uint32_t thread);
CUFFD_NO_LOCKS uint64_t cuffd_monotonic_nanoseconds(void);

// Sleeps, or only yields the CPU where `nanoseconds` is 0.
CUFFD_NO_LOCKS void cuffd_pause(uint32_t nanoseconds);

#pragma clang assume_nonnull end

#endif
