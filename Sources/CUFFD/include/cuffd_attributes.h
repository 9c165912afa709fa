// What the Swift compiler has to be told about C functions, because it cannot look into them.
#ifndef CUFFD_ATTRIBUTES_H
#define CUFFD_ATTRIBUTES_H

#include "cuffd_platform.h"

// Declares that a function takes no lock and allocates nothing. The compiler can then check the same for Swift
// functions that call it.
#define CUFFD_NO_LOCKS __attribute__((swift_attr("@_noLocks"), swift_attr("@_noAllocation")))

#endif
