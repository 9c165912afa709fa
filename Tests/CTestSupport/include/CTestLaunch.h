// Programs that start with fewer rights than the tests have: another user, no capabilities, a system-call filter, another
// device node. All of it is the child's own; nothing of the machine is changed.
#ifndef CTEST_LAUNCH_H
#define CTEST_LAUNCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

enum cts_user {
  CTS_USER_SAME,
  CTS_USER_WITHOUT_CAPABILITIES,  // uid 0 as before, and no capability, not after execve(2) either
  CTS_USER_NOBODY,                // uid and gid 65534
  CTS_USER_ROOT_OF_NAMESPACE,     // the same, but in a user namespace in which it is called root and has every capability
};

enum cts_filter_kind {
  CTS_FILTER_NONE,
  CTS_FILTER_ERRNO,           // userfaultfd(2) fails with `filter_errno`
  CTS_FILTER_USER_MODE_ONLY,  // so it does, unless its argument is 1, with O_CLOEXEC and O_NONBLOCK or without
  CTS_FILTER_KILL,            // the process is killed
  CTS_FILTER_RULE,            // `rule` decides
};

enum cts_device {
  CTS_DEVICE_SAME,
  CTS_DEVICE_FOR_ALL,  // a node of the child's own, which everybody may open, in a mount namespace of its own
  CTS_DEVICE_MISSING,  // a mount namespace whose /dev has no such node
};

// What a rule of a profile says of userfaultfd(2): where `argument & mask == datum`, the call is allowed, or else fails with
// EPERM; or the other way round.
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
};

// Starts the program behind the descriptor `program`. `arguments` ends with NULL, and does not begin with the program's name. Its
// output goes to `output` and `errors`. Returns its exit status, minus the signal that it died of, or -1000 - errno where it
// could not be forked. A child that cannot get so far exits with 120, and says why on `errors`.
int cts_launch(
    const struct cts_launch *launch, int program, const char *_Nullable const *_Nonnull arguments, int output, int errors);

// userfaultfd(2) with each of `flags`, in a child as described. `results` gets the errno of each, or 0. Returns as cts_launch.
int cts_try_userfaultfd(const struct cts_launch *launch, const uint64_t *flags, int *results, size_t count);

#pragma clang assume_nonnull end

#endif
