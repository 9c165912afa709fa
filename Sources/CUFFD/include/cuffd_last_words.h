// What is said of a thread that is about to die of a page which failed. Another thread says it, a writer: the text of
// an error is made by code of the program, which may allocate, take locks and use much of the stack. The thread that
// dies is in a signal handler, perhaps on a small alternate stack, and may hold a lock that the text needs.
#ifndef CUFFD_LAST_WORDS_H
#define CUFFD_LAST_WORDS_H

#include "cuffd_platform.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cuffd_attributes.h"

#pragma clang assume_nonnull begin

// Called by the thread that dies, in its signal handler. Returns when a writer has said why the page at `address`
// failed, or knows of no such page, and at once if there is no writer. Where the text of the error is not made within
// 5 seconds, this writes the short line of `cuffd_request_found`; where no writer has noted that line by then, nothing
// is said. Writing a line may take another 5 seconds. Threads that die at the same time wait for one another before,
// for at most 15 seconds. Uses a few hundred bytes of the stack, allocates nothing, and is no cancellation point.
void cuffd_last_words(int number, uint64_t address);

// Counts the threads that are writers. A thread is counted before it starts, and until it takes no more requests.
void cuffd_writers_add(void);
void cuffd_writers_remove(void);
// Forgets the writers of the parent, in a forked child.
void cuffd_writers_forget(void);

// A number that changes when there may be something new for the writers.
uint32_t cuffd_writers_bell(void);
void cuffd_writers_ring(void);
// Waits while the number is `bell`. May return early.
void cuffd_writers_wait(uint32_t bell);

// The request of a thread that dies.
struct cuffd_request {
  uint32_t sequence;
  int number;
  uint64_t address;
};

// Takes the request of a thread that dies. Returns false if there is none.
bool cuffd_request_take(struct cuffd_request *request);

// Notes the short line, before the text of the error is made. Of a longer one 1,023 bytes and a newline are kept.
void cuffd_request_found(const struct cuffd_request *request, const void *short_line, size_t length);

// Begins to write the line with the text. Returns false if the thread that dies has stopped waiting for it.
bool cuffd_request_begin_to_write(const struct cuffd_request *request);

// Lets the thread die.
void cuffd_request_finish(const struct cuffd_request *request);

#pragma clang assume_nonnull end

#endif
