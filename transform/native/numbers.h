// Numbers: where they end, and what they are.

#pragma once

#include "powers.h"
#include "vectors.h"

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
__attribute__((noinline)) static const byte *skip_long_number(const byte *at) {
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

// Returns whether some bytes are a number that has at most 16 digits, and no exponent. Others may be a number as well.
static inline bool is_short_number(const byte *at, uint32_t size) {
#if defined(__SSE2__) && BLOCK == 64
    bool negative = *at == '-';
    at += negative;
    size -= negative;
    const __m128i nine = _mm_set1_epi8(9), zero = _mm_set1_epi8('0');
    __m128i digits = _mm_sub_epi8(_mm_loadu_si128((const __m128i *)(const void *)at), zero);
    uint32_t others = ~(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(digits, nine), digits));
    uint32_t whole = first_bit(others);  // digits
    if (size > 16 || !whole || (*at == '0' && whole > 1)) return false;
    if (whole >= size) return true;
    return at[whole] == '.' && whole + 1 < size && first_bit(others & (others - 1)) >= size;
#else
    (void)at, (void)size;
    return false;
#endif
}

// Returns where a number ends, NULL if the bytes are not one.
static inline const byte *skip_number(const byte *at) { return skip_long_number(at + (*at == '-')); }

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
