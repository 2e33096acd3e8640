/* Comparisons: engines that are broken in one way each are found out, at the right operation and by
 * the right mistake; right ones are not accused.
 *
 * Broken engines are the interpreter with a mistake (mistake.h) and, so that not only our own
 * arithmetic judges itself, reference_graph.h. What needs ../shared is skipped without it. */
#include "compare_fixture.h"

#include "reference_graph.h"

/* ---- broken engines */

#define Q4_0 SHARED "demo-model/storyteller-q4_0.gguf"

typedef struct broken {
    const char *mistake;
    const char *name;    /* of layer %d */
    const char *verdict;
    const char *model;   /* NULL: the demo */
} broken;

static const broken broken_engines[] = {
    { "transposed", "Qcur-%d", "attn_q.weight is read transposed", NULL },
    { "sibling-1", "Qcur-%d", "attn_output.weight is read in place of attn_q.weight", NULL },
    { "scale-bf16", "Qcur-%d", "block scales of attn_q.weight are read as bf16", NULL },
    { "norm-weight", "attn_norm-%d", "attn_norm.weight is not multiplied in", NULL },
    { "norm-weight-plus-1", "attn_norm-%d", "attn_norm.weight + 1 is multiplied in", NULL },
    { "eps-1e-3", "attn_norm-%d", "eps is 0.001 instead of 1e-05", NULL },
    { "rope-pairing", "Qcur-%d.rope",
      "half-split pairs (i, i + 16) are rotated instead of interleaved ones", NULL },
    { "rope-base-500000", "Qcur-%d.rope", "the rope base is 500000 instead of 10000", NULL },
    { "rope-missing", "Qcur-%d.rope", "nothing is rotated", NULL },
    { "rope-from-1", "Qcur-%d.rope", "positions are counted from 1", NULL },
    { "heads-modulo", "kqv_out-%d", "query head h reads kv head h % 4 instead of h / 2", NULL },
    { "attn-scale", "kqv_out-%d", "scores are not scaled by 0.176777", NULL },
    { "mask-later", "kqv_out-%d", "a token sees the one after it too", NULL },
    { "mask-earlier", "kqv_out-%d", "a token does not see itself", NULL },
    { "gate-up", "ffn_swiglu-%d", "gate and up are exchanged", NULL },
    { "first-operand", "ffn_inp-%d", "attn_out-%d is not added", NULL },
    { "nibbles-swapped", "Qcur-%d", "of two nibbles of attn_q.weight the high one is taken first", Q4_0 },
    { "nibbles-adjacent", "Qcur-%d", "the nibbles of a byte of attn_q.weight are taken for neighbours", Q4_0 },
    { "nibbles-adjacent-swapped", "Qcur-%d",
      "the nibbles of a byte of attn_q.weight are taken for neighbours, the high one first", Q4_0 },
    { "scale-bf16", "Qcur-%d", "block scales of attn_q.weight are read as bf16", Q4_0 },
};

/* `layer` in place of %d; a text may hold other percent signs. */
static const char *with_layer(arena *a, const char *text, int32_t layer) {
    const char *at = strstr(text, "%d");
    if (!at) return text;
    return arena_printf(a, "%.*s%d%s", (int)(at - text), text, layer, at + 2);
}

/* Made everywhere, a mistake is found where it is made first: in reading blocks that is the embedding. */
static void expect(arena *a, const broken *b, int32_t layer, const char **name, const char **what) {
    const mistake     *m = mistake_find(b->mistake);
    const char        *weight = strstr(b->verdict, "attn_q.weight");
    static const mistake none;
    *name = with_layer(a, b->name, layer < 0 ? 0 : layer);
    *what = with_layer(a, b->verdict, layer < 0 ? 0 : layer);
    if (layer >= 0 || !memcmp(&m->reading, &none.reading, sizeof none.reading)) return;
    *name = "embd";
    *what = arena_printf(a, "%.*stoken_embd.weight%s", (int)(weight - b->verdict), b->verdict,
                         weight + strlen("attn_q.weight"));
}

static void find_broken(const broken *b, int32_t layer, enum engine_kernels kernels, bool swap, bool compile) {
    const char  *acts = in_folder("broken.gguf"), *name, *what;
    engine_setup e = { .model = b->model ? b->model : DEMO, .kernels = kernels, .mistake = b->mistake,
                       .layer = layer };
    arena       *a = arena_new();
    const char  *right = arena_printf(a, "%s%s", compile && !b->model ? "" : "interpreted:", e.model);
    engine_write(&e, story, STORY, acts);
    compared c = compared_pair(swap ? acts : right, swap ? right : acts);
    expect(a, b, layer, &name, &what);
    assert_found(&c, name, what);
    assert_string_equal(c.r.suspect, swap ? "A" : "B");
    compared_free(&c);
    arena_free(a);
}

static void broken_engines_are_found(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(broken_engines); i++) {
        const broken *b = &broken_engines[i];
        if (b->model && !exists(b->model)) continue;
        find_broken(b, 0, ENGINE_INTERPRETED, false, i % 4 == 0);
        find_broken(b, 3, ENGINE_REFERENCE, false, i % 4 == 2);
        find_broken(b, -1, i % 2 ? ENGINE_INTERPRETED : ENGINE_REFERENCE, true, false);
    }
}

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

static void foreign_begin(foreign_engine *f, const char *transposed, bool plain) {
    engine_setup s = { .model = DEMO, .kernels = ENGINE_INTERPRETED, .layer = -1 };
    engine_begin(&f->e, &s, STORY);
    f->r = (reference){ .memory = arena_new(), .g = f->e.compilation.graph, .tokens = story, .n_tokens = STORY,
                        .plain = plain, .transposed = transposed };
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
    for (uint32_t t = 0; d->by_call && t < STORY; t++)
        write_rows(f, d, o->out, t, t + 1, arena_printf(a, "%s/hidden_state_call_%u.txt", to, t));
    if (!d->by_call)
        write_rows(f, d, o->out, d->last_only ? STORY - 1 : 0, STORY, arena_printf(a, "%s/%s.txt", to, name));
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
    write_tokens(arena_printf(f->r.memory, "%s/tokens.txt", to), story, STORY);
    return to;
}

static const char *write_gguf(const foreign_engine *f, const dump *d) {
    const char  *to = in_folder("foreign.gguf");
    const graph *g = f->r.g;
    gguf_writer  w;
    writer_begin(&w);
    writer_kv_string(&w, "general.type", "activations");
    writer_kv_array(&w, "activations.tokens", GGUF_I32, story, STORY, sizeof *story);
    for (uint32_t i = 0; i < g->n_ops; i++)
        if (!fnmatch(d->ops, g->ops[i]->out->name, 0))
            writer_tensor(&w, g->ops[i]->out->name, 2, (uint64_t[]){ value_count(g->ops[i]->out), STORY }, QUANT_F32);
    float *at = (float *)(void *)writer_finish(&w);
    for (uint32_t i = 0; i < g->n_ops; i++) {
        uint64_t n = value_count(g->ops[i]->out) * STORY;
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
        foreign_begin(&f, stories[i].transposed, stories[i].plain);
        const char *dumps = write_dump(&f, &stories[i].dump);
        compared    c = compared_pair("interpreted:" DEMO, dumps);
        assert_found(&c, stories[i].name, stories[i].what);
        compared_free(&c);
        foreign_end(&f);
    }
}

/* The same dumps of an engine that is right. */
static void right_dumps_are_not_accused(void **state) {
    (void)state;
    for (int plain = 0; plain < 2; plain++) {
        foreign_engine f;
        foreign_begin(&f, NULL, plain);
        for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
            if (stories[i].plain != plain) continue;
            compared c = compared_pair(write_dump(&f, &stories[i].dump), i % 3 ? "reference:" DEMO : "interpreted:" DEMO);
            assert_same_engines(&c);
            compared_free(&c);
        }
        foreign_end(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_engines_are_found),
        cmocka_unit_test(transposition_is_found),
        cmocka_unit_test(right_dumps_are_not_accused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
