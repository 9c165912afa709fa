#define _GNU_SOURCE
#include "creference_bulk.h"
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// UFFDIO_MOVE, which the headers of Linux 6.1 do not declare.
struct move {
  uint64_t dst, src, len, mode;
  int64_t moved;
};
#define FEATURE_MOVE (1u << 16)
#define IOCTL_MOVE _IOWR(UFFDIO, 0x05, struct move)

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

struct bulk {
  char *to;
  const char *source;
  size_t length, page, huge;
  int uffd;
  struct creference_filled result;
};

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static size_t huge_page_size(void) {
  char text[32] = {0};
  int fd = open("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 2 << 20;
  ssize_t count = read(fd, text, sizeof text - 1);
  close(fd);
  size_t size = count > 0 ? (size_t)strtoull(text, NULL, 10) : 0;
  return size > 0 ? size : 2 << 20;
}

static char *map(size_t length, size_t huge, int advice) {
  char *mapped =
      mmap(NULL, length + huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) creference_give_up("mmap");
  size_t before = (huge - (uintptr_t)mapped % huge) % huge;
  if (before > 0) munmap(mapped, before);
  if (huge > before) munmap(mapped + before + length, huge - before);
  (void)madvise(mapped + before, length, advice);
  return mapped + before;
}

// Opens a userfaultfd and registers the target memory. Returns false if the kernel does not know the features.
static bool watch(struct bulk *bulk, unsigned long long features) {
  int flags = O_CLOEXEC | O_NONBLOCK;
  bulk->uffd = (int)syscall(SYS_userfaultfd, flags);
  if (bulk->uffd < 0 && errno == EPERM) bulk->uffd = (int)syscall(SYS_userfaultfd, flags | UFFD_USER_MODE_ONLY);
  if (bulk->uffd < 0) creference_give_up("userfaultfd");
  struct uffdio_api api = {.api = UFFD_API, .features = features};
  if (ioctl(bulk->uffd, UFFDIO_API, &api) != 0) return false;
  struct uffdio_register range = {
      .range = {.start = (uint64_t)(uintptr_t)bulk->to, .len = bulk->length},
      .mode = UFFDIO_REGISTER_MODE_MISSING,
  };
  if (ioctl(bulk->uffd, UFFDIO_REGISTER, &range) != 0) creference_give_up("UFFDIO_REGISTER");
  return true;
}

static void move_in(const struct bulk *bulk, size_t offset, const char *stage, size_t length) {
  struct move move = {
      .dst = (uint64_t)(uintptr_t)(bulk->to + offset), .src = (uint64_t)(uintptr_t)stage, .len = length};
  if (ioctl(bulk->uffd, IOCTL_MOVE, &move) != 0) creference_give_up("UFFDIO_MOVE");
}

static void copy_non_temporal(char *to, const char *from, size_t length) {
#if defined(__x86_64__)
  typedef long long word __attribute__((vector_size(16)));
  for (size_t i = 0; i < length; i += sizeof(word)) {
    __builtin_nontemporal_store(*(const word *)(const void *)(from + i), (word *)(void *)(to + i));
  }
  __asm__ volatile("sfence" : : : "memory");
#else
  memcpy(to, from, length);
#endif
}

static void fault(struct bulk *bulk) {
  for (size_t i = 0; i < bulk->length; i += bulk->page) memcpy(bulk->to + i, bulk->source + i, bulk->page);
}

static void fault_huge(struct bulk *bulk) {
  for (size_t i = 0; i < bulk->length; i += bulk->huge) {
    uint64_t start = now();
    *(volatile char *)(bulk->to + i) = 0;
    uint64_t prepared = now();
    memcpy(bulk->to + i, bulk->source + i, bulk->huge);
    bulk->result.preparing += prepared - start;
    bulk->result.copying += now() - prepared;
  }
}

static void copy(struct bulk *bulk, size_t pages, size_t first, size_t stride) {
  for (size_t i = first; i < bulk->length; i += stride) {
    struct uffdio_copy copy = {
        .dst = (uint64_t)(uintptr_t)(bulk->to + i),
        .src = (uint64_t)(uintptr_t)(bulk->source + i),
        .len = pages * bulk->page,
    };
    if (ioctl(bulk->uffd, UFFDIO_COPY, &copy) != 0) creference_give_up("UFFDIO_COPY");
  }
}

// Moves `count` huge pages at a time into every `stride` bytes, starting at `first`.
static void move(struct bulk *bulk, int advice, size_t count, size_t first, size_t stride, bool non_temporal) {
  size_t length = count * bulk->huge;
  char *stage = map(length, bulk->huge, advice);
  // The kernel refuses to move pages that a child process shares.
  (void)madvise(stage, length, MADV_DONTFORK);
  for (size_t i = first; i < bulk->length; i += stride) {
    size_t part = length < bulk->length - i ? length : bulk->length - i;
    uint64_t start = now();
    if (advice == MADV_HUGEPAGE) {
      for (size_t j = 0; j < part; j += bulk->huge) *(volatile char *)(stage + j) = 0;
    } else {
      (void)madvise(stage, part, MADV_POPULATE_WRITE);
    }
    uint64_t prepared = now();
    if (non_temporal) copy_non_temporal(stage, bulk->source + i, part);
    else memcpy(stage, bulk->source + i, part);
    uint64_t copied = now();
    move_in(bulk, i, stage, part);
    bulk->result.preparing += prepared - start;
    bulk->result.copying += copied - prepared;
    bulk->result.moving += now() - copied;
  }
  munmap(stage, length);
}

// Fills every other huge page, or the same range in small pages, starting at `first`.
static void fill_half(struct bulk *bulk, bool copies, size_t first) {
  if (copies) copy(bulk, bulk->huge / bulk->page, first, 2 * bulk->huge);
  else move(bulk, MADV_HUGEPAGE, 1, first, 2 * bulk->huge, false);
}

static void *copy_other_half(void *argument) {
  fill_half(argument, true, ((struct bulk *)argument)->huge);
  return NULL;
}

static void *move_other_half(void *argument) {
  fill_half(argument, false, ((struct bulk *)argument)->huge);
  return NULL;
}

static void fill_with_two_threads(struct bulk *bulk, bool copies) {
  pthread_t thread;
  struct bulk mine = *bulk, other = *bulk;
  if (pthread_create(&thread, NULL, copies ? copy_other_half : move_other_half, &other) != 0) {
    creference_give_up("pthread_create");
  }
  fill_half(&mine, copies, 0);
  pthread_join(thread, NULL);
}

struct creference_filled creference_fill(creference_bulk_way way, size_t length, const void *source) {
  struct bulk bulk = {
      .source = source,
      .length = length,
      .page = (size_t)sysconf(_SC_PAGESIZE),
      .huge = huge_page_size(),
      .uffd = -1,
  };
  bool copies = way == CREFERENCE_BULK_COPY_64 || way == CREFERENCE_BULK_COPY_512 ||
                way == CREFERENCE_BULK_COPY_TWO_THREADS;
  bool is_small = copies || way == CREFERENCE_BULK_FAULTS || way == CREFERENCE_BULK_MOVE_SMALL;
  bulk.to = map(length, bulk.huge, is_small ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
  bool is_possible = true;
  if (way == CREFERENCE_BULK_MEMCPY) {
    memset(bulk.to, 1, length);
  } else if (way != CREFERENCE_BULK_FAULTS && way != CREFERENCE_BULK_HUGE_FAULTS) {
    is_possible = watch(&bulk, copies ? 0 : FEATURE_MOVE);
  }
  if (is_possible) {
    uint64_t start = now();
    switch (way) {
      case CREFERENCE_BULK_FAULTS: fault(&bulk); break;
      case CREFERENCE_BULK_MEMCPY: memcpy(bulk.to, source, length); break;
      case CREFERENCE_BULK_HUGE_FAULTS: fault_huge(&bulk); break;
      case CREFERENCE_BULK_COPY_64: copy(&bulk, 64, 0, 64 * bulk.page); break;
      case CREFERENCE_BULK_COPY_512: copy(&bulk, 512, 0, 512 * bulk.page); break;
      case CREFERENCE_BULK_COPY_TWO_THREADS: fill_with_two_threads(&bulk, true); break;
      case CREFERENCE_BULK_MOVE_SMALL: move(&bulk, MADV_NOHUGEPAGE, 1, 0, bulk.huge, false); break;
      case CREFERENCE_BULK_MOVE: move(&bulk, MADV_HUGEPAGE, 1, 0, bulk.huge, false); break;
      case CREFERENCE_BULK_MOVE_NON_TEMPORAL: move(&bulk, MADV_HUGEPAGE, 1, 0, bulk.huge, true); break;
      case CREFERENCE_BULK_MOVE_16: move(&bulk, MADV_HUGEPAGE, 16, 0, 16 * bulk.huge, false); break;
      case CREFERENCE_BULK_MOVE_TWO_THREADS: fill_with_two_threads(&bulk, false); break;
    }
    bulk.result.nanoseconds = now() - start;
    bulk.result.wrong = creference_different_pages(bulk.to, source, length);
  }
  munmap(bulk.to, length);
  if (bulk.uffd >= 0) close(bulk.uffd);
  return bulk.result;
}

const char *creference_bulk_name(creference_bulk_way way) {
  switch (way) {
    case CREFERENCE_BULK_FAULTS: return "the kernel's small faults, memcpy";
    case CREFERENCE_BULK_MEMCPY: return "memcpy alone, huge pages that are there";
    case CREFERENCE_BULK_HUGE_FAULTS: return "the kernel's huge faults, memcpy";
    case CREFERENCE_BULK_COPY_64: return "COPY of 64 pages";
    case CREFERENCE_BULK_COPY_512: return "COPY of 512 pages";
    case CREFERENCE_BULK_COPY_TWO_THREADS: return "COPY of 512 pages; two threads";
    case CREFERENCE_BULK_MOVE_SMALL: return "small pages staged, memcpy, MOVE";
    case CREFERENCE_BULK_MOVE: return "huge page staged, memcpy, MOVE";
    case CREFERENCE_BULK_MOVE_NON_TEMPORAL: return "huge page staged, non-temporal stores, MOVE";
    case CREFERENCE_BULK_MOVE_16: return "16 huge pages staged, memcpy, MOVE";
    case CREFERENCE_BULK_MOVE_TWO_THREADS: return "huge page staged, memcpy, MOVE; two threads";
  }
  return "";
}

size_t creference_different_pages(const void *memory, const void *source, size_t length) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE), different = 0;
  for (size_t i = 0; i < length; i += page) {
    different += memcmp((const char *)memory + i, (const char *)source + i, page) != 0;
  }
  return different;
}

void creference_touch_free_huge_pages(size_t length) {
  char *memory = map(length, huge_page_size(), MADV_HUGEPAGE);
  memset(memory, 1, length);
  // Without this, the compiler would remove the memset, because the memory is never read.
  __asm__ volatile("" : : "r"(memory) : "memory");
  munmap(memory, length);
}
