/* Every mistake of the table: what it makes of an op is what f64 makes of the op done wrong in that
 * way; it differs from what is right wherever mistake_applies says so; nothing else changes.
 *
 * An op is computed from right inputs: what a mistake makes is kept and then replaced by what is
 * right, so that each op is seen alone. */
#include "typed_model.h"

#include "interp_fixture.h"
#include "mistake.h"
#include "session.h"

enum { N = 6, MODELS = 5, FIRST_TYPED = 300 };

/* ---- models: every mistake applies somewhere */

static const uint32_t some_types[] = {QUANT_Q4_0, QUANT_Q4_K, QUANT_Q6_K, QUANT_F16, QUANT_IQ4_NL,
                                        QUANT_Q8_0, QUANT_Q5_1, QUANT_F32};

static const odd_model shapes[MODELS] = {
    {"mixed, groups of heads", "--layers 2 --embd 64 --heads 8 --kv-heads 4 --ff 96 --vocab 60 --ctx 64 "
     "--mixed --biases --rope-freqs", "", ""},
    {"all heads", "--layers 2 --embd 32 --heads 4 --kv-heads 4 --ff 64 --vocab 64 --ctx 64 --type f32 "
     "--rope-base 500000", "", ""},
    {"heads of 2", "--layers 1 --embd 32 --heads 2 --kv-heads 1 --head-dim 2 --ff 32 --vocab 60 --ctx 64",
     "", ""},
    {"types with nibbles", "--layers 2 --embd 256 --heads 4 --kv-heads 2 --ff 256 --vocab 256 --ctx 64 "
     "--type f32 --rope-base 1000000", "", ""},
    {"other rotations", "--layers 1 --embd 64 --heads 4 --kv-heads 2 --ff 32 --vocab 60 --ctx 64 "
     "--type f32", "mistaken.arch", ODD_HEAD
     "layers l < n_layer\n"
     "a = rms_norm(x, wn, eps)\n"
     "n = rms_norm(a, eps=0.5)\n"
     "q = rope(matmul(wq, n), head_dim=d, dims=d - 6, base=1000.0, scale=0.5, pairing=halves)\n"
     "k = rope(matmul(wk, a), head_dim=d, dims=d - 6, base=1000.0, scale=0.5, pairing=halves)\n"
     "kqv = attention(q, k, matmul(wv, a), head_dim=d, scale=1.0)\n"
     "x = matmul(wo, kqv) * a + x\n"
     "output\nresult_output = matmul(out_w, x)\n"},
};

static void open_model(interpreted *x, size_t i) {
    typed_list  list = {some_types, ARRAY_LEN(some_types), 0};
    const char *gguf = i == 3 ? typed_model_make(&shapes[i], FIRST_TYPED + i, &list)
                              : odd_model_make(&shapes[i], FIRST_TYPED + i);
    interpreted_open(x, &shapes[i], gguf);
}

/* ---- an op done wrong, in f64 */

typedef struct wrong {
    reference    r;
    op           o;      /* a copy, its inputs and parameters changed */
    const value *copied; /* not NULL: the op's result is this */
} wrong;

/* A copy of input k's numbers, which takes their place. */
static double *other_weight(wrong *w, uint32_t k) {
    const value *v = w->o.in[k];
    uint32_t     n = w->r.g->n_values;
    double      *x = arena_array(w->r.memory, value_count(v), sizeof *x);
    double     **values = arena_array(w->r.memory, n, sizeof *values);
    memcpy(x, w->r.values[v->id], value_count(v) * sizeof *x);
    memcpy(values, w->r.values, n * sizeof *values);
    values[v->id] = x;
    w->r.values = values;
    return x;
}

static void transpose(wrong *w, double unused) {
    const value  *v = w->o.in[0];
    const double *right = w->r.values[v->id];
    double       *x = other_weight(w, 0);
    (void)unused;
    for (uint64_t r = 0; r < v->ne[1]; r++)
        for (uint64_t i = 0; i < v->ne[0]; i++) x[r * v->ne[0] + i] = right[r + i * v->ne[1]];
}

/* The n-th tensor of the same layer and shape, in the graph's order. */
static void read_sibling(wrong *w, double n) {
    const value *own = w->o.in[0];
    size_t       prefix = (size_t)(strchr(own->name + 4, '.') - own->name); /* "blk.0." */
    for (uint32_t i = 0; i < w->r.g->n_values; i++) {
        value *v = w->r.g->values[i];
        if (v->kind != VALUE_WEIGHT || v == own || strncmp(v->name, own->name, prefix + 1)) continue;
        if (v->ne[0] != own->ne[0] || v->ne[1] != own->ne[1] || --n > 0) continue;
        memcpy(other_weight(w, 0), w->r.values[v->id], value_count(v) * sizeof(double));
        return;
    }
    fail_msg("%s has no such sibling", own->name);
}

enum { AS_BF16, NO_SUBNORMAL, SWAPPED, ADJACENT, ADJACENT_SWAPPED };

/* What quant_read makes of blocks that are read so: tests/test_quant.c is about that. */
static void misread(wrong *w, double what) {
    static const quant_mistake readings[] = {
        [AS_BF16] = {.scale_as_bf16 = true},
        [NO_SUBNORMAL] = {.subnormal_scale_zero = true},
        [SWAPPED] = {.nibbles_swapped = true},
        [ADJACENT] = {.nibbles_adjacent = true},
        [ADJACENT_SWAPPED] = {.nibbles_adjacent = true, .nibbles_swapped = true},
    };
    const value *v = w->o.in[0];
    double      *x = other_weight(w, 0);
    float       *read = arena_array(w->r.memory, value_count(v), sizeof *read);
    quant_read(v->type, w->r.g->file->data + v->tensor->offset, value_count(v), &readings[(int)what], read);
    for (uint64_t i = 0; i < value_count(v); i++) x[i] = (double)read[i];
}

static void leave_out_second(wrong *w, double unused) {
    (void)unused;
    w->o.n_in = 1;
}

static void add_to_norm(wrong *w, double n) {
    double *x = other_weight(w, 1);
    for (uint64_t i = 0; i < value_count(w->o.in[1]); i++) x[i] += n;
}

static void set_eps(wrong *w, double n) {
    w->o.params.eps = (float)n;
}

static void other_pairing(wrong *w, double unused) {
    (void)unused;
    w->o.params.rope_pairing = w->o.params.rope_pairing == ROPE_HALVES ? ROPE_ADJACENT : ROPE_HALVES;
}

static void set_base(wrong *w, double n) {
    w->o.params.rope_base = n;
}

static void set_rope_scale(wrong *w, double n) {
    w->o.params.rope_scale = n;
}

static void set_dims(wrong *w, double n) {
    w->o.params.rope_dims = (uint32_t)n;
}

static void shift_positions(wrong *w, double n) {
    w->r.first_position = (int)n;
}

static void set_modulo(wrong *w, double unused) {
    (void)unused;
    w->r.heads_by_modulo = true;
}

static void set_attn_scale(wrong *w, double n) {
    w->o.params.attn_scale = (float)n;
}

static void shift_mask(wrong *w, double n) {
    w->r.mask_shift = (int)n;
}

static void exchange(wrong *w, double unused) {
    value *first = w->o.in[0];
    (void)unused;
    w->o.in[0] = w->o.in[1];
    w->o.in[1] = first;
}

static void copy_operand(wrong *w, double k) {
    w->copied = w->o.in[(int)k];
}

static const struct {
    const char *name;
    void (*make)(wrong *w, double number);
    double number;
} meanings[] = {
    {"transposed", transpose, 0},
    {"embedding-transposed", transpose, 0},
    {"sibling-1", read_sibling, 1},
    {"sibling-2", read_sibling, 2},
    {"sibling-3", read_sibling, 3},
    {"scale-bf16", misread, AS_BF16},
    {"scale-subnormal", misread, NO_SUBNORMAL},
    {"nibbles-swapped", misread, SWAPPED},
    {"nibbles-adjacent", misread, ADJACENT},
    {"nibbles-adjacent-swapped", misread, ADJACENT_SWAPPED},
    {"norm-weight", leave_out_second, 0},
    {"norm-weight-plus-1", add_to_norm, 1},
    {"eps-0", set_eps, 0},
    {"eps-1e-12", set_eps, 1e-12},
    {"eps-1e-8", set_eps, 1e-8},
    {"eps-1e-6", set_eps, 1e-6},
    {"eps-1e-5", set_eps, 1e-5},
    {"eps-1e-3", set_eps, 1e-3},
    {"rope-pairing", other_pairing, 0},
    {"rope-base-10000", set_base, 10000},
    {"rope-base-500000", set_base, 500000},
    {"rope-base-1000000", set_base, 1000000},
    {"rope-factors", leave_out_second, 0},
    {"rope-scale", set_rope_scale, 1},
    {"rope-missing", set_dims, 0},
    {"rope-from-1", shift_positions, 1},
    {"heads-modulo", set_modulo, 0},
    {"attn-scale", set_attn_scale, 1},
    {"mask-later", shift_mask, 1},
    {"mask-earlier", shift_mask, -1},
    {"gate-up", exchange, 0},
    {"first-operand", copy_operand, 1}, /* left out: the other one remains */
    {"second-operand", copy_operand, 0},
};

/* The op's values for all tokens when `m` is made at it, [N][count]. */
static double *make_wrong(const reference *r, const op *o, const mistake *m) {
    wrong    w = {*r, *o, NULL};
    uint64_t n = value_count(o->out);
    double  *out = arena_array(r->memory, n * N, sizeof *out);
    size_t   i = 0;
    while (i < ARRAY_LEN(meanings) && strcmp(meanings[i].name, m->name)) i++;
    if (i == ARRAY_LEN(meanings)) fail_msg("nobody says here what '%s' means", m->name);
    meanings[i].make(&w, meanings[i].number);
    for (uint32_t t = 0; t < N; t++)
        if (w.copied)
            memcpy(out + t * n, reference_row(r, w.copied, t), n * sizeof *out);
        else
            reference_op(&w.r, &w.o, t, out + t * n);
    return out;
}

/* ---- the interpreter with a mistake, each op from right inputs */

typedef struct bench {
    interpreted x;
    enum interp_arithmetic arithmetic;
    int32_t     tokens[N];
    float     **right, **made; /* by op */
    reference   r;             /* its activations are the right ones */
    arena      *scratch;       /* of one mistake */
} bench;

static int keep_and_replace(void *context, const ggufc_call *call, uint32_t position, uint32_t count,
                            uint8_t *memory) {
    bench    *b = context;
    const op *o = interp_call_op(call);
    uint32_t  at = 0;
    if (!o) return 0;
    while (b->x.graph->ops[at] != o) at++;
    uint64_t n = value_count(o->out), size = n * sizeof(float);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *row = memory + interp_call_offset(call) + (o->head ? 0 : i) * interp_call_stride(call);
        memcpy(b->made[at] + (position + i) * n, row, size);
        memcpy(row, b->right[at] + (position + i) * n, size);
    }
    return 0;
}

static void run(bench *b, const mistake *m, int32_t layer, const op *only) {
    interp_options options = {.arithmetic = b->arithmetic, .mistake = m, .layer = layer, .only = only,
                              .n_ctx = N, .n_batch = N};
    ggufc_model    model = interpreted_model(&b->x, &options);
    ggufc_session *s = compiled_session(&model, NULL, 1);
    assert_int_equal(session_evaluate_calls(s, b->tokens, N, keep_and_replace, b, NULL), GGUFC_OK);
    ggufc_session_close(s);
}

static void bench_open(bench *b, size_t i, enum interp_arithmetic arithmetic) {
    open_model(&b->x, i);
    b->arithmetic = arithmetic;
    interp_options options = {.arithmetic = arithmetic, .trace = true, .n_batch = N, .n_ctx = N};
    ggufc_model    model = interpreted_model(&b->x, &options);
    interpreted_tokens(&b->x, b->tokens, N);
    b->right = interpreted_trace(&b->x, &model, b->tokens, N, N, 1);
    b->made = interpreted_room(&b->x, N);
    b->r = interpreted_reference(&b->x, b->x.memory, b->right, b->tokens, N);
    b->r.exact = arithmetic == INTERP_REFERENCE;
    b->r.activate = interpreted_activate;
}

/* ---- tests */

static bool is_same(const bench *b, uint32_t at) {
    return !memcmp(b->made[at], b->right[at], value_count(b->x.graph->ops[at]->out) * N * sizeof(float));
}

/* By how much what was made differs from what is right. */
static double difference(const bench *b, uint32_t at) {
    const value *v = b->x.graph->ops[at]->out;
    return interpreted_nmse(b->made[at], b->r.values[v->id], value_count(v) * N);
}

/* A rounding to f32; some hundred of them where arithmetic is faithful. */
static double most_of(const bench *b) {
    return b->arithmetic == INTERP_REFERENCE ? 1e-13 : 1e-11;
}

/* Whether what was made must be another than what is right: eps matters only where values are small,
   and not every tensor has a subnormal scale. */
static bool must_differ(const mistake *m) {
    return !m->other_eps && !m->reading.subnormal_scale_zero;
}

static bool check_made(bench *b, const mistake *m, uint32_t at) {
    const op *o = b->x.graph->ops[at];
    bool      differs = difference(b, at) > (m->other_eps ? 1e-13 : 1e-7);
    b->r.memory = b->scratch;
    double nmse = interpreted_nmse(b->made[at], make_wrong(&b->r, o, m), value_count(o->out) * N);
    if (!(nmse <= most_of(b))) fail_msg("%s: %s at %s: NMSE %.3g", b->x.name, m->name, o->name, nmse);
    if (must_differ(m) && !differs)
        fail_msg("%s: %s at %s changes nothing", b->x.name, m->name, o->name);
    return differs;
}

static void check_mistake(bench *b, const mistake *m, uint32_t *n_differ) {
    const graph *g = b->x.graph;
    b->scratch = arena_new();
    run(b, m, -1, NULL);
    for (uint32_t at = 0; at < g->n_ops; at++)
        if (mistake_applies(m, g, g->ops[at]))
            *n_differ += check_made(b, m, at);
        else if (!is_same(b, at))
            fail_msg("%s: %s does not apply to %s and changes it", b->x.name, m->name, g->ops[at]->name);
    arena_free(b->scratch);
}

static void every_mistake(void **state) {
    (void)state;
    uint32_t n_differ[2][ARRAY_LEN(meanings)] = {{0}};
    for (size_t i = 0; i < MODELS; i++)
        for (int a = 0; a < 2; a++) {
            bench b;
            bench_open(&b, i, a ? INTERP_FAITHFUL : INTERP_REFERENCE);
            for (const mistake *m = mistakes; m->name; m++) check_mistake(&b, m, &n_differ[a][m - mistakes]);
            interpreted_close(&b.x);
        }
    for (const mistake *m = mistakes; m->name; m++)
        for (int a = 0; a < 2; a++)
            if (!n_differ[a][m - mistakes]) fail_msg("%s makes no difference anywhere", m->name);
}

/* ---- where it is made */

static void check_place(bench *b, const mistake *m, int32_t layer, const op *only) {
    const graph *g = b->x.graph;
    float      **everywhere = b->made;
    run(b, m, -1, NULL);
    b->made = interpreted_room(&b->x, N);
    run(b, m, layer, only);
    for (uint32_t at = 0; at < g->n_ops; at++) {
        const op *o = g->ops[at];
        bool      here = only ? o == only : o->layer == layer;
        uint64_t  size = value_count(o->out) * N * sizeof(float);
        if (memcmp(b->made[at], (here ? everywhere : b->right)[at], size))
            fail_msg("%s: %s, layer %d: %s is %s", b->x.name, m->name, layer, o->name,
                     here ? "not what it is when made everywhere" : "changed");
    }
    b->made = everywhere;
}

static const op *last_that_applies(const graph *g, const mistake *m) {
    const op *found = NULL;
    for (uint32_t i = 0; i < g->n_ops; i++)
        if (mistake_applies(m, g, g->ops[i])) found = g->ops[i];
    return found;
}

static void in_one_layer_or_op(void **state) {
    (void)state;
    static const size_t chosen[] = {0, 3};
    for (size_t i = 0; i < ARRAY_LEN(chosen); i++) {
        bench b;
        bench_open(&b, chosen[i], INTERP_FAITHFUL);
        for (const mistake *m = mistakes; m->name; m++) {
            const op *only = last_that_applies(b.x.graph, m);
            check_place(&b, m, 1, NULL);
            check_place(&b, m, 7, NULL); /* no such layer */
            if (only) check_place(&b, m, -1, only);
        }
        interpreted_close(&b.x);
    }
}

/* ---- names and sentences */

static void names(void **state) {
    (void)state;
    for (const mistake *m = mistakes; m->name; m++) {
        assert_ptr_equal(mistake_find(m->name), m);
        if (strspn(m->name, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(m->name))
            fail_msg("'%s' needs quotes on a command line, or an @", m->name);
    }
    assert_null(mistake_find(""));
    assert_null(mistake_find("transpose"));
    assert_null(mistake_find("transposed@1"));
    assert_int_equal(mistakes[ARRAY_LEN(meanings)].ops, 0);
    assert_null(mistakes[ARRAY_LEN(meanings)].name);
}

static const struct {
    const char *mistake, *op, *text;
} sentences[] = {
    {"transposed", "ffn_up-1.matmul", "ffn_up.weight is read transposed"},
    {"embedding-transposed", "embd", "token_embd.weight is read transposed"},
    {"sibling-1", "Kcur-0.matmul", "attn_v.weight is read in place of attn_k.weight"},
    {"scale-bf16", "Kcur-0.matmul", "block scales of attn_k.weight are read as bf16"},
    {"norm-weight", "attn_norm-1", "attn_norm.weight is not multiplied in"},
    {"norm-weight-plus-1", "result_norm", "output_norm.weight + 1 is multiplied in"},
    {"eps-1e-6", "ffn_norm-0", "eps is 1e-06 instead of 1e-05"},
    {"rope-pairing", "Qcur-0.rope",
     "half-split pairs (i, i + 4) are rotated instead of interleaved ones"},
    {"rope-base-500000", "Kcur-1.rope", "the rope base is 500000 instead of 10000"},
    {"rope-factors", "Qcur-0.rope", "the rope frequency factors (rope_freqs.weight) are ignored"},
    {"heads-modulo", "kqv_out-0", "query head h reads kv head h % 4 instead of h / 2"},
    {"attn-scale", "kqv_out-0", "scores are not scaled by 0.353553"},
    {"second-operand", "ffn_inp-0", "embd is not added"},
    {"first-operand", "l_out-1", "ffn_out-1 is not added"},
};

static void what_is_told(void **state) {
    (void)state;
    interpreted x;
    open_model(&x, 0);
    for (size_t i = 0; i < ARRAY_LEN(sentences); i++) {
        const mistake *m = mistake_find(sentences[i].mistake);
        const op      *o = NULL;
        for (uint32_t k = 0; k < x.graph->n_ops; k++)
            if (!strcmp(x.graph->ops[k]->out->name, sentences[i].op)) o = x.graph->ops[k];
        if (!o || !mistake_applies(m, x.graph, o))
            fail_msg("%s is not for %s", sentences[i].mistake, sentences[i].op);
        assert_string_equal(mistake_text(x.memory, m, x.graph, o), sentences[i].text);
    }
    interpreted_close(&x);
    for (size_t i = 0; i < MODELS; i++) {
        open_model(&x, i);
        for (const mistake *m = mistakes; m->name; m++)
            for (uint32_t k = 0; k < x.graph->n_ops; k++)
                if (mistake_applies(m, x.graph, x.graph->ops[k]))
                    assert_null(strpbrk(mistake_text(x.memory, m, x.graph, x.graph->ops[k]), "{}"));
        interpreted_close(&x);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_mistake),
        cmocka_unit_test(in_one_layer_or_op),
        cmocka_unit_test(names),
        cmocka_unit_test(what_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
