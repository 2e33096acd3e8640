/* The interpreter against f64: whole models, every activation by its name, and each op alone with the
 * inputs that it was given; and what must not matter to a bit: threads, batches, whether a trace is
 * kept, in which memory values lie.
 *
 * Models are those of odd_models.h, two whose matrices are of all types that can be read, and two
 * whose rows or heads are longer than any. */
#include "typed_model.h"

#include "interp_fixture.h"
#include "session.h"

enum { N = 21, LONG = 150, FIRST_MORE = 200 };
enum { ODD = ARRAY_LEN(odd_models), TYPED = ODD, OTHER_TYPED, WIDE, LARGE_HEADS, ALL };

/* ---- models */

static const odd_model more_models[ALL - ODD] = {
    {"all types", "--layers 2 --embd 256 --heads 8 --kv-heads 2 --ff 512 --vocab 300 --ctx 300 "
     "--type f32 --biases", "", ""},
    {"all types, other places", "--layers 3 --embd 256 --heads 4 --kv-heads 2 --ff 256 --vocab 301 "
     "--ctx 300 --type f32 --rope-freqs", "", ""},
    {"embd 4160, heads of 8", "--layers 1 --embd 4160 --heads 2 --kv-heads 1 --head-dim 8 --ff 8 "
     "--vocab 20 --ctx 300 --type bf16 --biases", "", ""},
    {"embd 20, heads of 1024", "--layers 1 --embd 20 --heads 2 --kv-heads 1 --head-dim 1024 --ff 8 "
     "--vocab 20 --ctx 300 --type f32", "", ""},
};

static uint32_t all_types(uint32_t *types) {
    uint32_t n = 0;
    for (uint32_t t = 0; t < QUANT_COUNT; t++)
        if (quant_find(t)) types[n++] = t;
    return n;
}

/* The model i of all; the second typed one begins with the types where the first ended. */
static void open_model(interpreted *x, size_t i) {
    const odd_model *m = i < ODD ? &odd_models[i] : &more_models[i - ODD];
    uint32_t   types[QUANT_COUNT];
    typed_list list = {types, all_types(types), i == TYPED ? 0 : 16};
    bool       typed = i == TYPED || i == OTHER_TYPED;
    size_t     number = i < ODD ? i : FIRST_MORE + i;
    interpreted_open(x, m, typed ? typed_model_make(m, number, &list) : odd_model_make(m, number));
}

static const interp_options arithmetics[] = {
    {.arithmetic = INTERP_REFERENCE, .trace = true},
    {.arithmetic = INTERP_FAITHFUL, .trace = true},
};

/* ---- whole models */

/* What rounding to f32 after each op comes to. */
static const double most_exact = 2e-12;

/* NMSE of all logits of faithful arithmetic: a value that lies between two quants falls to the other
   side now and then. The weights with the coarsest activations decide. */
static double most_faithful(const graph *g) {
    double most = 1e-7;
    for (uint32_t i = 0; i < g->n_values; i++) {
        if (g->values[i]->kind != VALUE_WEIGHT) continue;
        switch (quant_find(g->values[i]->type)->activation) {
        case QUANT_F32: break;
        case QUANT_F16: most = fmax(most, 1e-6); break;
        case QUANT_BF16: most = fmax(most, 1e-5); break;
        case QUANT_Q8_K: most = fmax(most, 1e-3); break;
        default: most = fmax(most, 1e-4);
        }
    }
    return most;
}

static void check_whole(interpreted *x, bool exact) {
    int32_t     tokens[N];
    ggufc_model m = interpreted_model(x, &arithmetics[!exact]);
    interpreted_tokens(x, tokens, N);
    float   **rows = interpreted_trace(x, &m, tokens, N, N, 2);
    reference r = interpreted_reference(x, x->memory, NULL, tokens, N);
    double    worst = 0, most = exact ? most_exact : most_faithful(x->graph);
    r.exact = exact;
    reference_run(&r);
    for (uint32_t i = exact ? 0 : x->graph->n_ops - 1; i < x->graph->n_ops; i++) {
        const value *v = x->graph->ops[i]->out;
        double       nmse = interpreted_nmse(rows[i], r.values[v->id], value_count(v) * N);
        if (!(nmse <= most))
            fail_msg("%s: %s: NMSE %.3g, expected at most %.3g", x->name, v->name, nmse, most);
        worst = fmax(worst, nmse);
    }
    print_message("%-26s %s NMSE %.2g\n", x->name, exact ? "reference" : "faithful ", worst);
}

static void whole_models(void **state) {
    (void)state;
    for (size_t i = 0; i < ALL; i++) {
        interpreted x;
        open_model(&x, i);
        check_whole(&x, true);
        check_whole(&x, false);
        interpreted_close(&x);
    }
}

/* ---- each op alone, from the inputs that it was given */

/* Exact: a rounding to f32. Faithful: some hundred of them; the sums of Q8_1 are f16, and a large minimum
   times such a sum is what most of a product is taken back by; angles are f32 and grow with the
   position. */
static double most_of_op(const op *o, bool exact, uint32_t t) {
    if (exact) return 1e-14;
    if (o->kind == OP_MATMUL && quant_find(o->in[0]->type)->activation == QUANT_Q8_1) return 2e-5;
    return o->kind == OP_ROPE ? pow(2e-7 * (t + 5), 2) : 5e-12;
}

static void check_op(interpreted *x, reference *r, const op *o, const float *row, uint32_t t) {
    uint64_t n = value_count(o->out);
    double  *truth = arena_array(r->memory, n, sizeof *truth);
    reference_op(r, o, t, truth);
    double nmse = interpreted_nmse(row, truth, n);
    if (!(nmse <= most_of_op(o, r->exact, t)))
        fail_msg("%s: %s (%s), token %u: NMSE %.3g", x->name, o->name, op_infos[o->kind].name, t, nmse);
}

static void check_ops(interpreted *x, bool exact, uint32_t n, uint32_t batch, uint32_t *met) {
    int32_t        tokens[LONG];
    interp_options options = arithmetics[!exact];
    options.n_ctx = n;
    ggufc_model m = interpreted_model(x, &options);
    arena      *scratch = arena_new();
    interpreted_tokens(x, tokens, n);
    float   **rows = interpreted_trace(x, &m, tokens, n, batch, 2);
    reference r = interpreted_reference(x, scratch, rows, tokens, n);
    r.exact = exact;
    r.activate = interpreted_activate;
    for (uint32_t i = 0; i < x->graph->n_ops; i++) {
        const op *o = x->graph->ops[i];
        for (uint32_t t = 0; t < n; t++) check_op(x, &r, o, rows[i] + t * value_count(o->out), t);
        met[o->kind]++;
    }
    arena_free(scratch);
}

static void ops_alone(void **state) {
    (void)state;
    uint32_t met[OP_KIND_COUNT] = {0};
    for (size_t i = 0; i < ALL; i++) {
        interpreted x;
        open_model(&x, i);
        check_ops(&x, true, N, 8, met);
        check_ops(&x, false, N, 8, met);
        interpreted_close(&x);
    }
    for (int k = 0; k < OP_KIND_COUNT; k++)
        if (op_infos[k].function && !met[k]) fail_msg("no model has an op %s", op_infos[k].name);
}

/* More positions than attention takes at a time, and more tokens than a product does. */
static void ops_of_a_long_text(void **state) {
    (void)state;
    static const size_t chosen[] = {0, 3, 6};
    uint32_t met[OP_KIND_COUNT] = {0};
    for (size_t i = 0; i < ARRAY_LEN(chosen); i++) {
        interpreted x;
        open_model(&x, chosen[i]);
        check_ops(&x, true, LONG, 40, met);
        check_ops(&x, false, LONG, 40, met);
        interpreted_close(&x);
    }
}

/* ---- the same to the bit */

static void assert_same(const interpreted *x, const float *a, const float *b, const char *what) {
    size_t n_vocab = x->graph->n_vocab;
    for (size_t i = 0; i < N * n_vocab; i++)
        if (memcmp(&a[i], &b[i], sizeof *a))
            fail_msg("%s: %s: logit %zu of token %zu is %.9g and not %.9g", x->name, what, i % n_vocab,
                     i / n_vocab, (double)b[i], (double)a[i]);
}

static const struct {
    uint32_t    n_batch, given, threads; /* the model's batch, that of the calls */
    bool        trace;
    const char *what;
} ways[] = {
    {64, N, 1, true, "with a trace"},      {64, N, 2, false, "two threads"},
    {64, N, 3, false, "three threads"},    {64, 1, 1, false, "token by token"},
    {64, 1, 3, true, "one by one, traced"}, {1, N, 2, false, "a batch of 1"},
    {2, 7, 1, false, "a batch of 2"},      {5, N, 3, true, "a batch of 5, traced"},
    {N, 4, 2, false, "four at a time"},
};

static void check_bits(interpreted *x, enum interp_arithmetic arithmetic) {
    int32_t tokens[N];
    interpreted_tokens(x, tokens, N);
    interp_options options = {.arithmetic = arithmetic, .n_ctx = N};
    ggufc_model    m = interpreted_model(x, &options);
    float         *one = compiled_logits(&m, NULL, tokens, N, N, 1);
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        options.n_batch = ways[i].n_batch;
        options.trace = ways[i].trace;
        m = interpreted_model(x, &options);
        float *other = compiled_logits(&m, NULL, tokens, N, ways[i].given, ways[i].threads);
        assert_same(x, one, other, ways[i].what);
        free(other);
    }
    free(one);
}

static void same_for_any_way(void **state) {
    (void)state;
    for (size_t i = 0; i < ALL; i++) {
        interpreted x;
        open_model(&x, i);
        check_bits(&x, INTERP_REFERENCE);
        check_bits(&x, INTERP_FAITHFUL);
        interpreted_close(&x);
    }
}

/* Values share memory, or else a trace would cost nothing. */
static void memory_is_shared_without_a_trace(void **state) {
    (void)state;
    interpreted x;
    open_model(&x, 0);
    ggufc_model with = interpreted_model(&x, &(interp_options){.trace = true});
    ggufc_model without = interpreted_model(&x, &(interp_options){.trace = false});
    assert_true(without.arena_bytes * 2 < with.arena_bytes);
    assert_null(without.activations);
    assert_int_equal(without.n_activations, 0);
    assert_int_equal(with.n_activations, x.graph->n_ops);
    for (uint32_t i = 0; i < x.graph->n_ops; i++)
        assert_string_equal(with.activations[i].name, x.graph->ops[i]->out->name);
    interpreted_close(&x);
}

/* Logits are the same after going back and giving other tokens in between. */
static void going_back(void **state) {
    (void)state;
    interpreted x;
    int32_t     tokens[N];
    open_model(&x, 2);
    interpreted_tokens(&x, tokens, N);
    ggufc_model    m = interpreted_model(&x, &(interp_options){.n_ctx = N, .n_batch = 4});
    float         *truth = compiled_logits(&m, NULL, tokens, N, N, 1);
    ggufc_session *s = compiled_session(&m, NULL, 2);
    assert_int_equal(ggufc_session_evaluate(s, tokens, 9, NULL), 0);
    assert_int_equal(ggufc_session_evaluate(s, tokens, 12, NULL), 0);
    assert_int_equal(ggufc_session_truncate(s, 9, NULL), 0);
    assert_int_equal(ggufc_session_evaluate(s, tokens + 9, N - 9, NULL), 0);
    assert_memory_equal(ggufc_session_logits(s), truth + (N - 1) * m.n_vocab, m.n_vocab * sizeof(float));
    ggufc_session_close(s);
    free(truth);
    interpreted_close(&x);
}

/* ---- part of a graph */

typedef struct forcing {
    const interpreted *x;
    float            **rows, **made;
    const enum interp_role *roles;
    uint32_t n_given, n_made;
} forcing;

static uint32_t op_position(const graph *g, const op *o) {
    uint32_t i = 0;
    while (g->ops[i] != o) i++;
    return i;
}

/* What is given is put where it belongs; what was computed is kept. */
static int force(void *context, const ggufc_call *call, uint32_t position, uint32_t count, uint8_t *memory) {
    forcing  *f = context;
    const op *o = interp_call_op(call);
    if (!o) return 0;
    uint32_t at = op_position(f->x->graph, o);
    uint64_t n = value_count(o->out);
    bool     given = f->roles[at] == INTERP_GIVEN;
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *row = memory + interp_call_offset(call) + (o->head ? 0 : i) * interp_call_stride(call);
        float   *kept = (given ? f->rows : f->made)[at] + (position + i) * n;
        if (given)
            memcpy(row, kept, n * sizeof *kept);
        else
            memcpy(kept, row, n * sizeof *kept);
    }
    f->n_given += given;
    f->n_made += !given;
    return 0;
}

/* Op `at` alone, its inputs given and everything else left out. */
static void check_part(interpreted *x, enum interp_arithmetic arithmetic, float **rows, uint32_t at,
                       const int32_t *tokens) {
    enum interp_role roles[64];
    const graph     *g = x->graph;
    const op        *o = g->ops[at];
    assert_true(g->n_ops <= ARRAY_LEN(roles));
    for (uint32_t i = 0; i < g->n_ops; i++) roles[i] = INTERP_LEFT_OUT;
    for (uint32_t k = 0; k < o->n_in; k++)
        if (o->in[k] && o->in[k]->kind == VALUE_ACTIVATION)
            roles[op_position(g, o->in[k]->producer)] = INTERP_GIVEN;
    roles[at] = INTERP_COMPUTED;
    interp_options options = {.arithmetic = arithmetic, .n_batch = 6, .n_ctx = N, .roles = roles};
    ggufc_model    m = interpreted_model(x, &options);
    ggufc_session *s = compiled_session(&m, NULL, 2);
    forcing        f = {.x = x, .rows = rows, .made = interpreted_room(x, N), .roles = roles};
    assert_int_equal(session_evaluate_calls(s, tokens, N, force, &f, NULL), GGUFC_OK);
    assert_null(ggufc_session_logits(s));
    assert_int_equal(ggufc_session_n_past(s), N);
    ggufc_session_close(s);
    assert_int_equal(f.n_made, o->head ? N : (N + 5) / 6);
    if (memcmp(f.made[at], rows[at], value_count(o->out) * N * sizeof(float)))
        fail_msg("%s: %s is another when it is computed alone", x->name, o->name);
}

static void parts_of_graphs(void **state) {
    (void)state;
    static const size_t chosen[] = {0, 6, 12, 14, TYPED};
    int32_t tokens[N];
    for (size_t i = 0; i < ARRAY_LEN(chosen); i++)
        for (int a = 0; a < 2; a++) {
            interpreted x;
            open_model(&x, chosen[i]);
            interpreted_tokens(&x, tokens, N);
            ggufc_model m = interpreted_model(&x, &arithmetics[a]);
            float     **rows = interpreted_trace(&x, &m, tokens, N, N, 1);
            for (uint32_t at = 0; at < x.graph->n_ops; at++)
                check_part(&x, arithmetics[a].arithmetic, rows, at, tokens);
            interpreted_close(&x);
        }
}

static int stop_at_once(void *context, const ggufc_call *call, uint32_t position, uint32_t count,
                        uint8_t *memory) {
    uint32_t *n = context;
    (void)call, (void)position, (void)count, (void)memory;
    return ++*n > 0;
}

static void the_rest_of_a_batch_is_left_out(void **state) {
    (void)state;
    interpreted x;
    int32_t     tokens[N], bad = -1;
    uint32_t    n = 0;
    open_model(&x, 0);
    interpreted_tokens(&x, tokens, N);
    ggufc_model    m = interpreted_model(&x, &(interp_options){.n_batch = 5, .n_ctx = N});
    ggufc_session *s = compiled_session(&m, NULL, 1);
    assert_int_equal(session_evaluate_calls(s, tokens, N, stop_at_once, &n, NULL), GGUFC_OK);
    assert_int_equal(n, (N + 4) / 5);
    assert_int_equal(session_evaluate_calls(s, tokens, 1, stop_at_once, &n, NULL), GGUFC_ERROR_CONTEXT);
    assert_int_equal(ggufc_session_truncate(s, 0, NULL), 0);
    assert_int_equal(session_evaluate_calls(s, &bad, 1, stop_at_once, &n, NULL), GGUFC_ERROR_TOKEN);
    ggufc_session_close(s);
    interpreted_close(&x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_models),
        cmocka_unit_test(ops_alone),
        cmocka_unit_test(ops_of_a_long_text),
        cmocka_unit_test(same_for_any_way),
        cmocka_unit_test(memory_is_shared_without_a_trace),
        cmocka_unit_test(going_back),
        cmocka_unit_test(parts_of_graphs),
        cmocka_unit_test(the_rest_of_a_batch_is_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
