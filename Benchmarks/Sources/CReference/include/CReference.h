// The yardstick: the shortest userfaultfd handler that is still correct, as one would write it in C for one job.
#ifndef CREFERENCE_H
#define CREFERENCE_H

#include <stddef.h>

#pragma clang assume_nonnull begin

typedef struct creference creference;

// Maps `length` bytes (whole pages) and starts a thread that fills each page of them from the same offset of `source`
// when it is touched. On failure returns null and puts the name of the call that failed into `*failed_call` and its
// errno into `*error`.
creference *_Nullable creference_start(size_t length, const void *source, const char *_Nullable *_Nonnull failed_call,
                                       int *error);

// Where the mapping starts.
const void *creference_base(const creference *reference);

// Ends the thread and unmaps. Nobody may be touching the mapping.
void creference_stop(creference *reference);

#pragma clang assume_nonnull end

#endif
