// What filling in bulk asks the host.
#ifndef CUFFD_BULK_H
#define CUFFD_BULK_H

#include "cuffd_platform.h"

#pragma clang assume_nonnull begin

// How many CPUs the calling thread may run on.
int cuffd_allowed_cpu_count(void);

#pragma clang assume_nonnull end

#endif
