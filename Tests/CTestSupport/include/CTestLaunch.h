// Starts programs with fewer rights than the tests have: another user, no capabilities, a system-call filter, or
// another device node. All of this affects the child only; nothing on the machine changes.
#ifndef CTEST_LAUNCH_H
#define CTEST_LAUNCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

enum cts_user {
  CTS_USER_SAME,
  CTS_USER_WITHOUT_CAPABILITIES,  // the same uid 0, without any capability, also after execve(2)
  CTS_USER_NOBODY,                // uid and gid 65534
  CTS_USER_ROOT_OF_NAMESPACE,     // uid 65534, in a user namespace in which it is root and has all capabilities
};

enum cts_filter_kind {
  CTS_FILTER_NONE,
  CTS_FILTER_ERRNO,           // userfaultfd(2) fails with `filter_errno`
  CTS_FILTER_USER_MODE_ONLY,  // the same, unless the argument is 1, with or without O_CLOEXEC and O_NONBLOCK
  CTS_FILTER_KILL,            // userfaultfd(2) kills the process
  CTS_FILTER_RULE,            // `rule` decides
};

enum cts_device {
  CTS_DEVICE_SAME,
  CTS_DEVICE_FOR_ALL,  // a node of the child's own that every user may open, in a mount namespace
  CTS_DEVICE_MISSING,  // a mount namespace whose /dev has no such node
};

enum cts_container {
  CTS_CONTAINER_NONE,
  CTS_CONTAINER_NAMESPACES,  // a PID namespace and a mount namespace, with a /proc of its own, as every engine makes
  CTS_CONTAINER_FILE,        // no container, but the file that podman puts into containers
};

// The rule of a profile for userfaultfd(2). If `allows` is true, the call is allowed if `argument & mask == datum`,
// and fails with EPERM otherwise. If `allows` is false, it is the other way round.
struct cts_rule {
  uint64_t mask;
  uint64_t datum;
  bool allows;
};

struct cts_launch {
  enum cts_user user;
  enum cts_filter_kind filter;
  int filter_errno;
  struct cts_rule rule;
  bool no_new_privileges;
  enum cts_device device;
  enum cts_container container;
};

// Starts the program behind the descriptor `program`. `arguments` ends with NULL and does not begin with the
// program's name. The output goes to `output` and `errors`. Returns the exit status, minus the signal that ended the
// program, or -1000 - errno if the fork fails. A child that cannot start the program exits with 120 and writes the
// reason to `errors`.
int cts_launch(
    const struct cts_launch *launch, int program, const char *_Nullable const *_Nonnull arguments, int output,
    int errors);

// Calls userfaultfd(2) with each of `flags`, in a child as described by `launch`. `results` receives the errno of
// each call, or 0. Returns what cts_launch returns.
int cts_try_userfaultfd(const struct cts_launch *launch, const uint64_t *flags, int *results, size_t count);

#pragma clang assume_nonnull end

#endif
