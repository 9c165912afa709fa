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

// Called by a thread that dies, in its signal handler, or that ends the process. Returns true when a writer has said
// why the page at `address` failed, or standard error takes nothing. Returns false where no writer knows of such a
// page, and at once if there is no writer. Where the text of the error is not made within 5 seconds, this writes the
// short line of `cuffd_request_found`; where no writer has noted that line by then, nothing is said. Writing a line may
// take another 5 seconds. Before that, a thread waits for its turn behind others that die at the same time, for at most
// 15 seconds. Uses a few hundred bytes of the stack, allocates nothing, and is no cancellation point.
bool cuffd_last_words(int number, uint64_t address);

// Forgets the writers of the parent, in a forked child.
void cuffd_writers_forget(void);

// The request of a thread that dies.
struct cuffd_request {
  uint32_t sequence;
  int number;
  uint64_t address;
};

// Notes the short line, before the text of the error is made. Of a longer one 1,023 bytes and a newline are kept.
void cuffd_request_found(const struct cuffd_request *request, const void *short_line, size_t length);

// Begins to write the line with the text. Returns false if the thread that dies has stopped waiting for it.
bool cuffd_request_begin_to_write(const struct cuffd_request *request);

// A writer: a thread that calls `serve` for requests. Any of several writers may take a request.
typedef struct cuffd_writer cuffd_writer;

// Makes a writer whose thread is not started yet. Returns NULL if there is no memory.
cuffd_writer *_Nullable cuffd_writer_create(void (*serve)(const struct cuffd_request *request));

// Starts the thread, unless it has been started. Where it cannot be started, nothing is written, and the next call
// tries again. Several threads may call this at the same time.
void cuffd_writer_start(cuffd_writer *writer);

// Ends the thread, and waits until it has ended, or until the time is up. Called once at most, after every call of
// `cuffd_writer_start` has returned.
void cuffd_writer_stop(cuffd_writer *writer, uint64_t nanoseconds);

// Gives up the writer. The memory is freed when the thread has ended too.
void cuffd_writer_release(cuffd_writer *writer);

#pragma clang assume_nonnull end

#endif
