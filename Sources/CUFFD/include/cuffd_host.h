// What the library needs from the host beside userfaultfd: epoll, eventfd, threads, locks, files, memory and time.
#ifndef CUFFD_HOST_H
#define CUFFD_HOST_H

#include "cuffd_platform.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cuffd_attributes.h"

#pragma clang assume_nonnull begin

int cuffd_epoll_create(void);

// Watches `fd` for input, level-triggered, with a `token` from 0 to 31.
int cuffd_epoll_add(int epoll_fd, int fd, uint32_t token);

// What one wait has found, with one bit for each token.
struct cuffd_ready {
  int result;  // the number of ready descriptors, or -errno
  uint32_t input;
  uint32_t error;
};

// Waits for at most `timeout_milliseconds`; -1 means without limit.
struct cuffd_ready cuffd_epoll_wait(int epoll_fd, int timeout_milliseconds);

int cuffd_eventfd(void);
int cuffd_eventfd_signal(int fd);
int cuffd_eventfd_clear(int fd);

// A thread on which every signal is blocked from its first instruction, except the signals of its own faults. A
// handler of the program must not run on a thread that serves faults, because the handler may touch lazy memory.
typedef struct cuffd_thread {
  uint64_t handle;
} cuffd_thread;

int cuffd_thread_start(cuffd_thread *thread, size_t stack_size, const char *name, void (*body)(void *), void *context);
int cuffd_thread_join(cuffd_thread thread);
int cuffd_thread_detach(cuffd_thread thread);
// Joins the thread and returns 0, or returns -ETIMEDOUT if the thread has not ended in time.
int cuffd_thread_join_within(cuffd_thread thread, uint64_t timeout_nanoseconds);
bool cuffd_thread_is_current(cuffd_thread thread);

// The role of the calling thread: 0 for a thread of the program; for a thread of the runtime 1, or what the thread
// itself has set. Safe in a signal handler.
CUFFD_NO_LOCKS uint64_t cuffd_thread_role(void);
void cuffd_thread_set_role(uint64_t role);

// Returns a number that no other living thread of this process has. Unlike the thread id, it costs no system call.
CUFFD_NO_LOCKS uint64_t cuffd_thread_token(void);

// A mutex and a condition variable. They are those of pthreads, because the sanitizers know them.
typedef struct cuffd_monitor cuffd_monitor;

cuffd_monitor *_Nullable cuffd_monitor_create(void);
void cuffd_monitor_enter(cuffd_monitor *monitor);
void cuffd_monitor_leave(cuffd_monitor *monitor);
// Waits for an announcement. The caller has entered the monitor; other threads can enter it while the caller sleeps.
// Returns 0 or -ETIMEDOUT. If `timeout_nanoseconds` is UINT64_MAX, there is no time limit.
int cuffd_monitor_wait(cuffd_monitor *monitor, uint64_t timeout_nanoseconds);
// Wakes all threads that wait, or one of them.
void cuffd_monitor_announce(cuffd_monitor *monitor);
void cuffd_monitor_announce_to_one(cuffd_monitor *monitor);
void cuffd_monitor_destroy(cuffd_monitor *monitor);

// An event that is announced once (futex(2)). It has no lock, so all of this is safe in a signal handler, except that
// an event is created and destroyed.
typedef struct cuffd_event cuffd_event;

cuffd_event *_Nullable cuffd_event_create(void);
void cuffd_event_announce(cuffd_event *event);
// Waits for the announcement. Returns false if it does not come in time. No cancellation point.
bool cuffd_event_wait(cuffd_event *event, uint64_t timeout_nanoseconds);
void cuffd_event_destroy(cuffd_event *event);

// The facts about a file that the file provider needs.
struct cuffd_file_facts {
  int64_t size;
  uint32_t format;  // st_mode & S_IFMT
  uint64_t device, inode;
};

#define CUFFD_FORMAT_REGULAR 0100000u
#define CUFFD_FORMAT_DIRECTORY 0040000u

int cuffd_file_open(const char *path);
int cuffd_file_facts_of(int fd, struct cuffd_file_facts *facts);
// Calls pread(2), again after each EINTR. Returns the number of bytes or -errno.
int64_t cuffd_file_pread(int fd, void *buffer, size_t count, int64_t offset);
// The same for a descriptor that the program may have closed, or replaced by another file: -EBADF where it is not the
// file of these facts any more.
int64_t cuffd_file_pread_same(
    int fd, const struct cuffd_file_facts *facts, void *buffer, size_t count, int64_t offset);
// Closes the descriptor, unless it is not the file of these facts any more.
void cuffd_file_close_same(int fd, const struct cuffd_file_facts *facts);

// Maps anonymous private memory for the runtime itself, which reserves no swap. Returns 0 or -errno.
int cuffd_map_anonymous(size_t length, bool writable, void *_Nullable *_Nonnull address);
int cuffd_unmap(uint64_t address, size_t length);
int cuffd_protect_none(uint64_t address, size_t length);
int cuffd_discard(uint64_t address, size_t length);
// Calls madvise(2) with MADV_DONTDUMP. Returns 0 or -errno.
int cuffd_leave_out_of_core_dumps(uint64_t address, size_t length);

// Maps memory for a lazy region: it is anonymous, reserves no swap, is not inherited by a forked child, and is
// certain to contain no page yet, even after mlockall(MCL_FUTURE). `alignment` is a power of two of which the address
// is a multiple, or 0 if any page is suitable. Returns 0 or -errno.
int cuffd_map_lazy(size_t length, size_t alignment, bool writable, void *_Nullable *_Nonnull address);

// Maps memory for the runtime itself in which one transparent huge page of `size` bytes fits, aligned to its size. A
// forked child does not inherit it, because the kernel refuses to move a page that a child shares. Returns 0 or -errno.
int cuffd_map_huge_staging(size_t size, void *_Nullable *_Nonnull address);

// Returns the size of a transparent huge page, or 0 if the system has none or never makes them.
size_t cuffd_huge_page_size(void);

// Returns the same from the texts of the two settings of the system. The texts end with a zero. 0 means an
// impossible size.
size_t cuffd_parse_huge_page_size(const char *enabled, const char *size);

// Writes one byte for each page of the range (mincore(2)): the lowest bit is set if the page is resident.
// Returns 0 or -errno.
int cuffd_residency(uint64_t address, size_t length, unsigned char *residency);

// Returns 1 if mincore(2) says that the page is resident, and 0 for a page that is missing or poisoned.
int cuffd_is_resident(uint64_t page);

// Writes one byte for each page of the range, from /proc/thread-self/pagemap: 0 if the page is empty, and 1 if there
// is a page, a page that was swapped out, or a marker such as poison. Returns 0 or -errno.
int cuffd_page_states(uint64_t address, size_t length, unsigned char *states);

// Does the same without a file, for a process that cannot open one. A poisoned page counts as empty. If
// `may_be_swapped` is true, the kernel tries to read each page that is not in memory, and asks for a missing one if the
// userfaultfd serves system calls.
int cuffd_page_states_without_file(uint64_t address, size_t length, bool may_be_swapped, unsigned char *states);

// Whether the host has swap, so that a page of a program may be neither in memory nor missing.
bool cuffd_host_has_swap(void);

// Returns whether all of a range is mapped, as mincore(2) says. The memory may not be readable all the same.
bool cuffd_is_mapped(uint64_t address, size_t length);

// Copies with process_vm_readv(2). A source that cannot be read leads to -EFAULT instead of a signal. Returns 0 or
// -errno, which is not -EFAULT if a sandbox forbids the call.
int cuffd_try_copy(void *destination, const void *source, size_t length);

// Copies in the same way, or with memcpy if process_vm_readv(2) is forbidden. Returns 0 or -EFAULT.
int64_t cuffd_copy_if_readable(void *destination, const void *source, size_t length);

// Returns the text for an error number (strerror_r(3)), which is in `buffer` or in static memory.
const char *cuffd_error_text(int number, char *buffer, size_t capacity);

// Writes all of the text to standard error, as far as possible. Safe in a signal handler. Returns 0 or -errno.
int cuffd_write_error(const void *text, size_t length);

// Returns 64 KiB of zeros, as many bytes as the largest page has.
const void *cuffd_zeros(void);

size_t cuffd_page_size(void);
// gettid(2).
uint32_t cuffd_thread_id(void);
CUFFD_NO_LOCKS uint64_t cuffd_monotonic_nanoseconds(void);

// Sleeps for `nanoseconds`, or only yields the CPU if that is 0.
CUFFD_NO_LOCKS void cuffd_pause(uint32_t nanoseconds);

#pragma clang assume_nonnull end

#endif
