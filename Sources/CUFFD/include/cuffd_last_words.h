// What is said of a thread that is about to die of a page which failed. Another thread says it, the writer: the text of
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

// A page that failed. The names are not terminated.
struct cuffd_failed_page {
  const void *_Nullable region;
  size_t region_length;
  uint64_t offset;
  const void *_Nullable provider;
  size_t provider_length;
};

// Called by the thread that dies, in its signal handler. Returns when a writer has said why the page at `address`
// failed, or knows of no such page. Where the text of the error is not made within 5 seconds, the line is written
// without it. Without a writer nothing happens. Uses little of the stack, and allocates nothing.
void cuffd_last_words(int number, uint64_t address);

// Whether a writer has to end.
typedef struct cuffd_writer cuffd_writer;

// Returns NULL if there is no memory.
cuffd_writer *_Nullable cuffd_writer_create(void);
// The thread of the writer must have ended.
void cuffd_writer_destroy(cuffd_writer *writer);

// Called before the thread of a writer starts, and when it has ended or could not be started.
void cuffd_writer_begin(void);
void cuffd_writer_end(void);

// Waits until a thread is about to die. Returns false if the writer has to end instead. Every call that returns true
// is followed by one of cuffd_writer_finish.
bool cuffd_writer_next(cuffd_writer *writer, int *number, uint64_t *address);

// Notes which page it is, before the text of its error is made. The page and its names have to stay valid until the
// text is made.
void cuffd_writer_found(const struct cuffd_failed_page *page);

// Returns when the text may be written. Does not return if the thread that dies has stopped waiting for it: that thread
// may still use the names of the page, and the process is about to end.
void cuffd_writer_text_made(void);

// Lets the thread die.
void cuffd_writer_finish(void);

// Makes cuffd_writer_next return false.
void cuffd_writer_stop(cuffd_writer *writer);

// Forgets the writers of the parent, in a forked child.
void cuffd_last_words_after_fork(void);

#pragma clang assume_nonnull end

#endif
