/* Which mistake makes the graph compute what the suspect has.
 *
 * Between the suspect's nearest values and the op that is wrong there is a segment of the graph: the
 * op alone, where its inputs were recorded; a whole layer, where only layers' outputs were. It is
 * evaluated from those values, once for each mistake and each op of the segment that it can be made
 * at, and once for all of them together. For tokens that the suspect has nothing of, the segment's
 * inputs are what the graph makes of what it has. */
#include "comparison.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TRIALS   400 /* of a long segment */
#define MAX_REPORTED 24
#define TOGETHER     UINT32_MAX

typedef struct hypotheses {
    comparison       *c;
    side             *suspect;
    side              given; /* a recording: the segment's inputs, and what the suspect has of the target */
    uint32_t          target; /* the op that is wrong */
    enum interp_role *roles;  /* of the segment, by op */
    double            tolerance;
    compare_hypothesis *trials;
    uint32_t            n_trials;
} hypotheses;

/* ---- the segment */

/* Whether the suspect has the whole of an op's value, be it for one token. */
static bool is_given(const hypotheses *h, uint32_t at) {
    if (!h->suspect->recording) return true;
    for (uint32_t t = 0; t < h->c->n_tokens; t++)
        if (side_full_row(h->suspect, at, t)) return true;
    return false;
}

static uint32_t position(const graph *g, const op *o) {
    for (uint32_t i = 0; i < g->n_ops; i++)
        if (g->ops[i] == o) return i;
    bug("%s is not in the graph", o->name);
}

/* Ops are in order of execution: one walk back from the target marks what it needs. */
static void find_segment(hypotheses *h) {
    const graph *g = h->c->g;
    h->roles = ARENA_ARRAY(h->c->memory, enum interp_role, g->n_ops);
    bool *needed = ARENA_ARRAY(h->c->memory, bool, g->n_ops);
    needed[h->target] = true;
    for (uint32_t i = 0; i < g->n_ops; i++) h->roles[i] = INTERP_LEFT_OUT;
    for (uint32_t i = h->target + 1; i-- > 0;) {
        if (!needed[i]) continue;
        h->roles[i] = i != h->target && is_given(h, i) ? INTERP_GIVEN : INTERP_COMPUTED;
        if (h->roles[i] == INTERP_GIVEN) continue;
        for (uint32_t k = 0; k < g->ops[i]->n_in; k++) {
            const value *v = g->ops[i]->in[k];
            if (v && v->kind == VALUE_ACTIVATION) needed[position(g, v->producer)] = true;
        }
    }
}

/* ---- what is given */

static recorded_value *add_value(hypotheses *h, recording *r, uint32_t at) {
    comparison     *c = h->c;
    recorded_value *v = &r->values[r->n_values++];
    *v = (recorded_value){ .name = c->g->ops[at]->out->name, .source = h->suspect->name };
    v->columns = ARENA_ARRAY(c->memory, recorded_column, c->n_tokens);
    return v;
}

static void add_column(hypotheses *h, recorded_value *v, uint32_t token, const float *row, uint64_t n) {
    float *copy = ARENA_ARRAY(h->c->memory, float, n);
    memcpy(copy, row, n * sizeof *row);
    v->n = n;
    v->columns[v->n_columns++] = (recorded_column){ token, copy };
}

/* Rows of tokens first … first + n - 1: the suspect's, of the segment's inputs else the filler's. */
static void take_rows(hypotheses *h, recording *r, const side *filler, uint32_t first, uint32_t n) {
    uint32_t k = 0;
    for (uint32_t at = 0; at <= h->target; at++) {
        if (at != h->target && h->roles[at] != INTERP_GIVEN) continue;
        recorded_value *v = &r->values[k++];
        for (uint32_t t = first; t < first + n; t++) {
            uint64_t     count;
            const float *row = side_row(h->suspect, at, t, &count);
            if (at != h->target && !side_full_row(h->suspect, at, t)) row = side_row(filler, at, t, &count);
            if (row) add_column(h, v, t, row, count);
        }
    }
}

/* The filler is the graph forced by the suspect: it has what the suspect has not. */
static bool gather(hypotheses *h) {
    comparison *c = h->c;
    side        filler = { .name = "a hypothesis" };
    recording  *r = ARENA_NEW(c->memory, recording);
    r->values = ARENA_ARRAY(c->memory, recorded_value, h->target + 1);
    for (uint32_t at = 0; at <= h->target; at++)
        if (at == h->target || h->roles[at] == INTERP_GIVEN) add_value(h, r, at);
    bool ok = compare_open_judge(c, &filler, INTERP_FAITHFUL, h->suspect);
    for (uint32_t first = 0; ok && first < c->n_tokens; first += c->n_batch) {
        uint32_t n = c->n_tokens - first < c->n_batch ? c->n_tokens - first : c->n_batch;
        ok = side_evaluate(h->suspect, c->d, c->tokens, first, n) &&
             side_evaluate(&filler, c->d, c->tokens, first, n);
        if (ok) take_rows(h, r, &filler, first, n);
    }
    side_close(&filler);
    h->given.name = h->suspect->name;
    return ok && side_open_recording(&h->given, c->memory, c->d, c->g, r, c->n_tokens);
}

/* ---- one trial */

static double try_once(hypotheses *h, const mistake *m, uint32_t at, enum interp_arithmetic arithmetic) {
    comparison    *c = h->c;
    arena         *scratch = arena_new();
    side           s = { .name = "a hypothesis" };
    ggufc_model    model = engine_describe(c->base, arithmetic);
    measure        sum = { 0 };
    interp_options options = {
        .arithmetic = arithmetic, .n_ctx = c->n_tokens, .n_batch = c->n_batch, .trace = true,
        .mistake = m, .layer = -1, .only = at == TOGETHER ? NULL : c->g->ops[at], .roles = h->roles,
    };
    interp_model(scratch, c->g, &options, &model);
    bool ok = side_open_forced(&s, scratch, c->d, c->g, &model, c->options->n_threads, &h->given);
    for (uint32_t first = 0; ok && first < c->n_tokens; first += c->n_batch) {
        uint32_t n = c->n_tokens - first < c->n_batch ? c->n_tokens - first : c->n_batch;
        ok = side_evaluate(&s, c->d, c->tokens, first, n);
        for (uint32_t t = first; ok && t < first + n; t++) {
            uint64_t     count;
            const float *row = side_row(&h->given, h->target, t, &count);
            if (row) measure_add(&sum, side_full_row(&s, h->target, t), row, count, t, 0, 0);
        }
    }
    side_close(&s);
    arena_free(scratch);
    return ok && sum.n_tokens ? measure_end(&sum).nmse : INFINITY;
}

static void try_mistake(hypotheses *h, const mistake *m, uint32_t at, const char *what) {
    if (h->n_trials == MAX_TRIALS) return;
    double faithful = try_once(h, m, at, INTERP_FAITHFUL);
    double reference = try_once(h, m, at, INTERP_REFERENCE);
    double nmse = fmin(faithful, reference);
    h->trials[h->n_trials++] = (compare_hypothesis){ what, nmse, nmse <= h->tolerance };
}

/* ---- all of them */

static void try_at_each(hypotheses *h, const mistake *m) {
    comparison *c = h->c;
    const op   *first = NULL;
    uint32_t    n = 0;
    for (uint32_t i = 0; i <= h->target; i++) {
        const op *o = c->g->ops[i];
        if (h->roles[i] != INTERP_COMPUTED || !mistake_applies(m, c->g, o)) continue;
        const char *what = mistake_text(c->memory, m, c->g, o);
        if (i != h->target) what = arena_printf(c->memory, "%s (in %s)", what, o->out->name);
        try_mistake(h, m, i, what);
        if (!n++) first = o;
    }
    if (n < 2) return;
    const char *what = mistake_text(c->memory, m, c->g, first);
    try_mistake(h, m, TOGETHER, arena_printf(c->memory, "%s (in %s, and likewise in %u more op%s)", what,
                                             first->out->name, n - 1, n > 2 ? "s" : ""));
}

static int compare_trials(const void *x, const void *y) {
    const compare_hypothesis *a = x, *b = y;
    if (a->matches != b->matches) return a->matches ? -1 : 1;
    return a->nmse < b->nmse ? -1 : a->nmse > b->nmse;
}

bool compare_try_hypotheses(comparison *c, side *suspect, uint32_t at) {
    compare_report *r = c->report;
    hypotheses h = { .c = c, .suspect = suspect, .target = at, .tolerance = r->ops[at].alone_tolerance };
    h.trials = ARENA_ARRAY(c->memory, compare_hypothesis, MAX_TRIALS);
    find_segment(&h);
    if (!gather(&h)) return false;
    for (const mistake *m = mistakes; m->name; m++) try_at_each(&h, m);
    qsort(h.trials, h.n_trials, sizeof *h.trials, compare_trials);
    r->hypotheses = h.trials;
    r->n_hypotheses = h.n_trials < MAX_REPORTED ? h.n_trials : MAX_REPORTED;
    if (h.n_trials && h.trials[0].matches)
        r->verdict = arena_printf(c->memory, "%s: matches when %s", r->ops[at].name, h.trials[0].what);
    return true;
}
