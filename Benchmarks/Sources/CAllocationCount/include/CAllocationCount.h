// Replaces the allocation functions of the C library in the whole process, so that each call is counted, whoever makes
// it: the program, the Swift runtime, the C library itself.
#ifndef CALLOCATIONCOUNT_H
#define CALLOCATIONCOUNT_H

#include <stdint.h>

// Calls of malloc and its relatives since the process started.
uint64_t allocation_count(void);

#endif
