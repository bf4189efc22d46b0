// The tokens of a chunk, and the characters and escapes in its strings.

#pragma once

#include "vectors.h"

#define TOKENS 1024  // there is room for so many positions
#define AHEAD 8      // so many may be looked at without a check

// The tokens of a chunk, some hundreds at a time.
typedef struct {
    const byte *data;
    uint64_t limit;      // behind the newline of the last line
    uint64_t at;         // where the next block starts
    uint64_t in_string;  // all ones if the block before ended in a string
    uint64_t escaped;    // 1 if it ended with a backslash that escapes the next byte
    uint64_t after_mark, after_string;  // 1 if it ended with a mark or a string, and perhaps white space
    uint64_t next_character;  // where the character after the last one that is not ASCII starts
    uint32_t *tokens;    // room for positions
    uint32_t *found;     // where those that were found end
    const uint32_t *enough;  // beyond, fewer than AHEAD are left, and more can be found
} Tokens;

// Returns the bytes that a backslash escapes. An algorithm of simdjson (find_escaped, Apache License 2.0).
static inline uint64_t find_escaped(uint64_t backslashes, uint64_t *carry) {
    const uint64_t even = 0x5555555555555555ULL;
    backslashes &= ~*carry;
    uint64_t follows = backslashes << 1 | *carry;
    uint64_t odd_starts = backslashes & ~even & ~follows;
    uint64_t even_starts;
    *carry = __builtin_add_overflow(odd_starts, backslashes, &even_starts);
    return (even ^ (even_starts << 1)) & follows;
}

// Returns for each bit whether the number of ones up to and including it is odd.
static inline uint64_t parity(uint64_t bits) {
#ifdef __PCLMUL__
    return (uint64_t)_mm_cvtsi128_si64(_mm_clmulepi64_si128(_mm_cvtsi64_si128((int64_t)bits), _mm_set1_epi8(-1), 0));
#else
    for (int by = 1; by < 64; by *= 2) bits ^= bits << by;
    return bits;
#endif
}

// Returns the bytes that follow some bytes and the white space behind these. The carry is 1 where that is in the next
// block.
static inline uint64_t skip_white(uint64_t bits, uint64_t white, uint64_t *carry) {
    uint64_t after = bits << 1 | *carry, found = after;
    bool overflow = false;
    if (white) overflow = __builtin_add_overflow(after, white, &found);  // which goes through the white space
    *carry = BLOCK == 64 ? bits >> 63 | overflow : found >> (BLOCK & 63) & 1;
    if (BLOCK < 64) found &= (1ULL << (BLOCK & 63)) - 1;
    return found & ~white;
}

// Returns which bytes are brackets, commas and colons; and, outside strings, perhaps control characters.
static inline uint64_t find_marks(bytes64 block) {
    bytes64 folded = block | 0x20;  // `{` and `[` differ in that bit, as do `}` and `]`
#if defined(__AVX2__) && !defined(__AVX512BW__)
    // The four differ in their low halves, by which each byte finds the one that it may be.
    // Langdale and Lemire, "Parsing gigabytes of JSON per second", 2019, section 3.1.2
    const __m256i by_low_half = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ':', '{', ',', '}', 0, 0));
    __m256i halves[2];
    __builtin_memcpy(halves, &block, sizeof block);
    for (int i = 0; i < 2; i++) halves[i] = _mm256_shuffle_epi8(by_low_half, halves[i]);
    bytes64 candidates;
    __builtin_memcpy(&candidates, halves, sizeof candidates);
    return to_bits((bytes64)(candidates == folded));
#else
    return to_bits((bytes64)((folded == '{') | (folded == '}') | (block == ',') | (block == ':')));
#endif
}

// Returns how many bytes the character at a place has, which is not ASCII; 0 if it is not UTF-8 as RFC 3629 has it: no
// surrogates, nothing longer than needed. A newline is somewhere behind it.
static inline uint64_t character_size(const byte *at) {
    byte c = at[0];
    if (c < 0xC2 || c > 0xF4) return 0;
    uint64_t size = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : 2;
    byte lowest = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
    byte highest = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
    if (at[1] < lowest || at[1] > highest) return 0;
    for (uint64_t i = 2; i < size; i++)
        if ((at[i] & 0xC0) != 0x80) return 0;
    return size;
}

// Returns which of the bytes of a block, of which `others` are not ASCII, are not UTF-8. `next` is where the first
// character may start, and then where the one after the last does.
__attribute__((noinline)) static uint64_t find_wrong_utf8(const byte *data, uint64_t base, uint64_t others, uint64_t *next) {
    uint64_t wrong = 0;
    for (; others; others &= others - 1) {
        uint64_t position = base + (uint64_t)__builtin_ctzll(others);
        if (position < *next) continue;  // within a character
        uint64_t size = character_size(data + position);
        if (!size) wrong |= others & -others;
        *next = position + (size ? size : 1);
    }
    return wrong;
}

// What a block has besides marks, quotes, blanks and what stands for itself in strings, as bits.
typedef struct {
    uint64_t white;    // tabs and carriage returns
    uint64_t escapes;  // backslashes that escape the byte behind them
    uint64_t escaped;  // these bytes
    uint64_t errors;   // control characters that are nowhere right, and bytes that are not UTF-8
} Special;

__attribute__((noinline)) static Special find_special_bytes(Tokens *state, uint64_t at, uint64_t valid) {
    bytes64 block = load(state->data + at);
    uint64_t backslashes = to_bits((bytes64)(block == '\\')) & valid;
    uint64_t others = to_bits((bytes64)(block >= 0x80)) & valid;  // than ASCII
    Special found = {.white = to_bits((bytes64)((block == '\t') | (block == '\r'))) & valid};
    found.errors = to_bits((bytes64)((block < 0x20) & (block != '\n'))) & valid & ~found.white;
    if (others) found.errors |= find_wrong_utf8(state->data, at, others, &state->next_character);
    if (backslashes | state->escaped) {
        found.escaped = find_escaped(backslashes, &state->escaped);
        if (BLOCK < 64) state->escaped = found.escaped >> (BLOCK & 63) & 1;
        found.escapes = backslashes & ~found.escaped;
    }
    return found;
}

// Finds the positions of more tokens, after those from `left` on, which stay, as does the one before them. At least
// AHEAD are there then; after the last one of the chunk, its newline is repeated.
__attribute__((noinline)) static const uint32_t *find_tokens(Tokens *state, const uint32_t *left) {
    uint32_t *to = state->tokens, *full = to + TOKENS - 64;
    for (left--; left < state->found;) *to++ = *left++;
    const byte *data = state->data;
    const uint64_t limit = state->limit, last = 1ULL << (BLOCK - 1);
    uint64_t at = state->at, in_string = state->in_string;
    uint64_t after_mark = state->after_mark, after_string = state->after_string;
    while (at < limit && to <= full) {
        bytes64 block = load(data + at);
        uint64_t marks = find_marks(block);
        uint64_t quotes = to_bits((bytes64)(block == '"'));
        uint64_t white = to_bits((bytes64)(block == ' '));
        uint64_t newlines = to_bits((bytes64)(block == '\n'));
        uint64_t special = to_bits((bytes64)(((signed64)block < 0x20) | (block == '\\'))) & ~newlines;
        uint64_t valid = BLOCK == 64 ? ~0ULL : (1ULL << (BLOCK & 63)) - 1;
        uint64_t errors = 0, escapes = 0, tabs = 0;
        uint32_t base = (uint32_t)at;
        if (BLOCK < 64 || limit - at < BLOCK) {
            if (limit - at < BLOCK) valid = (1ULL << (limit - at)) - 1;
            marks &= valid, quotes &= valid, white &= valid, newlines &= valid, special &= valid;
        }
        if (special | state->escaped) {
            Special found = find_special_bytes(state, at, valid);
            quotes &= ~found.escaped;
            tabs = found.white, escapes = found.escapes, errors = found.errors;
        }
        at += BLOCK;
        uint64_t inside = parity(quotes) ^ in_string;  // from the quote that opens a string up to its last character
        if (BLOCK < 64) inside &= valid;
        white |= tabs;
        errors |= tabs & inside;
        if (newlines & inside) {  // a string is not closed: what follows its line is begun afresh
            uint64_t end = newlines & inside;
            end &= -end;
            at = base + (uint64_t)__builtin_ctzll(end) + 1;
            valid = end | (end - 1);
            inside &= end - 1;
            marks &= valid, quotes &= valid, white &= valid, newlines &= valid, errors &= valid;
            state->escaped = state->next_character = 0;
        }
        in_string = inside & last ? ~0ULL : 0;
        marks = (marks & ~inside) | newlines;
        white &= ~inside;
        // A string begins behind a mark, and a mark follows it. Errors are no marks, so that their lines are refused.
        if (white) {
            errors |= quotes & inside & ~skip_white(marks, white, &after_mark);
            errors |= skip_white(quotes & ~inside, white, &after_string) & ~marks;
        } else {
            errors |= quotes & inside & ~skip_white(marks, 0, &after_mark);
            errors |= skip_white(quotes & ~inside, 0, &after_string) & ~marks;
        }
        uint64_t bits = marks | errors | (escapes & inside);
        uint32_t *after = to + __builtin_popcountll(bits);
        for (; to < after; to += 8) {  // up to seven too many
            for (int i = 0; i < 8; i++) {
                to[i] = base + first_bit(bits);
                bits &= bits - 1;
            }
        }
        to = after;
    }
    state->at = at, state->in_string = in_string;
    state->after_mark = after_mark, state->after_string = after_string;
    state->found = to;
    state->enough = at < limit ? to - AHEAD : to + AHEAD;
    for (int i = 0; i < AHEAD; i++) to[i] = (uint32_t)limit - 1;
    return state->tokens + 1;
}

static inline int hex_digit(byte c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// Returns the value of four hex digits, -1 if they are others.
static inline int hex4(const byte *at) {
    int value = 0;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(at[i]);
        if (digit < 0) return -1;
        value = value * 16 + digit;
    }
    return value;
}

static inline bool is_high(int unit) { return (unit & 0xFC00) == 0xD800; }
static inline bool is_low(int unit) { return (unit & 0xFC00) == 0xDC00; }
