// What `lazy-mem-demo stress` and the tests need from C: accesses that may raise a signal, known bytes, and
// child processes.
#ifndef CSTRESS_SUPPORT_H
#define CSTRESS_SUPPORT_H

#if !defined(__linux__)
// Unlike #error, a fatal error ends the compilation.
#pragma clang diagnostic fatal "-W#warnings"
#warning "lazy-mem-demo is for Linux, as FaultRuntime is."
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

// Installs handlers of SIGBUS and SIGSEGV, so that the accesses below survive these signals. The program has to call
// this before it makes its first runtime, which then passes on the signals that are not its own. Returns 0 or -errno.
int cstress_take_signals(void);

// Copies `count` bytes from `address`. Returns 0, or the signal that the access raised. Safe in a signal handler.
int cstress_read(uintptr_t address, uint8_t *bytes, size_t count);

// Copies `count` bytes to `address`. Returns 0, or the signal that the access raised. Safe in a signal handler.
int cstress_write(uintptr_t address, const uint8_t *bytes, size_t count);

// Ends the access that is under way on the calling thread, which then returns `number`. Does nothing if there is
// none. This is for signal handlers.
void cstress_escape(int number);

// Makes the bytes of the source `seed` from `offset` on, which is a multiple of 8. They differ in each word and
// are never zero.
void cstress_make(uint64_t seed, uint64_t offset, uint8_t *bytes, size_t count);

// What a page has to contain. The page has 64 parts. A part whose bit in `mask` is set contains the bytes of
// `written`, and the other parts contain the bytes of `source`, or zeros if `source` is 0. Everything behind `end`,
// an offset of the region, is zero.
struct cstress_page {
  uint64_t source;
  uint64_t written;
  uint64_t mask;
  uint64_t page_size;
  uint64_t end;
  // Whether each byte may come from either source, because other threads write to the page or discard it meanwhile.
  bool is_racing;
};

// Compares `count` bytes that were found at `offset` of the region, all in one page. Returns the index of the first
// byte that is wrong, or -1 if there is none.
ptrdiff_t cstress_compare(const uint8_t *bytes, uint64_t offset, size_t count, const struct cstress_page *page);

// What a forked child does.
enum cstress_child {
  CSTRESS_EXIT,   // ends with 0
  CSTRESS_TOUCH,  // reads the byte at the address, which should end the child
  CSTRESS_EXECUTE // becomes this program again, which prints its version to /dev/null
};

// Forks, and waits until the child has ended. Returns the exit status of the child, or the negative number of the
// signal that ended it, or -1000 - errno.
int cstress_fork(enum cstress_child kind, uintptr_t address);

// Does the same with a child that calls `body` and ends with its result. A child that has not ended after
// `patience_seconds` is killed, and the result is -1000 - ETIMEDOUT.
int cstress_fork_and_run(int (*body)(void *_Nullable), void *context, unsigned patience_seconds);

// Memory of which each page begins with the word that cstress_make makes for its offset.
struct cstress_range {
  uintptr_t address;
  size_t page_count, page_size;
  uint64_t seed;
};

// What readers of a range have seen: pages whose word was wrong, and pages that raised a signal.
struct cstress_outcome {
  long wrong, failed;
  long ticks;  // how often a timer has interrupted the reader
  int error;   // an errno, if the test itself could not be made
};

// Reads the first word of each page.
struct cstress_outcome cstress_read_words(const struct cstress_range *range);

// Does the same while a timer interrupts the calling thread every `microseconds`, with a handler that reads a page of
// `touched`. Allocates nothing meanwhile.
struct cstress_outcome cstress_read_with_ticks(
    const struct cstress_range *range, const struct cstress_range *touched, unsigned microseconds);

// Starts a thread that reads the first word of each page, and cancels it after `after` pages. The error is ETIMEDOUT
// if the thread has not ended after `patience_seconds`, and ECANCELED if it has ended as if it had returned early.
struct cstress_outcome cstress_cancel_reader(
    const struct cstress_range *range, bool is_asynchronous, size_t after, unsigned patience_seconds);

// Starts up to 16 threads that read ranges, which get their threads in turn. The threads of a range read its pages
// between them. Returns NULL without memory.
typedef struct cstress_crowd cstress_crowd;
cstress_crowd *_Nullable cstress_start_crowd(
    const struct cstress_range *_Nullable ranges, size_t range_count, size_t thread_count);
// The number of threads that could be started.
size_t cstress_crowd_size(const cstress_crowd *crowd);
// Waits for the threads.
struct cstress_outcome cstress_join_crowd(cstress_crowd *crowd);

// mprotect(2), mremap(2) to a given place, a place for that, and munmap(2). They return 0 or -errno.
int cstress_protect(uintptr_t address, size_t length, int protection);
int cstress_reserve(size_t length, uintptr_t *address);
int cstress_move(uintptr_t from, size_t length, uintptr_t to);
void cstress_unmap(uintptr_t address, size_t length);

// Reads a byte. The access may raise a signal.
uint8_t cstress_load(uintptr_t address);

// Returns whether missing pages of `sigsegv` have guard markers (MADV_GUARD_INSTALL for shared memory, Linux 6.15).
// Without them, pages whose protection the program changes read as zero.
bool cstress_has_guards(void);

// Returns whether ThreadSanitizer watches the program. It runs every handler of the program with all signals blocked,
// so that a handler that touches lazy memory of `sigbus` or `sigsegv` ends the process.
bool cstress_blocks_faults_in_handlers(void);

// Returns whether a sanitizer watches the program. It can neither follow cancelled threads nor jumps out of handlers.
bool cstress_is_sanitized(void);

#pragma clang assume_nonnull end

#endif
