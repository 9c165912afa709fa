#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { BATCH = 64 };

const char *creference_open_uffd(creference *reference, unsigned long long features) {
  const char *failed = creference_map(reference, PROT_READ | PROT_WRITE);
  if (failed != NULL) return failed;
  int flags = O_CLOEXEC | O_NONBLOCK;
  reference->uffd = (int)syscall(SYS_userfaultfd, flags);
  // The touches come from user code, so a descriptor for user-mode faults serves as well and costs the same.
  if (reference->uffd < 0 && errno == EPERM) {
    reference->uffd = (int)syscall(SYS_userfaultfd, flags | UFFD_USER_MODE_ONLY);
  }
  if (reference->uffd < 0) return "userfaultfd";
  struct uffdio_api api = {.api = UFFD_API, .features = features};
  if (ioctl(reference->uffd, UFFDIO_API, &api) != 0) return "UFFDIO_API";
  struct uffdio_register range = {
      .range = {.start = (uint64_t)(uintptr_t)reference->base, .len = reference->length},
      .mode = UFFDIO_REGISTER_MODE_MISSING,
  };
  return ioctl(reference->uffd, UFFDIO_REGISTER, &range) == 0 ? NULL : "UFFDIO_REGISTER";
}

// Returns the unit around `address`.
static struct uffdio_range unit_of(const creference *reference, uint64_t address) {
  uint64_t base = (uint64_t)(uintptr_t)reference->base;
  uint64_t offset = (address - base) / reference->unit * reference->unit;
  uint64_t rest = reference->length - offset;
  return (struct uffdio_range){.start = base + offset, .len = reference->unit < rest ? reference->unit : rest};
}

bool creference_copy(const creference *reference, uint64_t address) {
  struct uffdio_range unit = unit_of(reference, address);
  struct uffdio_copy copy = {
      .dst = unit.start,
      .src = (uint64_t)(uintptr_t)(reference->source + (unit.start - (uint64_t)(uintptr_t)reference->base)),
      .len = unit.len,
  };
  if (ioctl(reference->uffd, UFFDIO_COPY, &copy) == 0) return true;
  // Every thread copies a unit from its start. A thread that finds the first page present leaves the rest to the
  // thread that placed that page.
  if (errno != EEXIST) creference_give_up("UFFDIO_COPY");
  return false;
}

void creference_serve(const creference *reference) {
  struct uffd_msg messages[BATCH];
  ssize_t size = read(reference->uffd, messages, sizeof messages);
  if (size < 0) {
    // There is no message, or the page of the message has been filled meanwhile.
    if (errno == EAGAIN || errno == EINTR) return;
    creference_give_up("read");
  }
  size_t count = (size_t)size / sizeof messages[0];
  for (size_t i = 0; i < count; i++) {
    if (messages[i].event != UFFD_EVENT_PAGEFAULT) continue;
    uint64_t address = messages[i].arg.pagefault.address;
    if (creference_copy(reference, address)) continue;
    // Two threads faulted in one unit. UFFDIO_COPY wakes no thread when it fails, so the second thread must be woken
    // here.
    struct uffdio_range unit = unit_of(reference, address);
    if (ioctl(reference->uffd, UFFDIO_WAKE, &unit) != 0) creference_give_up("UFFDIO_WAKE");
  }
}
