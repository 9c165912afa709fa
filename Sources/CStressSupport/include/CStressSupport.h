// What `lazy-mem-demo stress` needs from C, and the tests with it: accesses that may raise a signal, bytes that are known, and children.
#ifndef CSTRESS_SUPPORT_H
#define CSTRESS_SUPPORT_H

#if !defined(__linux__)
// A fatal error, unlike #error, ends the compilation.
#pragma clang diagnostic fatal "-W#warnings"
#warning "lazy-mem-demo is for Linux, as FaultRuntime is."
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

// Takes SIGBUS and SIGSEGV, so that the accesses below survive them. To be called before the first runtime is made, which then
// passes on what is not its own. Returns 0 or -errno.
int cstress_take_signals(void);

// Copies `count` bytes from `address`. Returns 0, or the signal that the access raised. A handler of a signal may do so, too.
int cstress_read(uintptr_t address, uint8_t *bytes, size_t count);

// Copies `count` bytes to `address`. Returns as cstress_read does.
int cstress_write(uintptr_t address, const uint8_t *bytes, size_t count);

// Ends the access that is under way on the calling thread, which then returns `number`; does nothing where there is none. For
// signal handlers.
void cstress_escape(int number);

// The bytes that belong at `offset`, a multiple of 8, of the source `seed`: different in each word, and never zero.
void cstress_make(uint64_t seed, uint64_t offset, uint8_t *bytes, size_t count);

// What a page has to hold: the bytes of `source` (zeros where that is 0), and in those of its 64 parts whose bit in `mask` is
// set the bytes of `written`. Behind `end`, an offset of the region, there are zeros.
struct cstress_page {
  uint64_t source;
  uint64_t written;
  uint64_t mask;
  uint64_t page_size;
  uint64_t end;
  // Whether each byte may be of either source, because somebody writes or discards meanwhile.
  bool is_racing;
};

// Compares `count` bytes that were found at `offset` of the region, all of one page. Returns the first place in them that is
// wrong, or -1.
ptrdiff_t cstress_compare(const uint8_t *bytes, uint64_t offset, size_t count, const struct cstress_page *page);

// What a forked child does.
enum cstress_child {
  CSTRESS_EXIT,   // ends with 0
  CSTRESS_TOUCH,  // reads the byte at the address, which is to end it
  CSTRESS_EXECUTE // becomes /bin/true
};

// Forks, and waits for the child. Returns its exit status, minus the signal that it died of, or -1000 - errno.
int cstress_fork(enum cstress_child kind, uintptr_t address);

#pragma clang assume_nonnull end

#endif
