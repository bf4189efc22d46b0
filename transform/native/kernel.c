// The compiled part of a chunk's way: it finds the lines, proves that they are JSON objects, reads the members that a
// calculation needs, and writes the output. It has no state, allocates nothing, and calls nothing.
//
// `find_tokens` finds the tokens in 64 bytes at a time: newlines, brackets, commas, colons and opening quotes outside
// strings, escapes in strings, and where numbers and words begin. `scan_line` walks them by the grammar of RFC 8259. Nothing that is wrong
// with one line matters for the next, as a string goes no further than its line. What the kernel is not sure about it
// marks SLOW, and Python decides.
//
// The file is compiled once for each level of the processor; LEVEL is the end of the names.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#ifdef __SSE2__
#include <immintrin.h>
#endif

#include "powers.h"

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

// ---------------------------------------------------------------------------------------------------------- vectors

typedef byte bytes64 __attribute__((vector_size(64)));

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

// ----------------------------------------------------------------------------------------------------------- tokens

#define TOKENS 1024  // there is room for so many positions
#define AHEAD 8      // so many may be looked at without a check

// The tokens of a chunk, some hundreds at a time.
typedef struct {
    const byte *data;
    uint64_t limit;      // behind the newline of the last line
    uint64_t at;         // where the next block starts
    uint64_t in_string;  // all ones if the block before ended in a string
    uint64_t escaped;    // 1 if it ended with a backslash that escapes the next byte
    uint64_t in_word;    // 1 if it ended in a number or a word
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

// Returns the position of the first bit; any number if there is none.
static inline uint32_t first_bit(uint64_t bits) {
#ifdef __BMI__
    return (uint32_t)_tzcnt_u64(bits);
#else
    return (uint32_t)__builtin_ctzll(bits | 1ULL << 63);
#endif
}

// Returns which of the bytes of a block, of which `others` are not ASCII, are not UTF-8 as RFC 3629 has it: no surrogates,
// nothing longer than needed. `next` is where the first character may start, and then where the one after the last does.
__attribute__((noinline)) static uint64_t find_wrong_utf8(const byte *data, uint64_t base, uint64_t others, uint64_t *next) {
    uint64_t wrong = 0;
    for (; others; others &= others - 1) {
        uint64_t position = base + (uint64_t)__builtin_ctzll(others);
        if (position < *next) continue;  // within a character
        const byte *at = data + position;
        byte c = *at;
        int more = c >= 0xF0 ? 3 : c >= 0xE0 ? 2 : 1;
        byte lowest = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
        byte highest = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
        bool good = c >= 0xC2 && c <= 0xF4 && at[1] >= lowest && at[1] <= highest;
        for (int i = 2; i <= more && good; i++) good = (at[i] & 0xC0) == 0x80;
        if (!good) wrong |= others & -others;
        *next = position + (good ? (uint64_t)more + 1 : 1);
    }
    return wrong;
}

// Finds the positions of more tokens, after those from `left` on. At least AHEAD are there then; after the last one of
// the chunk, its newline is repeated.
__attribute__((noinline)) static const uint32_t *find_tokens(Tokens *state, const uint32_t *left) {
    uint32_t *to = state->tokens, *full = to + TOKENS - 64;
    while (left < state->found) *to++ = *left++;
    const byte *data = state->data;
    const uint64_t limit = state->limit, last = 1ULL << (BLOCK - 1);
    uint64_t at = state->at, in_string = state->in_string, escaped = state->escaped, in_word = state->in_word;
    uint64_t next_character = state->next_character;
    while (at < limit && to <= full) {
        bytes64 block = load(data + at);
        uint64_t marks = find_marks(block);
        uint64_t control = to_bits((bytes64)(block < 0x20));
        uint64_t spaces = to_bits((bytes64)(block == ' '));
        uint64_t quotes = to_bits((bytes64)(block == '"'));
        uint64_t backslashes = to_bits((bytes64)(block == '\\'));
        uint64_t others = to_bits((bytes64)(block >= 0x80));  // than ASCII
        uint64_t valid = BLOCK == 64 ? ~0ULL : (1ULL << (BLOCK & 63)) - 1;
        uint32_t base = (uint32_t)at;
        if (BLOCK < 64 || limit - at < BLOCK) {
            if (limit - at < BLOCK) valid = (1ULL << (limit - at)) - 1;
            marks &= valid, control &= valid, quotes &= valid, backslashes &= valid, others &= valid;
        }
        at += BLOCK;
        uint64_t escapes = 0;  // their backslashes
        if (backslashes | escaped) {
            uint64_t next = escaped, after = find_escaped(backslashes, &next);
            escaped = BLOCK == 64 ? next : after >> (BLOCK & 63) & 1;
            quotes &= ~after;
            escapes = backslashes & ~after;
        }
        uint64_t inside = parity(quotes) ^ in_string;  // from the quote that opens a string up to its last character
        if (BLOCK < 64) inside &= valid;
        uint64_t newlines = 0, errors = 0;
        if (others) errors = find_wrong_utf8(data, base, others, &next_character);
        if (control) {
            newlines = to_bits((bytes64)(block == '\n')) & valid;
            spaces |= newlines | to_bits((bytes64)((block == '\t') | (block == '\r')));
            errors |= control & inside;
            uint64_t broken = newlines & inside;
            if (broken) {  // a string is not closed: what follows its line is begun afresh
                uint64_t end = broken & -broken;
                at = base + (uint64_t)__builtin_ctzll(end) + 1;
                valid &= end | (end - 1);
                inside &= end - 1;
                marks &= valid, quotes &= valid, newlines &= valid, errors &= valid;
                escaped = next_character = 0;
            }
        }
        in_string = inside & last ? ~0ULL : 0;
        uint64_t words = ~(marks | spaces | quotes | inside) & valid;
        uint64_t word_starts = words & ~(words << 1 | in_word);
        in_word = words & last ? 1 : 0;
        // No token starts with a control character or a byte that is not ASCII, so that lines with errors are refused.
        uint64_t bits = (marks & ~inside) | (quotes & inside) | word_starts | newlines | (escapes & inside) | errors;
        uint32_t *after = to + __builtin_popcountll(bits);
        for (; to < after; to += 4) {  // up to three too many
            for (int i = 0; i < 4; i++) {
                to[i] = base + first_bit(bits);
                bits &= bits - 1;
            }
        }
        to = after;
    }
    state->at = at, state->in_string = in_string, state->escaped = escaped, state->in_word = in_word;
    state->next_character = next_character;
    state->found = to;
    state->enough = at < limit ? to - AHEAD : to + AHEAD;
    for (int i = 0; i < AHEAD; i++) to[i] = (uint32_t)limit - 1;
    return state->tokens;
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

// ---------------------------------------------------------------------------------------------------------- numbers

typedef struct {
    uint64_t digits;   // the first ones, without the point and the exponent
    int64_t exponent;  // of ten
    bool negative, integer, exact;  // exact: `digits` has all of them but zeros
    const byte *stop;  // where it ends, NULL if it is not a number
} Number;

static inline bool is_digit(byte c) { return c >= '0' && c <= '9'; }

// The bytes that may follow a number or a word.
static const bool ENDS_WORD[256] = {[','] = 1, ['}'] = 1, [']'] = 1, [' '] = 1, ['\t'] = 1, ['\r'] = 1, ['\n'] = 1};

// Returns where the digits from here on end.
static inline const byte *skip_digits(const byte *at) {
    while (true) {
        uint64_t others = to_bits((bytes64)((bytes64)(load(at) - '0') > 9));
        if (others) return at + __builtin_ctzll(others);
        at += 64;
    }
}

// Returns where a number ends, NULL if the bytes are not one. A newline follows somewhere.
static const byte *skip_long_number(const byte *at) {
    const byte *stop = skip_digits(at);
    if (stop == at || (*at == '0' && stop - at > 1)) return NULL;
    if (*stop == '.') {
        at = stop + 1;
        stop = skip_digits(at);
        if (stop == at) return NULL;
    }
    if ((*stop | 0x20) == 'e') {
        at = stop + 1;
        if (*at == '+' || *at == '-') at++;
        stop = skip_digits(at);
        if (stop == at) return NULL;
    }
    return stop;
}

// As `skip_long_number`, for what has 15 digits and a point at most, and no exponent; others are given to it.
static inline const byte *skip_number(const byte *at) {
    at += *at == '-';
#if defined(__SSE2__) && BLOCK == 64
    const __m128i nine = _mm_set1_epi8(9), zero = _mm_set1_epi8('0');
    __m128i digits = _mm_sub_epi8(_mm_loadu_si128((const __m128i *)(const void *)at), zero);
    uint32_t others = ~(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(digits, nine), digits));
    uint32_t stop = first_bit(others), start = 0;
    if (stop == 0 || (*at == '0' && stop > 1)) return NULL;
    if (at[stop] == '.' && stop < 16) {
        start = stop + 1;
        stop = first_bit(others & (others - 1));
    }
    if (stop < 16 && (at[stop] | 0x20) != 'e') return stop > start ? at + stop : NULL;
#endif
    return skip_long_number(at);
}

// Reads a number that `skip_number` has accepted.
static Number read_number(const byte *at, const byte *stop) {
    Number found = {.integer = true, .exact = true, .stop = stop};
    if (*at == '-') {
        found.negative = true;
        at++;
    }
    if (stop - at <= 18) {  // so that no digits are too many
        for (; at < stop && is_digit(*at); at++) found.digits = found.digits * 10 + (uint64_t)(*at - '0');
        if (at < stop && *at == '.') {
            found.integer = false;
            const byte *point = ++at;
            for (; at < stop && is_digit(*at); at++) found.digits = found.digits * 10 + (uint64_t)(*at - '0');
            found.exponent = point - at;
        }
    }
    int count = 0;  // of digits, from the first that is not 0
    for (; at < stop && (is_digit(*at) || *at == '.'); at++) {
        if (*at == '.') {
            found.integer = false;
            continue;
        }
        uint64_t digit = (uint64_t)(*at - '0'), more = found.digits * 10 + digit;
        if (count == 19 && (__builtin_mul_overflow(found.digits, 10, &more) || __builtin_add_overflow(more, digit, &more)))
            count = 20;
        if (count < 20) {
            found.digits = more;
            count += count || digit;
            found.exponent -= !found.integer;
        } else {
            found.exact &= digit == 0;
            found.exponent += found.integer;
        }
    }
    if (at < stop) {
        found.integer = false;
        bool negative = *++at == '-';
        at += negative || *at == '+';
        int64_t exponent = 0;
        for (; at < stop; at++)
            if (exponent < 1000000000000) exponent = exponent * 10 + (*at - '0');  // more than a chunk has digits
        found.exponent += negative ? -exponent : exponent;
    }
    return found;
}

static const double POWERS[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

// Stores the double that is nearest to digits * 10^exponent. Returns false if that needs more care, as near the least
// and the largest doubles. Lemire, "Number parsing at a gigabyte per second", 2021, https://arxiv.org/abs/2101.11408
static bool to_double(uint64_t digits, int64_t exponent, bool negative, double *to) {
    uint64_t sign = negative ? 1ULL << 63 : 0;
    if (digits == 0) {
        __builtin_memcpy(to, &sign, 8);
        return true;
    }
    if (digits <= 1ULL << 53 && exponent >= -22 && exponent <= 22) {  // both are exact, so their quotient is nearest
        double value = (double)digits;
        value = exponent < 0 ? value / POWERS[-exponent] : value * POWERS[exponent];
        *to = negative ? -value : value;
        return true;
    }
    if (exponent < FIVES_FIRST || exponent > FIVES_LAST) return false;
    int shift = __builtin_clzll(digits);
    digits <<= shift;
    const uint64_t *five = FIVES[exponent - FIVES_FIRST];
    uint128 product = (uint128)digits * five[0];
    if (((uint64_t)(product >> 64) & 0x1FF) == 0x1FF) product += (uint128)digits * five[1] >> 64;
    uint64_t high = (uint64_t)(product >> 64), low = (uint64_t)product;
    int upper = (int)(high >> 63);
    uint64_t mantissa = high >> (upper + 64 - 52 - 3);
    int64_t power = (((152170 + 65536) * exponent) >> 16) + 63 + upper - shift + 1023;
    if (power <= 0) return false;
    if (low <= 1 && exponent >= -4 && exponent <= 23 && (mantissa & 3) == 1 &&
        mantissa << (upper + 64 - 52 - 3) == high)
        mantissa &= ~1ULL;  // exactly between two doubles: to the even one
    mantissa = (mantissa + (mantissa & 1)) >> 1;
    if (mantissa >= 2ULL << 52) {
        mantissa = 1ULL << 52;
        power++;
    }
    if (power >= 0x7FF) return false;
    uint64_t bits = (mantissa & ((1ULL << 52) - 1)) | (uint64_t)power << 52 | sign;
    __builtin_memcpy(to, &bits, 8);
    return true;
}

// ------------------------------------------------------------------------------------------------------------ lines

// The members that a calculation needs, as a tree: the line is node 0, the nodes of a subtree follow each other.
typedef struct {
    int32_t count;             // of the nodes
    int32_t mask;              // of the hashes
    const int32_t *first;      // by hash, the first node, -1 if none
    const int32_t *next;       // by node, the next one with its hash
    const int32_t *parent;     // by node
    const int32_t *last;       // by node, the number of the last node of its subtree, plus one
    const int64_t *name_start; // by node, where its name is in `names`
    const int64_t *name_stop;
    const byte *names;
    const byte *way;           // by node: what is made of its value
    const int64_t *lowest;     // by node: of integers
    const int64_t *highest;
    const int32_t *listed;     // by node: which of the names to drop or select it is, -1 if none
    const byte *keeps;         // by node: whether it stays, if it is one of these
    int32_t words;             // how many words of 64 bits have a bit for each of these names
    byte cuts;                 // whether any member may go
    byte others_stay;          // whether members that are not listed stay
    byte *scratch;             // for a name with escapes, as long as the longest name and SLACK
    int64_t longest;           // name
    uint64_t sizes;            // of names, as bits; the last is for all from 63 on
} Wanted;

typedef struct {
    int64_t *bounds;    // where each line starts, and the end
    int64_t *stops;     // where it ends, before its newline
    byte *status;       // LINE_OK and so on
    int64_t *closes;    // where its closing brace is
    byte *empty;        // whether it has no members, or none that stay
    uint32_t *starts;   // by node and line: where the value starts, MISSING if there is none
    uint32_t *ends;     // by node and line: where it stops
    void **values;      // by node: an array with an element for each line, of int64, double or byte
    byte **valid;       // by node: for each line, whether it has a value; 2 for an integer without a sign
    uint64_t *listed;   // by line and word: which of the listed names it has, as bits
    uint32_t *cuts;     // pairs of start and stop
    int64_t *cut_bounds;  // by line, where its cuts start
    int64_t lines;      // how many lines there is room for
    int64_t max_cuts;
} Found;

// Of all bytes: names of columns often differ in a few digits somewhere in their middle.
static inline uint32_t hash_of(int32_t parent, const byte *name, uint64_t size) {
    uint64_t hash = (uint64_t)parent << 32 | size;
    for (uint64_t at = 0; at < size; at += 8) {
        uint64_t word;
        __builtin_memcpy(&word, name + at, 8);  // may be beyond the end, see SLACK
        if (size - at < 8) word &= (1ULL << 8 * (size - at)) - 1;
        hash = (hash ^ word) * 0x9E3779B97F4A7C15ULL;
        hash ^= hash >> 32;
    }
    return (uint32_t)(hash ^ hash >> 32);
}

static inline int32_t find_node(const Wanted *wanted, int32_t parent, const byte *name, uint64_t size) {
    int32_t node = wanted->first[hash_of(parent, name, size) & (uint32_t)wanted->mask];
    for (; node >= 0; node = wanted->next[node]) {
        if (wanted->parent[node] == parent && (uint64_t)(wanted->name_stop[node] - wanted->name_start[node]) == size &&
            equal(wanted->names + wanted->name_start[node], name, size))
            return node;
    }
    return -1;
}

static byte *put_utf8(byte *to, uint32_t code) {
    if (code < 0x80) {
        *to++ = (byte)code;
    } else if (code < 0x800) {
        *to++ = (byte)(0xC0 | code >> 6);
        *to++ = (byte)(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
        *to++ = (byte)(0xE0 | code >> 12);
        *to++ = (byte)(0x80 | (code >> 6 & 0x3F));
        *to++ = (byte)(0x80 | (code & 0x3F));
    } else {
        *to++ = (byte)(0xF0 | code >> 18);
        *to++ = (byte)(0x80 | (code >> 12 & 0x3F));
        *to++ = (byte)(0x80 | (code >> 6 & 0x3F));
        *to++ = (byte)(0x80 | (code & 0x3F));
    }
    return to;
}

// Writes a string without its escapes, up to about `room` bytes; returns the end. It never grows.
static byte *unescape(const byte *at, const byte *stop, byte *to, const byte *room) {
    while (at < stop && to < room) {
        if (*at != '\\') {
            *to++ = *at++;
            continue;
        }
        byte c = at[1];
        at += 2;
        if (c == 'u') {
            int unit = hex4(at);
            if (unit < 0) return NULL;
            at += 4;
            uint32_t code = (uint32_t)unit;
            if (is_high(unit) && at[0] == '\\' && at[1] == 'u' && is_low(hex4(at + 2))) {
                code = 0x10000 + ((code & 0x3FF) << 10) + (uint32_t)(hex4(at + 2) & 0x3FF);
                at += 6;
            }
            to = put_utf8(to, code);
        } else {
            *to++ = c == 'b' ? '\b' : c == 'f' ? '\f' : c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c;
        }
    }
    return to;
}

// Returns the node of a member, -1 if it is not wanted.
static inline int32_t match(const Wanted *wanted, int32_t parent, const byte *name, uint64_t size, bool escapes) {
    if (escapes) {
        byte *room = wanted->scratch + wanted->longest + 1;
        byte *end = unescape(name, name + size, wanted->scratch, room);
        if (end == NULL) return -1;
        name = wanted->scratch;
        size = (uint64_t)(end - wanted->scratch);
    }
    return size > (uint64_t)wanted->longest ? -1 : find_node(wanted, parent, name, size);
}

// What a line has shown so far of the members that stay.
typedef struct {
    bool any_stays, leading;
    uint32_t leading_start, before;  // where the first members that go start, and where the member before stops
    int64_t first, count;            // cuts
} Cutter;

static inline bool put_cut(Cutter *cutter, Found *found, uint32_t start, uint32_t stop) {
    if (cutter->count > cutter->first && found->cuts[2 * cutter->count - 1] == start) {
        found->cuts[2 * cutter->count - 1] = stop;
        return true;
    }
    if (cutter->count >= found->max_cuts) return false;
    found->cuts[2 * cutter->count] = start;
    found->cuts[2 * cutter->count + 1] = stop;
    cutter->count++;
    return true;
}

// A member that goes is cut out with the comma before it. The first one that stays begins the object, so those before
// it are cut out with the comma after them.
static inline bool cut(Cutter *cutter, Found *found, bool stays, uint64_t start, uint64_t stop) {
    bool fits = true;
    if (stays) {
        if (cutter->leading) fits = put_cut(cutter, found, cutter->leading_start, (uint32_t)start);
        cutter->leading = false;
        cutter->any_stays = true;
    } else if (cutter->any_stays) {
        fits = put_cut(cutter, found, cutter->before, (uint32_t)stop);
    } else if (!cutter->leading) {
        cutter->leading = true;
        cutter->leading_start = (uint32_t)start;
    }
    cutter->before = (uint32_t)stop;
    return fits;
}

static inline uint32_t load4(const byte *from) {
    uint32_t found;
    __builtin_memcpy(&found, from, sizeof found);
    return found;
}

// Returns whether a number or a word is at a place.
static inline bool is_scalar(const byte *at) {
    const byte *stop;
    if (is_digit(*at) || *at == '-')
        stop = skip_number(at);
    else if (load4(at) == load4((const byte *)"true") || load4(at) == load4((const byte *)"null"))
        stop = at + 4;
    else
        stop = *at == 'f' && load4(at + 1) == load4((const byte *)"alse") ? at + 5 : NULL;
    return stop != NULL && ENDS_WORD[*stop];
}

// Returns where what is before a token ends: without the white space between them, in which nothing else was found.
static inline uint32_t trim(const byte *data, uint32_t token) {
    while (data[token - 1] <= ' ') token--;
    return token;
}

// Makes the values of a line. Returns false if one does not fit its type, or needs more care.
static bool convert(const Wanted *wanted, Found *found, const byte *data, int64_t index, const uint32_t *starts,
                    const uint32_t *ends) {
    bool all = true;
    for (int32_t node = 1; node < wanted->count; node++) {
        byte way = wanted->way[node];
        if (way == AS_SPAN) continue;
        const byte *at = data + starts[node];
        bool null = starts[node] == MISSING || *at == 'n';
        byte valid = !null;
        if (way == AS_STRING) {
            if (!null && *at != '"') all = false;
            continue;
        }
        if (way == AS_BOOL) {
            ((byte *)found->values[node])[index] = !null && *at == 't';
            if (!null && *at != 't' && *at != 'f') all = false;
        } else if (null || !(is_digit(*at) || *at == '-')) {
            ((uint64_t *)found->values[node])[index] = 0;
            if (!null) all = false;
        } else {
            Number number = read_number(at, data + ends[node]);
            if (way == AS_FLOAT64) {
                bool negative = number.negative && (number.digits || !number.integer);  // the integer -0 is 0
                double *to = (double *)found->values[node] + index, next;
                if (!to_double(number.digits, number.exponent, negative, to)) all = false;
                // With more digits it is between two numbers; which of them does not matter if both are the same double.
                if (!number.exact && !(number.digits < UINT64_MAX &&
                                       to_double(number.digits + 1, number.exponent, negative, &next) && next == *to))
                    all = false;
            } else {
                bool whole = number.integer && number.exact && number.exponent == 0;
                if (whole && way == AS_WIDE && !number.negative && number.digits > (uint64_t)INT64_MAX) {
                    ((uint64_t *)found->values[node])[index] = number.digits;
                    valid = 2;
                } else {
                    bool fits = whole && number.digits <= (uint64_t)INT64_MAX;
                    int64_t value = !fits ? 0 : number.negative ? -(int64_t)number.digits : (int64_t)number.digits;
                    if (!fits || value < wanted->lowest[node] || value > wanted->highest[node]) all = false;
                    ((int64_t *)found->values[node])[index] = value;
                }
            }
        }
        found->valid[node][index] = valid;
    }
    return all;
}

// The walk along the tokens of a line. Its functions get a pointer to the next token, and return one: the token before
// it is the last one that was read. They return NULL where the line is refused.
typedef struct {
    const Wanted *wanted;
    Found *found;
    Tokens *tokens;
    uint32_t *starts, *ends;  // by node: where its value is
    int64_t index;            // of the line
    Cutter cutter;
    const uint32_t *next;     // where the walk ends
    bool slow;                // whether Python has to look at the line
    bool full;                // whether there is no room for its cuts
} Walk;

static inline const uint32_t *refuse(Walk *walk, const uint32_t *next) {
    walk->next = next;
    return NULL;
}

// Returns the next token, with at least AHEAD after it unless the chunk ends.
static inline const uint32_t *look_ahead(Walk *walk, const uint32_t *next) {
    return next > walk->tokens->enough ? find_tokens(walk->tokens, next) : next;
}

static inline bool has_quote(const byte *at, const byte *stop) {
    for (; at < stop; at += 64) {
        uint64_t quotes = to_bits((bytes64)(load(at) == '"'));
        if (quotes && at + __builtin_ctzll(quotes) < stop) return true;
    }
    return false;
}

// Checks the escapes of a string, whose quote is the token before, and reads the token after them, or a wrong one.
__attribute__((noinline)) static const uint32_t *skip_escapes(Walk *walk, const uint32_t *next) {
    const byte *data = walk->tokens->data;
    const byte *checked = data + next[-1] + 1;  // up to here, the string has not ended
    uint32_t low_expected = 0;  // where the escape of a low surrogate has to be
    for (uint32_t token = *next++; data[token] == '\\'; token = next[-1]) {
        const byte *at = data + token + 1;
        if (has_quote(checked, at)) break;  // the string has ended: this is no escape
        checked = at + 1;
        if (*at == 'u') {
            int unit = hex4(at + 1);
            if (unit < 0) break;
            if (is_high(unit) && at[5] == '\\' && at[6] == 'u' && is_low(hex4(at + 7)))
                low_expected = token + 6;
            else if (is_high(unit) || (is_low(unit) && token != low_expected))
                walk->slow = true;  // a lone surrogate
        } else if (!(*at == '"' || *at == '\\' || *at == '/' || *at == 'b' || *at == 'f' || *at == 'n' || *at == 'r' ||
                     *at == 't')) {
            break;
        }
        next = look_ahead(walk, next) + 1;
    }
    return next;
}

// Reads the token after a string, and the escapes before that.
static inline const uint32_t *skip_string(Walk *walk, const uint32_t *next) {
    return walk->tokens->data[*next] == '\\' ? skip_escapes(walk, next) : next + 1;
}

// Reads the rest of an object or array of which nothing is wanted. `depth` is the number of brackets that are open.
__attribute__((noinline)) static const uint32_t *skip_nested(Walk *walk, const uint32_t *next, int depth, bool object) {
    bool objects[MAX_DEPTH + 1];  // by depth: whether it is an object
    const byte *data = walk->tokens->data;
    const int outer = depth;
    byte mark;  // of the token that was read last

open:
    if (depth > MAX_DEPTH) return refuse(walk, next);
    objects[depth] = object;
    next = look_ahead(walk, next) + 1;
    mark = data[next[-1]];
    if (mark == (object ? '}' : ']')) goto close;

member:  // or element
    if (object) {
        if (mark != '"') return refuse(walk, next);
        next = skip_string(walk, next);
        if (data[next[-1]] != ':') return refuse(walk, next);
        mark = data[*next++];
    }
    if ((mark | 0x20) == '{') {
        depth++;
        object = mark == '{';
        goto open;
    }
    if (mark == '"')
        next = skip_string(walk, next);
    else if (is_scalar(data + next[-1]))
        next++;
    else
        return refuse(walk, next);

after:  // a value
    mark = data[next[-1]];
    if (mark == ',') {
        next = look_ahead(walk, next) + 1;
        mark = data[next[-1]];
        goto member;
    }
    if (mark != (object ? '}' : ']')) return refuse(walk, next);

close:
    if (depth == outer) return next;
    object = objects[--depth];
    next = look_ahead(walk, next) + 1;
    goto after;
}

static const uint32_t *read_nested(Walk *walk, const uint32_t *next, int32_t node, int depth);

// Reads the rest of an object. With `cuts`, it is the line, of which members may go.
__attribute__((always_inline)) static inline const uint32_t *read_members(Walk *walk, const uint32_t *next, int32_t node,
                                                                          int depth, bool cuts) {
    const byte *data = walk->tokens->data;
    const Wanted *wanted = walk->wanted;
    if (depth > MAX_DEPTH) return refuse(walk, next);
    next = look_ahead(walk, next) + 1;
    if (data[next[-1]] == '}') return next;
    while (true) {
        uint32_t member = next[-1];
        if (data[member] != '"') return refuse(walk, next);
        bool escapes = data[*next] == '\\';
        next = skip_string(walk, next);
        if (data[next[-1]] != ':') return refuse(walk, next);
        uint32_t size = trim(data, next[-1]) - 2 - member;
        bool possible = wanted->sizes >> (size < 63 ? size : 63) & 1;  // most members are not wanted
        int32_t child = possible || escapes ? match(wanted, node, data + member + 1, size, escapes) : -1;
        uint32_t value = *next++;
        byte mark = data[value];
        bool inner = false, stays = wanted->others_stay;
        if (child >= 0) {
            int32_t last = wanted->last[child];
            for (int32_t i = child; i < last; i++) walk->starts[i] = MISSING;  // of duplicates, the last counts
            walk->starts[child] = value;
            inner = last > child + 1;
            // A path leads through something that is no object: it is for Python to say what is wrong with that.
            if (inner && mark != '{' && mark != 'n') walk->slow = true;
            int32_t which = cuts ? wanted->listed[child] : -1;
            if (which >= 0) {
                stays = wanted->keeps[child];
                walk->found->listed[walk->index * wanted->words + which / 64] |= 1ULL << (which % 64);
            }
        }
        if (mark == '"') {
            next = skip_string(walk, next);
        } else if ((mark | 0x20) == '{') {
            bool object = mark == '{';
            next = object && inner ? read_nested(walk, next, child, depth + 1) : skip_nested(walk, next, depth + 1, object);
            if (next == NULL) return NULL;
            next = look_ahead(walk, next) + 1;
        } else if (is_scalar(data + value)) {
            next++;
        } else {
            return refuse(walk, next);
        }
        if (child >= 0) walk->ends[child] = trim(data, next[-1]);
        if (cuts && !cut(&walk->cutter, walk->found, stays, member, trim(data, next[-1]))) {
            walk->full = true;
            return refuse(walk, next);
        }
        if (data[next[-1]] == '}') return next;
        if (data[next[-1]] != ',') return refuse(walk, next);
        next = look_ahead(walk, next) + 1;
    }
}

__attribute__((noinline)) static const uint32_t *read_nested(Walk *walk, const uint32_t *next, int32_t node, int depth) {
    return read_members(walk, next, node, depth, false);
}

__attribute__((noinline)) static const uint32_t *read_line(Walk *walk, const uint32_t *next) {
    return read_members(walk, next, 0, 1, false);
}

__attribute__((noinline)) static const uint32_t *read_line_with_cuts(Walk *walk, const uint32_t *next) {
    return read_members(walk, next, 0, 1, true);
}

// Reads the next line, with its newline; returns its status.
static int scan_line(Walk *walk) {
    const Wanted *wanted = walk->wanted;
    Found *found = walk->found;
    Cutter *cutter = &walk->cutter;
    const byte *data = walk->tokens->data;
    const uint32_t *next = look_ahead(walk, walk->next);
    uint32_t first = *next++;
    bool empty = data[*next] == '}';
    walk->next = next;
    for (int32_t i = 0; i < wanted->count; i++) walk->starts[i] = MISSING;
    if (data[first] == '\n') return LINE_BLANK;
    if (data[first] == '{') {
        next = wanted->cuts ? read_line_with_cuts(walk, next) : read_line(walk, next);
        if (next) {
            uint32_t close = next[-1];
            walk->next = next = look_ahead(walk, next) + 1;
            if (data[next[-1]] == '\n') {
                if (cutter->leading && !put_cut(cutter, found, cutter->leading_start, cutter->before)) walk->full = true;
                found->closes[walk->index] = (int64_t)close;
                // Without any member, or with none that stays, no comma comes before what is appended.
                found->empty[walk->index] = wanted->cuts ? !cutter->any_stays : empty;
                return LINE_OK;
            }
        }
    }
    while (data[walk->next[-1]] != '\n') walk->next = look_ahead(walk, walk->next) + 1;
    return LINE_BAD;
}

// Returns how many lines a chunk has.
int64_t EXPORT(count_lines)(const byte *data, int64_t size) {
    int64_t count = 0;
    int64_t at = 0;
    for (; at + 64 <= size; at += 64) count += __builtin_popcountll(to_bits((bytes64)(load(data + at) == '\n')));
    for (; at < size; at++) count += data[at] == '\n';
    return count + (size && data[size - 1] != '\n');
}

// Reads the lines of a chunk; returns how many there are, or -1 if there is no room for all cuts.
//
// If the last line has no newline, there has to be one behind it. `spans` is scratch for two numbers by node.
int64_t EXPORT(scan)(const byte *data, int64_t size, const Wanted *wanted, Found *found, uint32_t *spans) {
    uint32_t *starts = spans, *ends = spans + wanted->count;
    uint64_t at = 0;
    int64_t index = 0;
    uint32_t room[TOKENS + AHEAD];
    Tokens tokens = {.data = data, .tokens = room, .found = room, .enough = room};
    tokens.limit = (uint64_t)size + (size && data[size - 1] != '\n');
    Walk walk = {.wanted = wanted, .found = found, .tokens = &tokens, .starts = starts, .ends = ends};
    walk.next = room + 1;  // beyond what is enough: no tokens are there yet
    for (; at < (uint64_t)size && index < found->lines; index++) {
        walk.index = index;
        walk.slow = false;
        walk.cutter = (Cutter){.first = walk.cutter.count, .count = walk.cutter.count};
        found->bounds[index] = (int64_t)at;
        found->closes[index] = 0;
        found->empty[index] = 0;
        if (wanted->cuts) found->cut_bounds[index] = walk.cutter.first;
        for (int32_t word = 0; word < wanted->words; word++) found->listed[index * wanted->words + word] = 0;
        int status = scan_line(&walk);
        if (walk.full) return -1;
        if (status == LINE_OK) {
            if (!convert(wanted, found, data, index, starts, ends) || walk.slow) status = LINE_SLOW;
        } else {
            walk.cutter.count = walk.cutter.first;
            for (int32_t node = 1; node < wanted->count; node++) {
                starts[node] = MISSING;
                if (wanted->way[node] > AS_STRING) found->valid[node][index] = 0;
            }
        }
        for (int32_t node = 1; node < wanted->count; node++) {
            found->starts[(int64_t)node * found->lines + index] = starts[node];
            found->ends[(int64_t)node * found->lines + index] = starts[node] == MISSING ? MISSING : ends[node];
        }
        uint64_t stop = walk.next[-1];  // its newline
        found->stops[index] = (int64_t)stop;
        found->status[index] = (byte)status;
        at = stop + 1;
    }
    found->bounds[index] = size;
    if (wanted->cuts) found->cut_bounds[index] = walk.cutter.count;
    return index;
}

// Writes the values of strings one after the other, without quotes and escapes, and where each ends; returns the size.
//
// A value that is missing or is no string is empty. `offsets` has one more element than there are values.
int64_t EXPORT(strings)(const byte *data, const uint32_t *starts, const uint32_t *ends, int64_t count, byte *to,
                        int64_t *offsets) {
    byte *at = to;
    offsets[0] = 0;
    for (int64_t i = 0; i < count; i++) {
        if (starts[i] != MISSING && data[starts[i]] == '"') {
            const byte *from = data + starts[i] + 1, *stop = data + ends[i] - 1;
            uint64_t size = (uint64_t)(stop - from), plain = 0;
            for (; plain < size; plain += 64) {  // up to the first backslash, whole blocks
                uint64_t left = size - plain;
                uint64_t found = to_bits((bytes64)(load(from + plain) == '\\'));
                if (left < 64) found &= (1ULL << left) - 1;
                if (found) break;
            }
            if (plain >= size) {
                copy(at, from, size);
                at += size;
            } else {
                at = unescape(from, stop, at, at + size + 1);
                if (at == NULL) return -1;
            }
        }
        offsets[i + 1] = at - to;
    }
    return at - to;
}

// ----------------------------------------------------------------------------------------------------------- output

typedef struct {
    byte kind;              // 0: text, 1: int64, 2: double, 3: the bytes of a member
    const byte *prefix;     // the name and the colon
    int64_t prefix_size;
    const void *values;     // by row: the bytes of texts, or numbers
    const int64_t *offsets; // by row: where its text starts
    const byte *valid;      // by row, NULL if all are
    const uint32_t *starts; // by line: of members
    const uint32_t *ends;
    const uint32_t *target_starts;  // by line: the value to replace; NULL if none is
    const uint32_t *target_ends;
} Result;

static const char PAIRS[] =
    "0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
    "5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";

// Writes the digits of a number so that they end at `end`; returns where they start.
static inline byte *digits_before(byte *end, uint64_t value) {
    while (value >= 100) {
        const char *pair = PAIRS + 2 * (value % 100);
        value /= 100;
        *--end = (byte)pair[1];
        *--end = (byte)pair[0];
    }
    if (value >= 10) {
        *--end = (byte)PAIRS[2 * value + 1];
        *--end = (byte)PAIRS[2 * value];
    } else {
        *--end = (byte)('0' + value);
    }
    return end;
}

static byte *put_int(byte *to, int64_t value) {
    byte digits[24 + SLACK];
    uint64_t size = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    byte *start = digits_before(digits + 24, size);
    if (value < 0) *--start = '-';
    uint64_t count = (uint64_t)(digits + 24 - start);
    for (uint64_t i = 0; i < count; i++) to[i] = start[i];
    return to + count;
}

static inline uint64_t round_to_odd(const uint64_t *g, uint64_t value) {
    uint128 low = (uint128)g[1] * value, high = (uint128)g[0] * value + (uint64_t)(low >> 64);
    return (uint64_t)(high >> 64) | ((uint64_t)high > 1);
}

// Stores the shortest decimal that is read as the double, digits * 10^exponent.
// Giulietti, "The Schubfach way to render doubles", 2020.
static void shortest(uint64_t bits, uint64_t *digits, int *exponent) {
    uint64_t fraction = bits & ((1ULL << 52) - 1);
    int biased = (int)(bits >> 52 & 0x7FF);
    uint64_t c = biased ? fraction | 1ULL << 52 : fraction;
    int q = (biased ? biased : 1) - 1075;
    if (biased && q <= 0 && q > -53 && !(c & ((1ULL << -q) - 1))) {  // a small integer
        *digits = c >> -q;
        *exponent = 0;
        return;
    }
    uint64_t odd = c & 1;
    bool closer = fraction == 0 && biased > 1;  // the lower neighbour is half as far away
    uint64_t left = 4 * c - 2 + closer, middle = 4 * c, right = 4 * c + 2;
    int k = (q * 1262611 - (closer ? 524031 : 0)) >> 22;
    int h = q + ((-k * 1741647) >> 19) + 1;
    const uint64_t *g = TENS[-k - TENS_FIRST];
    uint64_t lower = round_to_odd(g, left << h) + odd;
    uint64_t value = round_to_odd(g, middle << h);
    uint64_t upper = round_to_odd(g, right << h) - odd;
    uint64_t s = value / 4;
    if (s >= 10) {
        uint64_t tens = s / 10;
        bool below = lower <= 40 * tens, above = 40 * tens + 40 <= upper;
        if (below != above) {
            *digits = tens + above;
            *exponent = k + 1;
            return;
        }
    }
    bool below = lower <= 4 * s, above = 4 * s + 4 <= upper;
    *exponent = k;
    if (below != above) {
        *digits = s + above;
        return;
    }
    uint64_t half = 4 * s + 2;
    *digits = s + (value > half || (value == half && (s & 1)));
}

// Writes a double as polars does, in at most 25 bytes; `null` if it is not finite.
static byte *put_double(byte *to, double value) {
    uint64_t bits, digits;
    int exponent;
    __builtin_memcpy(&bits, &value, 8);
    if ((bits >> 52 & 0x7FF) == 0x7FF) {
        for (int i = 0; i < 4; i++) to[i] = (byte)"null"[i];
        return to + 4;
    }
    if (bits >> 63) *to++ = '-';
    if (!(bits << 1)) {
        for (int i = 0; i < 3; i++) to[i] = (byte)"0.0"[i];
        return to + 3;
    }
    shortest(bits, &digits, &exponent);
    while (digits % 10 == 0) {
        digits /= 10;
        exponent++;
    }
    byte text[24 + SLACK];
    byte *start = digits_before(text + 24, digits);
    int size = (int)(text + 24 - start), point = size + exponent;  // where the point is, from the first digit
    if (exponent >= 0 && point <= 16) {
        for (int i = 0; i < size; i++) *to++ = start[i];
        for (int i = size; i < point; i++) *to++ = '0';
        *to++ = '.';
        *to++ = '0';
    } else if (point > 0 && point <= 16) {
        for (int i = 0; i < size; i++) {
            if (i == point) *to++ = '.';
            *to++ = start[i];
        }
    } else if (point > -5 && point <= 0) {
        *to++ = '0';
        *to++ = '.';
        for (int i = point; i < 0; i++) *to++ = '0';
        for (int i = 0; i < size; i++) *to++ = start[i];
    } else {
        *to++ = start[0];
        if (size > 1) *to++ = '.';
        for (int i = 1; i < size; i++) *to++ = start[i];
        *to++ = 'e';
        int power = point - 1;
        *to++ = power < 0 ? '-' : '+';
        to = put_int(to, power < 0 ? -power : power);
    }
    return to;
}

static inline byte *put_text(byte *to, const byte *from, uint64_t size) {
    if (size) copy(to, from, size);
    return to + size;
}

static inline byte *put_value(byte *to, const Result *result, const byte *data, int64_t row, int64_t line) {
    bool null = result->kind == 3 ? result->starts[line] == MISSING : result->valid && !result->valid[row];
    if (null) {
        for (int i = 0; i < 4; i++) to[i] = (byte)"null"[i];
        return to + 4;
    }
    switch (result->kind) {
        case 0: {
            int64_t start = result->offsets[row];
            return put_text(to, (const byte *)result->values + start, (uint64_t)(result->offsets[row + 1] - start));
        }
        case 1:
            return put_int(to, ((const int64_t *)result->values)[row]);
        case 2:
            return put_double(to, ((const double *)result->values)[row]);
        default:
            return put_text(to, data + result->starts[line], result->ends[line] - result->starts[line]);
    }
}

// Writes the lines of the rows with their results, without what is cut out; returns the size of the output.
//
// `lines` has the line of each row, in order, and `order` is scratch with an element for each result.
int64_t EXPORT(emit)(const byte *data, const int64_t *bounds, const int64_t *closes, const byte *empty,
                     const uint32_t *cuts, const int64_t *cut_bounds, const int64_t *lines, int64_t rows,
                     const Result *results, int32_t count, int32_t *order, byte *to) {
    byte *out = to;
    int32_t replacing = 0;
    for (int32_t i = 0; i < count; i++)
        if (results[i].target_starts) order[replacing++] = i;
    for (int64_t row = 0; row < rows; row++) {
        int64_t line = lines[row];
        uint64_t at = (uint64_t)bounds[line], close = (uint64_t)closes[line], stop = (uint64_t)bounds[line + 1];
        // In the order of the values that they replace, which are mostly in the same order in the line before.
        for (int32_t i = 1; i < replacing; i++) {
            int32_t result = order[i], place = i;
            uint32_t start = results[result].target_starts[line];
            for (; place && results[order[place - 1]].target_starts[line] > start; place--)
                order[place] = order[place - 1];
            order[place] = result;
        }
        int32_t replaced = replacing;  // those that the line does not have are the last
        while (replaced && results[order[replaced - 1]].target_starts[line] == MISSING) replaced--;
        int64_t next_cut = cuts ? cut_bounds[line] : 0, last_cut = cuts ? cut_bounds[line + 1] : 0;
        int32_t next = 0;
        while (next < replaced || next_cut < last_cut) {
            bool is_cut = next == replaced ||
                          (next_cut < last_cut && cuts[2 * next_cut] < results[order[next]].target_starts[line]);
            uint64_t start = is_cut ? cuts[2 * next_cut] : results[order[next]].target_starts[line];
            out = put_text(out, data + at, start - at);
            if (is_cut) {
                at = cuts[2 * next_cut++ + 1];
            } else {
                const Result *result = results + order[next++];
                out = put_value(out, result, data, row, line);
                at = result->target_ends[line];
            }
        }
        out = put_text(out, data + at, close - at);
        bool comma = !empty[line];
        for (int32_t i = 0; i < count; i++) {
            const Result *result = results + i;
            if (result->target_starts && result->target_starts[line] != MISSING) continue;
            if (comma) *out++ = ',';
            comma = true;
            out = put_text(out, result->prefix, (uint64_t)result->prefix_size);
            out = put_value(out, result, data, row, line);
        }
        out = put_text(out, data + close, stop - close);
    }
    return out - to;
}
