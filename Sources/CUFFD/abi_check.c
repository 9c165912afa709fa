// Proves at compile time that the declarations in cuffd_abi.h agree with the kernel's ABI.
#include "cuffd_abi.h"

#include <linux/userfaultfd.h>
#include <stddef.h>

#define SIZE_IS(type, size) _Static_assert(sizeof(struct type) == (size), #type " has the wrong size")
#define OFFSET_IS(type, field, offset) \
  _Static_assert(offsetof(struct type, field) == (offset), #type "." #field " is misplaced")

SIZE_IS(cuffd_api, 24);
SIZE_IS(cuffd_range, 16);
SIZE_IS(cuffd_register, 32);
SIZE_IS(cuffd_copy, 40);
SIZE_IS(cuffd_zeropage, 32);
SIZE_IS(cuffd_writeprotect, 24);
SIZE_IS(cuffd_continue, 32);
SIZE_IS(cuffd_poison, 32);
SIZE_IS(cuffd_move, 40);
SIZE_IS(cuffd_msg, 32);
SIZE_IS(cuffd_page_region, 24);
SIZE_IS(cuffd_pm_scan_arg, 96);

OFFSET_IS(cuffd_copy, copy, 32);
OFFSET_IS(cuffd_zeropage, zeropage, 24);
OFFSET_IS(cuffd_continue, mapped, 24);
OFFSET_IS(cuffd_poison, updated, 24);
OFFSET_IS(cuffd_move, move, 32);
OFFSET_IS(cuffd_msg, arg.pagefault.flags, 8);
OFFSET_IS(cuffd_msg, arg.pagefault.address, 16);
OFFSET_IS(cuffd_msg, arg.pagefault.feat.ptid, 24);
OFFSET_IS(cuffd_msg, arg.fork.ufd, 8);
OFFSET_IS(cuffd_msg, arg.remap.len, 24);
OFFSET_IS(cuffd_msg, arg.remove.end, 16);

// A name that the host's header knows must have the same meaning there.
#define SAME_SIZE(ours, theirs) \
  _Static_assert(sizeof(struct ours) == sizeof(struct theirs), #ours " and " #theirs " differ in size")
#define SAME_VALUE(ours, theirs) _Static_assert((ours) == (theirs), #ours " and " #theirs " differ")

SAME_SIZE(cuffd_api, uffdio_api);
SAME_SIZE(cuffd_register, uffdio_register);
SAME_SIZE(cuffd_copy, uffdio_copy);
SAME_SIZE(cuffd_zeropage, uffdio_zeropage);
SAME_SIZE(cuffd_msg, uffd_msg);
SAME_VALUE(CUFFD_API_VERSION, UFFD_API);
SAME_VALUE(CUFFD_EVENT_PAGEFAULT, UFFD_EVENT_PAGEFAULT);
SAME_VALUE(CUFFD_EVENT_FORK, UFFD_EVENT_FORK);
SAME_VALUE(CUFFD_EVENT_REMAP, UFFD_EVENT_REMAP);
SAME_VALUE(CUFFD_EVENT_REMOVE, UFFD_EVENT_REMOVE);
SAME_VALUE(CUFFD_EVENT_UNMAP, UFFD_EVENT_UNMAP);
SAME_VALUE(CUFFD_FEATURE_SIGBUS, UFFD_FEATURE_SIGBUS);
SAME_VALUE(CUFFD_FEATURE_THREAD_ID, UFFD_FEATURE_THREAD_ID);
#ifdef UFFD_USER_MODE_ONLY
SAME_VALUE(CUFFD_USER_MODE_ONLY, UFFD_USER_MODE_ONLY);
#endif
#ifdef UFFDIO_WRITEPROTECT
SAME_SIZE(cuffd_writeprotect, uffdio_writeprotect);
SAME_VALUE(CUFFD_WRITEPROTECT_MODE_DONTWAKE, UFFDIO_WRITEPROTECT_MODE_DONTWAKE);
#endif
#ifdef UFFDIO_CONTINUE
SAME_SIZE(cuffd_continue, uffdio_continue);
#endif
#ifdef UFFD_FEATURE_EXACT_ADDRESS
SAME_VALUE(CUFFD_FEATURE_EXACT_ADDRESS, UFFD_FEATURE_EXACT_ADDRESS);
#endif
#ifdef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
SAME_VALUE(CUFFD_FEATURE_WP_HUGETLBFS_SHMEM, UFFD_FEATURE_WP_HUGETLBFS_SHMEM);
#endif
#ifdef UFFD_FEATURE_WP_UNPOPULATED
SAME_VALUE(CUFFD_FEATURE_WP_UNPOPULATED, UFFD_FEATURE_WP_UNPOPULATED);
#endif
#ifdef UFFD_FEATURE_WP_ASYNC
SAME_VALUE(CUFFD_FEATURE_WP_ASYNC, UFFD_FEATURE_WP_ASYNC);
#endif
#ifdef UFFDIO_POISON
SAME_SIZE(cuffd_poison, uffdio_poison);
SAME_VALUE(CUFFD_FEATURE_POISON, UFFD_FEATURE_POISON);
#endif
#ifdef UFFDIO_MOVE
SAME_SIZE(cuffd_move, uffdio_move);
SAME_VALUE(CUFFD_FEATURE_MOVE, UFFD_FEATURE_MOVE);
#endif
