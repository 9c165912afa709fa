// What tests need from C: children, threads, stacks and handlers of signals that a program may have. Accesses that survive their
// signal are in CStressSupport.
#ifndef CTEST_SUPPORT_H
#define CTEST_SUPPORT_H

#include <stddef.h>
#include <stdint.h>

#include "CTestDeny.h"
#include "CTestLaunch.h"
#include "CTestMemory.h"

#pragma clang assume_nonnull begin

// write(2) of `length` bytes at `address` into a pipe. Returns how many went through, or -errno.
// `copy` receives what came out of the pipe; it has room for `length` bytes, at most 64 KiB.
long cts_write_to_pipe(uintptr_t address, size_t length, uint8_t *copy);

// Confines the calling thread to one CPU. Returns 0 or -errno.
int cts_run_on_cpu(int cpu);

// A userfaultfd of a process that registered `length` bytes at `*address` and is dead.
int cts_userfaultfd_of_dead_process(uintptr_t *address, size_t length);

// MADV_DONTNEED on another thread, which blocks where the event has to be read first. Join with cts_join.
struct cts_discard;
struct cts_discard *cts_discard_on_thread(uintptr_t address, size_t length);
void cts_join(struct cts_discard *work);

// Forks; the child calls `body` and exits with what it returns. Returns the exit status, or minus the signal it died of.
int cts_forked(int (*body)(void *context), void *context);

// From now on every new mapping is locked, and filled at once. Returns 0 or -errno.
int cts_lock_future_memory(void);

// Whether any page of the range is mapped at all.
int cts_is_mapped(uintptr_t address, size_t length);

// Gives up root for good: uid and gid 65534. Returns 0 or -errno.
int cts_become_nobody(void);

// A pseudo-terminal: returns the controlling end, or -errno; `side` is the end that a program writes to.
int cts_open_terminal(int *side);

// Sets errno to `number`, reads a byte, and returns what errno is then.
int cts_errno_after_read(uintptr_t address, int number);

// Calls `body` on a stack that is lazy memory, with an alternate stack for signals. Returns what `body` returns.
// `body` uses about 32 KiB of stack.
int cts_on_lazy_stack(uintptr_t stack, size_t length);

// Maps a file of one page and shortens it to nothing: touching the page is a SIGBUS that is not about lazy memory.
// Returns the address, or 0.
uintptr_t cts_page_behind_end_of_file(void);

// A page that is not lazy, whose touch raises SIGBUS or SIGSEGV. Returns the address, or 0.
uintptr_t cts_foreign_page(int number);

// Installs a handler for a signal that counts, and calls whoever had it before if `chain` is not 0. One signal at a time.
int cts_take(int number, int chain, int flags_with_info);
// How often that handler was called.
int cts_taken_count(void);

// The same with one flag, and another signal in its mask; it notes what is blocked while it runs.
enum cts_taker { CTS_PLAIN, CTS_NODEFER, CTS_RESETHAND };
int cts_take_as(int number, enum cts_taker kind, int also_blocked);
int cts_was_blocked(int number);

// Sends SIGUSR1 to a thread of this process, whose handler counts. Returns 0 or -errno.
int cts_count_signals(int thread);
// On that thread, before: the threads that start threads have their signals blocked.
void cts_unblock_signals(void);
int cts_signal_count(void);

// A thread that reads a byte, and can be cancelled while it waits for it.
struct cts_reader;
struct cts_reader *cts_start_reader(uintptr_t address);
// Returns 0 where the thread was cancelled.
int cts_cancel_and_join(struct cts_reader *reader);

// Makes mappings until the kernel permits no more. Returns their number.
long cts_use_up_mappings(void);

// From now on memory for small objects comes from what the process has already, as long as 16 MiB last.
void cts_keep_heap(void);
// Everything that is mapped now is there, and stays: code and stacks too. Returns 0 or -errno.
int cts_lock_memory(void);

// gettid(2).
int cts_thread_id(void);

// Becomes the program behind `descriptor`, with two arguments. Returns -errno where that fails.
int cts_execute(int descriptor, const char *first, const char *second);

#pragma clang assume_nonnull end

#endif
