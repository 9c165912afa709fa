// Memory that is mapped twice: once for the program, without access to pages that are not there, and once to
// fill the pages.
#ifndef CUFFD_TWIN_H
#define CUFFD_TWIN_H

#include "cuffd_platform.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cuffd_attributes.h"

#pragma clang assume_nonnull begin

// Maps the pages of a new memfd twice: at `address`, which the caller has reserved, without access, and at `*twin`
// for reading and writing. The size of the memfd is sealed, a forked child inherits neither mapping, and no page is
// resident, even after mlockall(MCL_FUTURE). The descriptor is closed again. Returns 0, or -errno if the
// reservation is unchanged.
int cuffd_twin_map(uint64_t address, size_t length, void *_Nullable *_Nonnull twin);

// Returns whether the kernel has guard markers for shared memory (MADV_GUARD_INSTALL, Linux 6.15). The first call makes
// a few system calls to find out.
bool cuffd_has_guards(void);

// Puts a guard marker in the place of each page, whose touch raises SIGSEGV whatever the protection of the mapping is.
// The bytes of the pages stay in the memfd. Returns 0 or -errno.
CUFFD_NO_LOCKS int cuffd_guards_install(uint64_t address, size_t length);

// Removes guard markers, so that the program can use the pages. Returns 0 or -errno: -ENOENT if a part is not mapped.
CUFFD_NO_LOCKS int cuffd_guards_remove(uint64_t address, size_t length);

// Returns how many of the pages from `address` on, which the twin has been given, are mapped there (mincore(2)). The
// program may have put other memory in their place, or other pages of the same memory.
CUFFD_NO_LOCKS size_t cuffd_own_pages(uint64_t address, size_t page_count, size_t page_size);

// Allocates the memory for pages of the twin, so that writing to them cannot fail. Returns 0 or -errno.
CUFFD_NO_LOCKS int cuffd_twin_populate(uint64_t address, size_t length);

// Frees the memory of pages, which then read as zero through both mappings. Returns 0 or -errno.
CUFFD_NO_LOCKS int cuffd_twin_remove(uint64_t address, size_t length);

// Lets the program read the pages from now on, and write to them if `writable` (mprotect(2)). Returns 0 or -errno:
// -ENOMEM at the limit of mappings, -ENOENT if the pages are not mapped.
CUFFD_NO_LOCKS int cuffd_twin_open(uint64_t address, size_t length, bool writable);

// Maps a reserve of mappings that can be given up later: pages that are never touched, with `seams` seams between
// them. The kernel counts two more mappings for each seam. Returns 0 or -errno.
int cuffd_reserve_map(size_t page_size, unsigned seams, void *_Nullable *_Nonnull reserve);

// Gives up the two mappings that seam `number` costs. Returns 0 or -errno.
CUFFD_NO_LOCKS int cuffd_reserve_release(uint64_t reserve, size_t page_size, unsigned number);

// Takes the two mappings of seam `number` back. Returns 0 or -errno. In case of an error at most one mapping has been
// taken, which the next try for the same seam needs as well.
CUFFD_NO_LOCKS int cuffd_reserve_restore(uint64_t reserve, size_t page_size, unsigned number);

// Returns the number of pages of a reserve.
CUFFD_NO_LOCKS size_t cuffd_reserve_pages(unsigned seams);

// Returns vm.max_map_count, or the kernel's default if it cannot be read.
long cuffd_mapping_limit(void);

#pragma clang assume_nonnull end

#endif
