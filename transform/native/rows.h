// The rows of an input that is a sequence of JSON texts rather than lines.
//
// `find_rows` finds where each row ends, by the grammar, except within strings, numbers and words: whether a row
// is JSON is for `scan` to say. What it is sure about is that a row goes no further. `write_rows` makes lines of rows.

#pragma once

#include "faults.h"

#define BEFORE 32    // so many bytes before a row are remembered
#define LOOKED_AT 4  // so many bytes show whether a row may begin

enum { NOT_OPEN, IN_ROW, ROW_DONE, ROW_BROKEN };  // a row that is done waits for what follows it
// RowFault in binding.py
enum { ROW_OK, ROW_UNEXPECTED, ROW_LINE_BREAK, ROW_TRUNCATED, ROW_NO_VALUE, ROW_FOLLOWED, ROW_ARRAY_OPEN, ROW_LONG };

// What comes next, within rows; and outside of them, in the sequence (TOP) or in an array of rows (LIST).
enum {
    OBJECT_FIRST, OBJECT_NAME, OBJECT_COLON, OBJECT_VALUE, OBJECT_AFTER,
    ARRAY_FIRST, ARRAY_VALUE, ARRAY_AFTER,
    TOO_DEEP,  // anything: only brackets are counted
    TOP, LIST_FIRST, LIST_VALUE, LIST_AFTER,
    OPENING, CLOSING, WRONG, OUTSIDE,  // not states, but what is to be done
};
enum { WORD, STRING, OPEN_OBJECT, OPEN_ARRAY, CLOSE_OBJECT, CLOSE_ARRAY, COMMA, NAME_END, LINE_BREAK, BACKSLASH, CLASSES = 16 };

static const byte CLASS_OF[256] = {
    ['"'] = STRING, ['{'] = OPEN_OBJECT, ['['] = OPEN_ARRAY, ['}'] = CLOSE_OBJECT, [']'] = CLOSE_ARRAY,
    [','] = COMMA, [':'] = NAME_END, ['\n'] = LINE_BREAK, ['\r'] = LINE_BREAK, ['\\'] = BACKSLASH,
};
#define ALL_OUTSIDE {OUTSIDE, OUTSIDE, OUTSIDE, OUTSIDE, OUTSIDE, OUTSIDE, OUTSIDE, OUTSIDE, OUTSIDE, OUTSIDE}
static const byte NEXT[TOP + 4][CLASSES] = {
    // word, string, {, [, }, ], comma, colon; a line break in a string, a backslash outside
    [OBJECT_FIRST] = {WRONG, OBJECT_COLON, WRONG, WRONG, CLOSING, WRONG, WRONG, WRONG, WRONG, WRONG},
    [OBJECT_NAME] = {WRONG, OBJECT_COLON, WRONG, WRONG, WRONG, WRONG, WRONG, WRONG, WRONG, WRONG},
    [OBJECT_COLON] = {WRONG, WRONG, WRONG, WRONG, WRONG, WRONG, WRONG, OBJECT_VALUE, WRONG, WRONG},
    [OBJECT_VALUE] = {OBJECT_AFTER, OBJECT_AFTER, OPENING, OPENING, WRONG, WRONG, WRONG, WRONG, WRONG, WRONG},
    [OBJECT_AFTER] = {WRONG, WRONG, WRONG, WRONG, CLOSING, WRONG, OBJECT_NAME, WRONG, WRONG, WRONG},
    [ARRAY_FIRST] = {ARRAY_AFTER, ARRAY_AFTER, OPENING, OPENING, WRONG, CLOSING, WRONG, WRONG, WRONG, WRONG},
    [ARRAY_VALUE] = {ARRAY_AFTER, ARRAY_AFTER, OPENING, OPENING, WRONG, WRONG, WRONG, WRONG, WRONG, WRONG},
    [ARRAY_AFTER] = {WRONG, WRONG, WRONG, WRONG, WRONG, CLOSING, ARRAY_VALUE, WRONG, WRONG, WRONG},
    [TOO_DEEP] = {TOO_DEEP, TOO_DEEP, OPENING, OPENING, CLOSING, CLOSING, TOO_DEEP, TOO_DEEP, WRONG, WRONG},
    [TOP] = ALL_OUTSIDE,
    [LIST_FIRST] = ALL_OUTSIDE,
    [LIST_VALUE] = ALL_OUTSIDE,
    [LIST_AFTER] = ALL_OUTSIDE,
};

// How far rows were looked for. Positions are those in the buffer, and may be before its start.
typedef struct {
    int64_t at;          // what comes next
    int64_t row;         // where the row that is open starts
    int64_t place;       // of a broken row: where it is broken
    uint64_t in_string;  // as in Tokens
    uint64_t escaped;
    uint64_t in_word;
    int32_t state;       // what has to come next
    int32_t depth;       // how many brackets are open, without that of an array of rows
    byte open;           // whether a row is open
    byte fault;          // of a broken row: what is wrong
    byte in_array;       // whether rows are elements of an array
    byte again;          // whether the row is the first after a broken one
    byte before[BEFORE]; // what comes before the row
    uint64_t objects[MAX_DEPTH / 64 + 1];  // by depth, as bits: whether the bracket is that of an object
} Rows;

typedef struct {
    int64_t *starts;
    int64_t *stops;
    byte *faults;     // ROW_OK and so on
    int64_t *places;  // where a fault is; without one, where the next token is
    byte *after;      // how to go on after the row: 1 in an array, 2 after a broken row
    int64_t room;
    int64_t count;
} FoundRows;

static inline bool is_break(byte c) { return c == '\n' || c == '\r'; }

// Returns the bits of a mask, and lets the compiler not keep the mask instead, which it would take apart byte by byte.
static inline uint64_t find_bits(bytes64 mask) {
    uint64_t found = to_bits(mask);
    __asm__("" : "+r"(found));
    return found;
}

#if defined(__AVX2__) && !defined(__AVX512BW__)
// Returns for each byte the one that is found by its low half; 0 for one that is not ASCII.
static inline bytes64 by_low_half(bytes64 block, __m128i table) {
    const __m256i both = _mm256_broadcastsi128_si256(table);
    __m256i halves[2];
    __builtin_memcpy(halves, &block, sizeof block);
    for (int i = 0; i < 2; i++) halves[i] = _mm256_shuffle_epi8(both, halves[i]);
    __builtin_memcpy(&block, halves, sizeof block);
    return block;
}
#endif

// Returns which bytes are line breaks.
static inline uint64_t find_breaks(bytes64 block) {
#if defined(__AVX2__) && !defined(__AVX512BW__)
    // By its low half, each byte finds the one that it may be; see `find_marks`.
    const __m128i breaks = _mm_setr_epi8(1, 0, 0, 0, 0, 0, 0, 0, 0, 0, '\n', 0, 0, '\r', 0, 0);  // 1 is not NUL
    return find_bits((bytes64)(by_low_half(block, breaks) == block));
#else
    return find_bits((bytes64)((block == '\n') | (block == '\r')));
#endif
}

// Returns which bytes are white space.
static inline uint64_t find_blanks(bytes64 block) {
#if defined(__AVX2__) && !defined(__AVX512BW__)
    const __m128i blanks = _mm_setr_epi8(' ', 0, 0, 0, 0, 0, 0, 0, 0, '\t', '\n', 0, 0, '\r', 0, 0);
    return find_bits((bytes64)(by_low_half(block, blanks) == block));
#else
    return find_bits((bytes64)((block == ' ') | (block == '\t') | (block == '\n') | (block == '\r')));
#endif
}

static inline void put_row(Rows *rows, FoundRows *found, int64_t stop, byte fault) {
    int64_t i = found->count++;
    found->starts[i] = rows->row;
    found->stops[i] = stop;
    found->faults[i] = fault;
    found->places[i] = rows->place;
    found->after[i] = rows->in_array | rows->again << 1;
    rows->open = NOT_OPEN;
}

static inline void begin_row(Rows *rows, const byte *data, int64_t at) {
    rows->row = at;
    __builtin_memcpy(rows->before, data + at - BEFORE, BEFORE);
}

// The row that is open, or else what is at a place, is broken there.
static void break_row(Rows *rows, const byte *data, int64_t at, byte fault) {
    if (rows->open == NOT_OPEN) begin_row(rows, data, at);
    rows->open = ROW_BROKEN;
    rows->fault = fault;
    rows->at = rows->place = at;
    rows->in_string = rows->escaped = rows->in_word = 0;
}

// Returns the size of the white space before the row in its line; 0 if anything else is there.
static int64_t indent_of(const Rows *rows) {
    for (int64_t size = 0; size < BEFORE; size++) {
        byte c = rows->before[BEFORE - 1 - size];
        if (is_break(c)) return size;
        if (c != ' ' && c != '\t') break;
    }
    return 0;
}

// Returns whether the next row may be in the line that starts at a place: the line starts as that of the broken row.
//
// In an array whose rows are not indented, the objects within rows may not be, either, if nothing is. So a member must be
// in the same line there, or indented.
static bool may_begin(const Rows *rows, const byte *data, int64_t size, int64_t line, int64_t indent) {
    int64_t at = line + indent;
    if (at >= size || data[at] != '{') return false;
    for (int64_t i = 0; i < indent; i++)
        if (data[line + i] != rows->before[BEFORE - indent + i]) return false;
    if (!rows->in_array || indent) return true;
    if (++at < size && data[at] == '"') return true;
    int64_t first = at;
    while (at < size && at < first + 2 && is_break(data[at])) at++;
    return at > first && at < size && (data[at] == ' ' || data[at] == '\t');
}

// Looks for the row after a broken one, and puts that; returns false if that takes more data.
static bool find_again(Rows *rows, FoundRows *found, const byte *data, int64_t size, bool at_end) {
    const int64_t indent = indent_of(rows);
    int64_t at = rows->at, line = at - indent;
    if (at + LOOKED_AT > size && !at_end) return false;
    bool there = at > rows->row && is_break(data[line - 1]) && may_begin(rows, data, size, line, indent);
    while (!there && at < size) {
        uint64_t breaks = find_breaks(load(data + at));
        if (!breaks) {
            at += 64;
            continue;
        }
        at += __builtin_ctzll(breaks);
        line = ++at;
        if (line > size) break;
        if (line + indent + LOOKED_AT > size && !at_end) {
            rows->at = line - 1;
            return false;
        }
        there = may_begin(rows, data, size, line, indent);
    }
    if (!there && !at_end) {
        rows->at = size;
        return false;
    }
    rows->again = there;
    if (!there) line = size, rows->in_array = 0;
    put_row(rows, found, line, rows->fault);
    rows->at = there ? line + indent : size;
    rows->depth = 0;
    rows->state = rows->in_array ? LIST_VALUE : TOP;
    return true;
}

// Returns whether a number or a word is at a place.
static inline bool is_scalar(const byte *at) {
    const byte *stop = skip_scalar(at);
    return stop != NULL && ENDS_WORD[*stop];
}

// Puts the row that is done, before the next token; returns false if it is broken.
static inline bool finish_row(Rows *rows, FoundRows *found, const byte *data, int64_t at) {
    byte first = data[rows->row < 0 ? 0 : rows->row];  // a row that is longer than the buffer is refused in any case
    if (rows->row >= 0 && CLASS_OF[first] == WORD && !is_scalar(data + rows->row)) {
        break_row(rows, data, at, ROW_NO_VALUE);
        return false;
    }
    rows->again = 0;
    rows->place = at;
    while (at > 0 && at > rows->row && is_space(data[at - 1])) at--;
    put_row(rows, found, at, ROW_OK);
    return true;
}

// Reads a token outside of rows; returns false if there is no more room, or something is wrong.
__attribute__((noinline)) static bool step_outside(Rows *rows, FoundRows *found, const byte *data, int64_t at,
                                                   byte class) {
    bool begins = class <= OPEN_ARRAY, fits;
    if (rows->state == LIST_AFTER) {
        // What follows a row that was found again shows whether it is in the array, or in the sequence after that.
        bool after_array = rows->again && (class == OPEN_OBJECT || class == OPEN_ARRAY);
        if (after_array) rows->in_array = 0;
        fits = after_array || class == COMMA || class == CLOSE_ARRAY;
    } else {
        fits = begins || (rows->state == LIST_FIRST && class == CLOSE_ARRAY);
    }
    if (!fits) {
        bool done = rows->open == ROW_DONE;
        break_row(rows, data, at, class == LINE_BREAK ? ROW_LINE_BREAK : done ? ROW_FOLLOWED : ROW_UNEXPECTED);
        return false;
    }
    if (rows->open == ROW_DONE) {
        if (found->count == found->room) {
            rows->at = at;
            return false;
        }
        if (!finish_row(rows, found, data, at)) return false;
    }
    if (class == COMMA) {
        rows->state = LIST_VALUE;
    } else if (class == CLOSE_ARRAY) {
        rows->in_array = 0;
        rows->state = TOP;
    } else if (class == OPEN_ARRAY && !rows->in_array) {
        rows->in_array = 1;
        rows->state = LIST_FIRST;
    } else {
        begin_row(rows, data, at);
        rows->open = class >= OPEN_OBJECT ? IN_ROW : ROW_DONE;
        rows->depth = class >= OPEN_OBJECT;
        rows->objects[0] = class == OPEN_OBJECT ? 2 : 0;
        if (class >= OPEN_OBJECT)
            rows->state = class == OPEN_OBJECT ? OBJECT_FIRST : ARRAY_FIRST;
        else
            rows->state = rows->in_array ? LIST_AFTER : TOP;
    }
    return true;
}

// What a block has, as bits; what is in strings is left out.
typedef struct {
    uint64_t strings;  // their first quotes
    uint64_t words;    // the first bytes of numbers and words
    uint64_t colons, commas, brackets;
    uint64_t errors;   // line breaks in strings, and backslashes that are in none
} Marks;

// Returns the tokens that follow others, or come first.
static inline uint64_t following(uint64_t others, bool first, uint64_t tokens) {
    return ((others << 1 | first) + ~tokens) & tokens;
}

// Reads the tokens of a block up to the next bracket, within an object; returns whether all are right. If not, nothing
// has changed.
static inline bool walk_members(const Marks *marks, uint64_t tokens, int32_t *state) {
    const int32_t before = *state;
    const uint64_t colons = marks->colons & tokens, commas = marks->commas & tokens;
    uint64_t names = following(commas, before <= OBJECT_NAME, tokens);
    uint64_t values = following(colons, before == OBJECT_VALUE, tokens);
    // A value that is a colon or a comma is one that does not follow what it has to.
    uint64_t wrong = (following(names, before == OBJECT_COLON, tokens) ^ colons) | (names & ~marks->strings);
    if (wrong | (following(values, before == OBJECT_AFTER, tokens) ^ commas)) return false;
    const int last = 63 - __builtin_clzll(tokens);  // its kind is hard to predict, so there is no branch
    *state = OBJECT_AFTER - (int32_t)(commas >> last & 1) * (OBJECT_AFTER - OBJECT_NAME) -
             (int32_t)(names >> last & 1) * (OBJECT_AFTER - OBJECT_COLON) -
             (int32_t)(colons >> last & 1) * (OBJECT_AFTER - OBJECT_VALUE);
    return true;
}

// The same, within an array.
static inline bool walk_elements(const Marks *marks, uint64_t tokens, int32_t *state) {
    const uint64_t commas = marks->commas & tokens;
    uint64_t values = following(commas, *state != ARRAY_AFTER, tokens);
    if ((following(values, *state == ARRAY_AFTER, tokens) ^ commas) | (values & ~(marks->strings | marks->words)))
        return false;
    *state = ARRAY_AFTER - (int32_t)(commas >> (63 - __builtin_clzll(tokens))) * (ARRAY_AFTER - ARRAY_VALUE);
    return true;
}

// Reads a token; returns false if there is no more room, or something is wrong.
static inline bool step(Rows *rows, FoundRows *found, const byte *data, int64_t at) {
    byte class = CLASS_OF[data[at]], next = NEXT[rows->state][class];
    if (next <= TOO_DEEP) {
        rows->state = next;
    } else if (next == OPENING) {
        bool object = class == OPEN_OBJECT;
        int32_t depth = ++rows->depth;
        rows->state = depth > MAX_DEPTH ? TOO_DEEP : object ? OBJECT_FIRST : ARRAY_FIRST;
        if (depth <= MAX_DEPTH) {
            uint64_t bit = 1ULL << (depth & 63), *word = rows->objects + depth / 64;
            *word = object ? *word | bit : *word & ~bit;
        }
    } else if (next == CLOSING) {
        int32_t depth = --rows->depth;
        if (depth == 0) {
            rows->open = ROW_DONE;
            rows->state = rows->in_array ? LIST_AFTER : TOP;
        } else if (depth <= MAX_DEPTH) {
            rows->state = rows->objects[depth / 64] >> (depth & 63) & 1 ? OBJECT_AFTER : ARRAY_AFTER;
        }
    } else if (next == OUTSIDE) {
        return step_outside(rows, found, data, at, class);
    } else {
        break_row(rows, data, at, class == LINE_BREAK ? ROW_LINE_BREAK : ROW_UNEXPECTED);
        return false;
    }
    return true;
}

// Reads the tokens of a block; returns false if there is no more room, or something is wrong.
//
// Those between two brackets of a row are mostly right, which is found out for all at once. If not, they are read one by
// one, to find the first that is wrong.
__attribute__((noinline)) static bool walk_block(Rows *rows, FoundRows *found, const byte *data, int64_t at,
                                                 const Marks *marks, uint64_t bits) {
    bool regular = !marks->errors;
    while (bits) {
        uint64_t brackets = marks->brackets & bits, some = bits & ((brackets & (0 - brackets)) - 1);
        if (some && regular && rows->state < TOO_DEEP) {
            regular = rows->state <= OBJECT_AFTER ? walk_members(marks, some, &rows->state)
                                                  : walk_elements(marks, some, &rows->state);
            if (regular) bits ^= some;
        } else {
            if (!step(rows, found, data, at + __builtin_ctzll(bits))) return false;
            bits &= bits - 1;
        }
    }
    return true;
}

// Reads tokens up to the end of the data; returns false if there is no more room, or something is wrong.
static bool walk_rows(Rows *rows, FoundRows *found, const byte *data, int64_t size) {
    uint64_t in_string = rows->in_string, escaped = rows->escaped, in_word = rows->in_word;
    int32_t state = rows->state;
    for (int64_t at = rows->at; at < size; at += BLOCK) {
        const int64_t left = size - at < BLOCK ? size - at : BLOCK;
        const uint64_t valid = left == 64 ? ~0ULL : (1ULL << left) - 1;
        bytes64 block = load(data + at), folded = block | 0x20;  // `{` and `[` differ in that bit, as do `}` and `]`
        uint64_t brackets = find_bits((bytes64)((folded == '{') | (folded == '}')));
        uint64_t colons = find_bits((bytes64)(block == ':')), commas = find_bits((bytes64)(block == ','));
        uint64_t quotes = find_bits((bytes64)(block == '"')) & valid, breaks = find_breaks(block);
        uint64_t white = find_blanks(block), backslashes = find_bits((bytes64)(block == '\\')) & valid;
        if (backslashes | escaped) {
            uint64_t after = find_escaped(backslashes, &escaped);
            if (left < 64) escaped = after >> left & 1;
            quotes &= ~after;
        }
        uint64_t inside = (parity(quotes) ^ in_string) & valid, outside = ~inside & valid;
        uint64_t words = ~(brackets | colons | commas | white | quotes) & outside;
        Marks marks = {.strings = quotes & inside, .words = words & ~(words << 1 | in_word)};
        marks.colons = colons & outside, marks.commas = commas & outside, marks.brackets = brackets & outside;
        marks.errors = (breaks & inside) | (backslashes & outside);
        in_string = inside >> (left - 1) & 1 ? ~0ULL : 0;
        in_word = words >> (left - 1) & 1;
        uint64_t bits = marks.strings | marks.words | marks.colons | marks.commas | marks.brackets | marks.errors;
        if (!bits) continue;
        if ((marks.brackets | marks.errors) || state > OBJECT_AFTER || !walk_members(&marks, bits, &state)) {
            rows->state = state;
            rows->at = at + left;
            if (!walk_block(rows, found, data, at, &marks, bits)) {
                rows->in_string = rows->escaped = rows->in_word = 0;
                return false;
            }
            state = rows->state;
        }
    }
    rows->in_string = in_string, rows->escaped = escaped, rows->in_word = in_word;
    rows->state = state;
    if (rows->at < size) rows->at = size;
    return true;
}

// Ends the row that is open where the input ends, if there is room.
static void end_rows(Rows *rows, FoundRows *found, const byte *data, int64_t size) {
    if (found->room - found->count < 2) return;
    if (rows->open == ROW_DONE && !rows->in_string && !(rows->in_array && rows->again)) {
        if (finish_row(rows, found, data, size) && rows->in_array) break_row(rows, data, size, ROW_ARRAY_OPEN);
    } else if (rows->open == ROW_DONE || rows->open == IN_ROW) {
        break_row(rows, data, size, ROW_TRUNCATED);
    } else if (rows->in_array) {
        break_row(rows, data, size, ROW_ARRAY_OPEN);
    }
    if (rows->open == ROW_BROKEN) find_again(rows, found, data, size, true);
}

// Finds the next rows in a buffer; returns how many, 0 if there are no more.
//
// There are BEFORE bytes before the first place, and a newline behind the data if the input ends with it.
int64_t EXPORT(find_rows)(Rows *rows, const byte *data, int64_t size, int64_t at_end, FoundRows *found) {
    found->count = 0;
    while (found->count < found->room) {
        if (rows->open == ROW_BROKEN) {
            if (!find_again(rows, found, data, size, at_end)) break;
        } else if (walk_rows(rows, found, data, size)) {
            if (at_end) end_rows(rows, found, data, size);
            break;
        }
    }
    return found->count;
}

static inline void copy_block(byte *to, const byte *from) {
    bytes64 block = load(from);
    __builtin_memcpy(to, &block, sizeof block);
}

static inline byte *trim_written(byte *to) {
    while (is_space(to[-1])) to--;
    return to;
}

// Writes a row without the white space that has line breaks in it; returns the end. It starts and ends with other bytes.
static inline byte *write_row(const byte *from, int64_t size, byte *to) {
    uint64_t in_gap = 0;  // 1 if the block before ended in such white space
    uint64_t white_before = 0;  // 1 if it ended in other white space
    for (; size > 0; size -= 64, from += 64) {
        bytes64 block = load(from);
        const uint64_t valid = size >= 64 ? ~0ULL : (1ULL << size) - 1;
        uint64_t breaks = find_breaks(block), white = find_blanks(block);
        breaks |= white & in_gap;
        uint64_t gaps = white & ~((white + breaks) & ~breaks);  // from each break to where its white space ends
        uint64_t kept = ~gaps & valid, starts = kept & ~(kept << 1), stops = ~kept & (kept << 1);
        const bool trims = gaps & ((white & ~gaps) << 1 | white_before);  // other white space comes before a break
        if (trims && gaps & 1) to = trim_written(to);
        for (; starts; starts &= starts - 1, stops &= stops - 1) {
            uint32_t start = (uint32_t)__builtin_ctzll(starts);
            copy_block(to, from + start);
            to += (stops ? (uint32_t)__builtin_ctzll(stops) : 64) - start;
            if (trims && stops) to = trim_written(to);
        }
        in_gap = gaps >> 63;
        white_before = white >> 63 & ~in_gap;
    }
    return to;
}

// Writes rows as lines, without the white space that has line breaks in it; returns the size. What is no row becomes a
// line that is no JSON. Outside of strings, where all line breaks of a row are, there is nothing else in white space.
int64_t EXPORT(write_rows)(const byte *data, const FoundRows *rows, byte *to) {
    byte *out = to;
    for (int64_t i = 0; i < rows->count; i++) {
        if (rows->faults[i] == ROW_OK)
            out = write_row(data + rows->starts[i], rows->stops[i] - rows->starts[i], out);
        else
            *out++ = '!';
        *out++ = '\n';
    }
    return out - to;
}
