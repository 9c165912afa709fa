// What the host has to say for filling in bulk.
#ifndef CUFFD_BULK_H
#define CUFFD_BULK_H

#include "cuffd_platform.h"

#pragma clang assume_nonnull begin

// Returns the number of CPUs that the calling thread may run on.
int cuffd_allowed_cpu_count(void);

#pragma clang assume_nonnull end

#endif
