// Memory that is mapped twice: once for the program, page by page without access, and once to fill it.
#ifndef CUFFD_TWIN_H
#define CUFFD_TWIN_H

#include "cuffd_platform.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cuffd_attributes.h"

#pragma clang assume_nonnull begin

// Puts the pages of a new memfd without access at `address`, which the caller has reserved, and at `*twin` for reading and
// writing. Its size is sealed, both are not inherited by fork, and no page of it is there, even after mlockall(MCL_FUTURE).
// The descriptor is closed again. Returns 0 or -errno; the reservation then stands.
int cuffd_twin_map(uint64_t address, size_t length, void *_Nullable *_Nonnull twin);

// Has memory for pages of the twin, so that writing to them cannot fail. Returns 0 or -errno.
CUFFD_NO_LOCKS int cuffd_twin_populate(uint64_t address, size_t length);

// Gives pages back: they read as zero then, through either mapping. Returns 0 or -errno.
CUFFD_NO_LOCKS int cuffd_twin_remove(uint64_t address, size_t length);

// mprotect(2): what the program may do with the pages from now on. Returns 0 or -errno; -ENOENT where they are not mapped.
CUFFD_NO_LOCKS int cuffd_twin_open(uint64_t address, size_t length, bool writable);

// Mappings that are kept so that they can be given up: `*reserve` is a stretch of pages that are never touched, with `seams` seams in
// it. The kernel counts two mappings more for each. Returns 0 or -errno.
int cuffd_reserve_map(size_t page_size, unsigned seams, void *_Nullable *_Nonnull reserve);

// Gives the two up that seam `number` costs. Returns 0 or -errno.
CUFFD_NO_LOCKS int cuffd_reserve_release(uint64_t reserve, size_t page_size, unsigned number);

// Takes them back. Returns 0 or -errno; then at most one is taken, which the next try for the same seam needs as well.
CUFFD_NO_LOCKS int cuffd_reserve_restore(uint64_t reserve, size_t page_size, unsigned number);

// How many pages a reserve has.
CUFFD_NO_LOCKS size_t cuffd_reserve_pages(unsigned seams);

// vm.max_map_count; the kernel's default where it cannot be read.
long cuffd_mapping_limit(void);

#pragma clang assume_nonnull end

#endif
