// What is wrong with a line that is refused.

#pragma once

#include "lines.h"

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

// Returns where the bytes are not UTF-8 any more, `stop` if they are.
static const byte *skip_utf8(const byte *at, const byte *stop) {
    while (at < stop) {
        uint64_t others = to_bits((bytes64)(load(at) >= 0x80));  // than ASCII
        at += others ? (uint64_t)__builtin_ctzll(others) : 64;
        if (!others || at >= stop) continue;
        uint64_t size = character_size(at);
        if (!size) return at;
        at += size;
    }
    return stop;
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
        if (fault != FINE || at - start > 18 || skip_digits(start + (c == '-')) < at) fault = UNSURE;
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
