#define _GNU_SOURCE
#include "cuffd_twin.h"
#include "cuffd_descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

// Older headers do not have these constants: MFD_NOEXEC_SEAL, and those of MADV_POPULATE_WRITE and the like.
enum { NO_EXEC_SEAL = 8, POPULATE_WRITE = 23, GUARD_INSTALL = 102, GUARD_REMOVE = 103 };

static int make_file(size_t length) {
  struct rlimit limit;
  // A file that is longer than this limit would raise SIGXFSZ.
  if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && length > limit.rlim_cur) return -EFBIG;
  unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  int fd = (int)syscall(SYS_memfd_create, "fault-runtime", flags | NO_EXEC_SEAL);
  // Kernels before 6.3 do not know MFD_NOEXEC_SEAL.
  if (fd < 0 && errno == EINVAL) fd = (int)syscall(SYS_memfd_create, "fault-runtime", flags);
  fd = fd < 0 ? -errno : cuffd_above_standard(fd);
  if (fd < 0) return fd;
  if (ftruncate(fd, (off_t)length) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
    int error = errno;
    close(fd);
    return -error;
  }
  return fd;
}

// Maps without access, because after mlockall(MCL_FUTURE) the kernel would fill an accessible mapping with zeros at
// once.
static void *map_without_access(void *place, size_t length, int fd) {
  int flags = MAP_SHARED | MAP_NORESERVE | (place != NULL ? MAP_FIXED : 0);
  void *mapped = mmap(place, length, PROT_NONE, flags, fd, 0);
  if (mapped == MAP_FAILED) return MAP_FAILED;
  // A forked child must not inherit the mapping: no thread would serve its faults, and it would share the pages.
  if (munlock(mapped, length) == 0 && madvise(mapped, length, MADV_DONTFORK) == 0) return mapped;
  int error = errno;
  if (place == NULL) munmap(mapped, length);
  errno = error;
  return MAP_FAILED;
}

int cuffd_twin_map(uint64_t address, size_t length, void **twin) {
  int fd = make_file(length);
  if (fd < 0) return fd;
  void *second = map_without_access(NULL, length, fd);
  bool is_ready = second != MAP_FAILED && mprotect(second, length, PROT_READ | PROT_WRITE) == 0;
  if (is_ready) {
    // One copy in a core file is enough.
    madvise(second, length, MADV_DONTDUMP);
    is_ready = map_without_access((void *)(uintptr_t)address, length, fd) != MAP_FAILED;
  }
  int error = errno;
  close(fd);
  if (!is_ready) {
    if (second != MAP_FAILED) munmap(second, length);
    return -error;
  }
  *twin = second;
  return 0;
}

int cuffd_guards_install(uint64_t address, size_t length) {
  int result;
  do {
    result = madvise((void *)(uintptr_t)address, length, GUARD_INSTALL);
  } while (result < 0 && errno == EINTR);
  return result < 0 ? -errno : 0;
}

int cuffd_guards_remove(uint64_t address, size_t length) {
  int result;
  do {
    result = madvise((void *)(uintptr_t)address, length, GUARD_REMOVE);
  } while (result < 0 && errno == EINTR);
  if (result == 0) return 0;
  return errno == ENOMEM ? -ENOENT : -errno;
}

enum { UNKNOWN, NO, YES };

// Finds out whether there are guard markers, and whether mincore(2) tells under one that the page has its bytes. A lack
// of descriptors or memory says nothing about either.
static int find_guards(void) {
  size_t length = (size_t)sysconf(_SC_PAGESIZE);
  int fd = make_file(length);
  if (fd < 0) return UNKNOWN;
  void *mapped = map_without_access(NULL, length, fd);
  int found = UNKNOWN;
  if (mapped != MAP_FAILED) {
    uint64_t address = (uint64_t)(uintptr_t)mapped;
    int result = cuffd_guards_install(address, length);
    if (result == -EINVAL) found = NO;
    if (result == 0 && cuffd_own_pages(address, 1, length) == 0 && write(fd, "", 1) == 1) {
      found = cuffd_own_pages(address, 1, length) == 1 ? YES : NO;
    }
    munmap(mapped, length);
  }
  close(fd);
  return found;
}

bool cuffd_has_guards(void) {
  static _Atomic int known;
  if (known == UNKNOWN) known = find_guards();
  return known == YES;
}

size_t cuffd_own_pages(uint64_t address, size_t page_count, size_t page_size) {
  enum { AT_ONCE = 64 };
  unsigned char is_resident[AT_ONCE];
  size_t done = 0;
  while (done < page_count) {
    size_t count = page_count - done < AT_ONCE ? page_count - done : AT_ONCE;
    void *start = (void *)(uintptr_t)(address + done * page_size);
    // Where there is a gap the call fails. The pages before it are then looked at one by one. The kernel may lack the
    // memory for its answer for a moment.
    int result = mincore(start, count * page_size, is_resident);
    for (int tries = 0; result < 0 && errno == EAGAIN && tries < 100; tries++) {
      sched_yield();
      result = mincore(start, count * page_size, is_resident);
    }
    if (result < 0) {
      if (count == 1 || mincore(start, page_size, is_resident) < 0) return done;
      count = 1;
    }
    for (size_t i = 0; i < count; i++) {
      if ((is_resident[i] & 1) == 0) return done + i;
    }
    done += count;
  }
  return done;
}

int cuffd_twin_populate(uint64_t address, size_t length) {
  int result;
  do {
    result = madvise((void *)(uintptr_t)address, length, POPULATE_WRITE);
  } while (result < 0 && (errno == EINTR || errno == EAGAIN));
  // Kernels before 5.14 do not know MADV_POPULATE_WRITE. There the later write allocates the memory.
  if (result == 0 || errno == EINVAL || errno == ENOSYS) return 0;
  // A write would raise SIGBUS here, because there is no memory for the pages.
  return errno == EFAULT ? -ENOMEM : -errno;
}

int cuffd_twin_remove(uint64_t address, size_t length) {
  return madvise((void *)(uintptr_t)address, length, MADV_REMOVE) < 0 ? -errno : 0;
}

int cuffd_twin_open(uint64_t address, size_t length, bool writable) {
  int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
  if (mprotect((void *)(uintptr_t)address, length, protection) == 0) return 0;
  if (errno != ENOMEM) return -errno;
  // mprotect(2) returns ENOMEM at the limit of mappings, but also if a part of the range is not mapped. msync(2)
  // fails only in the second case.
  return msync((void *)(uintptr_t)address, length, MS_ASYNC) < 0 ? -ENOENT : -ENOMEM;
}

size_t cuffd_reserve_pages(unsigned seams) { return 2 * (size_t)seams + 1; }

// Returns the address of a seam: a readable page between two pages without access.
static void *seam(uint64_t reserve, size_t page_size, unsigned number) {
  return (void *)(uintptr_t)(reserve + (2 * (uint64_t)number + 1) * page_size);
}

int cuffd_reserve_release(uint64_t reserve, size_t page_size, unsigned number) {
  return mprotect(seam(reserve, page_size, number), page_size, PROT_NONE) < 0 ? -errno : 0;
}

int cuffd_reserve_restore(uint64_t reserve, size_t page_size, unsigned number) {
  return mprotect(seam(reserve, page_size, number), page_size, PROT_READ) < 0 ? -errno : 0;
}

int cuffd_reserve_map(size_t page_size, unsigned seams, void **reserve) {
  size_t length = cuffd_reserve_pages(seams) * page_size;
  void *mapped = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return -errno;
  for (unsigned number = 0; number < seams; number++) {
    int result = cuffd_reserve_restore((uint64_t)(uintptr_t)mapped, page_size, number);
    if (result == 0) continue;
    munmap(mapped, length);
    return result;
  }
  *reserve = mapped;
  return 0;
}

long cuffd_mapping_limit(void) {
  char text[32];
  int fd = cuffd_above_standard(open("/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC));
  ssize_t count = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
  if (fd >= 0) close(fd);
  text[count > 0 ? count : 0] = 0;
  long limit = atol(text);
  return limit > 0 ? limit : 65530;
}
