// What tests need from C: children, threads, stacks, and signal handlers that a program may have. Accesses that
// survive their signal are in CStressSupport.
#ifndef CTEST_SUPPORT_H
#define CTEST_SUPPORT_H

#include <stddef.h>
#include <stdint.h>

#include "CTestDeny.h"
#include "CTestLaunch.h"
#include "CTestMemory.h"
#include "CTestNeighbours.h"
#include "CTestPattern.h"

#pragma clang assume_nonnull begin

// Writes `length` bytes at `address` into a pipe with write(2). Returns how many bytes went through, or -errno.
// `copy` receives the bytes from the pipe; it has room for `length` bytes, at most 64 KiB.
long cts_write_to_pipe(uintptr_t address, size_t length, uint8_t *copy);

// Confines the calling thread to one CPU. Returns 0 or -errno.
int cts_run_on_cpu(int cpu);

// Returns the userfaultfd of a process that registered `length` bytes at `*address` and has ended, or -errno.
int cts_userfaultfd_of_dead_process(uintptr_t *address, size_t length);

// Calls MADV_DONTNEED on another thread. The thread blocks if the event must be read first. Join the thread with
// cts_join.
struct cts_discard;
struct cts_discard *cts_discard_on_thread(uintptr_t address, size_t length);
void cts_join(struct cts_discard *work);

// Forks. The child calls `body` and exits with its result. Returns the exit status, or minus the signal that ended
// the child.
int cts_forked(int (*body)(void *context), void *context);
// The same, but the child calls `body` on another thread, when its first thread has ended.
int cts_forked_without_first_thread(int (*body)(void));
// Returns the address of a page of the caller's stack, which is resident.
uintptr_t cts_page_of_stack(void);

// Ends this process by SIGKILL after some seconds, because its threads may have every other signal blocked.
// The first process of a PID namespace goes on.
void cts_end_after(unsigned seconds);

// From now on every new mapping is locked and populated at once. Returns 0 or -errno.
int cts_lock_future_memory(void);

// Returns whether all pages of the range are mapped.
int cts_is_mapped(uintptr_t address, size_t length);

// Gives up root for good: the uid and the gid become 65534. Returns 0 or -errno.
int cts_become_nobody(void);

// Opens a pseudo-terminal. Returns the controlling end, or -errno. `side` is the end that a program writes to.
int cts_open_terminal(int *side);

// Sets errno to `number`, reads a byte, and returns the value of errno after the read.
int cts_errno_after_read(uintptr_t address, int number);

// Calls a function on a stack that is lazy memory, with an alternate stack for signals. The function uses about 32
// KiB of stack. Returns 42 if the stack kept its contents, 1 if it did not, or -errno.
int cts_on_lazy_stack(uintptr_t stack, size_t length);

// Maps a file of one page and truncates the file. Touching the page raises a SIGBUS that has nothing to do with lazy
// memory. Returns the address, or 0.
uintptr_t cts_page_behind_end_of_file(void);

// Maps a page that is not lazy and whose touch raises `number`, which is SIGBUS or SIGSEGV. Returns the address, or
// 0.
uintptr_t cts_foreign_page(int number);

// Installs a handler for a signal that counts its calls. If `chain` is not 0, the handler then calls the former one.
// One signal at a time can have this handler.
int cts_take(int number, int chain, int flags_with_info);
// Returns how often that handler was called.
int cts_taken_count(void);

// The same with one flag and one more signal in the mask. The handler records which signals are blocked while it
// runs.
enum cts_taker { CTS_PLAIN, CTS_NODEFER, CTS_RESETHAND };
int cts_take_as(int number, enum cts_taker kind, int also_blocked);
int cts_was_blocked(int number);

// Installs a handler for SIGUSR1 that counts, and sends SIGUSR1 to a thread of this process. Returns 0 or -errno.
int cts_count_signals(int thread);
// Unblocks SIGUSR1. That thread calls this first, because the threads that start threads have their signals blocked.
void cts_unblock_signals(void);
int cts_signal_count(void);

// A thread that reads a byte and can be cancelled while it waits for the byte.
struct cts_reader;
struct cts_reader *cts_start_reader(uintptr_t address);
// Returns 0 if the thread was cancelled.
int cts_cancel_and_join(struct cts_reader *reader);

// From now on memory for small objects comes from memory that the process already has, up to 16 MiB.
void cts_keep_heap(void);
// Keeps the heap, then makes mappings until the kernel refuses more. Returns their number.
long cts_use_up_mappings(void);

// Makes every current mapping resident and locks it, including code and stacks. Returns 0 or -errno.
int cts_lock_memory(void);

// gettid(2).
int cts_thread_id(void);

// Executes the program behind `descriptor` with two arguments. Returns -errno if that fails.
int cts_execute(int descriptor, const char *first, const char *second);

#pragma clang assume_nonnull end

#endif
