// What the host says about itself, for the report on the host. No fault needs any of this.
#ifndef CUFFD_FACTS_H
#define CUFFD_FACTS_H

#include "cuffd_platform.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cuffd_attributes.h"

#pragma clang assume_nonnull begin

// The result of one attempt to open a userfaultfd.
struct cuffd_attempt {
  int result;         // 0 or -errno
  int killed_by;      // the signal with which a filter killed the child, or 0
  uint64_t features;  // what UFFDIO_API offers, if the result is 0
};

// Tries userfaultfd(2) with `flags`, or the device node at `path` unless it is NULL, and then UFFDIO_API. This
// happens in a child process, because a filter may kill a process that makes these calls.
struct cuffd_attempt cuffd_attempt_in_child(const char *_Nullable path, int flags);

// The texts of uname(2).
struct cuffd_system {
  char release[128];
  char version[128];
  char machine[64];
};

int cuffd_system_names(struct cuffd_system *names);

// The facts that decide who may open a device node.
struct cuffd_node {
  uint32_t mode;  // the bits of rwxrwxrwx
  uint32_t user;
  uint32_t group;
  bool is_accessible;  // whether this process may read and write it
};

// Returns 0 or -errno.
int cuffd_node_facts(const char *path, struct cuffd_node *node);

// The soft limits of this process. UINT64_MAX means that there is no limit, or that it cannot be read.
uint64_t cuffd_limit_of_open_files(void);
uint64_t cuffd_limit_of_address_space(void);

uint32_t cuffd_effective_user(void);

// Calls readlink(2), and adds a terminating zero to the text. Returns 0 or -errno.
int cuffd_read_link(const char *path, char *buffer, size_t capacity);

#pragma clang assume_nonnull end

#endif
