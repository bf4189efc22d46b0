// The compiled part of a chunk's way: it finds the lines, proves that they are JSON objects, reads the members that a
// calculation needs, and writes the output. It has no state, allocates nothing, and calls nothing.
//
// `find_tokens` (tokens.h) finds the tokens in 64 bytes at a time: newlines, brackets, commas, colons and opening quotes
// outside strings, escapes in strings, and where numbers and words begin. `scan_line` (lines.h) walks them by the
// grammar of RFC 8259. Nothing that is wrong with one line matters for the next, as a string goes no further than its
// line. What the kernel is not sure about it marks SLOW, and Python decides. `emit` (output.h) writes lines with results
// in them, `find_faults` (faults.h) finds what is wrong with those that are refused, and `write_rejects` (rejects.h)
// writes the records of these. `hashes` (sha256.h) makes pseudonyms of texts.
//
// The file is compiled once for each level of the processor; LEVEL is the end of the names.

#include "faults.h"
#include "lines.h"
#include "output.h"
#include "rejects.h"
#include "each.h"
#include "rows.h"
#include "sha256.h"

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
// If the last line has no newline, there must be one behind it. `scratch` is for three numbers by node.
int64_t EXPORT(scan)(const byte *data, int64_t size, const Wanted *wanted, Found *found, uint32_t *scratch) {
    uint32_t *starts = scratch, *ends = starts + wanted->count;
    int32_t *after = (int32_t *)(ends + wanted->count);
    uint64_t at = 0;
    int64_t index = 0;
    uint32_t room[TOKENS + AHEAD];
    room[0] = 0;
    Tokens tokens = {.data = data, .tokens = room, .found = room + 1, .enough = room};
    tokens.limit = (uint64_t)size + (size && data[size - 1] != '\n');
    Walk walk = {.wanted = wanted, .found = found, .tokens = &tokens, .starts = starts, .ends = ends};
    walk.after = after;
    for (int32_t node = 0; node < wanted->count; node++) after[node] = 0;
    walk.next = room + 1;  // beyond what is enough: no tokens are there yet
    for (; at < (uint64_t)size && index < found->lines; index++) {
        walk.index = index;
        walk.slow = false;
        walk.cutter = (Cutter){.first = walk.cutter.count, .count = walk.cutter.count};
        found->bounds[index] = (int64_t)at;
        found->closes[index] = 0;
        found->empty[index] = 0;
        if (wanted->cuts) found->cut_bounds[index] = walk.cutter.first;
        walk.listed = found->listed + index * wanted->words;
        for (int32_t word = 0; word < wanted->words; word++) walk.listed[word] = 0;
        int status = scan_line(&walk, (uint32_t)at);
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

// Writes the bytes of values one after the other, and where each ends; returns the size. A missing value is empty.
int64_t EXPORT(texts)(const byte *data, const uint32_t *starts, const uint32_t *ends, int64_t count, byte *to,
                      int64_t *offsets) {
    byte *at = to;
    offsets[0] = 0;
    for (int64_t i = 0; i < count; i++) {
        if (starts[i] != MISSING) {
            copy(at, data + starts[i], ends[i] - starts[i]);
            at += ends[i] - starts[i];
        }
        offsets[i + 1] = at - to;
    }
    return at - to;
}

// Writes the SHA-256 of texts in hexadecimal digits, 64 for each; with a key, their HMAC. Returns how many were written.
//
// The key is NULL for none. What is not valid is left out; `valid` is NULL if all are.
int64_t EXPORT(hashes)(const byte *data, const int64_t *offsets, const byte *valid, int64_t count, const byte *key,
                       int64_t key_size, byte *to) {
    static const char HEX[] = "0123456789abcdef";
    ShaState inner = SHA_START, outer = SHA_START;
    int64_t written = 0;
    if (key) hmac_states(key, (uint64_t)key_size, &inner, &outer);
    for (int64_t i = 0; i < count; i++, to += 64) {
        if (valid && !valid[i]) continue;
        byte hash[32];
        ShaState state = inner;
        sha_finish(&state, data + offsets[i], (uint64_t)(offsets[i + 1] - offsets[i]), key ? SHA_BLOCK : 0);
        sha_bytes(&state, hash);
        if (key) {
            state = outer;
            sha_finish(&state, hash, sizeof hash, SHA_BLOCK);
            sha_bytes(&state, hash);
        }
        for (int j = 0; j < 64; j++) to[j] = (byte)HEX[j % 2 ? hash[j / 2] & 15 : hash[j / 2] >> 4];
        written++;
    }
    return written;
}
