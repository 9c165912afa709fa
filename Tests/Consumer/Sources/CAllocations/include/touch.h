// Touches memory that may fail.
#ifndef TOUCH_H
#define TOUCH_H

#include <stdbool.h>

// Installs signal handlers for `touch_fails`. Call it before the first runtime, which then calls these handlers for
// the pages that cannot be produced.
void touch_prepare(void);

// Reads a byte. Returns whether that raised SIGBUS or SIGSEGV.
bool touch_fails(const void *address);

#endif
