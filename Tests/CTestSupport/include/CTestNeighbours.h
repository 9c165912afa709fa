// Code that a program has beside the library: crash reporters, threads that are cancelled, timers whose handlers touch
// memory, and children of every kind.
#ifndef CTEST_NEIGHBOURS_H
#define CTEST_NEIGHBOURS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

// What a crash reporter does after its report.
enum cts_reporter {
  CTS_RESTORES,         // puts back the action that it has replaced, and returns
  CTS_RAISES,           // puts back the action that it has replaced, unblocks the signal and raises it
  CTS_RAISES_BLOCKED,   // raises the signal while it is blocked, and returns
  CTS_RAISES_TO_LIMIT,  // the same, until it has been called `limit` times
  CTS_ONLY_RETURNS,     // returns
  CTS_RESTORES_HANDLER, // puts back only the function, with signal(2), and returns
};

// Installs a crash reporter for a signal. A process has one. It ends the process with the status 99 if it is called
// more than `limit` times.
int cts_report_crashes(int number, enum cts_reporter kind, int limit);
int cts_report_count(void);

// Forks from now on note whether SIGALRM is blocked while the C library has its locks. A runtime must be made later.
void cts_watch_forks(void);
// Forks. Returns whether SIGALRM was blocked meanwhile, and in neither process afterwards.
bool cts_fork_holds_signals(void);

// Calls `body` with an alternate stack (SS_AUTODISARM) that lies right above the frames of `body`.
void cts_with_disarmed_stack(void (*body)(void *_Nullable context), void *_Nullable context);

// Reads a byte, which may end the process. Returns -1 if the provider of its page calls cts_jump_back.
int cts_load_until_jump(uintptr_t address);
// Jumps out of the fault that the calling thread is answering (siglongjmp(3)).
void cts_jump_back(void);

// Installs a handler that calls the one before as a function, and then reads a byte. It does not block its signal.
// Returns 0 or -errno.
int cts_touch_after_former(int number, uintptr_t address);
// The byte that the handler has read latest, or -1.
int cts_touched_after_former(void);

// Installs an action that nobody else has: `variant` is a number of signals that it blocks, up to 40. Returns 0 or
// -errno.
int cts_take_variant(int number, int variant);

// Reads a byte, which may end the process.
uint8_t cts_load(uintptr_t address);
// The same, with 40 KiB of the stack in use.
uint8_t cts_load_deep(uintptr_t address);

// A thread that reads a byte of each page of a range, and can be cancelled at any instruction or, if `is_asynchronous`
// is not set, only where POSIX permits it.
struct cts_walker;
struct cts_walker *cts_start_walker(uintptr_t address, size_t length, bool is_asynchronous);
// Cancels the thread after `pages` pages of its way, or before the first one if `pages` is 0, and waits for its end.
// Returns the number of pages that it has read, or -1 if it has ended as if it had returned early.
long cts_cancel_walker(struct cts_walker *walker, size_t pages);

// Has SIGPROF interrupt the calling thread every `microseconds` of real time, with a handler that reads a byte of the
// next page of a range. 0 stops it. Returns 0 or -errno.
int cts_touch_by_timer(uintptr_t address, size_t length, unsigned microseconds);
long cts_timer_touches(void);
// How many of these bytes were not what the page's number says: page k begins with the byte k % 251 + 1.
long cts_timer_mistakes(void);

// Reads a byte in a child of vfork(2). Returns the byte, or minus the signal that ended the child.
int cts_read_in_vfork(uintptr_t address);

// Calls `body` in a child that is the first process of a PID namespace. Returns what cts_forked returns, -1000 - errno
// if there is no namespace to be had, or -1000 - ETIMEDOUT if the child was killed after a minute. The calling process
// can start no thread afterwards. The child may call this itself, and then has a child with its own process id.
int cts_as_first_process(int (*body)(void *context), void *context);

// Returns how much of an alternate signal stack is used when a handler begins to run on it.
size_t cts_signal_frame(void);

// Reads a byte on a thread whose alternate signal stack has `size` bytes. `*overwritten` is the number of bytes that
// the thread has then changed right below that stack. Returns the byte, minus the signal that the access raised, or
// -1000 - errno. A disarmed stack (SS_AUTODISARM) is no alternate stack while a handler runs on it.
int cts_read_with_stack(size_t size, bool is_disarmed, uintptr_t address, size_t *overwritten);

// A signal handler that ends the process with 42. It needs next to nothing of the stack, also the first time.
void cts_exit_in_handler(int number);

// Reads a byte on a thread whose alternate signal stack has `size` bytes, and lies right above a page without access.
// Returns -1000 - errno where there is no such stack, and the byte otherwise.
int cts_read_above_guard(size_t size, uintptr_t address);

// Maps one page of an empty file at an address. Its touch raises a SIGBUS. Returns 0 or -errno.
int cts_map_behind_end_of_file(uintptr_t address);

#pragma clang assume_nonnull end

#endif
