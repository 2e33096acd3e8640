/* What the passes make of a graph: golden text for the demo model (UPDATE_GOLDEN=1 writes it), and
 * what must hold for any model, worked out here again by brute force: nothing that is still needed
 * is overwritten, nothing is read before a barrier made it visible, names stay. */
#include "odd_models.h"

#include "arch.h"
#include "pass.h"
#include "plan.h"

#include <signal.h>

#define DEMO   "tests/models/storyteller-q8_0.gguf"
#define GOLDEN "tests/golden/"

/* ---- a model taken as far as a stage */

typedef struct taken {
    arena     *memory;
    gguf_file *file;
    graph     *graph;
    plan      *plan;
} taken;

static void ignore(void *user, enum diag_level level, const char *line) {
    (void)user, (void)level, (void)line;
}

/* `text`: of a template, or "" for the built-in one. */
static taken take(const char *gguf, const char *text, enum graph_stage stage) {
    taken  t = {.memory = arena_new()};
    diag   d = {.sink = ignore};
    size_t size = strlen(text);
    t.file = gguf_open(t.memory, &d, gguf);
    assert_non_null(t.file);
    if (!size) text = arch_builtin("llama", &size);
    arch *parsed = arch_parse(t.memory, &d, "test.arch", text, size);
    t.graph = parsed ? arch_build(t.memory, &d, parsed, t.file) : NULL;
    assert_non_null(t.graph);
    pass_check(t.graph, STAGE_ARCH);
    if (stage >= STAGE_RESOLVED) pass_resolve(t.graph);
    if (stage >= STAGE_FUSED) pass_fuse(t.graph, false);
    pass_check(t.graph, stage);
    return t;
}

static void take_plan(taken *t, const isa *target, uint32_t n_ctx, uint32_t n_batch) {
    plan_options options = {.n_ctx = n_ctx, .n_batch = n_batch};
    t->plan = pass_plan(t->graph, target, &options);
}

static void release(taken *t) {
    gguf_close(t->file);
    arena_free(t->memory);
}

static const isa *find_isa(const char *name) {
    for (const isa *const *row = isa_rows; *row; row++)
        if (!strcmp((*row)->name, name)) return *row;
    fail_msg("no ISA is called %s", name);
    return NULL;
}

/* ---- golden text */

/* The first line in which they differ is shown. */
static void compare_text(const char *path, const char *is) {
    char  *text = NULL;
    size_t size = 0;
    FILE  *f = fopen(path, getenv("UPDATE_GOLDEN") ? "w+" : "r");
    if (!f) fail_msg("%s is missing", path);
    if (getenv("UPDATE_GOLDEN")) assert_true(fputs(is, f) >= 0 && !fseek(f, 0, SEEK_SET));
    assert_true(getdelim(&text, &size, '\0', f) > 0);
    fclose(f);
    size_t at = 0, line = 0;
    while (is[at] && is[at] == text[at]) line = is[at++] == '\n' ? at : line;
    if (is[at] || text[at])
        fail_msg("%s: is\n%.*s\nexpected\n%.*s", path, (int)strcspn(is + line, "\n"), is + line,
                 (int)strcspn(text + line, "\n"), text + line);
    free(text);
}

static void golden_texts(void **state) {
    (void)state;
    static const struct {
        const char      *path;
        enum graph_stage stage;
        bool             planned;
    } texts[] = {
        {GOLDEN "llama.graph.txt", STAGE_ARCH, false},
        {GOLDEN "llama.resolve.txt", STAGE_RESOLVED, false},
        {GOLDEN "llama.fuse.txt", STAGE_FUSED, false},
        {GOLDEN "llama.plan.txt", STAGE_FUSED, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        char  *text = NULL;
        size_t size;
        FILE  *stream = open_memstream(&text, &size);
        taken  t = take(DEMO, "", texts[i].stage);
        if (texts[i].planned) {
            take_plan(&t, find_isa("avx2"), 512, 256);
            plan_print(t.plan, stream);
        } else {
            graph_print(t.graph, stream);
        }
        assert_int_equal(fclose(stream), 0);
        compare_text(texts[i].path, text);
        free(text);
        release(&t);
    }
}

/* ---- names */

static const value *find_output(const graph *g, const char *name) {
    for (uint32_t i = 0; i < g->n_ops; i++)
        if (!strcmp(g->ops[i]->out->name, name)) return g->ops[i]->out;
    return NULL;
}

/* What is there afterwards was there before, by the same name and of the same shape. */
static void check_names(const graph *before, const graph *after) {
    assert_string_equal(before->output->name, after->output->name);
    for (uint32_t i = 0; i < after->n_ops; i++) {
        const op    *o = after->ops[i];
        const value *was = find_output(before, o->out->name);
        assert_non_null(was);
        assert_string_equal(o->name, o->out->name);
        assert_int_equal(was->type, o->out->type);
        assert_memory_equal(was->ne, o->out->ne, sizeof was->ne);
        for (uint32_t k = 0; k < i; k++) assert_string_not_equal(o->name, after->ops[k]->name);
    }
}

static void resolving_keeps_every_name(const graph *before, const graph *after) {
    for (uint32_t i = 0; i < before->n_ops; i++)
        assert_non_null(find_output(after, before->ops[i]->out->name));
}

/* ---- what calls read and write */

typedef struct accesses {
    const value *reads[OP_MAX_INPUTS + 3], *writes[3];
    uint32_t     n_reads, n_writes;
} accesses;

static accesses accesses_of(const op *o) {
    accesses a = {.n_reads = o->n_in};
    memcpy(a.reads, o->in, o->n_in * sizeof *a.reads);
    a.reads[a.n_reads++] = o->fused.bias;
    a.reads[a.n_reads++] = o->fused.residual;
    a.reads[a.n_reads++] = o->fused.rope;
    if (!o->fused.drop_out) a.writes[a.n_writes++] = o->out;
    if (o->fused.cache) a.writes[a.n_writes++] = o->fused.cache;
    if (o->fused.quantized) a.writes[a.n_writes++] = o->fused.quantized;
    return a;
}

static bool reads_value(const op *o, const value *v) {
    accesses a = accesses_of(o);
    for (uint32_t i = 0; i < a.n_reads; i++)
        if (a.reads[i] == v) return true;
    return false;
}

static bool writes_value(const op *o, const value *v) {
    accesses a = accesses_of(o);
    for (uint32_t i = 0; i < a.n_writes; i++)
        if (a.writes[i] == v) return true;
    return false;
}

/* Body and head one after the other. */
typedef struct calls {
    const plan_call *items[4096];
    uint32_t         n;
} calls;

static void list_calls(calls *c, const plan *p) {
    c->n = 0;
    assert_true(p->n_body + p->n_head <= ARRAY_LEN(c->items) && p->n_body && p->n_head);
    /* Evaluating a list ends with all threads meeting, which is as good as a barrier. */
    p->body[p->n_body - 1].barrier = p->head[p->n_head - 1].barrier = true;
    p->body[p->n_body - 1].barrier_one = p->head[p->n_head - 1].barrier_one = true;
    for (uint32_t i = 0; i < p->n_body; i++) c->items[c->n++] = &p->body[i];
    for (uint32_t i = 0; i < p->n_head; i++) c->items[c->n++] = &p->head[i];
}

/* ---- barriers: between a write and each read of it there is one, but for one token what threads made themselves */

static bool is_elementwise(const op *o) {
    return o->kind != OP_MATMUL && o->kind != OP_GLU_MATMUL && o->kind != OP_ATTENTION;
}

static void check_barriers(const calls *c, bool one) {
    for (uint32_t w = 0; w < c->n; w++) {
        accesses a = accesses_of(c->items[w]->op);
        if (c->items[w]->each) assert_true(is_elementwise(c->items[w]->op));
        if (c->items[w]->barrier_one) assert_true(c->items[w]->barrier);
        for (uint32_t k = 0; k < a.n_writes; k++) {
            bool visible = one && c->items[w]->each;
            assert_int_equal(c->items[w]->each, a.writes[k]->each);
            for (uint32_t r = w; r < c->n; r++) {
                if (!visible && reads_value(c->items[r]->op, a.writes[k]))
                    fail_msg("no barrier between %s and %s, which reads %s",
                             c->items[w]->op->name, c->items[r]->op->name, a.writes[k]->name);
                visible = visible || (one ? c->items[r]->barrier_one : c->items[r]->barrier);
            }
        }
    }
}

/* Attention and caches know nothing of rows of a thread's. */
static void check_each(const calls *c, const plan *p, const graph *g) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n; i++) {
        const op *o = c->items[i]->op;
        n += c->items[i]->each;
        if (c->items[i]->each) assert_true(value_count(o->out) <= 16384 && o->out != g->output);
        for (uint32_t k = 0; o->kind == OP_ATTENTION && k < o->n_in; k++) assert_true(!o->in[k] || !o->in[k]->each);
        if (o->kind == OP_KV_STORE || o->fused.cache) assert_false(c->items[i]->each);
    }
    assert_true(p->n_batch > 1 ? n > 0 : n == 0);
}

static uint32_t count_barriers(const calls *c, bool one) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n; i++) n += one ? c->items[i]->barrier_one : c->items[i]->barrier;
    return n;
}

/* Calls split together: their units stand one after another, are as large, and no barrier parts them. */
static void check_shares(const calls *c) {
    for (uint32_t i = 0; i < c->n; i++) {
        const plan_call *call = c->items[i], *next = i + 1 < c->n ? c->items[i + 1] : NULL;
        if (!call->after) continue;
        assert_true(next && !call->barrier && next->before == call->before + call->units);
        assert_true(next->per_token == call->per_token && next->rows == call->rows);
        const op *a = call->op, *b = next->op;
        assert_int_equal(a->kind, b->kind);
        if (a->kind == OP_MATMUL) assert_true(a->in[0]->type == b->in[0]->type && a->in[0]->ne[0] == b->in[0]->ne[0]);
        if (is_elementwise(a)) assert_int_equal(value_count(a->out), value_count(b->out));
        assert_int_equal(call->before + call->units + call->after, next->before + next->units + next->after);
    }
}

/* The work of products is the number of their weights, of those split together all of these; attention's grows with
   the context, what merges its ranges takes less. */
static void check_work(const calls *c, const plan *p) {
    uint64_t weights = 0;
    for (uint32_t i = 0; i < c->n; i++) {
        const plan_call *call = c->items[i];
        const op        *o = call->op;
        if (o->kind == OP_ATTENTION && call->step != PLAN_MERGE)
            assert_int_equal(call->work, value_count(o->in[0]) * p->n_ctx);
        if (call->step == PLAN_MERGE) assert_in_range(call->work, 1, c->items[i - 1]->work / 4);
        if (!call->before) weights = 0;
        for (uint32_t k = 0; k < o->n_in; k++)
            if (o->in[k] && o->in[k]->kind == VALUE_WEIGHT) weights += value_count(o->in[k]);
        if (call->after) assert_int_equal(call->work, c->items[i + 1]->work);
        if (!is_elementwise(o) && o->kind != OP_ATTENTION && !call->after) assert_int_equal(call->work, weights);
    }
}

/* ---- the arena: between barriers of both kinds of lists, what is needed is where nothing else is written */

typedef struct place {
    const value *v;
    uint64_t     from, to;
    uint32_t     first, last; /* stages */
} place;

static uint32_t find_places(const calls *c, const taken *t, place *all) {
    uint32_t n = 0, stage = 0, last_stage = 0;
    for (uint32_t i = 0; i < c->n; i++) last_stage += i + 1 < c->n && c->items[i]->barrier_one;
    for (uint32_t i = 0; i < c->n; stage += c->items[i++]->barrier_one) {
        accesses a = accesses_of(c->items[i]->op);
        for (uint32_t k = 0; k < a.n_writes; k++) {
            const value *v = a.writes[k];
            if (v->kind != VALUE_ACTIVATION) continue;
            uint64_t rows = plan_value_tokens(t->plan, v);
            place    p = {v, v->offset, v->offset + v->stride * rows, stage, stage};
            uint32_t s = stage;
            for (uint32_t r = i; r < c->n; s += c->items[r++]->barrier_one)
                if (reads_value(c->items[r]->op, v)) p.last = s;
            /* The head runs again for other tokens of the batch. */
            if (v == t->graph->head_input) p.last = last_stage;
            if (v == t->graph->output) p.last = last_stage;
            all[n++] = p;
        }
    }
    return n;
}

static void check_place(const place *p, uint64_t arena_bytes, const isa *target) {
    uint64_t count = value_count(p->v), least = 4 * count;
    if (p->v->type != QUANT_F32) least = isa_activation_layout(target, p->v->type, count).bytes;
    if (p->from % 64 || p->v->stride % 64 || p->v->stride < least || p->to > arena_bytes)
        fail_msg("%s is badly placed: at %llu, %llu bytes a token", p->v->name,
                 (unsigned long long)p->from, (unsigned long long)p->v->stride);
}

static void check_arena(const calls *c, const taken *t, const isa *target) {
    place   *all = arena_array(t->memory, 3ull * c->n, sizeof *all);
    uint32_t n = find_places(c, t, all);
    uint64_t most = 0;
    assert_true(n > 3);
    for (uint32_t i = 0; i < n; i++) {
        check_place(&all[i], t->plan->arena_bytes, target);
        most = all[i].to > most ? all[i].to : most;
        for (uint32_t k = 0; k < i; k++) {
            const place *a = &all[i], *b = &all[k];
            bool at_once = a->first <= b->last && b->first <= a->last;
            if (at_once && a->from < b->to && b->from < a->to)
                fail_msg("%s and %s are in one place at one time", a->v->name, b->v->name);
        }
    }
    assert_int_equal(most, t->plan->arena_bytes);
}

/* ---- the key-value memory, and units */

static uint64_t cache_end(const value *v, const plan *p) {
    return v->offset + v->stride * v->ne[1] * p->n_ctx_padded;
}

static void check_caches(const graph *g, const calls *c, const plan *p) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < g->n_values; i++) {
        const value *a = g->values[i];
        uint32_t     writers = 0;
        if (a->kind != VALUE_CACHE) continue;
        n++;
        for (uint32_t k = 0; k < c->n; k++) writers += writes_value(c->items[k]->op, a);
        assert_int_equal(writers, 1);
        assert_true(a->offset % 64 == 0 && a->stride == 2 * a->ne[0]);
        assert_true(cache_end(a, p) <= p->kv_bytes);
        for (uint32_t k = 0; k < i; k++) {
            const value *b = g->values[k];
            if (b->kind != VALUE_CACHE) continue;
            if (a->offset < cache_end(b, p) && b->offset < cache_end(a, p))
                fail_msg("%s and %s are in one place", a->name, b->name);
        }
    }
    assert_int_equal(n, 2 * g->n_layer);
    assert_true(p->n_ctx_padded >= p->n_ctx);
}

static void check_units(const calls *c) {
    for (uint32_t i = 0; i < c->n; i++) {
        const plan_call *call = c->items[i];
        const op        *o = call->op;
        bool product = o->kind == OP_MATMUL || o->kind == OP_GLU_MATMUL;
        assert_true(call->units >= 1);
        if (!product) continue;
        uint64_t m = o->in[0]->ne[1], covered = (uint64_t)call->units * call->rows;
        uint32_t block = o->fused.quantized ? quant_find(o->fused.quantized->type)->block_len : 1;
        assert_true(call->rows <= m && covered >= m && covered - m < call->rows);
        assert_int_equal(call->rows % block, 0);
        if (o->fused.rope || o->fused.cache) assert_int_equal(call->rows % o->params.head_dim, 0);
        if (o->fused.rope || o->fused.cache || block > 1) assert_int_equal(covered, m);
    }
}

/* ---- any model */

static void check_model(const char *gguf, const char *text) {
    static const struct {
        uint32_t n_ctx, n_batch;
    } sizes[] = {{300, 256}, {77, 13}, {1, 1}};
    static calls all;
    taken raw = take(gguf, text, STAGE_ARCH), resolved = take(gguf, text, STAGE_RESOLVED);
    resolving_keeps_every_name(raw.graph, resolved.graph);
    for (const isa *const *row = isa_rows; *row; row++)
        for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
            taken t = take(gguf, text, STAGE_FUSED);
            check_names(resolved.graph, t.graph);
            assert_true(t.graph->n_ops < resolved.graph->n_ops);
            take_plan(&t, *row, sizes[i].n_ctx, sizes[i].n_batch);
            list_calls(&all, t.plan);
            assert_int_equal(all.n, t.graph->n_ops);
            check_barriers(&all, false);
            check_barriers(&all, true);
            check_each(&all, t.plan, t.graph);
            check_work(&all, t.plan);
            check_shares(&all);
            check_arena(&all, &t, *row);
            check_caches(t.graph, &all, t.plan);
            check_units(&all);
            release(&t);
        }
    release(&raw);
    release(&resolved);
}

static void demo_model_holds_together(void **state) {
    (void)state;
    check_model(DEMO, "");
}

/* A layer waits five times in place of seven, and Q, V and K are shared out as one. */
static void one_token_waits_less(void **state) {
    (void)state;
    enum { LAYERS = 4 };
    static calls all;
    taken t = take(DEMO, "", STAGE_FUSED);
    take_plan(&t, isa_rows[0], 300, 256);
    list_calls(&all, t.plan);
    assert_int_equal(count_barriers(&all, false), 1 + 7 * LAYERS + 2);
    assert_int_equal(count_barriers(&all, true), 5 * LAYERS + 1);
    for (uint32_t i = 0; i < all.n; i++) {
        const plan_call *c = all.items[i];
        uint32_t         together = c->before + c->units + c->after;
        if (c->op->fused.rope || c->op->fused.cache) assert_int_equal(together, 16);
    }
    release(&t);
}

static void odd_models_hold_together(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(odd_models); i++)
        check_model(odd_model_make(&odd_models[i], i), odd_models[i].text);
}

/* 592 rows are 18.5 units of 32, or 37 of 16: --pack takes these, for the others do not divide them. */
static void packed_weights_have_whole_units(void **state) {
    (void)state;
    static const odd_model rows_592 = {
        .name = "592 rows",
        .shape = "--layers 1 --embd 64 --heads 2 --kv-heads 1 --ff 592 --vocab 592 --ctx 64 --untied",
    };
    taken        t = take(odd_model_make(&rows_592, 200), "", STAGE_FUSED);
    plan_options options = {.n_ctx = 64, .n_batch = 8, .pack = true};
    t.plan = pass_plan(t.graph, find_isa("avx512-vnni"), &options);
    uint32_t n = 0;
    for (uint32_t i = 0; i < t.graph->n_values; i++) {
        const value *v = t.graph->values[i];
        if (v->kind != VALUE_WEIGHT || v->type != QUANT_Q8_0 || v->ne[1] != 592) continue;
        if (v->packed) assert_int_equal(v->packed_rows, 16);
        n += v->packed;
    }
    assert_int_equal(n, 3); /* gate, up, output */
    release(&t);
}

/* ---- pass_check ends the process when a graph is broken */

static void swap_first_ops(graph *g) {
    op *first = g->ops[0];
    g->ops[0] = g->ops[1];
    g->ops[1] = first;
}

static void drop_last_op(graph *g) {
    g->n_ops--;
}

static void repeat_first_op(graph *g) {
    g->ops[1] = g->ops[0];
}

static void make_norm_longer(graph *g) {
    g->ops[1]->out->ne[0]++;
}

static void read_cache_for_norm(graph *g) {
    g->ops[1]->in[0] = graph_add_value(g, VALUE_CACHE, "cache");
}

static void make_head_of_body(graph *g) {
    g->ops[0]->head = true;
}

static void fuse_too_early(graph *g) {
    g->ops[1]->fused.drop_out = true;
}

static void (*const breaks[])(graph *g) = {
    swap_first_ops,      drop_last_op,      repeat_first_op, make_norm_longer,
    read_cache_for_norm, make_head_of_body, fuse_too_early,
};

static void broken_graphs_are_our_bugs(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(breaks); i++) {
        int   status = 0;
        taken t = take(DEMO, "", STAGE_ARCH);
        breaks[i](t.graph);
        fflush(NULL);
        pid_t child = fork();
        if (!child) {
            signal(SIGABRT, SIG_DFL);
            if (!freopen("/dev/null", "w", stderr)) _exit(2);
            pass_check(t.graph, STAGE_ARCH);
            _exit(0);
        }
        assert_true(child > 0 && waitpid(child, &status, 0) == child);
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT)
            fail_msg("a graph broken in way %zu was accepted", i);
        release(&t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_texts),
        cmocka_unit_test(demo_model_holds_together),
        cmocka_unit_test(one_token_waits_less),
        cmocka_unit_test(odd_models_hold_together),
        cmocka_unit_test(packed_weights_have_whole_units),
        cmocka_unit_test(broken_graphs_are_our_bugs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
