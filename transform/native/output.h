// The output: lines with results in them.

#pragma once

#include "powers.h"
#include "vectors.h"

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
