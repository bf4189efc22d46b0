// Blocks of 64 bytes, and what all parts of the kernel need.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#ifdef __SSE2__
#include <immintrin.h>
#endif

#ifndef LEVEL
#define LEVEL _plain
#endif
#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)
#define EXPORT(name) __attribute__((visibility("default"))) JOIN(name, LEVEL)

#ifndef BLOCK
#define BLOCK 64  // tests make it smaller, so that whatever may happen at its edge happens
#endif
#define SLACK 64  // so many bytes after the end of every buffer may be read, or written
#define MAX_DEPTH 512
#define MISSING UINT32_MAX

typedef uint8_t byte;
typedef unsigned __int128 uint128;

enum { LINE_OK, LINE_BLANK, LINE_BAD, LINE_SLOW };  // Status in binding.py
enum { AS_SPAN, AS_STRING, AS_INT64, AS_FLOAT64, AS_BOOL, AS_WIDE };    // Way in binding.py

typedef byte bytes64 __attribute__((vector_size(64)));
typedef int8_t signed64 __attribute__((vector_size(64)));

// Returns the bits of a mask, of which each byte is all ones or zero.
static inline uint64_t to_bits(bytes64 mask) {
#if defined(__AVX512BW__)
    return _mm512_movepi8_mask((__m512i)mask);
#elif defined(__AVX2__)
    __m256i halves[2];
    __builtin_memcpy(halves, &mask, sizeof mask);
    return (uint64_t)(uint32_t)_mm256_movemask_epi8(halves[1]) << 32 | (uint32_t)_mm256_movemask_epi8(halves[0]);
#elif defined(__SSE2__)
    __m128i quarters[4];
    uint64_t found = 0;
    __builtin_memcpy(quarters, &mask, sizeof mask);
    for (int i = 0; i < 4; i++) found |= (uint64_t)(uint32_t)_mm_movemask_epi8(quarters[i]) << 16 * i;
    return found;
#else
    static const byte BITS[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint64_t found = 0;
    for (int i = 0; i < 64; i++) found |= (uint64_t)(mask[i] & BITS[i % 16]) << (i - i % 8);
    return found;
#endif
}

// Returns the position of the first bit; any number if no bit is set.
static inline uint32_t first_bit(uint64_t bits) {
#ifdef __BMI__
    return (uint32_t)_tzcnt_u64(bits);
#else
    return (uint32_t)__builtin_ctzll(bits | 1ULL << 63);
#endif
}

static inline bytes64 load(const byte *from) {
    bytes64 found;
    __builtin_memcpy(&found, from, sizeof found);
    return found;
}

// Copies whole blocks: more than `size` bytes may be read and written, see SLACK.
static inline void copy(byte *to, const byte *from, uint64_t size) {
    uint64_t done = 0;
    do {
        bytes64 block = load(from + done);
        __builtin_memcpy(to + done, &block, sizeof block);
        done += 64;
    } while (done < size);
}

// Compares whole blocks, see SLACK.
static inline bool equal(const byte *a, const byte *b, uint64_t size) {
    for (; size > 64; size -= 64, a += 64, b += 64)
        if (to_bits((bytes64)(load(a) != load(b)))) return false;
    return !size || !(to_bits((bytes64)(load(a) != load(b))) << (64 - size));
}

// Compares up to 32 bytes, see SLACK.
static inline bool equal_short(const byte *a, const byte *b, uint32_t size) {
#ifdef __AVX2__
    __m256i same = _mm256_cmpeq_epi8(_mm256_loadu_si256((const __m256i *)(const void *)a),
                                     _mm256_loadu_si256((const __m256i *)(const void *)b));
    return !((uint64_t)(uint32_t)~_mm256_movemask_epi8(same) << (32 - size) << 32);
#else
    return equal(a, b, size);
#endif
}
