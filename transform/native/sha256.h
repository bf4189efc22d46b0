// SHA-256 (FIPS 180-4), and HMAC with it (FIPS 198-1), of texts that follow each other.

#pragma once

#include "vectors.h"

enum { SHA_BLOCK = 64, SHA_WORDS = 8 };

typedef struct {
    uint32_t words[SHA_WORDS];
} ShaState;

static const ShaState SHA_START = {
    {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}};

static const uint32_t SHA_CONSTANTS[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static inline uint32_t rotate(uint32_t word, int bits) { return word >> bits | word << (32 - bits); }

// One round. Instead of moving the words, eight rounds in a row name them in turn.
#define SHA_ROUND(a, b, c, d, e, f, g, h, i)                                                     \
    do {                                                                                         \
        uint32_t sum = h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + (g ^ (e & (f ^ g))); \
        sum += SHA_CONSTANTS[i] + w[i];                                                          \
        d += sum;                                                                                \
        h = sum + (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) | (c & (a | b)));    \
    } while (0)

// Takes one block into a state.
static void sha_block(ShaState *state, const byte *block) {
    uint32_t w[64];
    for (int i = 0; i < 16; i++) {
        const byte *at = block + 4 * i;
        w[i] = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
    }
    for (int i = 16; i < 64; i++) {
        uint32_t early = w[i - 15], late = w[i - 2];
        w[i] = w[i - 16] + (rotate(early, 7) ^ rotate(early, 18) ^ early >> 3) + w[i - 7] +
               (rotate(late, 17) ^ rotate(late, 19) ^ late >> 10);
    }
    uint32_t *s = state->words;
    uint32_t a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], f = s[5], g = s[6], h = s[7];
    for (int i = 0; i < 64; i += 8) {
        SHA_ROUND(a, b, c, d, e, f, g, h, i);
        SHA_ROUND(h, a, b, c, d, e, f, g, i + 1);
        SHA_ROUND(g, h, a, b, c, d, e, f, i + 2);
        SHA_ROUND(f, g, h, a, b, c, d, e, i + 3);
        SHA_ROUND(e, f, g, h, a, b, c, d, i + 4);
        SHA_ROUND(d, e, f, g, h, a, b, c, i + 5);
        SHA_ROUND(c, d, e, f, g, h, a, b, i + 6);
        SHA_ROUND(b, c, d, e, f, g, h, a, i + 7);
    }
    s[0] += a, s[1] += b, s[2] += c, s[3] += d, s[4] += e, s[5] += f, s[6] += g, s[7] += h;
}

// Takes the rest of a message into a state, and what marks its end; `before` bytes have been taken already.
static void sha_finish(ShaState *state, const byte *text, uint64_t size, uint64_t before) {
    uint64_t bits = (before + size) * 8, left = size;
    for (; left >= SHA_BLOCK; left -= SHA_BLOCK, text += SHA_BLOCK) sha_block(state, text);
    byte last[2 * SHA_BLOCK];
    uint64_t total = left < SHA_BLOCK - 8 ? SHA_BLOCK : 2 * SHA_BLOCK;
    for (uint64_t i = 0; i < total; i++) last[i] = i < left ? text[i] : 0;
    last[left] = 0x80;
    for (uint64_t i = 0; i < 8; i++) last[total - 1 - i] = (byte)(bits >> 8 * i);
    for (uint64_t i = 0; i < total; i += SHA_BLOCK) sha_block(state, last + i);
}

static void sha_bytes(const ShaState *state, byte *to) {
    for (int i = 0; i < 4 * SHA_WORDS; i++) to[i] = (byte)(state->words[i / 4] >> (24 - 8 * (i % 4)));
}

// Finds the states after the two blocks that HMAC makes of a key.
static void hmac_states(const byte *key, uint64_t size, ShaState *inner, ShaState *outer) {
    byte padded[SHA_BLOCK], block[SHA_BLOCK];
    for (int i = 0; i < SHA_BLOCK; i++) padded[i] = (uint64_t)i < size && size <= SHA_BLOCK ? key[i] : 0;
    if (size > SHA_BLOCK) {
        ShaState hashed = SHA_START;
        sha_finish(&hashed, key, size, 0);
        sha_bytes(&hashed, padded);
    }
    *inner = *outer = SHA_START;
    for (int i = 0; i < SHA_BLOCK; i++) block[i] = padded[i] ^ 0x36;
    sha_block(inner, block);
    for (int i = 0; i < SHA_BLOCK; i++) block[i] = padded[i] ^ 0x5c;
    sha_block(outer, block);
}
