/* compare_fixture.h - for tests of comparisons: engines, right and broken ones, what they write down,
 * and comparisons run in this process.
 *
 *     engine_setup e = { .model = DEMO, .kernels = ENGINE_REFERENCE, .mistake = "transposed", .layer = 3 };
 *     engine_write(&e, tokens, n, acts);                    acts = in_folder("acts.gguf")
 *     compare_options o = compared_options(DEMO, acts);
 *     compared c = compared_run(&o);                        … c.r, c.outcome, c.said …
 *     compared_free(&c);
 *
 * Everything made is in one folder, which is removed at exit. */
#ifndef GGUFC_TESTS_COMPARE_FIXTURE_H
#define GGUFC_TESTS_COMPARE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "compare.h"
#include "engine.h"
#include "gguf_writer.h"
#include "tokenizer.h"
#include "trace.h"

#define DEMO   "tests/models/storyteller-q8_0.gguf"
#define SHARED "../shared/"

/* "Once upon a time, Mia lived near the river. She had a red ball" */
static const int32_t story[] = { 1, 442, 439, 261, 441, 632, 380, 338, 262, 794, 661, 407, 261, 680, 492 };
enum { STORY = ARRAY_LEN(story), SHORT = 10 };

static inline bool exists(const char *path) {
    return access(path, R_OK) == 0;
}

/* ---- the folder */

static char   folder[256];
static arena *folder_paths; /* lives until the program ends */

static inline int remove_one(const char *path, const struct stat *s, int type, struct FTW *where) {
    (void)s, (void)type, (void)where;
    return remove(path);
}

static inline void remove_all(void) {
    arena_free(folder_paths);
    nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* A path in the folder; lives until the program ends. */
static inline const char *in_folder(const char *name) {
    const char *base = getenv("TMPDIR");
    if (!folder_paths) {
        snprintf(folder, sizeof folder, "%s/ggufc-compare-XXXXXX", base && *base ? base : "/tmp");
        assert_non_null(mkdtemp(folder));
        atexit(remove_all);
        folder_paths = arena_new();
    }
    return arena_printf(folder_paths, "%s/%s", folder, name);
}

/* A folder in it, new or empty. */
static inline const char *new_folder(const char *name) {
    const char *path = in_folder(name);
    nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    assert_int_equal(mkdir(path, 0777), 0);
    return path;
}

static inline void write_bytes(const char *path, const void *data, size_t size) {
    FILE *f = fopen(path, "wb");
    if (!f) fail_msg("%s cannot be written", path);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

static inline void write_text(const char *path, const char *text) {
    write_bytes(path, text, strlen(text));
}

/* ---- engines */

typedef struct engine_setup {
    const char         *model;
    enum engine_kernels kernels;
    const char         *mistake; /* a name of mistake.c's table; NULL: none */
    int32_t             layer;   /* that it is made in; -1: everywhere */
    const char         *filter;  /* of what is written: "Qcur-*"; NULL: all */
    bool                last_token;
} engine_setup;

static inline void engine_begin(engine *e, const engine_setup *s, uint32_t n_tokens) {
    engine_options o = { .kernels = s->kernels, .layer = s->layer };
    diag           d = { 0 };
    ggufc_compile_defaults(&o.compile);
    o.compile.model = s->model;
    o.compile.trace = true;
    o.compile.ctx = n_tokens;
    o.mistake = s->mistake ? mistake_find(s->mistake) : NULL;
    if (s->mistake && !o.mistake) fail_msg("no mistake is called %s", s->mistake);
    if (!engine_open(e, &o, &d)) fail_msg("%s was not opened", s->model);
}

/* Writes what it computes to an activations GGUF. */
static inline void engine_write(const engine_setup *s, const int32_t *tokens, uint32_t n_tokens,
                                const char *path) {
    engine         e;
    ggufc_session *session;
    ggufc_error    error;
    trace_report   report;
    engine_begin(&e, s, n_tokens);
    ggufc_session_options options = { .model = &e.model, .n_threads = 1 };
    trace_request request = { .path = path, .tokens = tokens, .n_tokens = n_tokens, .filter = s->filter,
                              .last_token = s->last_token };
    if (ggufc_session_open(&session, &options, &error) != GGUFC_OK ||
        trace_write(session, &request, &report, &error) != GGUFC_OK)
        fail_msg("%s: %s", path, error.text);
    ggufc_session_close(session);
    engine_close(&e);
}

/* ---- the demo, changed */

static inline gguf_file *variant_open(arena *a, const char *from) {
    diag       d = { 0 };
    gguf_file *f = gguf_open(a, &d, from);
    if (!f) fail_msg("%s was not opened", from);
    return f;
}

/* A copy whose metadata says something else: the bytes of a value of fixed size. */
static inline const char *variant_with_key(const char *from, const char *key, const void *bytes, size_t size,
                                           const char *to) {
    arena     *a = arena_new();
    gguf_file *f = variant_open(a, from);
    uint8_t   *copy = arena_alloc(a, f->size);
    uint64_t   at = 0;
    memcpy(copy, f->data, f->size);
    for (uint64_t i = 0; i < f->n_kv; i++)
        if (f->kv[i].key.size == strlen(key) && !memcmp(f->kv[i].key.data, key, strlen(key)))
            at = f->kv[i].offset + 8 + strlen(key) + 4;
    if (!at) fail_msg("%s has no key %s", from, key);
    memcpy(copy + at, bytes, size);
    to = in_folder(to);
    write_bytes(to, copy, f->size);
    gguf_close(f);
    arena_free(a);
    return to;
}

/* A copy with one more tensor, of F32: its description ends the index, its data the file. */
static inline const char *variant_with_tensor(const char *from, const char *name, const float *values, uint64_t n,
                                              const char *to) {
    arena       *a = arena_new();
    gguf_file   *f = variant_open(a, from);
    gguf_writer  w = { 0 };
    uint64_t     n_tensors = f->n_tensors + 1, end = f->index_offset + f->index_bytes;
    static const uint8_t zeros[WRITER_ALIGNMENT];
    uint64_t     data_bytes = round_up(f->size - f->data_offset, WRITER_ALIGNMENT);
    writer_put(&w, f->data, end);
    memcpy(w.data + 8, &n_tensors, sizeof n_tensors);
    writer_put_string(&w, name);
    writer_put_u32(&w, 1);
    writer_put_u64(&w, n);
    writer_put_u32(&w, QUANT_F32);
    writer_put_u64(&w, data_bytes);
    writer_put(&w, zeros, round_up(w.size, WRITER_ALIGNMENT) - w.size);
    writer_put(&w, f->data + f->data_offset, f->size - f->data_offset);
    writer_put(&w, zeros, data_bytes - (f->size - f->data_offset));
    writer_put(&w, values, n * sizeof *values);
    to = in_folder(to);
    write_bytes(to, w.data, w.size);
    writer_free(&w);
    gguf_close(f);
    arena_free(a);
    return to;
}

/* A copy with other bytes at a place of a tensor's data. */
static inline const char *variant_with_bytes(const char *from, const char *tensor, uint64_t at, const void *bytes,
                                             size_t size, const char *to) {
    arena     *a = arena_new();
    gguf_file *f = variant_open(a, from);
    uint8_t   *copy = arena_alloc(a, f->size);
    const gguf_tensor *t = gguf_find_tensor(f, tensor);
    assert_non_null(t);
    memcpy(copy, f->data, f->size);
    memcpy(copy + t->offset + at, bytes, size);
    to = in_folder(to);
    write_bytes(to, copy, f->size);
    gguf_close(f);
    arena_free(a);
    return to;
}

/* ---- comparing */

typedef struct compared {
    arena         *memory;
    compare_report r;
    enum compare_outcome outcome;
    char           said[4096]; /* errors, a line each */
    unsigned       n_errors;
} compared;

static inline void compared_keep(void *user, enum diag_level level, const char *line) {
    compared *c = user;
    size_t    n = strlen(c->said);
    if (level != DIAG_ERROR) return;
    c->n_errors++;
    snprintf(c->said + n, sizeof c->said - n, "%s\n", line);
}

static inline compare_options compared_options(const char *a, const char *b) {
    compare_options o;
    compare_defaults(&o);
    o.a = a;
    o.b = b;
    o.n_threads = 1;
    return o;
}

static inline void compared_begin(compared *c, const compare_options *o) {
    diag d = { .sink = compared_keep, .user = c };
    c->memory = arena_new();
    c->outcome = compare_run(c->memory, &d, o, &c->r);
    assert_int_equal(c->outcome, c->r.outcome);
    if (c->outcome != COMPARE_FAILED) assert_int_equal(c->n_errors, 0);
}

static inline compared compared_run(const compare_options *o) {
    compared c = { .memory = NULL };
    compared_begin(&c, o);
    return c;
}

static inline compared compared_pair(const char *a, const char *b) {
    compare_options o = compared_options(a, b);
    return compared_run(&o);
}

static inline void compared_free(compared *c) {
    arena_free(c->memory);
    c->memory = NULL;
}

static inline bool has(const char *text, const char *part) {
    return text && strstr(text, part);
}

static inline const char *or_none(const char *text) {
    return text ? text : "(none)";
}

/* The name of the first op that is wrong. */
static inline const char *compared_first(const compared *c) {
    return c->r.first < 0 ? "(none)" : c->r.ops[c->r.first].name;
}

static inline uint32_t find_op(const compared *c, const char *name) {
    for (uint32_t i = 0; i < c->r.n_ops; i++)
        if (!strcmp(c->r.ops[i].name, name)) return i;
    fail_msg("no op is called %s", name);
    return 0;
}

static inline void assert_same_engines(const compared *c) {
    if (c->outcome != COMPARE_SAME)
        fail_msg("%s and %s: first %s. %s %s\n%s", or_none(c->r.name_a), or_none(c->r.name_b),
                 compared_first(c), or_none(c->r.sentence), or_none(c->r.origin), c->said);
    assert_int_equal(c->r.first, -1);
    assert_null(c->r.verdict);
    assert_int_equal(c->r.n_hypotheses, 0);
}

/* It is wrong from op `name` on, and the verdict is "NAME: matches when WHAT". */
static inline void assert_found(const compared *c, const char *name, const char *what) {
    char verdict[512];
    snprintf(verdict, sizeof verdict, "%s: matches when %s", name, what);
    if (c->outcome == COMPARE_DIFFERENT && !strcmp(compared_first(c), name) && c->r.verdict &&
        !strcmp(c->r.verdict, verdict))
        return;
    fail_msg("%s and %s: expected \"%s\"; first is %s, %s. %s %s\n%s", or_none(c->r.name_a),
             or_none(c->r.name_b), verdict, compared_first(c), or_none(c->r.verdict),
             or_none(c->r.sentence), or_none(c->r.origin), c->said);
}

#endif
