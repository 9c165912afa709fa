// What the Swift compiler has to be told about functions in C, because it cannot look into them.
#ifndef CUFFD_ATTRIBUTES_H
#define CUFFD_ATTRIBUTES_H

#include "cuffd_platform.h"

// Takes no lock and allocates nothing: a system call and arithmetic. Callers may then be checked for the same.
#define CUFFD_NO_LOCKS __attribute__((swift_attr("@_noLocks"), swift_attr("@_noAllocation")))

#endif
