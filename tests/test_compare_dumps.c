/* Comparisons with what an engine of somebody else's wrote down (reference_graph.h), which reads a
 * matrix transposed: activations GGUFs and text dumps, whole and sparse, exact and rounded. */
#include "compare_fixture.h"

#include "reference_graph.h"

/* ---- the story: an engine of somebody else's reads a matrix transposed */

typedef struct dump {
    const char *ops;       /* which are written: "*" */
    const char *format;    /* of a number; NULL: an activations GGUF */
    uint32_t    n_values;  /* the first of a token; 0: all */
    bool        last_only; /* the last token alone */
    bool        by_layer;  /* layer_3.txt, not l_out-3.txt */
    bool        by_call;   /* hidden_state_call_2.txt: token 2's result_norm */
} dump;

typedef struct foreign_engine {
    engine    e;
    reference r;
} foreign_engine;

static void foreign_begin(foreign_engine *f, const char *transposed, bool plain, int bits) {
    engine_setup s = { .model = DEMO, .kernels = ENGINE_INTERPRETED, .layer = -1 };
    engine_begin(&f->e, &s, SHORT);
    f->r = (reference){ .memory = arena_new(), .g = f->e.compilation.graph, .tokens = story, .n_tokens = SHORT,
                        .plain = plain, .bits = bits, .transposed = transposed };
    reference_run(&f->r);
}

static void foreign_end(foreign_engine *f) {
    arena_free(f->r.memory);
    engine_close(&f->e);
}

static void write_rows(const foreign_engine *f, const dump *d, const value *v, uint32_t first, uint32_t last,
                       const char *path) {
    FILE    *file = fopen(path, "w");
    uint64_t n = d->n_values ? d->n_values : value_count(v);
    assert_non_null(file);
    for (uint32_t t = first; t < last; t++)
        for (uint64_t i = 0; i < n; i++) {
            fprintf(file, d->format, (double)(float)reference_row(&f->r, v, t)[i]);
            fputc(i + 1 < n ? ' ' : '\n', file);
        }
    assert_int_equal(fclose(file), 0);
}

/* Of a value: a file of all tokens, of the last, or one for each. */
static void write_value(const foreign_engine *f, const dump *d, const op *o, const char *to) {
    const char *name = o->out->name;
    arena      *a = f->r.memory;
    if (d->by_layer) name = arena_printf(a, "layer_%d", o->layer);
    for (uint32_t t = 0; d->by_call && t < SHORT; t++)
        write_rows(f, d, o->out, t, t + 1, arena_printf(a, "%s/hidden_state_call_%u.txt", to, t));
    if (!d->by_call)
        write_rows(f, d, o->out, d->last_only ? SHORT - 1 : 0, SHORT, arena_printf(a, "%s/%s.txt", to, name));
}

static void write_tokens(const char *path, const int32_t *tokens, uint32_t n) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (uint32_t i = 0; i < n; i++) fprintf(file, "%d\n", tokens[i]);
    assert_int_equal(fclose(file), 0);
}

static const char *write_texts(const foreign_engine *f, const dump *d) {
    const char *to = new_folder("dumps");
    const graph *g = f->r.g;
    for (uint32_t i = 0; i < g->n_ops; i++)
        if (!fnmatch(d->ops, g->ops[i]->out->name, 0)) write_value(f, d, g->ops[i], to);
    write_tokens(arena_printf(f->r.memory, "%s/tokens.txt", to), story, SHORT);
    return to;
}

static const char *write_gguf(const foreign_engine *f, const dump *d) {
    const char  *to = in_folder("foreign.gguf");
    const graph *g = f->r.g;
    gguf_writer  w;
    writer_begin(&w);
    writer_kv_string(&w, "general.type", "activations");
    writer_kv_array(&w, "activations.tokens", GGUF_I32, story, SHORT, sizeof *story);
    for (uint32_t i = 0; i < g->n_ops; i++)
        if (!fnmatch(d->ops, g->ops[i]->out->name, 0))
            writer_tensor(&w, g->ops[i]->out->name, 2, (uint64_t[]){ value_count(g->ops[i]->out), SHORT },
                          QUANT_F32);
    float *at = (float *)(void *)writer_finish(&w);
    for (uint32_t i = 0; i < g->n_ops; i++) {
        uint64_t n = value_count(g->ops[i]->out) * SHORT;
        if (fnmatch(d->ops, g->ops[i]->out->name, 0)) continue;
        for (uint64_t k = 0; k < n; k++) at[k] = (float)f->r.values[g->ops[i]->out->id][k];
        at += round_up(n * sizeof *at, WRITER_ALIGNMENT) / sizeof *at;
    }
    write_bytes(to, w.data, w.size);
    writer_free(&w);
    return to;
}

static const char *write_dump(const foreign_engine *f, const dump *d) {
    return d->format ? write_texts(f, d) : write_gguf(f, d);
}

#define EXACT "%.9g"

static const struct {
    const char *transposed;
    bool        plain;
    dump        dump;
    const char *name, *what;
} stories[] = {
    /* every activation */
    { "Qcur-*", false, { .ops = "*" }, "Qcur-0", "attn_q.weight is read transposed" },
    { "Qcur-*", true, { .ops = "*" }, "Qcur-0", "attn_q.weight is read transposed" },
    { "Qcur-*", false, { .ops = "*", .format = EXACT }, "Qcur-0", "attn_q.weight is read transposed" },
    { "[QKV]cur-*", true, { .ops = "*", .format = "%f" }, "Qcur-0", "attn_q.weight is read transposed" },
    { "Qcur-*", true, { .ops = "*", .format = "%g" }, "Qcur-0", "attn_q.weight is read transposed" },
    { "Qcur-*", false, { .ops = "*", .format = "%.4f" }, "Qcur-0", "attn_q.weight is read transposed" },
    { "Qcur-*", false, { .ops = "*", .format = "%.3e" }, "Qcur-0", "attn_q.weight is read transposed" },
    { "attn_out-*", true, { .ops = "*" }, "attn_out-0", "attn_output.weight is read transposed" },
    { "ffn_out-2", true, { .ops = "*", .format = EXACT }, "ffn_out-2", "ffn_down.weight is read transposed" },
    { "result_output", false, { .ops = "*" }, "result_output", "token_embd.weight is read transposed" },
    { "*", false, { .ops = "*" }, "Qcur-0", "attn_q.weight is read transposed" },
    /* the last token, or the first values, of every activation */
    { "*", false, { .ops = "*", .format = EXACT, .last_only = true }, "Qcur-0", "attn_q.weight is read transposed" },
    { "Qcur-2", true, { .ops = "*", .format = EXACT, .last_only = true }, "Qcur-2",
      "attn_q.weight is read transposed" },
    { "Qcur-*", false, { .ops = "*", .format = EXACT, .n_values = 20 }, "Qcur-0",
      "attn_q.weight is read transposed" },
    /* layers' outputs */
    { "Qcur-*", false, { .ops = "l_out-*", .format = EXACT, .by_layer = true }, "l_out-0",
      "in Qcur-0, attn_q.weight is read transposed" },
    { "Vcur-2", true, { .ops = "l_out-*", .format = "%f", .by_layer = true }, "l_out-2",
      "in Vcur-2, attn_v.weight is read transposed" },
    { "*", true, { .ops = "l_out-*", .format = EXACT, .by_layer = true }, "l_out-0",
      "in Qcur-0, Vcur-0, Kcur-0 and 4 more, every weight is read transposed" },
    { "[QKV]cur-*", false, { .ops = "l_out-*", .format = EXACT, .by_layer = true }, "l_out-0",
      "in Qcur-0, Vcur-0 and Kcur-0, every weight is read transposed" },
    { "Qcur-*", true, { .ops = "l_out-*", .format = EXACT, .by_layer = true, .n_values = 20 }, "l_out-0",
      "in Qcur-0, attn_q.weight is read transposed" },
    { "Kcur-3", false, { .ops = "l_out-*", .format = "%g", .by_layer = true, .n_values = 20 }, "l_out-3",
      "in Kcur-3, attn_k.weight is read transposed" },
    { "ffn_up-3", false, { .ops = "l_out-*", .format = "%.6f", .by_layer = true, .last_only = true }, "l_out-3",
      "in ffn_up-3, ffn_up.weight is read transposed" },
    /* the end alone */
    { "[QKV]cur-*", true, { .ops = "result_norm", .format = EXACT, .by_call = true }, "result_norm",
      "in Qcur-0, Vcur-0, Kcur-0 and 9 more, every weight is read transposed" },
    { "Qcur-*", false, { .ops = "result_norm", .format = "%f", .by_call = true, .n_values = 20 }, "result_norm",
      "in Qcur-0 and 3 more of its name, attn_q.weight is read transposed" },
    { "[QKV]cur-*", false, { .ops = "result_output", .format = EXACT, .last_only = true }, "result_output",
      "in Qcur-0, Vcur-0, Kcur-0 and 9 more, every weight is read transposed" },
};

static void transposition_is_found(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        foreign_engine f;
        foreign_begin(&f, stories[i].transposed, stories[i].plain, 0);
        const char *dumps = write_dump(&f, &stories[i].dump);
        compared    c = compared_pair("interpreted:" DEMO, dumps);
        assert_found(&c, stories[i].name, stories[i].what);
        compared_free(&c);
        foreign_end(&f);
    }
}

static bool noted(const compared *c, const char *part) {
    for (uint32_t i = 0; i < c->r.n_notes; i++)
        if (strstr(c->r.notes[i], part)) return true;
    return false;
}

/* The same dumps of an engine that is right. */
static void right_dumps_are_not_accused(void **state) {
    (void)state;
    for (int plain = 0; plain < 2; plain++) {
        foreign_engine f;
        foreign_begin(&f, NULL, plain, 0);
        for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
            if (stories[i].plain != plain) continue;
            compared c = compared_pair(write_dump(&f, &stories[i].dump),
                                       i % 3 ? "reference:" DEMO : "interpreted:" DEMO);
            assert_same_engines(&c);
            assert_false(noted(&c, "computes with"));
            compared_free(&c);
        }
        foreign_end(&f);
    }
}

/* An engine that keeps activations as f16 or bf16 is right within what these can hold. */
static void half_floats(void **state) {
    (void)state;
    static const dump dumps[] = {
        { .ops = "*" }, { .ops = "*", .format = EXACT }, { .ops = "*", .format = "%f" },
        { .ops = "l_out-*", .format = "%.4e", .by_layer = true },
    };
    for (int bits = 8; bits <= 11; bits += 3)
        for (size_t i = 0; i < ARRAY_LEN(dumps); i++)
            for (int wrong = 0; wrong < 2; wrong++) {
                foreign_engine f;
                foreign_begin(&f, wrong ? "Qcur-1" : NULL, true, bits);
                compared c = compared_pair("interpreted:" DEMO, write_dump(&f, &dumps[i]));
                assert_true(noted(&c, bits == 8 ? "B computes with bf16" : "B computes with f16"));
                if (!wrong)
                    assert_same_engines(&c);
                else if (dumps[i].by_layer)
                    assert_found(&c, "l_out-1", "in Qcur-1, attn_q.weight is read transposed");
                else
                    assert_found(&c, "Qcur-1", "attn_q.weight is read transposed");
                compared_free(&c);
                foreign_end(&f);
            }
}

/* ---- two recordings */

static const char *record(const char *name, enum engine_kernels kernels, const char *wrong, int32_t layer) {
    const char  *to = in_folder(name);
    engine_setup e = { .model = DEMO, .kernels = kernels, .mistake = wrong, .layer = layer };
    engine_write(&e, story, STORY, to);
    return to;
}

static compared compare_recordings(const char *a, const char *b) {
    compare_options o = compared_options(a, b);
    o.model = DEMO;
    return compared_run(&o);
}

/* Whichever is wrong, and whether or not that shows between the two. */
static void the_guilty_side_is_found(void **state) {
    (void)state;
    static const struct {
        const char *mistake;
        int32_t     layer;
        const char *name, *what;
    } rows[] = {
        { "transposed", 1, "Qcur-1", "attn_q.weight is read transposed" },
        { "gate-up", -1, "ffn_swiglu-0", "gate and up are exchanged" },
        { "eps-1e-6", 3, "attn_norm-3", NULL },
    };
    const char *right = record("right.gguf", ENGINE_INTERPRETED, NULL, -1);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        for (int swap = 0; swap < 2; swap++) {
            const char *wrong = record("wrong.gguf", ENGINE_REFERENCE, rows[i].mistake, rows[i].layer);
            compared    c = compare_recordings(swap ? wrong : right, swap ? right : wrong);
            assert_int_equal(c.outcome, COMPARE_DIFFERENT);
            assert_string_equal(compared_first(&c), rows[i].name);
            assert_string_equal(c.r.suspect, swap ? "A" : "B");
            if (rows[i].what) assert_found(&c, rows[i].name, rows[i].what);
            assert_true(has(c.r.origin, swap ? "A's own inputs" : "B's own inputs"));
            compared_free(&c);
        }
    compared c = compare_recordings(right, record("wrong.gguf", ENGINE_REFERENCE, NULL, -1));
    assert_same_engines(&c);
    assert_string_equal(c.r.model, DEMO);
    compared_free(&c);
}

/* ---- what recordings leave out */

/* Of one recording the head, of the other the body. */
static void nothing_in_common(void **state) {
    (void)state;
    engine_setup e = { .model = DEMO, .kernels = ENGINE_REFERENCE, .layer = -1, .filter = "result_*" };
    const char  *head = in_folder("head.gguf"), *body = in_folder("body.gguf");
    engine_write(&e, story, STORY, head);
    e.filter = "l_out-*";
    engine_write(&e, story, STORY, body);
    compared c = compare_recordings(head, body);
    assert_int_equal(c.outcome, COMPARE_FAILED);
    assert_true(has(c.said, "have no activation in common"));
    assert_int_equal(c.n_errors, 1);
    compared_free(&c);
    c = compared_pair("interpreted:" DEMO, head);
    assert_same_engines(&c);
    assert_true(has(c.r.notes[0], "61 of 63 ops are not in both"));
    assert_string_equal(c.r.sentence, "All of the 2 ops that both sides have agree within tolerance.");
    compared_free(&c);
}

/* An op that is wrong in B and that A does not have. */
static void an_op_of_one_side(void **state) {
    (void)state;
    engine_setup e = { .model = DEMO, .kernels = ENGINE_REFERENCE, .layer = -1, .filter = "l_out-*" };
    const char  *sparse = in_folder("sparse.gguf");
    engine_write(&e, story, STORY, sparse);
    compared c = compare_recordings(sparse, record("wrong.gguf", ENGINE_REFERENCE, "attn-scale", 2));
    assert_found(&c, "kqv_out-2", "scores are not scaled by 0.176777");
    assert_string_equal(c.r.sentence, "The first wrong op is kqv_out-2, which only B has.");
    compared_free(&c);
}

/* What went wrong before the first value that B has, or between two that it has. */
static const struct {
    const char *ops, *begin, *end;
} origins[] = {
    { "*", "Computed from B's own inputs it is wrong too (",
      "): the error is made there; 1 other op is wrong by itself too." },
    { "l_out-*", "Computed from what B has before it, up to l_out-0, it is wrong too (",
      "): the error is made there or in the 14 ops before it that B does not have whole." },
    { "l_out-1", "Computed from the tokens (B has none of what it depends on) it is wrong too (",
      "): the error is made there or in the 30 ops before it that B does not have whole." },
    { "[lQ]*-[01]", "Computed from what B has before it, up to l_out-0, it is wrong too (",
      "): the error is made there or in the op before it that B does not have whole." },
};

static void origins_are_told_as_they_are(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(origins); i++) {
        engine_setup e = { .model = DEMO, .kernels = ENGINE_REFERENCE, .mistake = "norm-weight", .layer = 1,
                           .filter = origins[i].ops };
        const char  *acts = in_folder("wrong.gguf");
        engine_write(&e, story, STORY, acts);
        compared c = compared_pair("interpreted:" DEMO, acts);
        size_t   n = strlen(c.r.origin), end = strlen(origins[i].end);
        if (strncmp(c.r.origin, origins[i].begin, strlen(origins[i].begin)) || n < end ||
            strcmp(c.r.origin + n - end, origins[i].end))
            fail_msg("%s: %s", origins[i].ops, c.r.origin);
        assert_true(has(c.r.verdict, "weight is not multiplied in"));
        compared_free(&c);
    }
}

/* ---- dumps that are odd */

/* A folder with one activation, of `n` numbers that are all 0.5. */
static const char *write_halves(const char *name, uint32_t n, bool tokens) {
    const char *to = new_folder("dumps");
    arena      *a = arena_new();
    FILE       *file = fopen(arena_printf(a, "%s/%s", to, name), "w");
    assert_non_null(file);
    for (uint32_t i = 0; i < n; i++) fputs("0.500000001\n", file);
    assert_int_equal(fclose(file), 0);
    if (tokens) write_tokens(arena_printf(a, "%s/tokens.txt", to), story, STORY);
    arena_free(a);
    return to;
}

static const struct {
    const char *name;
    uint32_t    n;
    bool        tokens; /* recorded; else given */
    const char *message; /* NULL: it can be compared, … */
    uint32_t    n_values; /* … so many values */
} odd_dumps[] = {
    { "embd.txt", 256, true, NULL, 256 },
    { "embd.txt", 256, false, NULL, 256 },
    { "embd.txt", 20, false, NULL, 20 },
    { "embd.txt", 256 * STORY, false, NULL, 256 * STORY },
    { "embd.txt", 256 * (STORY + 1), true, "4096 numbers are those of 16 tokens, expected at most 15", 0 },
    { "embd.txt", 256 * (STORY + 1), false, "embd is of 16 tokens or more, but there are 15", 0 },
    { "embd.txt", 300, false, "embd: 300 numbers, expected 256 for each token", 0 },
    { "Qcur-0@14.txt", 256, false, NULL, 256 },
    { "Qcur-0@15.txt", 256, false, "Qcur-0 is of 16 tokens or more, but there are 15", 0 },
    { "Qcur-0@3.txt", 257, false, "257 values for a token, expected 256", 0 },
    { "Qcur-9.txt", 256, false, "have no activation in common", 0 },
};

static void odd_dumps_are_told_of(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(odd_dumps); i++) {
        const char     *dumps = write_halves(odd_dumps[i].name, odd_dumps[i].n, odd_dumps[i].tokens);
        compare_options o = compared_options(dumps, "interpreted:" DEMO);
        o.tokens = story;
        o.n_tokens = STORY;
        compared c = compared_run(&o);
        uint64_t n = 0;
        for (uint32_t k = 0; k < c.r.n_ops; k++) n += c.r.ops[k].between.n_values;
        if (odd_dumps[i].message ? c.outcome != COMPARE_FAILED || c.n_errors != 1
                                 : c.outcome != COMPARE_DIFFERENT || n != odd_dumps[i].n_values)
            fail_msg("%s of %u: outcome %d, %u values, %s", odd_dumps[i].name, odd_dumps[i].n, (int)c.outcome,
                     (unsigned)n, c.said);
        if (odd_dumps[i].message && !has(c.said, odd_dumps[i].message))
            fail_msg("\"%s\", not \"%s\"", c.said, odd_dumps[i].message);
        compared_free(&c);
    }
}

static void notes_tell_what_is_not_compared(void **state) {
    (void)state;
    const char     *dumps = write_halves("embd.txt", 20, false);
    compare_options o = compared_options(dumps, "interpreted:" DEMO);
    arena *a = arena_new();
    write_text(arena_printf(a, "%s/readme.log", dumps), "nothing");
    write_text(arena_printf(a, "%s/kq-0.txt", dumps), "0.123");
    o.tokens = story;
    o.n_tokens = STORY;
    compared c = compared_run(&o);
    static const char *const notes[] = {
        "A does not say of which tokens it is: those given are taken", "62 of 63 ops are not in both: not compared",
        "1 op is compared for some of the tokens only", "1 op is compared for the first values of a token only",
        "1 file of A left out, as ", "A has 1 activation that the model has not, as kq-0",
    };
    for (size_t i = 0; i < ARRAY_LEN(notes); i++)
        if (!noted(&c, notes[i])) fail_msg("no note that %s", notes[i]);
    compared_free(&c);
    write_halves("embd.txt", 256 * STORY, true);
    write_text(arena_printf(a, "%s/embd.txt", dumps), "0.12 0.34");
    c = compared_pair(dumps, "interpreted:" DEMO);
    assert_true(noted(&c, "A's numbers were rounded when they were written: that is allowed for"));
    assert_false(noted(&c, "does not say"));
    compared_free(&c);
    arena_free(a);
}

/* ---- values that are no numbers */

static float *value_in(uint8_t *data, gguf_file *f, const char *name, uint32_t token) {
    const gguf_tensor *t = gguf_find_tensor(f, name);
    assert_non_null(t);
    return (float *)(void *)(data + t->offset) + token * (t->bytes / sizeof(float) / t->dims[t->n_dims - 1]);
}

/* A copy of a recording in which `n` values of a token are x. */
static const char *spoil(const char *from, const char *name, uint32_t token, float x, uint32_t n) {
    arena     *a = arena_new();
    gguf_file *f = variant_open(a, from);
    uint8_t   *data = arena_alloc(a, f->size);
    memcpy(data, f->data, f->size);
    float *row = value_in(data, f, name, token);
    for (uint32_t i = 0; i < n; i++) row[i] = x;
    const char *to = in_folder("spoiled.gguf");
    write_bytes(to, data, f->size);
    gguf_close(f);
    arena_free(a);
    return to;
}

#define FIRST "The first op beyond tolerance is Vcur-1 "

static void values_that_are_no_numbers(void **state) {
    (void)state;
    static const struct {
        float       x;
        uint32_t    n;
        const char *sentence;
    } rows[] = {
        { NAN, 1, FIRST "(1 value is infinite or no number on one side only)." },
        { NAN, 128, FIRST "(128 values are infinite or no number on one side only)." },
        { INFINITY, 3, FIRST "(3 values are infinite or no number on one side only)." },
        { -INFINITY, 2, FIRST "(2 values are infinite or no number on one side only)." },
    };
    const char *right = record("right.gguf", ENGINE_REFERENCE, NULL, -1);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        compared c = compared_pair("interpreted:" DEMO, spoil(right, "Vcur-1", 4, rows[i].x, rows[i].n));
        assert_int_equal(c.outcome, COMPARE_DIFFERENT);
        assert_string_equal(c.r.sentence, rows[i].sentence);
        assert_true(has(c.r.origin, "the error is made there"));
        assert_null(c.r.verdict);
        assert_int_equal(c.r.ops[c.r.first].between.most_token, 4);
        compared_free(&c);
    }
}

/* An engine that is right and was given weights that are too large: both sides overflow alike. */
static void both_sides_overflow(void **state) {
    (void)state;
    arena      *a = arena_new();
    const char *large = in_folder("large.gguf");
    gguf_file  *f = variant_open(a, DEMO);
    const gguf_tensor *t = gguf_find_tensor(f, "blk.1.ffn_norm.weight");
    float      *weights = arena_alloc(a, t->bytes);
    for (uint64_t i = 0; i < t->bytes / sizeof(float); i++) weights[i] = 3e38f;
    variant_with_bytes(DEMO, "blk.1.ffn_norm.weight", 0, weights, t->bytes, "large.gguf");
    engine_setup e = { .model = large, .kernels = ENGINE_REFERENCE, .layer = -1 };
    const char  *acts = in_folder("large-acts.gguf");
    engine_write(&e, story, STORY, acts);
    compared c = compared_pair(arena_printf(a, "interpreted:%s", large), acts);
    assert_same_engines(&c);
    assert_true(noted(&c, "overflow in the model itself, as ffn_"));
    compared_free(&c);
    gguf_close(f);
    arena_free(a);
}

/* ---- few tokens and many */

static void one_token(void **state) {
    (void)state;
    for (int wrong = 0; wrong < 2; wrong++) {
        engine_setup e = { .model = DEMO, .kernels = ENGINE_REFERENCE, .mistake = wrong ? "gate-up" : NULL,
                           .layer = 2 };
        const char  *acts = in_folder("one.gguf");
        engine_write(&e, story, 1, acts);
        compared c = compared_pair("interpreted:" DEMO, acts);
        assert_int_equal(c.r.n_tokens, 1);
        assert_int_equal(c.r.logits.n_predicted, 0);
        if (wrong)
            assert_found(&c, "ffn_swiglu-2", "gate and up are exchanged");
        else
            assert_same_engines(&c);
        compared_free(&c);
    }
}

/* 64 tokens: the story, again and again. */
enum { LONG = 64 };

static const int32_t *long_story(void) {
    static int32_t tokens[LONG];
    for (int i = 0; i < LONG; i++) tokens[i] = story[i % STORY ? i % STORY : i ? 1 : 0];
    return tokens;
}

static compared compare_by(uint32_t batch, const char *a, const char *b) {
    compare_options o = compared_options(a, b);
    o.compile.batch = batch;
    o.slack = 4;
    return compared_run(&o);
}

static void assert_same_distance(const compare_distance *a, const compare_distance *b) {
    assert_int_equal(a->n_values, b->n_values);
    assert_int_equal(a->n_tokens, b->n_tokens);
    assert_int_equal(a->most_index, b->most_index);
    assert_int_equal(a->most_token, b->most_token);
    assert_int_equal(a->worst_token, b->worst_token);
    assert_memory_equal(&a->nmse, &b->nmse, sizeof a->nmse);
    assert_memory_equal(&a->worst, &b->worst, sizeof a->worst);
    assert_memory_equal(&a->match, &b->match, sizeof a->match);
}

static void assert_same_reports(const compared *a, const compared *b) {
    assert_int_equal(a->outcome, b->outcome);
    assert_int_equal(a->r.n_ops, b->r.n_ops);
    assert_int_equal(a->r.first, b->r.first);
    for (uint32_t i = 0; i < a->r.n_ops; i++) {
        assert_same_distance(&a->r.ops[i].between, &b->r.ops[i].between);
        assert_same_distance(&a->r.ops[i].alone, &b->r.ops[i].alone);
        assert_memory_equal(&a->r.ops[i].tolerance, &b->r.ops[i].tolerance, sizeof(double));
        assert_memory_equal(&a->r.ops[i].alone_tolerance, &b->r.ops[i].alone_tolerance, sizeof(double));
    }
    assert_string_equal(a->r.sentence, b->r.sentence);
    assert_string_equal(or_none(a->r.origin), or_none(b->r.origin));
    assert_string_equal(or_none(a->r.verdict), or_none(b->r.verdict));
    assert_memory_equal(&a->r.logits.divergence, &b->r.logits.divergence, sizeof(double));
    assert_memory_equal(&a->r.logits.perplexity_b, &b->r.logits.perplexity_b, sizeof(double));
    assert_memory_equal(a->r.logits.best_b, b->r.logits.best_b, sizeof a->r.logits.best_b);
}

/* Nothing depends on how much of the text is evaluated at a time, for a side that must be evaluated
   again too. */
static void batches_do_not_matter(void **state) {
    (void)state;
    static const struct {
        const char *mistake, *ops, *what;
        uint32_t    least_batch; /* a token can see the next only in the same batch */
    } rows[] = {
        { "rope-base-500000", "*", "Qcur-1.rope: matches when the rope base is 500000 instead of 10000", 1 },
        { "mask-later", "*", "kqv_out-1: matches when a token sees the one after it too", 2 },
        { "heads-modulo", "l_out-*", "l_out-1: matches when in kqv_out-1, query head h reads kv head h % 4 instead "
          "of h / 2", 1 },
    };
    static const uint32_t batches[] = { 1, 7, 16, 63 };
    const char *acts = in_folder("long.gguf");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        engine_setup e = { .model = DEMO, .kernels = ENGINE_REFERENCE, .mistake = rows[i].mistake, .layer = 1,
                           .filter = rows[i].ops };
        engine_write(&e, long_story(), LONG, acts);
        compared whole = compare_by(256, "interpreted:" DEMO, acts);
        assert_string_equal(or_none(whole.r.verdict), rows[i].what);
        for (size_t k = 0; k < ARRAY_LEN(batches); k++) {
            if (batches[k] < rows[i].least_batch) continue;
            compared c = compare_by(batches[k], "interpreted:" DEMO, acts);
            assert_same_reports(&whole, &c);
            compared_free(&c);
        }
        compared_free(&whole);
    }
}

/* Where both sides are models, both are evaluated again for the hypotheses. */
static void batches_of_two_models(void **state) {
    (void)state;
    float       base = 5e5f;
    const char *other = variant_with_key(DEMO, "llama.rope.freq_base", &base, sizeof base, "base.gguf");
    compared    c[2];
    for (int i = 0; i < 2; i++) {
        compare_options o = compared_options("reference:" DEMO, other);
        o.tokens = long_story();
        o.n_tokens = LONG;
        o.compile.batch = i ? 16 : 64;
        c[i] = compared_run(&o);
        assert_found(&c[i], "Qcur-0.rope", "the rope base is 500000 instead of 10000");
    }
    assert_same_reports(&c[0], &c[1]);
    for (int i = 0; i < 2; i++) compared_free(&c[i]);
}

/* A token's worth of error in a text: far below what the mean may be. */
static void one_wrong_token(void **state) {
    (void)state;
    const char  *right = in_folder("long.gguf");
    engine_setup e = { .model = DEMO, .kernels = ENGINE_INTERPRETED, .layer = -1 };
    engine_write(&e, long_story(), LONG, right);
    compared c = compared_pair("reference:" DEMO, spoil(right, "Vcur-2", 13, 1.0f, 1));
    double   allowed = c.r.ops[find_op(&c, "Vcur-2")].alone_tolerance;
    assert_int_equal(c.outcome, COMPARE_DIFFERENT);
    assert_string_equal(compared_first(&c), "Vcur-2");
    assert_true(c.r.ops[c.r.first].alone.nmse <= allowed);
    assert_true(has(c.r.origin, " at token 13, "));
    compared_free(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(transposition_is_found),
        cmocka_unit_test(right_dumps_are_not_accused),
        cmocka_unit_test(half_floats),
        cmocka_unit_test(the_guilty_side_is_found),
        cmocka_unit_test(nothing_in_common),
        cmocka_unit_test(an_op_of_one_side),
        cmocka_unit_test(origins_are_told_as_they_are),
        cmocka_unit_test(odd_dumps_are_told_of),
        cmocka_unit_test(notes_tell_what_is_not_compared),
        cmocka_unit_test(values_that_are_no_numbers),
        cmocka_unit_test(both_sides_overflow),
        cmocka_unit_test(one_token),
        cmocka_unit_test(one_wrong_token),
        cmocka_unit_test(batches_do_not_matter),
        cmocka_unit_test(batches_of_two_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
