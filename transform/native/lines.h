// The grammar of a line.

#pragma once

#include "members.h"

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
