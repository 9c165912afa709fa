#include "CTestPattern.h"

uint8_t cts_expected_byte(uint64_t offset, uint64_t seed) {
  uint64_t x = offset + seed * 0x9e3779b9;
  x = (x ^ (x >> 12)) * 0xff51afd7ed558ccd;
  x ^= x >> 29;
  return (uint8_t)(x % 255 + 1);
}

void cts_store_expected(uint8_t *bytes, size_t count, uint64_t offset, uint64_t seed) {
  for (size_t index = 0; index < count; index++) bytes[index] = cts_expected_byte(offset + index, seed);
}

size_t cts_first_unexpected(const uint8_t *bytes, size_t start, size_t count, uint64_t offset, uint64_t seed) {
  for (size_t index = start; index < count; index++) {
    if (bytes[index] != cts_expected_byte(offset + index, seed)) return index;
  }
  return count;
}
