// The records of rejected lines.

#pragma once

#include "output.h"

// How a reason is worded: what comes before and after the detail, as JSON.
typedef struct {
    const byte *before;  // with the name of the member
    const byte *after;   // with the quote that ends it, and the start of the member that has the line
    int64_t before_size;
    int64_t after_size;
    bool binary;  // the line is not UTF-8, and kept in base64
} Wording;

static inline uint64_t find_special(const byte *at, uint64_t left) {
    bytes64 block = load(at);
    uint64_t found = to_bits((bytes64)((block < 0x20) | (block == '"') | (block == '\\')));
    return left < 64 ? found & ((1ULL << left) - 1) : found;
}

static byte *put_escape(byte *to, byte c) {
    static const char SHORT[] = "btn\0fr", HEX[] = "0123456789abcdef";
    *to++ = '\\';
    if (c == '"' || c == '\\') {
        *to++ = c;
    } else if (c >= '\b' && c <= '\r' && c != '\v') {
        *to++ = (byte)SHORT[c - '\b'];
    } else {
        for (int i = 0; i < 3; i++) to[i] = (byte)"u00"[i];
        to[3] = (byte)HEX[c >> 4];
        to[4] = (byte)HEX[c & 15];
        to += 5;
    }
    return to;
}

// Writes text within a string of JSON, as msgspec does.
static byte *put_escaped(byte *to, const byte *from, uint64_t size) {
    for (uint64_t done = 0; done < size; done += 64, from += 64) {
        uint64_t left = size - done, at = 0;
        for (uint64_t special = find_special(from, left); special; special &= special - 1) {
            uint64_t next = (uint64_t)__builtin_ctzll(special);
            copy(to, from + at, 1);
            to = put_escape(to + (next - at), from[next]);
            at = next + 1;
        }
        copy(to, from + at, 1);
        to += (left < 64 ? left : 64) - at;
    }
    return to;
}

static byte *put_base64(byte *to, const byte *from, uint64_t size) {
    static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (uint64_t at = 0; at < size; at += 3, to += 4) {
        uint64_t left = size - at;
        uint32_t bits = (uint32_t)from[at] << 16;
        if (left > 1) bits |= (uint32_t)from[at + 1] << 8;
        if (left > 2) bits |= from[at + 2];
        to[0] = (byte)DIGITS[bits >> 18];
        to[1] = (byte)DIGITS[bits >> 12 & 63];
        to[2] = left > 1 ? (byte)DIGITS[bits >> 6 & 63] : '=';
        to[3] = left > 2 ? (byte)DIGITS[bits & 63] : '=';
    }
    return to;
}

// Writes the start of a text that has more characters than `limit`, and `…` for its last one; else all of it.
static byte *put_shortened(byte *to, const byte *from, uint64_t size, uint64_t limit) {
    uint64_t count = 0, kept = 0;
    for (uint64_t at = 0; at < size && size > limit; at++) {
        if ((from[at] & 0xC0) == 0x80) continue;
        if (++count == limit) kept = at;
        if (count <= limit) continue;
        to = put_escaped(to, from, kept);
        for (int i = 0; i < 3; i++) to[i] = (byte)"…"[i];
        return to + 3;
    }
    return put_escaped(to, from, size);
}

// Writes of the records of rejected lines what comes after the number of the line, and where each starts in `bounds`;
// returns the size. Without `to`, it only returns a size that is enough.
//
// Each has a wording and a detail: some bytes of the chunk, or a number if `detail_stops` is negative.
int64_t EXPORT(write_rejects)(const byte *data, const int64_t *starts, const int64_t *stops, const int32_t *reasons,
                              const int64_t *details, const int64_t *detail_stops, int64_t count,
                              const Wording *wordings, int64_t limit, byte *to, int64_t *bounds) {
    byte *out = to;
    int64_t enough = 0;
    for (int64_t i = 0; i < count; i++) {
        const Wording *wording = wordings + reasons[i];
        const byte *line = data + starts[i];
        uint64_t size = (uint64_t)(stops[i] - starts[i]);
        if (to == NULL) {
            uint64_t raw = wording->binary ? (size + 2) / 3 * 4 : size;
            for (uint64_t at = 0; at < size && !wording->binary; at += 64)
                raw += 5 * (uint64_t)__builtin_popcountll(find_special(line + at, size - at));
            enough += wording->before_size + wording->after_size + 6 * limit + (int64_t)raw + 32;
            continue;
        }
        bounds[i] = out - to;
        out = put_text(out, wording->before, (uint64_t)wording->before_size);
        if (detail_stops[i] < 0)
            out = put_int(out, details[i]);
        else
            out = put_shortened(out, data + details[i], (uint64_t)(detail_stops[i] - details[i]), (uint64_t)limit);
        out = put_text(out, wording->after, (uint64_t)wording->after_size);
        out = wording->binary ? put_base64(out, line, size) : put_escaped(out, line, size);
        for (int j = 0; j < 3; j++) *out++ = (byte)"\"}\n"[j];
    }
    if (to == NULL) return enough;
    bounds[count] = out - to;
    return out - to;
}

// Writes the records of rejected lines, given where each line starts, its number, and what comes after that in `texts`.
int64_t EXPORT(number_rejects)(const byte *texts, const int64_t *starts, const int64_t *stops, const int64_t *offsets,
                               const int64_t *lines, int64_t first_line, int64_t count, byte *to) {
    static const char OFFSET[SLACK] = "{\"offset\":", LINE[SLACK] = ",\"line\":";
    byte *out = to;
    for (int64_t i = 0; i < count; i++) {
        out = put_int(put_text(out, (const byte *)OFFSET, 10), offsets[i]);
        out = put_int(put_text(out, (const byte *)LINE, 8), first_line + lines[i]);
        out = put_text(out, texts + starts[i], (uint64_t)(stops[i] - starts[i]));
    }
    return out - to;
}
