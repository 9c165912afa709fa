// What the host says about itself, for the report on it. None of it is on the way of a fault.
#ifndef CUFFD_FACTS_H
#define CUFFD_FACTS_H

#include "cuffd_platform.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cuffd_attributes.h"

#pragma clang assume_nonnull begin

// What became of one try to get a userfaultfd.
struct cuffd_attempt {
  int result;         // 0 or -errno
  int killed_by;      // the signal that a filter killed the try with, or 0
  uint64_t features;  // what UFFDIO_API offers, where the result is 0
};

// userfaultfd(2) with `flags`, or the device node at `path`; then UFFDIO_API. In a child, because a filter may kill for it.
struct cuffd_attempt cuffd_attempt_in_child(const char *_Nullable path, int flags);

// uname(2).
struct cuffd_system {
  char release[128];
  char version[128];
  char machine[64];
};

int cuffd_system_names(struct cuffd_system *names);

// Who may open a device node.
struct cuffd_node {
  uint32_t mode;  // the bits of rwxrwxrwx
  uint32_t user;
  uint32_t group;
  bool is_accessible;  // whether its rights let this process read and write it
};

// Returns 0 or -errno.
int cuffd_node_facts(const char *path, struct cuffd_node *node);

// The soft limits of this process; UINT64_MAX where there is none.
uint64_t cuffd_limit_of_open_files(void);
uint64_t cuffd_limit_of_address_space(void);

uint32_t cuffd_effective_user(void);

// readlink(2): a text that ends with a zero. Returns 0 or -errno.
int cuffd_read_link(const char *path, char *buffer, size_t capacity);

#pragma clang assume_nonnull end

#endif
