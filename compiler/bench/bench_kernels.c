/* Kernel by kernel. A pass over the model is timed call by call where it stands in the model, so that
 * weights are as cold and inputs as warm as they are in life, and each kernel's calls are added up. The
 * interpreted model is timed in the same way; its calls are added to the kernel that makes the value that
 * they make, or that a value stands for which fusion did away with. */
#include "bench_parts.h"

#include <inttypes.h>
#include <string.h>

#define NONE UINT32_MAX

enum {
    GENERATED_PASSES = 3, INTERPRETED_PASSES = 2, USUAL_PASSES = 60, /* at least, and at most */
    POSITION = 64,     /* where a token is generated, after the depth */
    MOST_NAMES = 2,    /* of a kernel's values */
};

static const double passes_ns = 2e9;      /* of all passes, once there are enough */
static const double interpreted_ns = 1.5e9; /* of an interpreted pass over a prompt, at most */

/* To which rows the time of a call belongs, half of it to each where there are two. */
typedef struct owner {
    uint32_t row[2];
    uint32_t n;
} owner;

/* A list of calls, its body's and its head's, and the rows that they are added up to; the last is for
   what belongs to none. */
typedef struct timing {
    bench     *b;
    bool       prefill;
    uint32_t   n_calls;
    owner     *owners;  /* by call */
    uint64_t  *ns;      /* by call, of a pass */
    uint32_t   n_rows, n_passes;
    bool       skips; /* to where it begins, without evaluating what comes before */
    double    *sums[BENCH_MOST_RUNS]; /* by row, of each pass */
    double    *medians;
    double     whole; /* of passes without a look at the clock */
    double     clock_ns;
} timing;

/* ---- what kernels there are */

static const ggufc_call *call_at(const ggufc_model *m, bool prefill, uint32_t i) {
    const ggufc_calls *body = prefill ? &m->prefill : &m->decode;
    return i < body->count ? &body->calls[i] : &m->head.calls[i - body->count];
}

static const plan_call *planned_at(const plan *p, uint32_t i) {
    return i < p->n_body ? &p->body[i] : &p->head[i - p->n_body];
}

static const op *op_at(const plan *p, uint32_t i) {
    return planned_at(p, i)->op;
}

/* What merges ranges of attention adds nothing to the work of the call before it, which is all of the op's. */
static bench_cost cost_of_call(const plan *p, uint32_t i, uint32_t n_tokens, uint32_t position) {
    if (planned_at(p, i)->step == PLAN_MERGE) return (bench_cost){ 0 };
    return bench_cost_of_op(op_at(p, i), n_tokens, position);
}

static uint32_t count_calls(const ggufc_model *m, bool prefill) {
    return (uint32_t)((prefill ? m->prefill.count : m->decode.count) + m->head.count);
}

/* "Qcur-0.rope" without its layer: "Qcur.rope". */
static const char *name_without_layer(arena *a, const op *o) {
    const char *layer = o->layer < 0 ? "" : arena_printf(a, "-%d", o->layer);
    for (const char *at = *layer ? strstr(o->name, layer) : NULL; at; at = strstr(at + 1, layer)) {
        const char *end = at + strlen(layer);
        if (!*end || *end == '.') return arena_printf(a, "%.*s%s", (int)(at - o->name), o->name, end);
    }
    return o->name;
}

static const char *parts_text(arena *a, const op *o) {
    const struct {
        const value *v;
        const char  *name;
    } parts[] = {
        { o->fused.bias, "bias" },   { o->fused.rope, "rope" },           { o->fused.residual, "residual" },
        { o->fused.cache, "cache" }, { o->fused.quantized, "quantize" },
    };
    const char *text = "";
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        if (parts[i].v) text = arena_printf(a, "%s + %s", text, parts[i].name);
    return text;
}

static const char *what_text(arena *a, const op *o) {
    const char *name = op_infos[o->kind].name, *parts = parts_text(a, o);
    unsigned long long n = value_count(o->out), d = o->params.head_dim;
    const uint64_t *ne = o->in[0] ? o->in[0]->ne : o->out->ne;
    switch (o->kind) {
    case OP_MATMUL:
    case OP_GLU_MATMUL:
        return arena_printf(a, "%s %s %" PRIu64 " → %" PRIu64 "%s", name, quant_find(o->in[0]->type)->name,
                            ne[0], ne[1], parts);
    case OP_ATTENTION:
        return arena_printf(a, "%s %llu heads of %llu, %" PRIu64 " kv%s", name, n / d, d, o->in[1]->ne[1],
                            parts);
    default: return arena_printf(a, "%s %llu%s", name, n, parts);
    }
}

/* Whether `name` is in a list of names. */
static bool lists(const char *list, const char *name) {
    size_t n = strlen(name);
    for (const char *at = strstr(list, name); at; at = strstr(at + 1, name))
        if ((at == list || at[-1] == ' ') && (!at[n] || at[n] == ',')) return true;
    return false;
}

static void add_name(arena *a, bench_kernel *k, uint32_t *n_names, const char *name) {
    if (lists(k->name, name)) return;
    if (*n_names < MOST_NAMES)
        k->name = arena_printf(a, "%s%s%s", k->name, *n_names ? ", " : "", name);
    else if (*n_names == MOST_NAMES)
        k->name = arena_printf(a, "%s, …", k->name);
    ++*n_names;
}

static bench_kernel *new_row(const timing *t, const bench_pass *pass, const op *o, const char *what) {
    bench_kernel *k = ARENA_NEW(t->b->memory, bench_kernel);
    *k = (bench_kernel){
        .limits = t->b->limits, .prefill = t->prefill, .head = o->head, .n_tokens = pass->n_tokens,
        .name = "", .what = what,
    };
    return k;
}

/* Makes a row of the report for each kernel of the list, and says which call is whose. The same code may
   be called for more rows of a weight, or fewer: that is another row of the report. */
static bench_kernel **find_kernels(timing *t, const bench_pass *pass, const engine *e) {
    arena         *a = t->b->memory;
    const plan    *p = e->compilation.variant->plan;
    bench_kernel **rows = ARENA_ARRAY(a, bench_kernel *, t->n_calls);
    ggufc_kernel **kernels = ARENA_ARRAY(a, ggufc_kernel *, t->n_calls);
    uint32_t      *names = ARENA_ARRAY(a, uint32_t, t->n_calls);
    if (t->n_calls != p->n_body + p->n_head) bug("%u calls for %u ops", t->n_calls, p->n_body + p->n_head);
    for (uint32_t i = 0; i < t->n_calls; i++) {
        const op     *o = op_at(p, i);
        ggufc_kernel *kernel = call_at(&e->model, t->prefill, i)->kernel;
        bench_cost    c = cost_of_call(p, i, pass->n_tokens, pass->position);
        uint32_t      k = 0;
        const char   *what = what_text(a, o);
        if (planned_at(p, i)->step == PLAN_MERGE) what = arena_printf(a, "%s: ranges merged", what);
        while (k < t->n_rows && (kernels[k] != kernel || strcmp(rows[k]->what, what))) k++;
        if (k == t->n_rows) {
            kernels[t->n_rows++] = kernel;
            rows[k] = new_row(t, pass, o, what);
        }
        add_name(a, rows[k], &names[k], name_without_layer(a, o));
        bench_cost_add(&rows[k]->cost, &c, 1);
        rows[k]->n_calls++;
        t->owners[i] = (owner){ { k, NONE }, 1 };
    }
    return rows;
}

/* ---- whose an interpreted call is */

static uint32_t call_of_op(const plan *p, const op *o) {
    for (uint32_t i = 0; i < p->n_body + p->n_head; i++)
        if (op_at(p, i) == o) return i;
    return NONE;
}

static bool reads(const op *o, const value *v) {
    for (uint32_t i = 0; i < o->n_in; i++)
        if (o->in[i] == v) return true;
    return o->fused.bias == v;
}

/* The call that makes a value, or would if fusion had not made it needless: then another op reads the
   weights of which it was made. */
static uint32_t call_of_value(const plan *p, const value *v) {
    const op *o = v->producer;
    uint32_t  at = o ? call_of_op(p, o) : NONE;
    if (!o || at != NONE) return at;
    for (uint32_t k = 0; k < o->n_in; k++) {
        if (!o->in[k] || o->in[k]->kind != VALUE_WEIGHT) continue;
        for (uint32_t i = 0; i < p->n_body + p->n_head; i++)
            if (reads(op_at(p, i), o->in[k])) return i;
    }
    return NONE;
}

static const value *find_value(const graph *g, const char *name) {
    for (uint32_t i = 0; i < g->n_values; i++)
        if (!strcmp(g->values[i]->name, name)) return g->values[i];
    return NULL;
}

static void add_owner(timing *t, owner *to, const owner *of_calls, const char *name) {
    const compilation *c = &t->b->sides[BENCH_PLAIN].engine.compilation;
    const value *v = find_value(c->graph, name);
    uint32_t     call = v ? call_of_value(c->variant->plan, v) : NONE;
    to->row[to->n++] = call == NONE ? t->n_rows : of_calls[call].row[0];
}

/* The calls of the compiled model are `of_calls`. What has no name of its own is called as the resolve
   pass calls it. */
static owner owner_of_interpreted(timing *t, const owner *of_calls, const ggufc_call *call) {
    arena    *a = t->b->memory;
    const op *o = interp_call_owner(call);
    owner     found = { { NONE, NONE }, 0 };
    if (interp_call_op(call)) {
        add_owner(t, &found, of_calls, o->out->name);
    } else if (o->kind == OP_ATTENTION) {
        add_owner(t, &found, of_calls, arena_printf(a, "cache_k-%d", o->layer));
        add_owner(t, &found, of_calls, arena_printf(a, "cache_v-%d", o->layer));
    } else {
        const quant_info *form = quant_find(quant_find(o->in[0]->type)->activation);
        add_owner(t, &found, of_calls, arena_printf(a, "%s.%s", o->in[1]->name, form->name));
    }
    return found;
}

/* ---- timing */

/* What a look at the clock adds to the time between two. */
static double clock_cost(void) {
    enum { LOOKS = 200 };
    double ns[LOOKS];
    for (int i = 0; i < LOOKS; i++) {
        uint64_t begin = bench_clock_ns();
        ns[i] = (double)(bench_clock_ns() - begin);
    }
    return bench_median(ns, LOOKS);
}

static timing timing_begin(bench *b, const ggufc_model *m, bool prefill) {
    uint32_t n = count_calls(m, prefill);
    return (timing){
        .b = b, .prefill = prefill, .n_calls = n, .clock_ns = clock_cost(),
        .owners = ARENA_ARRAY(b->memory, owner, n), .ns = ARENA_ARRAY(b->memory, uint64_t, n),
    };
}

static void add_up(timing *t, double *sums) {
    for (uint32_t i = 0; i < t->n_calls; i++) {
        double ns = (double)t->ns[i] - t->clock_ns;
        for (uint32_t k = 0; ns > 0 && k < t->owners[i].n; k++)
            sums[t->owners[i].row[k]] += ns / t->owners[i].n;
    }
}

static bool go_to(const timing *t, ggufc_session *s, uint32_t position) {
    ggufc_error error;
    return t->skips ? bench_check(t->b, session_skip(s, position, &error), &error)
                    : bench_fill(t->b, s, position);
}

static bool one_pass(timing *t, ggufc_session *s, uint32_t position, uint32_t n_tokens, double *whole) {
    bench      *b = t->b;
    ggufc_error error;
    if (bench_stopped(b) || !go_to(t, s, position)) return false;
    if (!bench_check(b, session_time_calls(s, b->tokens + position, n_tokens, t->ns, &error), &error))
        return false;
    if (!whole) return true;
    uint64_t begin = bench_clock_ns();
    bool ok = bench_prefill(b, s, position, n_tokens);
    *whole = (double)(bench_clock_ns() - begin);
    return ok;
}

/* Passes over n_tokens tokens, at least `least`; the first does not count. */
static bool time_passes(timing *t, ggufc_session *s, uint32_t position, uint32_t n_tokens, uint32_t least,
                        bool whole) {
    double   wholes[BENCH_MOST_RUNS];
    if (!go_to(t, s, position)) return false;
    uint64_t begin = bench_clock_ns();
    if (!one_pass(t, s, position, n_tokens, NULL)) return false;
    double each_ns = (double)(bench_clock_ns() - begin) * (whole ? 2 : 1);
    t->n_passes = bench_runs(t->b, each_ns, passes_ns, least, USUAL_PASSES);
    for (uint32_t i = 0; i < t->n_passes; i++) {
        t->sums[i] = ARENA_ARRAY(t->b->memory, double, t->n_rows + 1);
        if (!one_pass(t, s, position, n_tokens, whole ? &wholes[i] : NULL)) return false;
        add_up(t, t->sums[i]);
    }
    if (whole) t->whole = bench_median(wholes, t->n_passes);
    t->medians = ARENA_ARRAY(t->b->memory, double, t->n_rows + 1);
    for (uint32_t row = 0; row <= t->n_rows; row++) {
        double ns[BENCH_MOST_RUNS];
        for (uint32_t i = 0; i < t->n_passes; i++) ns[i] = t->sums[i][row];
        t->medians[row] = bench_median(ns, t->n_passes);
    }
    return true;
}

/* ---- a list */

/* The rows' work, as much of it as is interpreted. */
static void add_interpreted_cost(const bench *b, const bench_pass *pass, bench_kernel **rows,
                                 const owner *of_calls) {
    const plan *p = b->sides[BENCH_PLAIN].engine.compilation.variant->plan;
    for (uint32_t i = 0; i < p->n_body + p->n_head; i++) {
        bench_cost c = cost_of_call(p, i, pass->interpreted_tokens, pass->interpreted_position);
        bench_cost_add(&rows[of_calls[i].row[0]]->interpreted, &c, 1);
    }
}

static bool time_interpreted(bench *b, bench_pass *pass, bench_kernel **rows, const timing *generated) {
    bench_side *side = &b->sides[BENCH_INTERPRETED];
    timing      t = timing_begin(b, &side->engine.model, pass->prefill);
    t.n_rows = generated->n_rows;
    t.skips = true;
    if (!bench_goes_on(b, "interpreted, %u tokens, %u threads", pass->interpreted_tokens,
                       b->limits->n_threads))
        return false;
    for (uint32_t i = 0; i < t.n_calls; i++) {
        const ggufc_call *call = call_at(&side->engine.model, t.prefill, i);
        t.owners[i] = owner_of_interpreted(&t, generated->owners, call);
    }
    if (!time_passes(&t, side->session, pass->interpreted_position, pass->interpreted_tokens,
                     INTERPRETED_PASSES, false))
        return false;
    for (uint32_t k = 0; k < t.n_rows; k++) {
        rows[k]->interpreted_ns = t.medians[k];
        rows[k]->interpreted_tokens = pass->interpreted_tokens;
    }
    add_interpreted_cost(b, pass, rows, generated->owners);
    pass->unpaired = t.medians[t.n_rows];
    return true;
}

static bool measure_list(bench *b, const bench_pass *asked) {
    bench_report *r = b->report;
    const engine *e = &b->sides[BENCH_PLAIN].engine;
    bench_pass   *pass = ARENA_NEW(b->memory, bench_pass);
    timing        t = timing_begin(b, &e->model, asked->prefill);
    *pass = *asked;
    if (!bench_goes_on(b, "kernels, %u tokens, %u threads", pass->n_tokens, b->limits->n_threads))
        return false;
    ggufc_session *s = b->sides[BENCH_PLAIN].session;
    bench_kernel **rows = find_kernels(&t, pass, e);
    if (!time_passes(&t, s, pass->position, pass->n_tokens, GENERATED_PASSES, true)) return false;
    pass->ns = t.whole;
    for (uint32_t k = 0; k < t.n_rows; k++) pass->kernels += rows[k]->ns = t.medians[k];
    if (!time_interpreted(b, pass, rows, &t)) return false;

    for (uint32_t k = 0; k < t.n_rows; k++) {
        bench_kernel **row = arena_push(b->memory, (void **)&r->rows, &r->n_rows, &r->cap_rows, sizeof *row);
        *row = rows[k];
    }
    bench_pass **to = arena_push(b->memory, (void **)&r->passes, &r->n_passes, &r->cap_passes, sizeof *to);
    *to = pass;
    return true;
}

/* How many tokens can be interpreted before it takes long; at least one. */
static bool count_interpreted(const bench *b, uint32_t *most) {
    ggufc_session *s = b->sides[BENCH_INTERPRETED].session;
    double         ns = 0;
    for (int i = 0; i < 2; i++) { /* the second time all is there */
        uint64_t begin = bench_clock_ns();
        if (!bench_decode(b, s, 0, 1)) return false;
        ns = (double)(bench_clock_ns() - begin);
    }
    *most = bench_how_often(ns, interpreted_ns, 1, GGUFC_MAX_TOKENS);
    return true;
}

static uint32_t at_most(uint32_t n, uint32_t most) {
    return n < most ? n : most;
}

/* A batch of one is no prefill. Where fewer tokens are interpreted they are those in the middle, for which
   attention has as much to do as it has for all on average. */
static bool measure_prefill(bench *b, uint32_t depth) {
    uint32_t n = at_most(at_most(b->options->prompts.at[0], b->report->n_batch), b->report->n_ctx - depth);
    uint32_t interpreted;
    if (n < 2) return true;
    if (!count_interpreted(b, &interpreted)) return false;
    interpreted = at_most(n, interpreted < 2 ? 2 : interpreted);
    return measure_list(b, &(bench_pass){
        .limits = b->limits, .prefill = true, .n_tokens = n, .position = depth,
        .interpreted_tokens = interpreted, .interpreted_position = depth + (n - interpreted) / 2,
    });
}

bool bench_measure_kernels(bench *b) {
    uint32_t depth = b->options->depths.at[0], position = depth + POSITION;
    if (position > b->report->n_ctx - 1) position = b->report->n_ctx - 1;
    if (b->options->generations.at[0] && !measure_list(b, &(bench_pass){
            .limits = b->limits, .n_tokens = 1, .position = position,
            .interpreted_tokens = 1, .interpreted_position = position }))
        return false;
    return measure_prefill(b, depth);
}
