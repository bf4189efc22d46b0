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
    uint64_t *listed;         // of the line, as in Found
    int64_t index;            // of the line
    Cutter cutter;
    const uint32_t *next;     // where the walk ends
    int32_t previous;         // the node of the last member that was found
    int32_t *after;           // by node: which one was found after it in a line before
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

// Checks the escapes of a string, whose quote is at `start`, and reads the token after them, or a wrong one.
__attribute__((noinline)) static const uint32_t *skip_escapes(Walk *walk, const uint32_t *next, uint32_t start) {
    const byte *data = walk->tokens->data;
    const byte *checked = data + start + 1;  // up to here, the string has not ended
    uint32_t low_expected = 0;  // where the escape of a low surrogate must be
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

// Reads the token after the string at `start`, and the escapes before that.
static inline const uint32_t *skip_string(Walk *walk, const byte *data, const uint32_t *next, uint32_t start) {
    return data[*next] == '\\' ? skip_escapes(walk, next, start) : next + 1;
}

// Returns whether nothing but white space is between a place and the token that was read last.
static inline bool is_next(const byte *data, const uint32_t *next, uint64_t place) {
    return next[-1] == place || trim(data, next[-1]) == place;
}

__attribute__((noinline)) static const uint32_t *read_long_scalar(Walk *walk, const uint32_t *next, uint32_t start) {
    const byte *data = walk->tokens->data;
    const byte *stop = skip_scalar(data + start);
    next++;
    return stop != NULL && is_next(data, next, (uint64_t)(stop - data)) ? next : refuse(walk, next);
}

// Reads the token after a number or a word, or returns NULL.
static inline const uint32_t *read_scalar(Walk *walk, const byte *data, const uint32_t *next, uint32_t start) {
    return is_short_number(data + start, *next - start) ? next + 1 : read_long_scalar(walk, next, start);
}

// Reads the token after the object or array that was closed by the last one, or returns NULL.
static inline const uint32_t *read_closed(Walk *walk, const uint32_t *next) {
    uint32_t close = next[-1];
    next = look_ahead(walk, next) + 1;
    return is_next(walk->tokens->data, next, close + 1) ? next : refuse(walk, next);
}

// Reads the rest of an object or array of which nothing is wanted. `depth` is the number of brackets that are open.
__attribute__((noinline)) static const uint32_t *skip_nested(Walk *walk, const uint32_t *next, int depth, bool object) {
    bool objects[MAX_DEPTH + 1];  // by depth: whether it is an object
    const byte *data = walk->tokens->data;
    const int outer = depth;
    uint32_t start;  // of a member or an element, or of its value
    byte mark;

open:
    if (depth > MAX_DEPTH) return refuse(walk, next);
    objects[depth] = object;
    next = look_ahead(walk, next);
    start = behind(data, next[-1]);
    if (data[start] == (object ? '}' : ']')) {
        if (*next++ != start) return refuse(walk, next);
        goto close;
    }

member:  // or element
    if (object) {
        if (data[start] != '"') return refuse(walk, next);
        next = skip_string(walk, data, next, start);
        if (data[next[-1]] != ':') return refuse(walk, next);
        start = behind(data, next[-1]);
    }
    mark = data[start];
    if ((mark | 0x20) == '{') {
        if (*next++ != start) return refuse(walk, next);
        depth++;
        object = mark == '{';
        goto open;
    }
    next = mark == '"' ? skip_string(walk, data, next, start) : read_scalar(walk, data, next, start);
    if (next == NULL) return NULL;

after:  // a value
    mark = data[next[-1]];
    if (mark == ',') {
        next = look_ahead(walk, next);
        start = behind(data, next[-1]);
        goto member;
    }
    if (mark != (object ? '}' : ']')) return refuse(walk, next);

close:
    if (depth == outer) return next;
    object = objects[--depth];
    next = read_closed(walk, next);
    if (next == NULL) return NULL;
    goto after;
}

static const uint32_t *read_nested(Walk *walk, const uint32_t *next, int32_t node, int depth);

// Returns the node of a member that is not the expected one, -1 if it is not wanted.
__attribute__((noinline)) static int32_t find_member(Walk *walk, int32_t node, const byte *name, uint32_t size,
                                                     bool escapes) {
    int32_t child = match(walk->wanted, node, name, size, escapes);
    if (child >= 0) walk->after[walk->previous] = child;
    return child;
}

// Notes a member if it is wanted; returns its node, or -1.
__attribute__((always_inline)) static inline int32_t note_member(Walk *walk, const Wanted *wanted, int32_t node,
                                                                 const byte *name, uint32_t size, uint32_t value,
                                                                 byte mark, bool escapes) {
    int32_t child = walk->after[walk->previous];  // mostly, members are in the same order as in the line before
    if (escapes || size > 32 || wanted->parent[child] != node || (uint32_t)wanted->name_sizes[child] != size ||
        !equal_short(wanted->names + wanted->name_start[child], name, size))
        child = find_member(walk, node, name, size, escapes);
    if (child < 0) return child;
    walk->previous = child;
    walk->starts[child] = value;
    int32_t last = wanted->last[child], which = wanted->listed[child];
    if (last > child + 1) {
        for (int32_t i = child + 1; i < last; i++) walk->starts[i] = MISSING;  // of duplicates, the last counts
        // A path leads through something that is no object: it is for Python to say what is wrong with that.
        if (mark != '{' && mark != 'n') walk->slow = true;
    }
    if (which >= 0) walk->listed[which / 64] |= 1ULL << (which % 64);
    return child;
}

// Notes that members from `member` on stay or go, other than those up to `before`.
//
// Members that go are cut out with the comma before them. The first one that stays begins the object, so those before
// it are cut out with the comma after them.
__attribute__((noinline)) static void turn(Walk *walk, bool stays, uint32_t member, uint32_t before) {
    Cutter *cutter = &walk->cutter;
    uint32_t edge = cutter->any_stays ? before : member;
    if (!stays) cutter->start = edge;
    if (cutter->goes && !put_cut(cutter, walk->found, edge)) walk->full = true;
    cutter->any_stays |= stays;
    cutter->goes = !stays;
}

// Reads the rest of an object. With `cuts`, it is the line, of which members may go.
__attribute__((always_inline)) static inline const uint32_t *read_members(Walk *walk, const uint32_t *next, int32_t node,
                                                                          int depth, bool cuts) {
    const byte *const data = walk->tokens->data;
    const Wanted *const wanted = walk->wanted;
    const uint64_t sizes = wanted->sizes;
    const byte others_stay = wanted->others_stay;
    byte before_stays = 2;
    uint32_t before = 0;  // where the member before stops
    if (depth > MAX_DEPTH) return refuse(walk, next);
    next = look_ahead(walk, next);
    uint32_t member = behind(data, next[-1]);
    if (data[member] == '}') return *next++ == member ? next : refuse(walk, next);
    while (true) {
        if (data[member] != '"') return refuse(walk, next);
        uint32_t token = *next++;
        bool escapes = false;
        if (data[token] != ':') {
            if (data[token] != '\\') return refuse(walk, next);
            next = skip_escapes(walk, next - 1, member);
            token = next[-1];
            if (data[token] != ':') return refuse(walk, next);
            escapes = true;
        }
        uint32_t size = trim(data, token) - 2 - member, value = behind(data, token);
        byte mark = data[value], stays = others_stay;
        int32_t child = -1;
        if (escapes || sizes >> (size & 63) & 1) {  // most members are not wanted
            child = note_member(walk, wanted, node, data + member + 1, size, value, mark, escapes);
            if (cuts && child >= 0) stays = wanted->keeps[child];
        }
        if (mark == '"') {
            next = skip_string(walk, data, next, value);
        } else if ((mark | 0x20) == '{') {
            bool object = mark == '{';
            if (*next++ != value) return refuse(walk, next);
            next = object && child >= 0 && wanted->last[child] > child + 1
                       ? read_nested(walk, next, child, depth + 1)
                       : skip_nested(walk, next, depth + 1, object);
            if (next != NULL) next = read_closed(walk, next);
            if (next == NULL) return NULL;
        } else {
            next = read_scalar(walk, data, next, value);
            if (next == NULL) return NULL;
        }
        token = next[-1];
        if (cuts && stays != before_stays) turn(walk, stays, member, before);
        before = trim(data, token);
        before_stays = stays;
        if (child >= 0) walk->ends[child] = before;
        if (data[token] != ',') break;
        next = look_ahead(walk, next);
        member = behind(data, token);
    }
    if (data[next[-1]] != '}') return refuse(walk, next);
    if (cuts && walk->cutter.goes && !put_cut(&walk->cutter, walk->found, before)) walk->full = true;
    return next;
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
static int scan_line(Walk *walk, uint32_t start) {
    const Wanted *wanted = walk->wanted;
    Found *found = walk->found;
    const byte *data = walk->tokens->data;
    const uint32_t *next = look_ahead(walk, walk->next);
    uint32_t first = *next++;
    bool empty = data[*next] == '}';
    walk->next = next;
    walk->previous = 0;
    for (int32_t i = 0; i < wanted->count; i++) walk->starts[i] = MISSING;
    if (first == behind(data, start - 1)) {
        if (data[first] == '\n') return LINE_BLANK;
        next = data[first] != '{' ? NULL : wanted->cuts ? read_line_with_cuts(walk, next) : read_line(walk, next);
        if (next != NULL) {
            uint32_t close = next[-1];
            next = read_closed(walk, next);
            if (next != NULL) walk->next = next;
            if (next != NULL && data[next[-1]] == '\n') {
                found->closes[walk->index] = (int64_t)close;
                // Without any member, or with none that stays, no comma comes before what is appended.
                found->empty[walk->index] = wanted->cuts ? !walk->cutter.any_stays : empty;
                return LINE_OK;
            }
        }
    }
    while (data[walk->next[-1]] != '\n') walk->next = look_ahead(walk, walk->next) + 1;
    return LINE_BAD;
}
