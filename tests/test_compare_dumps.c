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
        cmocka_unit_test(transposition_is_found),
        cmocka_unit_test(right_dumps_are_not_accused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
