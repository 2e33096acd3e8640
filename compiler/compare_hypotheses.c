/* Which mistake makes the graph compute what the suspect has.
 *
 * Between the suspect's nearest values and the op that is wrong there is a segment of the graph: the
 * op alone, where its inputs were recorded; a whole layer, where only layers' outputs were. It is
 * evaluated from those values, once for each mistake and each op of the segment that it can be made
 * at, and once for all of them together. */
#include "comparison.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TRIALS   400 /* of a long segment */
#define MAX_REPORTED 24
#define TOGETHER     UINT32_MAX

typedef struct hypotheses {
    comparison       *c;
    const side       *suspect;
    uint32_t          target; /* the op that is wrong */
    enum interp_role *roles;  /* of the segment, by op */
    double            tolerance;
    compare_hypothesis *trials;
    uint32_t            n_trials;
} hypotheses;

/* ---- the segment */

/* Whether the suspect has the op's value for every token. */
static bool is_given(const hypotheses *h, uint32_t at) {
    for (uint32_t t = 0; t < h->c->n_tokens; t++) {
        const recorded_value *v = h->suspect->recording ? h->suspect->recorded[at] : NULL;
        if (!h->suspect->recording) return true;
        if (!v || v->n < value_count(h->c->g->ops[at]->out) || !recording_row(v, t, h->c->n_tokens))
            return false;
    }
    return true;
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
    bool ok = side_open_forced(&s, scratch, c->d, c->g, &model, c->options->n_threads, h->suspect);
    for (uint32_t first = 0; ok && first < c->n_tokens; first += c->n_batch) {
        uint32_t n = c->n_tokens - first < c->n_batch ? c->n_tokens - first : c->n_batch;
        ok = side_evaluate((side *)h->suspect, c->d, c->tokens, first, n) &&
             side_evaluate(&s, c->d, c->tokens, first, n);
        for (uint32_t t = first; ok && t < first + n; t++) {
            uint64_t     count;
            const float *row = side_row(h->suspect, h->target, t, &count);
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
        if (i != h->target) what = arena_printf(c->memory, "in %s, %s", o->out->name, what);
        try_mistake(h, m, i, what);
        if (!n++) first = o;
    }
    if (n < 2) return;
    const char *what = mistake_text(c->memory, m, c->g, first);
    try_mistake(h, m, TOGETHER, arena_printf(c->memory, "in %s and %u ops after it alike, %s",
                                             first->out->name, n - 1, what));
}

static int compare_trials(const void *x, const void *y) {
    const compare_hypothesis *a = x, *b = y;
    if (a->matches != b->matches) return a->matches ? -1 : 1;
    return a->nmse < b->nmse ? -1 : a->nmse > b->nmse;
}

bool compare_try_hypotheses(comparison *c, const side *suspect, uint32_t at) {
    compare_report *r = c->report;
    hypotheses h = { .c = c, .suspect = suspect, .target = at, .tolerance = r->ops[at].alone_tolerance };
    h.trials = ARENA_ARRAY(c->memory, compare_hypothesis, MAX_TRIALS);
    find_segment(&h);
    for (const mistake *m = mistakes; m->name; m++) try_at_each(&h, m);
    qsort(h.trials, h.n_trials, sizeof *h.trials, compare_trials);
    r->hypotheses = h.trials;
    r->n_hypotheses = h.n_trials < MAX_REPORTED ? h.n_trials : MAX_REPORTED;
    if (h.n_trials && h.trials[0].matches)
        r->verdict = arena_printf(c->memory, "%s: matches when %s", r->ops[at].name, h.trials[0].what);
    return true;
}
