// Replaces the allocation functions of the C library in the whole process, so that every call is counted: those of
// the program, of the Swift runtime, and of the C library itself.
#ifndef CALLOCATIONCOUNT_H
#define CALLOCATIONCOUNT_H

#include <stdint.h>

// Returns how often malloc and its relatives have been called since the process started.
uint64_t allocation_count(void);

#endif
