// Runs the kernel as a program, so that an emulator of another processor can: members that are wanted and chunks come
// in, all that is found goes out. Everything is in the order of bytes of the machine, which is that of both.

#include <stdio.h>
#include <stdlib.h>

#include "kernel.c"

static void *take(size_t size) {
    byte *found = malloc(size + SLACK);
    if (!found || fread(found, 1, size, stdin) != size) exit(2);
    for (int i = 0; i < SLACK; i++) found[size + i] = '0';
    return found;
}

static int64_t take_number(void) {
    int64_t *at = take(8), found = *at;
    free(at);
    return found;
}

static void *room(size_t size) { return calloc(size + 2 * SLACK, 1); }

static void *give(void *from, size_t size) {
    fwrite(from, 1, size, stdout);
    free(from);
    return NULL;
}

int main(void) {
    int32_t count = (int32_t)take_number(), slots = (int32_t)take_number(), cuts = (int32_t)take_number();
    int64_t longest = take_number();
    uint64_t sizes = (uint64_t)take_number();
    size_t nodes = (size_t)count;
    Wanted wanted = {.count = count, .mask = slots - 1, .cuts = (byte)cuts, .others_stay = 1, .longest = longest, .sizes = sizes};
    wanted.first = take((size_t)slots * 4);
    wanted.next = take(nodes * 4);
    wanted.parent = take(nodes * 4);
    wanted.last = take(nodes * 4);
    wanted.name_start = take(nodes * 8);
    wanted.name_sizes = take(nodes * 4);
    wanted.names = take((size_t)take_number());
    wanted.way = take(nodes);
    wanted.lowest = take(nodes * 8);
    wanted.highest = take(nodes * 8);
    wanted.listed = take(nodes * 4);
    wanted.keeps = take(nodes);
    wanted.words = (int32_t)take_number();
    wanted.scratch = room((size_t)longest);
    for (int64_t chunks = take_number(); chunks; chunks--) {
        size_t size = (size_t)take_number();
        byte *data = take(size);
        data[size] = '\n';
        size_t lines = (size_t)JOIN(count_lines, LEVEL)(data, (int64_t)size), words = lines * (size_t)wanted.words;
        double *numbers = take(lines * 8);
        Found found = {.lines = (int64_t)lines, .max_cuts = (int64_t)size / 7 + 1};
        found.bounds = room(lines * 8 + 8);
        found.stops = room(lines * 8);
        found.status = room(lines);
        found.closes = room(lines * 8);
        found.empty = room(lines);
        found.starts = room(nodes * lines * 4);
        found.ends = room(nodes * lines * 4);
        found.values = room(nodes * sizeof(void *));
        found.valid = room(nodes * sizeof(void *));
        for (size_t node = 1; node < nodes; node++) {
            found.values[node] = room(lines * 8);
            found.valid[node] = room(lines);
        }
        found.listed = room(words * 8);
        found.cuts = room((size_t)found.max_cuts * 8);
        found.cut_bounds = room(lines * 8 + 8);
        uint32_t *scratch = room(nodes * 12);
        if (JOIN(scan, LEVEL)(data, (int64_t)size, &wanted, &found, scratch) != (int64_t)lines) return 3;
        int64_t *rows = room(lines * 8), used = 0;
        for (size_t line = 0; line < lines; line++)
            if (found.status[line] == LINE_OK) rows[used++] = (int64_t)line;
        Result result = {.kind = 2, .prefix = (const byte *)"\"pi\":", .prefix_size = 5, .values = numbers};
        byte *prefix = room(5);
        __builtin_memcpy(prefix, result.prefix, 5);
        result.prefix = prefix;
        int32_t order[1];
        byte *output = room(size + lines * 64);
        int64_t written = JOIN(emit, LEVEL)(data, found.bounds, found.closes, found.empty, cuts ? found.cuts : NULL,
                                            found.cut_bounds, rows, used, &result, 1, order, output);
        for (size_t line = 0; line < lines; line++)  // of a slow line, the escapes may be no text
            for (size_t node = 1; node < nodes; node++)
                if (found.status[line] != LINE_OK) found.starts[node * lines + line] = MISSING;
        byte *text = room(size);
        int64_t *offsets = room(lines * 8 + 8);
        int64_t characters = JOIN(strings, LEVEL)(data, found.starts + lines, found.ends + lines, (int64_t)lines, text,
                                                  offsets);
        if (characters < 0) return 4;
        give(found.bounds, lines * 8 + 8);
        give(found.stops, lines * 8);
        give(found.status, lines);
        give(found.starts, nodes * lines * 4);
        give(found.ends, nodes * lines * 4);
        for (size_t node = 1; node < nodes; node++) {
            if (wanted.way[node] > AS_STRING)
                for (size_t line = 0; line < lines; line++)
                    fwrite((byte *)found.values[node] + line * (wanted.way[node] == AS_BOOL ? 1 : 8), 1,
                           found.status[line] != LINE_OK ? 0 : wanted.way[node] == AS_BOOL ? 1 : 8, stdout);
            free(found.values[node]);
            give(found.valid[node], wanted.way[node] > AS_STRING ? lines : 0);
        }
        give(offsets, lines * 8 + 8);
        give(text, (size_t)characters);
        give(output, (size_t)written);
        free(data), free(numbers), free(prefix), free(found.closes), free(found.empty), free(found.values), free(found.valid);
        free(found.listed), free(found.cuts), free(found.cut_bounds), free(scratch), free(rows);
    }
    return 0;
}
