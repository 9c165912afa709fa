// Takes the place of malloc(3) and its kin in a program, and counts the calls that a thread makes while a signal of the
// program could interrupt them.
#ifndef ALLOCATIONS_H
#define ALLOCATIONS_H

// Begins to watch the calling thread.
void allocations_watch(void);

// Stops watching the calling thread. Returns how often it has allocated or freed memory while SIGUSR1 was not blocked.
// With ALLOCATIONS_SHOW in the environment, each place that did is written to standard error.
unsigned long allocations_interruptible(void);

#endif
