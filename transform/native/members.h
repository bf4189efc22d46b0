// The members that a calculation needs: their names, their values, and which of them stay.

#pragma once

#include "numbers.h"
#include "tokens.h"

// The members that a calculation needs, as a tree: the line is node 0, the nodes of a subtree follow each other.
typedef struct {
    int32_t count;             // of the nodes
    int32_t mask;              // of the hashes
    const int32_t *first;      // by hash, the first node, -1 if none
    const int32_t *next;       // by node, the next one with its hash
    const int32_t *parent;     // by node
    const int32_t *last;       // by node, the number of the last node of its subtree, plus one
    const int64_t *name_start; // by node, where its name is in `names`
    const int32_t *name_sizes; // by node
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
    uint64_t sizes;            // of names, as bits, modulo 64
} Wanted;

typedef struct {
    int64_t *bounds;    // where each line starts, and the end
    int64_t *stops;     // where it ends, before its newline
    byte *status;       // LINE_OK and so on
    int64_t *closes;    // where its closing brace is
    byte *empty;        // whether it has no members, or none that stay
    uint32_t *starts;   // by node and line: where the value starts, MISSING if it is absent
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
        if (wanted->parent[node] == parent && (uint64_t)wanted->name_sizes[node] == size &&
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
static int32_t match(const Wanted *wanted, int32_t parent, const byte *name, uint64_t size, bool escapes) {
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
    bool any_stays, goes;  // any member, and the last one
    uint32_t start;        // of what is cut out, if the last one goes
    int64_t first, count;  // cuts
} Cutter;

// Ends what is cut out; returns whether there is room for it.
static inline bool put_cut(Cutter *cutter, Found *found, uint32_t stop) {
    if (cutter->count >= found->max_cuts) return false;
    found->cuts[2 * cutter->count] = cutter->start;
    found->cuts[2 * cutter->count + 1] = stop;
    cutter->count++;
    return true;
}

static inline uint32_t load4(const byte *from) {
    uint32_t found;
    __builtin_memcpy(&found, from, sizeof found);
    return found;
}

// Returns where the number or word at a place ends, NULL without one.
static inline const byte *skip_scalar(const byte *at) {
    const byte *stop;
    if (is_digit(*at) || *at == '-')
        stop = skip_number(at);
    else if (load4(at) == load4((const byte *)"true") || load4(at) == load4((const byte *)"null"))
        stop = at + 4;
    else
        stop = *at == 'f' && load4(at + 1) == load4((const byte *)"alse") ? at + 5 : NULL;
    return stop;
}

// Returns where what is before a token ends: without the white space between them, in which nothing else was found.
static inline uint32_t trim(const byte *data, uint32_t token) {
    while (data[token - 1] <= ' ') token--;
    return token;
}

// Returns where what follows a token starts.
static inline uint32_t behind(const byte *data, uint32_t token) {
    token++;
    while (data[token] <= ' ' && data[token] != '\n') token++;
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
