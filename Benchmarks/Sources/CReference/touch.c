#define _GNU_SOURCE
#include "creference_touch.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

// Holds the threads back until all of them have started.
struct gate {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  int ready;
  enum { CLOSED, OPEN, CANCELLED } state;
};

struct worker {
  const struct creference_touch *touch;
  struct gate *gate;
  size_t first, end;
  pthread_t thread;
  uint64_t started, ended;
  size_t wrong;
};

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

uint64_t creference_clock_nanoseconds(void) {
  enum { LOOKS = 10000 };
  uint64_t start = now();
  for (int i = 0; i < LOOKS; i++) (void)now();
  return (now() - start) / LOOKS;
}

static uint64_t word_of(size_t page, size_t index) { return (page + 1) * 0x9e3779b97f4a7c15u + index; }

void creference_fill_source(char *bytes, size_t length, size_t page_size) {
  uint64_t *words = (uint64_t *)(void *)bytes;
  size_t per_page = page_size / sizeof *words;
  for (size_t i = 0; i < length / sizeof *words; i++) words[i] = word_of(i / per_page, i % per_page);
}

static bool wait_at(struct gate *gate) {
  pthread_mutex_lock(&gate->lock);
  gate->ready++;
  pthread_cond_broadcast(&gate->changed);
  while (gate->state == CLOSED) pthread_cond_wait(&gate->changed, &gate->lock);
  bool open = gate->state == OPEN;
  pthread_mutex_unlock(&gate->lock);
  return open;
}

static void set_gate(struct gate *gate, int threads) {
  pthread_mutex_lock(&gate->lock);
  while (threads > 0 && gate->ready < threads) pthread_cond_wait(&gate->changed, &gate->lock);
  gate->state = threads > 0 ? OPEN : CANCELLED;
  pthread_cond_broadcast(&gate->changed);
  pthread_mutex_unlock(&gate->lock);
}

static void *run(void *argument) {
  struct worker *worker = argument;
  const struct creference_touch *touch = worker->touch;
  if (!wait_at(worker->gate)) return NULL;
  size_t wrong = 0;
  uint64_t before = worker->started = now();
  for (size_t i = worker->first; i < worker->end; i++) {
    size_t page = touch->order[i];
    char *start = (char *)touch->base + page * touch->page_size;
    if (touch->copied_from != NULL) {
      memcpy(start, (const char *)touch->copied_from + page * touch->page_size, touch->page_size);
    }
    volatile uint64_t *word = (volatile uint64_t *)(void *)start;
    if (touch->writes) {
      *word = ~word_of(page, 0);
    } else if (*word != word_of(page, 0)) {
      wrong++;
    }
    // One call of the clock ends this touch and starts the next one.
    uint64_t after = now();
    touch->nanoseconds[i] = after - before;
    before = after;
  }
  worker->ended = before;
  worker->wrong = wrong;
  return NULL;
}

struct creference_touched creference_touch(struct creference_touch touch) {
  struct gate gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
  struct creference_touched result = {.error = 0};
  struct worker *workers = calloc((size_t)touch.threads, sizeof *workers);
  if (workers == NULL) return (struct creference_touched){.error = -ENOMEM};

  int started = 0;
  for (; started < touch.threads && result.error == 0; started += result.error == 0) {
    struct worker *worker = &workers[started];
    worker->touch = &touch;
    worker->gate = &gate;
    worker->first = touch.count * (size_t)started / (size_t)touch.threads;
    worker->end = touch.count * ((size_t)started + 1) / (size_t)touch.threads;
    result.error = -pthread_create(&worker->thread, NULL, run, worker);
  }
  set_gate(&gate, result.error == 0 ? started : 0);
  for (int i = 0; i < started; i++) pthread_join(workers[i].thread, NULL);

  if (result.error == 0) {
    uint64_t first = workers[0].started;
    uint64_t last = workers[0].ended;
    for (int i = 0; i < started; i++) {
      if (workers[i].started < first) first = workers[i].started;
      if (workers[i].ended > last) last = workers[i].ended;
      result.wrong += workers[i].wrong;
    }
    result.wall_nanoseconds = last - first;
  }
  free(workers);
  return result;
}

size_t creference_wrong_pages(struct creference_touch touch, const void *source) {
  size_t wrong = 0;
  for (size_t i = 0; i < touch.count; i++) {
    size_t offset = touch.order[i] * touch.page_size;
    uint64_t word = *(const uint64_t *)(const void *)((const char *)touch.base + offset);
    uint64_t wanted = word_of(touch.order[i], 0);
    size_t checked = sizeof word;
    bool right = word == (touch.writes ? ~wanted : wanted) &&
                 memcmp((const char *)touch.base + offset + checked, (const char *)source + offset + checked,
                        touch.page_size - checked) == 0;
    wrong += !right;
  }
  return wrong;
}
