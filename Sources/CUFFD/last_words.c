#define _GNU_SOURCE
#include "cuffd_last_words.h"

#include "cuffd_fork.h"
#include "cuffd_host.h"
#include "futex.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t PATIENCE = 5000000000, PATIENCE_FOR_TURN = 15000000000;  // nanoseconds

// The phases of a request. A thread that dies takes it from FREE to FILLING and ASKED, and a writer takes it to TAKEN,
// FOUND (the short line is there, and the text is being made) and WRITING. In SPEAKING the short line is being written:
// by the thread that dies, when it has waited long enough, or by a writer whose text touches a page that fails. Who has
// written the line ends the request. The writer ends it where it knows of no such page, and the thread that dies ends
// it where no writer takes it.
enum { FREE, FILLING, ASKED, TAKEN, FOUND, WRITING, SPEAKING, PHASES };

// There is one request at a time: the process ends with the first thread whose request has ended.
static struct {
  // A phase, plus PHASES times the number of requests that have ended.
  _Atomic uint32_t state;
  _Atomic uint32_t bell;
  _Atomic uint32_t writers;
  // Where the writers are. A child that has the memory of its parent (vfork) must not end with the words of the parent.
  _Atomic uint64_t space;
  _Atomic int process;
  // The thread that has taken the request; 0 once the short line is written.
  _Atomic uint32_t writer;
  // 1 plus the number of requests that had ended before the latest one whose line was written.
  _Atomic uint32_t written;
  int number;
  uint64_t address;
  char short_line[1024];
  size_t length;
} words;

static void ring(void) {
  atomic_fetch_add(&words.bell, 1);
  cuffd_futex_wake(&words.bell);
}

static uint32_t phase_of(uint32_t state) { return state % PHASES; }

static uint32_t sequence_of(uint32_t state) { return state / PHASES; }

static bool change(uint32_t sequence, uint32_t from, uint32_t to) {
  uint32_t before = sequence * PHASES + from;
  if (!atomic_compare_exchange_strong(&words.state, &before, sequence * PHASES + to)) return false;
  cuffd_futex_wake(&words.state);
  return true;
}

static bool end_request(uint32_t sequence, uint32_t from) { return change(sequence, from, PHASES + FREE); }

static bool is_written(uint32_t sequence) { return atomic_load(&words.written) == sequence + 1; }

// Waits while the state is `state`, at most until `end`. Returns false if the time is up. May return early.
static bool wait_while(uint32_t state, uint64_t end) {
  uint64_t now = cuffd_monotonic_nanoseconds();
  if (now >= end) return false;
  cuffd_futex_wait(&words.state, state, end - now);
  return true;
}

static bool has_writers(void) {
  return atomic_load(&words.writers) > 0 && atomic_load(&words.space) == cuffd_address_space() &&
         atomic_load(&words.process) == (int)getpid();
}

// Writes the short line if the text is being made. Returns false if it is not.
static bool speak(uint32_t sequence) {
  if (!change(sequence, FOUND, SPEAKING)) return false;
  // A pipe that is full and that nobody reads must not keep the thread alive.
  struct pollfd error = {.fd = STDERR_FILENO, .events = POLLOUT};
  struct timespec patience = {.tv_sec = (time_t)(PATIENCE / 1000000000)};
  long ready;
  do {
    // Linux takes the time that has passed from `patience`.
    ready = syscall(SYS_ppoll, &error, 1, &patience, NULL, 0);
  } while (ready < 0 && errno == EINTR);
  // Where a sandbox forbids ppoll(2), this writes all the same, because few pipes are full.
  if (ready != 0) syscall(SYS_write, STDERR_FILENO, words.short_line, words.length);
  atomic_store(&words.written, sequence + 1);
  atomic_store(&words.writer, 0);
  end_request(sequence, SPEAKING);
  return true;
}

bool cuffd_last_words(int number, uint64_t address) {
  if (!has_writers()) return false;
  uint32_t state = atomic_load(&words.state);
  // A text may touch memory that fails. The writer is then the thread that dies.
  if (phase_of(state) != FREE && atomic_load(&words.writer) == cuffd_thread_id()) {
    uint32_t sequence = sequence_of(state), speaking = sequence * PHASES + SPEAKING;
    // The thread that asked may be writing the line at this moment.
    uint64_t end = cuffd_monotonic_nanoseconds() + PATIENCE;
    while (!speak(sequence) && atomic_load(&words.state) == speaking && wait_while(speaking, end)) continue;
    return is_written(sequence);
  }
  uint64_t end = cuffd_monotonic_nanoseconds() + PATIENCE_FOR_TURN;
  while (phase_of(state) != FREE || !change(sequence_of(state), FREE, FILLING)) {
    if (phase_of(state) != FREE && !wait_while(state, end)) return false;
    state = atomic_load(&words.state);
  }
  uint32_t sequence = sequence_of(state);
  words.number = number;
  words.address = address;
  change(sequence, FILLING, ASKED);
  ring();
  end = cuffd_monotonic_nanoseconds() + PATIENCE;
  while (sequence_of(state = atomic_load(&words.state)) == sequence) {
    if (!has_writers() && end_request(sequence, ASKED)) return false;
    bool is_being_written = phase_of(state) == WRITING || phase_of(state) == SPEAKING;
    if (wait_while(state, is_being_written ? end + PATIENCE : end)) continue;
    if (speak(sequence)) return true;
    if (end_request(sequence, ASKED) || atomic_load(&words.state) == state) return false;
  }
  return is_written(sequence);
}

void cuffd_writers_forget(void) {
  uint32_t sequence = sequence_of(atomic_load(&words.state));
  atomic_store(&words.space, 0);
  atomic_store(&words.writers, 0);
  atomic_store(&words.writer, 0);
  atomic_store(&words.state, (sequence + 1) * PHASES + FREE);
}

void cuffd_request_found(const struct cuffd_request *request, const void *short_line, size_t length) {
  words.length = length < sizeof words.short_line ? length : sizeof words.short_line;
  memcpy(words.short_line, short_line, words.length);
  if (words.length > 0) words.short_line[words.length - 1] = '\n';
  change(request->sequence, TAKEN, FOUND);
}

bool cuffd_request_begin_to_write(const struct cuffd_request *request) {
  return change(request->sequence, FOUND, WRITING);
}

static bool take(struct cuffd_request *request) {
  uint32_t state = atomic_load(&words.state), sequence = sequence_of(state);
  if (phase_of(state) != ASKED || !change(sequence, ASKED, TAKEN)) return false;
  atomic_store(&words.writer, cuffd_thread_id());
  *request = (struct cuffd_request){.sequence = sequence, .number = words.number, .address = words.address};
  return true;
}

// Lets the thread die.
static void finish(const struct cuffd_request *request) {
  uint32_t self = cuffd_thread_id();
  atomic_compare_exchange_strong(&words.writer, &self, 0);
  if (atomic_load(&words.state) == request->sequence * PHASES + WRITING) {
    atomic_store(&words.written, request->sequence + 1);
    end_request(request->sequence, WRITING);
  } else {
    end_request(request->sequence, TAKEN);
  }
}

// The writers. The code of a thread that only waits is here too, and not in Swift: a program without failures then
// does not read in more code than this.

struct cuffd_writer {
  void (*serve)(const struct cuffd_request *);
  cuffd_thread thread;
  // The owner holds one, and the thread another one.
  _Atomic int references;
  _Atomic bool is_started;
  _Atomic bool is_stopping;
};

static void add_writer(void) {
  uint64_t space = 0, own = cuffd_address_space();
  // A child of _Fork(3) or clone(2) has the writers of its parent in the count, but not their threads.
  if (!atomic_compare_exchange_strong(&words.space, &space, own) && space != own) {
    cuffd_writers_forget();
    atomic_store(&words.space, own);
  }
  atomic_store(&words.process, (int)getpid());
  atomic_fetch_add(&words.writers, 1);
}

static void remove_writer(void) {
  if (atomic_fetch_sub(&words.writers, 1) > 1) return;
  // A thread that asks after this sees that there is no writer. One that has asked before is let go here.
  uint32_t sequence = sequence_of(atomic_load(&words.state));
  if (atomic_load(&words.writers) == 0) end_request(sequence, ASKED);
}

static void write_words(void *context) {
  cuffd_writer *writer = context;
  for (;;) {
    uint32_t bell = atomic_load(&words.bell);
    struct cuffd_request request;
    if (take(&request)) {
      writer->serve(&request);
      finish(&request);
    } else if (atomic_load(&writer->is_stopping)) {
      break;
    } else {
      cuffd_futex_wait(&words.bell, bell, UINT64_MAX);
    }
  }
  remove_writer();
  cuffd_writer_release(writer);
}

cuffd_writer *cuffd_writer_create(void (*serve)(const struct cuffd_request *)) {
  cuffd_writer *writer = calloc(1, sizeof *writer);
  if (writer == NULL) return NULL;
  writer->serve = serve;
  atomic_store(&writer->references, 1);
  return writer;
}

void cuffd_writer_start(cuffd_writer *writer) {
  if (atomic_exchange(&writer->is_started, true)) return;
  // A page may fail before the thread has begun to run.
  add_writer();
  atomic_fetch_add(&writer->references, 1);
  // The text of an error is made by code of the program, which may use as much of the stack as a provider.
  if (cuffd_thread_start(&writer->thread, 1 << 20, "fault-words", write_words, writer) == 0) return;
  atomic_fetch_sub(&writer->references, 1);
  remove_writer();
  atomic_store(&writer->is_started, false);
}

void cuffd_writer_stop(cuffd_writer *writer, uint64_t nanoseconds) {
  atomic_store(&writer->is_stopping, true);
  ring();
  if (!atomic_load(&writer->is_started)) return;
  if (cuffd_thread_is_current(writer->thread) || cuffd_thread_join_within(writer->thread, nanoseconds) != 0) {
    cuffd_thread_detach(writer->thread);
  }
}

void cuffd_writer_release(cuffd_writer *writer) {
  if (atomic_fetch_sub(&writer->references, 1) == 1) free(writer);
}
