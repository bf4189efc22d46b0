// The elements of an array in each line, as lines.

#pragma once

#include "rows.h"

enum { LINE_OF_ELEMENTS, LINE_IS_BLANK, LINE_IS_UNFIT };  // Source in each.py

// What the elements are taken from, and where to go on. Of each member beside the array, as of the array, there are its
// places by line.
typedef struct {
    const byte *kinds;         // by line: what becomes of it
    const uint32_t *starts;    // by line: where its array starts
    int64_t lines;
    const byte *names;         // of the members beside the array, as JSON with a colon
    const int64_t *name_bounds;
    const uint32_t **beside_starts;  // by member and line
    const uint32_t **beside_ends;
    int64_t members;
    int64_t line;              // where to go on
    int64_t at;                // in the array of that line; 0 at its start
    int64_t element;           // the number of the last one, from 1 on
} Elements;

typedef struct {
    int64_t *lines;     // by row: the index of its line
    int64_t *elements;  // by row: the number of the element, from 1 on; 0 for a whole line
    int64_t *places;    // by row: where it is in the line's chunk
    int64_t room;
    int64_t bytes;      // how many there is room for
    int64_t size;       // how many were written; if no row fits, how many one takes
} FoundElements;

// Returns where an object or array ends. It is valid JSON, of which the rest of the line is behind it.
static int64_t end_of_nested(const byte *data, int64_t at) {
    uint64_t in_string = 0, escaped = 0;
    int64_t depth = 0;
    for (;; at += 64) {
        bytes64 block = load(data + at), folded = block | 0x20;
        uint64_t opening = to_bits((bytes64)(folded == '{')), closing = to_bits((bytes64)(folded == '}'));
        uint64_t quotes = to_bits((bytes64)(block == '"')), backslashes = to_bits((bytes64)(block == '\\'));
        if (backslashes | escaped) quotes &= ~find_escaped(backslashes, &escaped);
        uint64_t inside = parity(quotes) ^ in_string;
        in_string = inside >> 63 ? ~0ULL : 0;
        opening &= ~inside, closing &= ~inside;
        int64_t more = __builtin_popcountll(opening), fewer = __builtin_popcountll(closing);
        if (fewer < depth) {  // it cannot end here
            depth += more - fewer;
            continue;
        }
        for (uint64_t bits = opening | closing; bits; bits &= bits - 1) {
            depth += opening & bits & -bits ? 1 : -1;
            if (!depth) return at + __builtin_ctzll(bits) + 1;
        }
    }
}

// Returns where an element ends that is no object or array: at the comma or bracket after it, without white space.
static int64_t end_of_plain(const byte *data, int64_t at) {
    if (data[at] != '"') {
        while (!is_space(data[at]) && data[at] != ',' && data[at] != ']') at++;
        return at;
    }
    for (at++; data[at] != '"'; at++) at += data[at] == '\\';
    return at + 1;
}

// Returns where the next element of a line is, or the bracket after the last one.
static int64_t next_element(const Elements *from, const byte *data) {
    int64_t at = from->at ? from->at : (int64_t)from->starts[from->line] + 1;
    while (is_space(data[at]) || data[at] == ',') at++;
    return at;
}

// Skips lines that have no more elements, so that it is known which rows are the last ones.
static void skip_whole_arrays(Elements *from, const byte *data) {
    while (from->line < from->lines && from->kinds[from->line] == LINE_OF_ELEMENTS) {
        from->at = next_element(from, data);
        if (data[from->at] != ']') return;
        from->line++;
        from->at = from->element = 0;
    }
}

// Writes the elements of lines as lines; returns how many, 0 if there are no more, or there is no room for the next one.
//
// An object gets the members beside the array, before its own. A line that is blank or unfit becomes one that is.
int64_t EXPORT(write_elements)(Elements *from, const byte *data, FoundElements *found, byte *to) {
    int64_t count = 0;
    byte *out = to;
    for (;;) {
        skip_whole_arrays(from, data);
        int64_t line = from->line;
        if (line == from->lines || count == found->room || out - to + 2 > found->bytes) break;
        if (from->kinds[line] != LINE_OF_ELEMENTS) {
            found->lines[count] = line, found->elements[count] = 0, found->places[count] = -1;
            count++;
            if (from->kinds[line] == LINE_IS_UNFIT) *out++ = '!';
            *out++ = '\n';
            from->line++;
            continue;
        }
        int64_t at = next_element(from, data);
        bool object = data[at] == '{';
        int64_t end = object || data[at] == '[' ? end_of_nested(data, at) : end_of_plain(data, at);
        int64_t size = end - at + 1;
        for (int64_t i = 0; object && i < from->members; i++) {
            uint32_t start = from->beside_starts[i][line];
            if (start == MISSING) continue;
            size += from->name_bounds[i + 1] - from->name_bounds[i] + from->beside_ends[i][line] - start + 1;
        }
        if (out - to + size > found->bytes) {
            if (!count) out = to + size;
            break;
        }
        found->lines[count] = line, found->elements[count] = ++from->element, found->places[count] = at;
        count++;
        from->at = end;
        if (object && from->members) {
            int64_t inside = at + 1;
            while (is_space(data[inside])) inside++;
            bool comma = false;
            *out++ = '{';
            for (int64_t i = 0; i < from->members; i++) {
                uint32_t start = from->beside_starts[i][line];
                if (start == MISSING) continue;
                if (comma) *out++ = ',';
                comma = true;
                int64_t name_size = from->name_bounds[i + 1] - from->name_bounds[i];
                copy(out, from->names + from->name_bounds[i], (uint64_t)name_size);
                out += name_size;
                copy(out, data + start, from->beside_ends[i][line] - start);
                out += from->beside_ends[i][line] - start;
            }
            if (comma && data[inside] != '}') *out++ = ',';
            at++;
        }
        copy(out, data + at, (uint64_t)(end - at));
        out += end - at;
        *out++ = '\n';
    }
    found->size = out - to;
    return count;
}
