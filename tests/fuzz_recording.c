/* A libFuzzer target: whatever a recording holds, it is either refused with exactly one message or
 * every number of it can be read. Linked with libFuzzer by `make fuzz`; fuzz.sh has seeds of each
 * kind, which the first byte tells:
 *
 *     G   an activations GGUF, this byte belonging to it
 *     n   text of numbers            i   text of token ids          b   binary token ids
 *     p   llama-debug's prompt       m   a map, a zero byte and a file's name
 *     f   a folder, on disk: a map, then name and text of each file, zero bytes between all; it is
 *         opened, and then each of its files
 */
#include "recording_read.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_FILES = 8, MOST_NAME = 200 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ignore(void *user, enum diag_level level, const char *line) {
    (void)user, (void)level, (void)line;
}

static volatile uint8_t sum;

static void touch(const void *data, uint64_t size) {
    const uint8_t *p = data;
    for (uint64_t i = 0; i < size; i++) sum ^= p[i];
}

static void check(const diag *d, bool ok) {
    if (d->n_errors != (ok ? 0 : 1)) abort();
}

/* ---- a whole recording */

static void touch_rows(const recorded_value *v) {
    for (uint32_t i = 0; i < v->n_columns; i++) {
        const recorded_column *c = &v->columns[i];
        touch(c->data, v->n * sizeof *c->data);
        if (i && c->token <= c[-1].token) abort();
        bool low = c->token < INT32_MAX;
        uint32_t token = c->token < 0 ? (uint32_t)(c->token + v->n_columns) : (uint32_t)c->token;
        if (low && recording_row(v, token, v->n_columns) != c->data) abort();
    }
    if (recording_row(v, v->n_columns, v->n_columns) && v->columns->token < 0) abort();
}

/* `n` is what a token has, of a value that may have been split for another number. */
static void split_and_touch(arena *a, recorded_value *v, uint64_t n) {
    diag d = { .sink = ignore };
    bool ok = recording_split(a, &d, v, n);
    check(&d, ok);
    if (ok == v->unsplit) abort();
    if (ok) touch_rows(v);
}

static void touch_recording(arena *a, recording *r) {
    if (!r->n_values && !r->n_tokens) abort();
    if (!r->n_tokens != !r->tokens) abort();
    if (r->prompt) touch(r->prompt, strlen(r->prompt));
    for (uint32_t i = 0; i < r->n_tokens; i++)
        if (r->tokens[i] < 0) abort();
    for (uint32_t i = 0; i < r->n_values; i++) {
        recorded_value *v = &r->values[i];
        if (recording_find(r, v->name) != v) abort();
        if (!v->n || !v->n_columns) abort();
        for (uint64_t n = 1; v->unsplit && n <= v->n; n++)
            if (v->n % n == 0 || n == v->n) split_and_touch(a, v, n);
        if (v->unsplit) abort();
        touch_rows(v);
    }
}

static void open_and_touch(arena *a, const char *path, const char *map) {
    diag d = { .sink = ignore };
    recording_is(path);
    recording *r = recording_open(a, &d, path, map);
    check(&d, r);
    if (r) touch_recording(a, r);
    recording_close(r);
}

static void try_gguf(arena *a, const void *data, size_t size) {
    diag d = { .sink = ignore };
    recording r = { .path = "fuzzed" };
    gguf_file *f = gguf_parse(a, &d, r.path, data, size);
    if (!f) return;
    bool ok = recording_read_gguf(a, &d, &r, f);
    check(&d, ok);
    if (ok && (r.n_values || r.n_tokens)) touch_recording(a, &r);
    gguf_close(f);
}

/* ---- its parts */

typedef bool parser(arena *a, diag *d, const recording_bytes *bytes, enum recording_number kind,
                    recording_numbers *out);

static void try_numbers(arena *a, const recording_bytes *bytes, parser *parse,
                        enum recording_number kind) {
    diag d = { .sink = ignore };
    recording_numbers numbers;
    bool ok = parse(a, &d, bytes, kind, &numbers);
    check(&d, ok);
    if (!ok) return;
    touch(numbers.words, (uint64_t)numbers.n * 4);
    const int32_t *ids = numbers.words;
    for (uint32_t i = 0; kind == RECORDING_ID && i < numbers.n; i++)
        if (ids[i] < 0) abort();
    if (!numbers.n) abort();
}

static void try_prompt(arena *a, const recording_bytes *bytes) {
    diag d = { .sink = ignore };
    recording_numbers ids;
    const char *prompt;
    bool ok = recording_parse_prompt(a, &d, bytes, &prompt, &ids);
    check(&d, ok);
    if (!ok) return;
    touch(ids.words, (uint64_t)ids.n * 4);
    touch(prompt, strlen(prompt));
}

/* What stands before the next zero byte, or before the end. */
static const char *take_text(const recording_bytes *bytes, uint64_t *at) {
    const char *text = bytes->data + *at;
    *at += strlen(text) + (*at + strlen(text) < bytes->size);
    return text;
}

static void try_map(arena *a, const recording_bytes *bytes) {
    diag d = { .sink = ignore };
    uint64_t at = 0;
    recording_map map;
    recording_place place;
    const char *text = take_text(bytes, &at);
    bool ok = recording_map_parse(a, &d, "fuzzed", text, &map);
    check(&d, ok);
    if (!ok) return;
    const char *file = take_text(bytes, &at);
    ok = recording_map_find(a, &d, &map, file, file, &place);
    check(&d, ok);
    if (ok && place.line) touch(place.name, strlen(place.name));
    if (ok && place.line && place.role == RECORDING_VALUES && !*place.name) abort();
}

/* ---- a folder */

static char folder[256];

static void remove_folder(void) {
    rmdir(folder);
}

static void make_folder(void) {
    if (*folder) return;
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/ggufc-fuzz-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(folder)) abort();
    atexit(remove_folder);
}

/* NULL where no file can have such a name. */
static const char *make_path(arena *a, const char *name) {
    char *copy = arena_copy_text(a, name, strnlen(name, MOST_NAME));
    for (char *c = copy; *c; c++)
        if (*c == '/') *c = '_';
    bool odd = !*copy || !strcmp(copy, ".") || !strcmp(copy, "..");
    return odd ? NULL : arena_printf(a, "%s/%s", folder, copy);
}

static void write_file(const char *path, const char *text) {
    FILE *f = fopen(path, "wb");
    if (!f) return; /* some file systems do not take every name */
    fwrite(text, 1, strlen(text), f);
    fclose(f);
}

static void try_folder(arena *a, const recording_bytes *bytes) {
    const char *paths[MOST_FILES];
    uint32_t n = 0;
    uint64_t at = 0;
    make_folder();
    const char *map = take_text(bytes, &at);
    while (n < MOST_FILES && at < bytes->size) {
        paths[n] = make_path(a, take_text(bytes, &at));
        const char *text = take_text(bytes, &at);
        if (paths[n]) write_file(paths[n++], text);
    }
    open_and_touch(a, folder, map);
    for (uint32_t i = 0; i < n; i++) open_and_touch(a, paths[i], NULL);
    for (uint32_t i = 0; i < n; i++) unlink(paths[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!size) return 0;
    arena *a = arena_new();
    /* of exactly its size, so that a sanitizer sees a step beyond the zero byte */
    char *copy = calloc(size, 1);
    if (!copy) abort();
    memcpy(copy, data + 1, size - 1);
    recording_bytes bytes = { "fuzzed", copy, size - 1 };
    switch (*data) {
    case 'G': try_gguf(a, data, size); break;
    case 'n': try_numbers(a, &bytes, recording_parse_text, RECORDING_F32); break;
    case 'i': try_numbers(a, &bytes, recording_parse_text, RECORDING_ID); break;
    case 'b': try_numbers(a, &bytes, recording_parse_binary, RECORDING_ID); break;
    case 'p': try_prompt(a, &bytes); break;
    case 'm': try_map(a, &bytes); break;
    case 'f': try_folder(a, &bytes); break;
    default: break;
    }
    free(copy);
    arena_free(a);
    return 0;
}
