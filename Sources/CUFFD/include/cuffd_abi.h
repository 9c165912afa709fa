// The userfaultfd ABI of Linux 6.18, which does not depend on the headers of the build host.
//
// Every name has a prefix of its own, so this header never clashes with <linux/userfaultfd.h>, and nothing is missing
// on a host with older headers. abi_check.c proves each layout at compile time, against fixed numbers, and against
// the host's header if that header knows the name. calls.c proves the request numbers against fixed numbers.
#ifndef CUFFD_ABI_H
#define CUFFD_ABI_H

#include "cuffd_platform.h"

#include <fcntl.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

// Flags of userfaultfd(2). O_NONBLOCK is always necessary, because epoll reports EPOLLERR for a blocking descriptor.
static const int CUFFD_OPEN_FLAGS = O_CLOEXEC | O_NONBLOCK;
#define CUFFD_USER_MODE_ONLY 1  // 5.11: faults of user code only, needs no privilege

#define CUFFD_API_VERSION 0xAAULL

// Feature bits of UFFDIO_API, with the Linux version that introduced each of them.
#define CUFFD_FEATURE_PAGEFAULT_FLAG_WP (1ULL << 0)    // 5.7
#define CUFFD_FEATURE_EVENT_FORK (1ULL << 1)           // 4.11
#define CUFFD_FEATURE_EVENT_REMAP (1ULL << 2)          // 4.11
#define CUFFD_FEATURE_EVENT_REMOVE (1ULL << 3)         // 4.11
#define CUFFD_FEATURE_MISSING_HUGETLBFS (1ULL << 4)    // 4.11
#define CUFFD_FEATURE_MISSING_SHMEM (1ULL << 5)        // 4.11
#define CUFFD_FEATURE_EVENT_UNMAP (1ULL << 6)          // 4.11
#define CUFFD_FEATURE_SIGBUS (1ULL << 7)               // 4.14
#define CUFFD_FEATURE_THREAD_ID (1ULL << 8)            // 4.14
#define CUFFD_FEATURE_MINOR_HUGETLBFS (1ULL << 9)      // 5.13
#define CUFFD_FEATURE_MINOR_SHMEM (1ULL << 10)         // 5.14
#define CUFFD_FEATURE_EXACT_ADDRESS (1ULL << 11)       // 5.18
#define CUFFD_FEATURE_WP_HUGETLBFS_SHMEM (1ULL << 12)  // 5.19
#define CUFFD_FEATURE_WP_UNPOPULATED (1ULL << 13)      // 6.4
#define CUFFD_FEATURE_POISON (1ULL << 14)              // 6.6
#define CUFFD_FEATURE_WP_ASYNC (1ULL << 15)            // 6.7
#define CUFFD_FEATURE_MOVE (1ULL << 16)                // 6.8

// Modes of UFFDIO_REGISTER.
#define CUFFD_REGISTER_MODE_MISSING (1ULL << 0)
#define CUFFD_REGISTER_MODE_WP (1ULL << 1)
#define CUFFD_REGISTER_MODE_MINOR (1ULL << 2)

// Modes of the resolving requests.
#define CUFFD_COPY_MODE_DONTWAKE (1ULL << 0)
#define CUFFD_COPY_MODE_WP (1ULL << 1)
#define CUFFD_ZEROPAGE_MODE_DONTWAKE (1ULL << 0)
#define CUFFD_WRITEPROTECT_MODE_WP (1ULL << 0)
#define CUFFD_WRITEPROTECT_MODE_DONTWAKE (1ULL << 1)
#define CUFFD_CONTINUE_MODE_DONTWAKE (1ULL << 0)
#define CUFFD_CONTINUE_MODE_WP (1ULL << 1)
#define CUFFD_POISON_MODE_DONTWAKE (1ULL << 0)
#define CUFFD_MOVE_MODE_DONTWAKE (1ULL << 0)
#define CUFFD_MOVE_MODE_ALLOW_SRC_HOLES (1ULL << 1)

// Bit numbers of the request masks that UFFDIO_API and UFFDIO_REGISTER return.
#define CUFFD_REQUEST_REGISTER 0x00
#define CUFFD_REQUEST_UNREGISTER 0x01
#define CUFFD_REQUEST_WAKE 0x02
#define CUFFD_REQUEST_COPY 0x03
#define CUFFD_REQUEST_ZEROPAGE 0x04
#define CUFFD_REQUEST_MOVE 0x05
#define CUFFD_REQUEST_WRITEPROTECT 0x06
#define CUFFD_REQUEST_CONTINUE 0x07
#define CUFFD_REQUEST_POISON 0x08
#define CUFFD_REQUEST_API 0x3F

// Events of struct cuffd_msg.
#define CUFFD_EVENT_PAGEFAULT 0x12
#define CUFFD_EVENT_FORK 0x13
#define CUFFD_EVENT_REMAP 0x14
#define CUFFD_EVENT_REMOVE 0x15
#define CUFFD_EVENT_UNMAP 0x16

// Flags of a page-fault event.
#define CUFFD_PAGEFAULT_FLAG_WRITE (1ULL << 0)
#define CUFFD_PAGEFAULT_FLAG_WP (1ULL << 1)
#define CUFFD_PAGEFAULT_FLAG_MINOR (1ULL << 2)

struct cuffd_api {
  uint64_t api;
  uint64_t features;
  uint64_t ioctls;
};

struct cuffd_range {
  uint64_t start;
  uint64_t len;
};

struct cuffd_register {
  struct cuffd_range range;
  uint64_t mode;
  uint64_t ioctls;
};

struct cuffd_copy {
  uint64_t dst;
  uint64_t src;
  uint64_t len;
  uint64_t mode;
  int64_t copy;
};

struct cuffd_zeropage {
  struct cuffd_range range;
  uint64_t mode;
  int64_t zeropage;
};

struct cuffd_writeprotect {
  struct cuffd_range range;
  uint64_t mode;
};

struct cuffd_continue {
  struct cuffd_range range;
  uint64_t mode;
  int64_t mapped;
};

struct cuffd_poison {
  struct cuffd_range range;
  uint64_t mode;
  int64_t updated;
};

struct cuffd_move {
  uint64_t dst;
  uint64_t src;
  uint64_t len;
  uint64_t mode;
  int64_t move;
};

struct cuffd_msg {
  uint8_t event;
  uint8_t reserved1;
  uint16_t reserved2;
  uint32_t reserved3;
  union {
    struct {
      uint64_t flags;
      uint64_t address;
      union {
        uint32_t ptid;
      } feat;
    } pagefault;
    struct {
      uint32_t ufd;
    } fork;
    struct {
      uint64_t from;
      uint64_t to;
      uint64_t len;
    } remap;
    struct {
      uint64_t start;
      uint64_t end;
    } remove;
    struct {
      uint64_t reserved1;
      uint64_t reserved2;
      uint64_t reserved3;
    } reserved;
  } arg;
};

// PAGEMAP_SCAN, an ioctl of /proc/PID/pagemap (6.7).
#define CUFFD_PAGE_IS_WPALLOWED (1ULL << 0)
#define CUFFD_PAGE_IS_WRITTEN (1ULL << 1)
#define CUFFD_PAGE_IS_FILE (1ULL << 2)
#define CUFFD_PAGE_IS_PRESENT (1ULL << 3)
#define CUFFD_PAGE_IS_SWAPPED (1ULL << 4)
#define CUFFD_PAGE_IS_PFNZERO (1ULL << 5)
#define CUFFD_PAGE_IS_HUGE (1ULL << 6)
#define CUFFD_PAGE_IS_SOFT_DIRTY (1ULL << 7)
#define CUFFD_PAGE_IS_GUARD (1ULL << 8)
#define CUFFD_PM_SCAN_WP_MATCHING (1ULL << 0)
#define CUFFD_PM_SCAN_CHECK_WPASYNC (1ULL << 1)

struct cuffd_page_region {
  uint64_t start;
  uint64_t end;
  uint64_t categories;
};

struct cuffd_pm_scan_arg {
  uint64_t size;
  uint64_t flags;
  uint64_t start;
  uint64_t end;
  uint64_t walk_end;
  uint64_t vec;
  uint64_t vec_len;
  uint64_t max_pages;
  uint64_t category_inverted;
  uint64_t category_mask;
  uint64_t category_anyof_mask;
  uint64_t return_mask;
};

#pragma clang assume_nonnull end

#endif
