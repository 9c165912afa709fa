// Memory of every kind that a userfaultfd takes, children that touch it when told, and pages that are pinned.
#ifndef CTEST_MEMORY_H
#define CTEST_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

enum cts_memory { CTS_ANON, CTS_SHMEM, CTS_SHMEM_PRIVATE, CTS_HUGETLB, CTS_HUGETLB_PRIVATE };

// Maps `length` bytes at a multiple of `alignment`, a power of two. `*alias` is a second mapping of the same pages where the
// kind is a shared one, else 0. Returns 0 or -errno.
int cts_map_memory(enum cts_memory kind, size_t length, size_t alignment, uintptr_t *address, uintptr_t *alias);

// Address space without memory, at a multiple of `alignment`. Returns 0 or -errno.
int cts_reserve(size_t length, size_t alignment, uintptr_t *address);

// mremap(2) of the whole range to `to`, over what is there. Returns 0 or -errno.
int cts_move_mapping(uintptr_t from, size_t length, uintptr_t to);

// MADV_COLLAPSE: makes a huge page of the range at once. Returns 0 or -errno.
int cts_collapse(uintptr_t address, size_t length);

// What /proc/self/pagemap says of a page, or -errno.
#define CTS_PAGE_EXCLUSIVE 2
#define CTS_PAGE_WRITE_PROTECTED 4
int cts_page_bits(uintptr_t address);

// Pins pages as the target of a device, until the returned descriptor is closed. Returns it, or -errno.
int cts_pin(uintptr_t address, size_t length);

// A forked child that does nothing but what it is told, and ends with its parent.
struct cts_child {
  int process;  // negative where there is none
  int orders, replies;
};
enum cts_command { CTS_READ, CTS_WRITE, CTS_LOOK };

// fork(2), which blocks while the event has not been read.
struct cts_child cts_child_start(void);
// Tells the child to read a byte, to write one, or to look up its own page bits.
void cts_child_begin(struct cts_child child, enum cts_command command, uintptr_t address, uint8_t value);
// The result: the byte, or the bits. Minus the signal that the access raised, -1000 - errno on failure of the child itself.
// Waits for at most `timeout_milliseconds`.
int cts_child_finish(struct cts_child child, int timeout_milliseconds);
// Kills the child.
void cts_child_end(struct cts_child child);

#pragma clang assume_nonnull end

#endif
