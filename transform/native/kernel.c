// The compiled part of a chunk's way: it finds the lines, proves that they are JSON objects, reads the members that a
// calculation needs, and writes the output. It has no state, allocates nothing, and calls nothing.
//
// No line depends on another: nothing that is wrong with one matters for the next. `next_block` finds the tokens of 64
// bytes at a time: brackets, commas, colons and quotes outside strings, and where numbers and words begin.
// `scan_line` walks them by the grammar of RFC 8259. What it is not sure about it marks SLOW, and Python decides.
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
#define END UINT64_MAX
#define MISSING UINT32_MAX
#define NONE UINT32_MAX  // the line has no more tokens

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

typedef struct {
    const byte *data;
    uint64_t size;        // of the chunk
    uint64_t at;          // where the next block starts
    uint64_t stop;        // where the line ends, END until that is known
    uint64_t in_string;   // all ones if the block before ended in a string
    uint64_t escaped;     // 1 if it ended with a backslash that escapes the next byte
    uint64_t in_word;     // 1 if it ended in a number or a word
    uint64_t low_expected;  // where the escape of a low surrogate has to be
    bytes64 all;          // the bytes of all blocks, or-ed
    bool bad, slow, escapes;
    uint32_t *tokens;     // room for positions
    uint32_t *found;      // where those that were found end
    const uint32_t *enough;  // beyond, fewer than AHEAD are left, and more can be found
} Line;

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

// Checks the escapes of a block, of which `at` are the characters after the backslashes.
__attribute__((noinline)) static void check_escapes(Line *line, uint64_t base, uint64_t at) {
    for (; at; at &= at - 1) {
        uint64_t position = base + (uint64_t)__builtin_ctzll(at);
        byte c = line->data[position];
        if (c == 'u') {
            int unit = hex4(line->data + position + 1);
            if (unit < 0) {
                line->bad = true;
            } else if (is_low(unit)) {
                if (line->low_expected != position) line->slow = true;  // a lone surrogate
            } else if (is_high(unit)) {
                const byte *next = line->data + position + 5;
                if (next[0] == '\\' && next[1] == 'u' && is_low(hex4(next + 2)))
                    line->low_expected = position + 6;
                else
                    line->slow = true;
            }
        } else if (!(c == '"' || c == '\\' || c == '/' || c == 'b' || c == 'f' || c == 'n' || c == 'r' || c == 't')) {
            line->bad = true;
        }
    }
}

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

// Returns the tokens of the next block of the line, as bits.
__attribute__((always_inline)) static inline uint64_t next_block(Line *line) {
    uint64_t base = line->at;
    bytes64 block = load(line->data + base);
    bytes64 folded = block | 0x20;  // `{` and `[` differ in that bit, as do `}` and `]`
    uint64_t control = to_bits((bytes64)(block < 0x20));
    uint64_t white = control | to_bits((bytes64)(block == ' '));
    uint64_t marks = to_bits((bytes64)((folded == '{') | (folded == '}') | (block == ',') | (block == ':')));
    uint64_t quotes = to_bits((bytes64)(block == '"'));
    uint64_t backslashes = to_bits((bytes64)(block == '\\'));
    uint64_t valid = BLOCK == 64 ? ~0ULL : (1ULL << (BLOCK & 63)) - 1;
    uint64_t left = line->size - base;
    line->all |= block;
    line->at = base + BLOCK;
    if (control || left <= BLOCK || BLOCK < 64) {
        if (left < BLOCK) valid = (1ULL << left) - 1;
        uint64_t newlines = to_bits((bytes64)(block == '\n')) & valid;
        if (newlines) {
            valid = (newlines & -newlines) - 1;
            line->stop = base + (uint64_t)__builtin_ctzll(newlines);
        } else if (left <= BLOCK) {
            line->stop = line->size;
        }
        control &= valid;
        white &= valid;
        marks &= valid;
        quotes &= valid;
        backslashes &= valid;
    }
    uint64_t escaped = 0;
    if (backslashes | line->escaped) {
        line->escapes = true;
        uint64_t next = line->escaped;
        escaped = find_escaped(backslashes, &next);
        line->escaped = BLOCK == 64 ? next : escaped >> (BLOCK & 63) & 1;
        escaped &= valid;
        quotes &= ~escaped;
    }
    uint64_t inside = parity(quotes) ^ line->in_string;  // from the quote that begins a string up to its last character
    uint64_t last = 1ULL << (BLOCK - 1);
    line->in_string = inside & last ? ~0ULL : 0;
    if (control) {
        uint64_t spaces = to_bits((bytes64)((block == '\t') | (block == '\r')));
        if (control & (inside | ~spaces)) line->bad = true;
    }
    if (escaped & inside) check_escapes(line, base, escaped & inside);
    uint64_t words = ~(marks | white | quotes | inside) & valid;
    uint64_t word_starts = words & ~(words << 1 | line->in_word);
    line->in_word = words & last ? 1 : 0;
    return (marks & ~inside) | quotes | word_starts;
}

// Returns the position of the first bit; any number if there is none.
static inline uint32_t first_bit(uint64_t bits) {
#ifdef __BMI__
    return (uint32_t)_tzcnt_u64(bits);
#else
    return (uint32_t)__builtin_ctzll(bits | 1ULL << 63);
#endif
}

// Finds the positions of more tokens, after those from `left` on. At least AHEAD are there then, unless the line ends;
// as many NONE follow its last one.
static const uint32_t *find_tokens(Line *line, const uint32_t *left) {
    uint32_t *to = line->tokens, *full = to + TOKENS - 64;
    while (left < line->found) *to++ = *left++;
    while (line->stop == END && to <= full) {
        uint32_t base = (uint32_t)line->at;
        uint64_t bits = next_block(line);
        uint32_t *after = to + __builtin_popcountll(bits);
        for (; to < after; to += 4) {  // up to three too many
            for (int i = 0; i < 4; i++) {
                to[i] = base + first_bit(bits);
                bits &= bits - 1;
            }
        }
        to = after;
    }
    line->found = to;
    line->enough = line->stop == END ? to - AHEAD : to + AHEAD;
    for (int i = 0; i < AHEAD; i++) to[i] = NONE;
    return line->tokens;
}

// Goes to the end of the line.
__attribute__((noinline)) static void skip_rest(Line *line) {
    while (line->stop == END) next_block(line);
}

// Returns where the bytes are not UTF-8 any more, `stop` if they are, as RFC 3629 has it: no surrogates, nothing longer
// than needed.
static const byte *skip_utf8(const byte *at, const byte *stop) {
    while (at < stop) {
        uint64_t others = to_bits((bytes64)(load(at) >= 0x80));  // than ASCII
        at += others ? (uint64_t)__builtin_ctzll(others) : 64;
        if (!others || at >= stop) continue;
        byte c = *at;
        int more = c >= 0xF0 ? 3 : c >= 0xE0 ? 2 : 1;
        if (c < 0xC2 || c > 0xF4 || stop - at <= more) return at;
        byte lowest = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
        byte highest = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
        if (at[1] < lowest || at[1] > highest) return at;
        for (int i = 2; i <= more; i++)
            if ((at[i] & 0xC0) != 0x80) return at;
        at += more + 1;
    }
    return stop;
}

static bool is_utf8(const byte *at, const byte *stop) { return skip_utf8(at, stop) == stop; }

// ---------------------------------------------------------------------------------------------------------- numbers

typedef struct {
    uint64_t digits;   // the first ones, without the point and the exponent
    int64_t exponent;  // of ten
    bool negative, integer, exact;  // exact: `digits` has all of them but zeros
    const byte *stop;  // where it ends, NULL if it is not a number
} Number;

static inline bool is_digit(byte c) { return c >= '0' && c <= '9'; }

static inline bool ends_word(byte c) {
    return c == ',' || c == '}' || c == ']' || c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == ':';
}

// Returns where the digits from here on end, within a chunk that ends at `end`.
static inline const byte *skip_digits(const byte *at, const byte *end) {
    for (; at < end; at += 64) {
        uint64_t others = to_bits((bytes64)((bytes64)(load(at) - '0') > 9));
        if (others) return at + __builtin_ctzll(others);
    }
    return at;
}

// Returns where a number ends, NULL if the bytes are not one.
static inline const byte *skip_number(const byte *at, const byte *end) {
    if (*at == '-') at++;
    const byte *stop = skip_digits(at, end);
    if (stop == at || (*at == '0' && stop - at > 1)) return NULL;
    if (*stop == '.') {
        at = stop + 1;
        stop = skip_digits(at, end);
        if (stop == at) return NULL;
    }
    if ((*stop | 0x20) == 'e') {
        at = stop + 1;
        if (*at == '+' || *at == '-') at++;
        stop = skip_digits(at, end);
        if (stop == at) return NULL;
    }
    return stop;
}

// Reads a number that `skip_number` has accepted.
static Number read_number(const byte *at, const byte *stop) {
    Number found = {.integer = true, .exact = true, .stop = stop};
    if (*at == '-') {
        found.negative = true;
        at++;
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
static inline int32_t match(const Wanted *wanted, int32_t parent, Line *line, uint64_t start, uint64_t stop) {
    const byte *name = line->data + start;
    uint64_t size = stop - start;
    if (size > (uint64_t)wanted->longest && !line->escapes) return -1;
    if (line->escapes) {
        for (uint64_t i = 0; i < size; i++) {
            if (name[i] != '\\') continue;
            byte *room = wanted->scratch + wanted->longest + 1;
            byte *end = unescape(name, name + size, wanted->scratch, room);
            if (end == NULL || end - wanted->scratch > wanted->longest) return -1;
            name = wanted->scratch;
            size = (uint64_t)(end - wanted->scratch);
            break;
        }
    }
    return find_node(wanted, parent, name, size);
}

// What a line has shown so far of the members that stay.
typedef struct {
    bool any, any_stays, leading;
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

// Returns where a number or a word ends, 0 if it is neither.
static inline uint32_t skip_scalar(const byte *data, uint64_t size, uint32_t token) {
    const byte *at = data + token, *stop;
    if (load4(at) == load4((const byte *)"true") || load4(at) == load4((const byte *)"null"))
        stop = at + 4;
    else if (*at == 'f')
        stop = load4(at + 1) == load4((const byte *)"alse") ? at + 5 : NULL;
    else
        stop = skip_number(at, data + size);
    return stop != NULL && ends_word(*stop) ? (uint32_t)(stop - data) : 0;
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

// Reads one line; returns its status, or -1 if there is no room for its cuts.
static int scan_line(const Wanted *wanted, Found *found, Line *line, int64_t index, Cutter *cutter, uint32_t *starts,
                     uint32_t *ends) {
    int32_t nodes[MAX_DEPTH + 1];    // by depth: the node of the object or array, -1 if it is not wanted
    uint32_t begins[MAX_DEPTH + 1];  // where it starts
    bool objects[MAX_DEPTH + 1];     // whether it is an object
    const byte *data = line->data;
    const uint32_t *next = find_tokens(line, line->found);
    int depth = 0;
    int32_t node = -1, child = 0;  // of the object or array, and of the member
    bool object = false, named = false;  // whether it is an object, and has members that are wanted
    uint32_t member = 0, token, stop;  // where the member of the line starts
    bool stays = true;
    for (int32_t i = 0; i < wanted->count; i++) starts[i] = MISSING;
    token = *next++;
    if (token == NONE) return LINE_BLANK;
    if (data[token] != '{') return LINE_BAD;

value:  // begins at `token`, and more tokens follow
    if (data[token] == '"') {
        stop = *next++;
        if (stop == NONE) return LINE_BAD;
        stop++;
    } else if ((data[token] | 0x20) == '{') {
        if (depth == MAX_DEPTH) return LINE_BAD;
        depth++;
        nodes[depth] = node = child;
        begins[depth] = token;
        objects[depth] = object = data[token] == '{';
        named = object && node >= 0 && wanted->last[node] > node + 1;
        if (next > line->enough) next = find_tokens(line, next);
        token = *next++;
        if (token == NONE) return LINE_BAD;
        if (object) {
            if (data[token] == '"') goto key;
            if (data[token] != '}') return LINE_BAD;
        } else if (data[token] != ']') {
            child = -1;
            goto value;
        }
        goto close;
    } else {
        stop = skip_scalar(data, line->size, token);
        if (stop == 0) return LINE_BAD;
    }
    if (child >= 0) {
        // A path leads through something that is no object: it is for Python to say what is wrong with that.
        if (wanted->last[child] > child + 1 && data[token] != 'n') line->slow = true;
        starts[child] = token;
        ends[child] = stop;
    }

after:  // a value, which ends at `stop`
    if (depth == 1 && wanted->cuts && !cut(cutter, found, stays, member, stop)) return -1;
    token = *next++;
    if (token == NONE) return LINE_BAD;
    if (data[token] == ',') {
        if (next > line->enough) next = find_tokens(line, next);
        token = *next++;
        if (token == NONE) return LINE_BAD;
        if (!object) {
            child = -1;
            goto value;
        }
        if (data[token] != '"') return LINE_BAD;
        goto key;
    }
    if (data[token] != (object ? '}' : ']')) return LINE_BAD;

close:  // of an object or array, with the bracket at `token`
    if (depth == 1) {
        if (*next != NONE || line->bad) return LINE_BAD;
        found->closes[index] = (int64_t)token;
        if (cutter->leading && !put_cut(cutter, found, cutter->leading_start, cutter->before)) return -1;
        // Without any member, or with none that stays, no comma comes before what is appended.
        found->empty[index] = wanted->cuts ? !cutter->any_stays : !cutter->any;
        return LINE_OK;
    }
    stop = token + 1;
    if (node >= 0) {
        if (wanted->last[node] > node + 1 && !object) line->slow = true;
        starts[node] = begins[depth];
        ends[node] = stop;
    }
    depth--;
    node = nodes[depth];
    object = objects[depth];
    named = object && node >= 0 && wanted->last[node] > node + 1;
    if (next > line->enough) next = find_tokens(line, next);
    goto after;

key:  // begins at `token`
    if (next[3] == NONE) return LINE_BAD;  // its end, a colon, a value, and what follows that
    uint32_t size = next[0] - token - 1;
    bool possible = wanted->sizes >> (size < 63 ? size : 63) & 1;  // most members are not wanted
    child = named && (possible || line->escapes) ? match(wanted, node, line, token + 1, next[0]) : -1;
    // Of duplicates the last counts, and with it what is in it.
    if (child >= 0)
        for (int32_t i = child; i < wanted->last[child]; i++) starts[i] = MISSING;
    if (depth == 1) {
        member = token;
        cutter->any = true;
        if (wanted->cuts) {
            int32_t which = child >= 0 ? wanted->listed[child] : -1;
            stays = which >= 0 ? wanted->keeps[child] : wanted->others_stay;
            if (which >= 0) found->listed[index * wanted->words + which / 64] |= 1ULL << (which % 64);
        }
    }
    if (data[next[1]] != ':') return LINE_BAD;
    token = next[2];
    next += 3;
    goto value;
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
// `spans` is scratch for two numbers by node.
int64_t EXPORT(scan)(const byte *data, int64_t size, const Wanted *wanted, Found *found, uint32_t *spans) {
    uint32_t *starts = spans, *ends = spans + wanted->count;
    uint64_t at = 0;
    int64_t index = 0;
    uint32_t tokens[TOKENS + AHEAD];
    Cutter cutter = {.count = 0};
    for (; at < (uint64_t)size && index < found->lines; index++) {
        Line line = {.data = data, .size = (uint64_t)size, .at = at, .stop = END, .low_expected = END, .tokens = tokens, .found = tokens};
        cutter = (Cutter){.first = cutter.count, .count = cutter.count};
        found->bounds[index] = (int64_t)at;
        found->closes[index] = 0;
        found->empty[index] = 0;
        if (wanted->cuts) found->cut_bounds[index] = cutter.first;
        for (int32_t word = 0; word < wanted->words; word++) found->listed[index * wanted->words + word] = 0;
        int status = scan_line(wanted, found, &line, index, &cutter, starts, ends);
        if (status < 0) return -1;
        if (line.stop == END) skip_rest(&line);
        if (status == LINE_BLANK && line.bad) status = LINE_BAD;
        if (status == LINE_OK && to_bits((bytes64)(line.all >= 0x80)) && !is_utf8(data + at, data + line.stop)) status = LINE_BAD;
        if (status == LINE_OK) {
            if (!convert(wanted, found, data, index, starts, ends) || line.slow) status = LINE_SLOW;
        } else {
            cutter.count = cutter.first;
            for (int32_t node = 1; node < wanted->count; node++) {
                starts[node] = MISSING;
                if (wanted->way[node] > AS_STRING) found->valid[node][index] = 0;
            }
        }
        for (int32_t node = 1; node < wanted->count; node++) {
            found->starts[(int64_t)node * found->lines + index] = starts[node];
            found->ends[(int64_t)node * found->lines + index] = starts[node] == MISSING ? MISSING : ends[node];
        }
        found->stops[index] = (int64_t)line.stop;
        found->status[index] = (byte)status;
        at = line.stop + 1;
    }
    found->bounds[index] = size;
    if (wanted->cuts) found->cut_bounds[index] = cutter.count;
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

// ----------------------------------------------------------------------------------------------------------- faults

// What is wrong with a line, and where msgspec says so: Fault in binding.py.
enum {
    FINE,  // an object, and without lone surrogates
    NOT_UTF8,
    IS_ARRAY,
    IS_STRING,
    TRUNCATED,
    TRAILING,
    CHARACTER,
    UNICODE_ESCAPE,
    ESCAPE_IN_NAME,
    ESCAPE,
    COMMA_IN_ARRAY,
    COMMA_IN_OBJECT,
    LAST_IN_ARRAY,
    LAST_IN_OBJECT,
    KEY,
    INNER_KEY,
    COLON,
    NUMBER,
    IS_INTEGER,
    UNSURE = 255,  // it is for msgspec to say
};

static inline bool is_space(byte c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

static inline const byte *skip_spaces(const byte *at, const byte *stop) {
    while (at < stop && is_space(*at)) at++;
    return at;
}

// Goes beyond the string that begins at `*from`, or to its fault. msgspec decodes the names of the line's own members,
// and skips other strings, which stops one byte earlier at a wrong escape.
static byte fault_of_string(const byte **from, const byte *stop, bool decoded) {
    const byte *at = *from + 1;
    byte fault = TRUNCATED;
    while (at < stop) {
        bytes64 block = load(at);
        uint64_t special = to_bits((bytes64)((block < 0x20) | (block == '"') | (block == '\\')));
        at += special ? (uint64_t)__builtin_ctzll(special) : 64;
        if (!special || at >= stop) continue;
        if (*at == '"') {
            at++;
            fault = FINE;
            break;
        }
        if (*at != '\\') {
            fault = CHARACTER;
            break;
        }
        if (++at == stop) break;
        byte c = *at;
        if (c != 'u') {
            bool known = c == '"' || c == '\\' || c == '/' || c == 'b' || c == 'f' || c == 'n' || c == 'r' || c == 't';
            at += known || decoded;
            if (known) continue;
            fault = decoded ? ESCAPE_IN_NAME : ESCAPE;
            break;
        }
        at++;
        if (stop - at < 4) break;
        int i = 0;
        while (i < 4 && hex_digit(at[i]) >= 0) i++;
        if (i < 4) {
            at += i + 1;
            fault = UNICODE_ESCAPE;
            break;
        }
        int unit = hex4(at);
        at += 4;
        if (is_high(unit) && stop - at >= 6 && at[0] == '\\' && at[1] == 'u' && is_low(hex4(at + 2))) {
            at += 6;
        } else if (is_high(unit) || is_low(unit)) {
            fault = UNSURE;  // a lone surrogate
            break;
        }
    }
    *from = at;
    return fault;
}

// Goes beyond the number or the word that begins at `*from`, or to its fault.
static byte fault_of_scalar(const byte **from, const byte *stop) {
    const byte *at = *from, *start;
    const char *word = *at == 't' ? "rue" : *at == 'n' ? "ull" : *at == 'f' ? "alse" : NULL;
    if (word != NULL) {
        int size = *at == 'f' ? 4 : 3;
        *from = ++at;
        if (stop - at < size) return TRUNCATED;
        for (int i = 0; i < size; i++)
            if (at[i] != (byte)word[i]) return CHARACTER;
        *from = at + size;
        return FINE;
    }
    byte fault = FINE;
    if (*at == '-') at++;
    if (at < stop && *at == '0') {
        at++;
        if (at < stop && is_digit(*at)) fault = NUMBER;
    } else {
        for (start = at; at < stop && is_digit(*at);) at++;
        if (at == start) fault = CHARACTER;
    }
    if (fault == FINE && at < stop && *at == '.') {
        for (start = ++at; at < stop && is_digit(*at);) at++;
        if (at == start) fault = NUMBER;
    }
    if (fault == FINE && at < stop && (*at == 'e' || *at == 'E')) {
        at++;
        if (at < stop && (*at == '+' || *at == '-')) at++;
        for (start = at; at < stop && is_digit(*at);) at++;
        if (at == start) fault = NUMBER;
    }
    *from = at;
    return fault;
}

// Goes beyond the array or object that begins at `*from`, or to the first fault. The order is msgspec's.
static byte fault_of_nested(const byte **from, const byte *stop) {
    bool objects[MAX_DEPTH + 1];
    const byte *at = *from;
    int depth = 0;
    bool first = true, top = *at == '{';  // where msgspec decodes names
    byte fault = FINE;
    objects[++depth] = *at++ == '{';
    while (depth && fault == FINE) {
        bool object = objects[depth];
        at = skip_spaces(at, stop);
        if (at == stop) {
            fault = TRUNCATED;
        } else if (*at == (object ? '}' : ']')) {
            at++;
            depth--;
            first = false;
            continue;
        } else if (*at == ',' && !first) {
            at = skip_spaces(at + 1, stop);
            if (at == stop) fault = TRUNCATED;
        } else if (!first) {
            fault = object ? COMMA_IN_OBJECT : COMMA_IN_ARRAY;
        }
        if (fault != FINE) break;
        if (*at == (object ? '}' : ']')) {
            fault = object ? LAST_IN_OBJECT : LAST_IN_ARRAY;
            break;
        }
        first = false;
        if (object) {
            bool decoded = top && depth == 1;
            fault = *at == '"' ? fault_of_string(&at, stop, decoded) : decoded ? KEY : INNER_KEY;
            if (fault != FINE) break;
            at = skip_spaces(at, stop);
            fault = at == stop ? TRUNCATED : *at != ':' ? COLON : FINE;
            if (fault != FINE) break;
            at = skip_spaces(at + 1, stop);
            if (at == stop) {
                fault = TRUNCATED;
                break;
            }
        }
        if (*at == '"') {
            fault = fault_of_string(&at, stop, false);
        } else if ((*at | 0x20) == '{') {
            if (depth == MAX_DEPTH) {
                fault = UNSURE;
                break;
            }
            objects[++depth] = *at++ == '{';
            first = true;
        } else {
            fault = fault_of_scalar(&at, stop);
        }
    }
    *from = at;
    return fault;
}

// Returns whether so many brackets open that the line may be nested too deeply, which comes before all other faults.
static bool may_be_deep(const byte *at, const byte *stop) {
    uint64_t count = 0;
    if (stop - at <= MAX_DEPTH) return false;
    for (; at < stop; at += 64) {
        uint64_t found = to_bits((bytes64)((load(at) | 0x20) == '{'));
        if (stop - at < 64) found &= (1ULL << (stop - at)) - 1;
        count += (uint64_t)__builtin_popcountll(found);
    }
    return count > MAX_DEPTH;
}

static byte fault_of_line(const byte **from, const byte *stop) {
    const byte *at = skip_utf8(*from, stop), *line = *from;
    *from = at;
    if (at < stop) return NOT_UTF8;
    if (may_be_deep(line, stop)) return UNSURE;
    at = skip_spaces(line, stop);
    if (at == stop) return UNSURE;
    byte c = *at, fault, kind = FINE;
    if ((c | 0x20) == '{') {
        fault = fault_of_nested(&at, stop);
        kind = c == '[' ? IS_ARRAY : FINE;
    } else if (c == '"') {
        fault = fault_of_string(&at, stop, true);
        kind = IS_STRING;
    } else if (is_digit(c) || c == '-') {
        const byte *start = at;
        fault = fault_of_scalar(&at, stop);
        if (fault != FINE || at - start > 18 || skip_digits(start + (c == '-'), stop) < at) fault = UNSURE;
        kind = IS_INTEGER;
    } else {
        fault = c == 'n' || c == 't' || c == 'f' ? UNSURE : CHARACTER;
    }
    *from = at;
    if (fault != FINE) return fault;
    *from = at = skip_spaces(at, stop);
    return at < stop ? TRAILING : kind;
}

// Finds what is wrong with lines, and at which of their bytes.
int64_t EXPORT(find_faults)(const byte *data, const int64_t *starts, const int64_t *stops, int64_t count, byte *faults,
                            int64_t *places) {
    for (int64_t i = 0; i < count; i++) {
        const byte *at = data + starts[i];
        faults[i] = fault_of_line(&at, data + stops[i]);
        places[i] = at - (data + starts[i]);
    }
    return count;
}
