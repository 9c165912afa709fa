// Memory of every kind that a userfaultfd accepts, children that touch it on command, and pinned pages.
#ifndef CTEST_MEMORY_H
#define CTEST_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

enum cts_memory { CTS_ANON, CTS_SHMEM, CTS_SHMEM_PRIVATE, CTS_HUGETLB, CTS_HUGETLB_PRIVATE };

// Maps `length` bytes at a multiple of `alignment`, a power of two. For a shared kind, `*alias` is a second mapping
// of the same pages; otherwise it is 0. Returns 0 or -errno.
int cts_map_memory(enum cts_memory kind, size_t length, size_t alignment, uintptr_t *address, uintptr_t *alias);

// Reserves address space without memory, at a multiple of `alignment`. Returns 0 or -errno.
int cts_reserve(size_t length, size_t alignment, uintptr_t *address);

// Moves the whole range to `to` with mremap(2), replacing the mappings there. Returns 0 or -errno.
int cts_move_mapping(uintptr_t from, size_t length, uintptr_t to);
// The same, but the mapping stays at its old place as well, without its pages (MREMAP_DONTUNMAP).
int cts_move_pages(uintptr_t from, size_t length, uintptr_t to);

// Forbids changes of a mapping (mseal(2), Linux 6.10). Returns 0 or -errno.
int cts_seal(uintptr_t address, size_t length);

// Makes a huge page of the range at once (MADV_COLLAPSE). Returns 0 or -errno.
int cts_collapse(uintptr_t address, size_t length);

// Returns the bits of a page in /proc/self/pagemap from bit 55 on, or -errno.
#define CTS_PAGE_EXCLUSIVE 2
#define CTS_PAGE_WRITE_PROTECTED 4
int cts_page_bits(uintptr_t address);

// Pins pages as the target of a device until the returned descriptor is closed. Returns the descriptor, or -errno.
int cts_pin(uintptr_t address, size_t length);

// A forked child that executes commands, and ends with its parent.
struct cts_child {
  int process;  // negative if there is no child
  int orders, replies;
};
enum cts_command { CTS_READ, CTS_WRITE, CTS_LOOK };

// Forks a child. The call blocks until the event of the fork has been read, if there is one.
struct cts_child cts_child_start(void);
// Tells the child to read a byte, to write one, or to look up its own page bits.
void cts_child_begin(struct cts_child child, enum cts_command command, uintptr_t address, uint8_t value);
// Waits for the result for at most `timeout_milliseconds`. Returns the byte or the bits, minus the signal that the
// access raised, or -1000 - errno if the child itself failed.
int cts_child_finish(struct cts_child child, int timeout_milliseconds);
// Kills the child.
void cts_child_end(struct cts_child child);

#pragma clang assume_nonnull end

#endif
