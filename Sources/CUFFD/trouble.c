#include "cuffd_trouble.h"

#ifdef CUFFD_TROUBLE

#include <stdatomic.h>
#include <unistd.h>

static _Atomic uint64_t rate, start, number, made[CUFFD_TROUBLE_COUNT];

static uint64_t mixed(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

void cuffd_trouble_begin(uint64_t seed, uint64_t per_million) {
  atomic_store(&start, seed);
  atomic_store(&rate, per_million);
}

uint64_t cuffd_trouble_made(enum cuffd_trouble kind) { return atomic_load(&made[kind]); }

enum cuffd_trouble cuffd_trouble_next(uint32_t allowed) {
  uint64_t wanted = atomic_load_explicit(&rate, memory_order_relaxed);
  if (wanted == 0) return CUFFD_TROUBLE_NONE;
  uint64_t count = atomic_fetch_add_explicit(&number, 1, memory_order_relaxed);
  uint64_t chance = mixed(atomic_load_explicit(&start, memory_order_relaxed) + count * 0x9e3779b97f4a7c15u);
  if (chance % 1000000 >= wanted) return CUFFD_TROUBLE_NONE;
  enum cuffd_trouble kind = (enum cuffd_trouble)(1 + (chance >> 40) % (CUFFD_TROUBLE_COUNT - 1));
  while ((allowed >> kind & 1) == 0) kind = kind % (CUFFD_TROUBLE_COUNT - 1) + 1;
  atomic_fetch_add_explicit(&made[kind], 1, memory_order_relaxed);
  return kind;
}

uint64_t cuffd_trouble_part(uint64_t length) {
  uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), pages = length / page;
  return pages < 2 ? 0 : (1 + mixed(atomic_load(&number)) % (pages - 1)) * page;
}

#else

// A strict compiler does not accept an empty file.
typedef int cuffd_trouble_is_not_here;

#endif
