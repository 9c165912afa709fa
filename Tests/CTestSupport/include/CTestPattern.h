// The bytes that the sources of the tests have. They are made and compared in C, because a loop over the bytes of huge
// pages takes seconds in Swift that is not optimised, and ten times as long under a sanitizer.
#ifndef CTEST_PATTERN_H
#define CTEST_PATTERN_H

#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

// Returns the byte at `offset` of the source `seed`. It differs between neighbours, pages and sources, and is never
// zero.
uint8_t cts_expected_byte(uint64_t offset, uint64_t seed);

// Stores the `count` bytes of the source from `offset` on.
void cts_store_expected(uint8_t *bytes, size_t count, uint64_t offset, uint64_t seed);

// Returns the index of the first byte from `start` on that is not the byte of the source, of which `bytes` begins at
// `offset`. Returns `count` if there is none.
size_t cts_first_unexpected(const uint8_t *bytes, size_t start, size_t count, uint64_t offset, uint64_t seed);

#pragma clang assume_nonnull end

#endif
