/* Which mistake makes the graph compute what the suspect has.
 *
 * The segment of the graph between the suspect's nearest values and the op that is wrong is evaluated
 * from those values, once for each mistake and each set of its ops that one mistake may be made at:
 * all that it can be made at, those of one name in every layer, those that read one value, …, and each
 * op by itself. An engine makes a mistake wherever it does the same thing.
 *
 * Ops that some other op shows to be right are tried last, and only if nothing else has matched. What
 * does not match up to the first few tokens that are wrong is not tried on the others. */
#include "comparison.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TRIALS   400 /* of a long segment */
#define MAX_PRODUCTS 1e11 /* of a number with a weight, in each arithmetic: about half a minute */
#define ENOUGH       1e10 /* … after which no others are tried if one has matched */
#define MAX_REPORTED 24
#define MAX_NAMED    3   /* ops, in a hypothesis about many */
#define BEGINNING    4   /* tokens that are wrong */
#define KEYS         6
#define FAR          16  /* times another NMSE */
#define ROUNDING     0x1p-23

typedef struct trial {
    const mistake *mistake;
    bool          *where; /* by value id */
    const op      *first;
    uint32_t       n_ops;
    double         scale; /* the op's values are multiplied by it; 0: they are not */
    double         nmse;
    bool           matches;
    const char    *what;
    uint32_t       order;
} trial;

typedef struct hypotheses {
    comparison     *c;
    side           *suspect;
    uint32_t        target; /* the op that is wrong */
    compare_segment segment;
    side            given;  /* a recording of the segment's inputs, and of what the suspect has of the target */
    uint32_t        n_tokens; /* of the beginning */
    measure         without;  /* a mistake */
    double         *errors;   /* by token: NMSE then */
    float          *scaled;   /* a row */
    double          products; /* that a trial takes */
    const char    **keys[KEYS]; /* by op; NULL: it has none */
    trial          *trials;
    uint32_t        n_trials, n_left_out;
} hypotheses;

/* ---- what is given: gathered once, so that a trial evaluates the segment and nothing else */

static recorded_value *add_value(hypotheses *h, recording *r, uint32_t at) {
    recorded_value *v = &r->values[r->n_values++];
    *v = (recorded_value){ .name = h->c->g->ops[at]->out->name, .source = h->suspect->name };
    v->columns = ARENA_ARRAY(h->c->memory, recorded_column, h->c->n_tokens);
    return v;
}

static void add_column(hypotheses *h, recorded_value *v, uint32_t token, const float *row, uint64_t n) {
    float *copy = ARENA_ARRAY(h->c->memory, float, n);
    memcpy(copy, row, n * sizeof *row);
    v->n = n;
    v->columns[v->n_columns++] = (recorded_column){ token, copy };
}

static bool is_gathered(const hypotheses *h, uint32_t at) {
    return at == h->target || h->segment.roles[at] == INTERP_GIVEN;
}

/* Rows of tokens first … first + n - 1: the suspect's, or, of the segment's inputs, the filler's. */
static void gather_batch(hypotheses *h, recording *r, const side *filler, uint32_t first, uint32_t n) {
    recorded_value *v = r->values;
    for (uint32_t at = 0; at <= h->target; at++) {
        if (!is_gathered(h, at)) continue;
        for (uint32_t t = first; t < first + n; t++) {
            uint64_t     count;
            bool         fill = at != h->target && !side_full_row(h->suspect, at, t);
            const float *row = side_row(fill ? filler : h->suspect, at, t, &count);
            if (row) add_column(h, v, t, row, count);
        }
        v++;
    }
}

static bool gather(hypotheses *h) {
    comparison *c = h->c;
    arena      *scratch = arena_new();
    side        filler = { .name = NULL };
    recording  *r = ARENA_NEW(c->memory, recording);
    r->values = ARENA_ARRAY(c->memory, recorded_value, h->target + 1);
    for (uint32_t at = 0; at <= h->target; at++)
        if (is_gathered(h, at)) add_value(h, r, at);
    bool ok = compare_open_filler(c, scratch, &filler);
    for (uint32_t first = 0; ok && first < c->n_tokens; first += c->n_batch) {
        uint32_t n = c->n_tokens - first < c->n_batch ? c->n_tokens - first : c->n_batch;
        ok = side_evaluate(h->suspect, c->d, c->tokens, first, n) &&
             side_evaluate(&filler, c->d, c->tokens, first, n);
        if (ok) gather_batch(h, r, &filler, first, n);
    }
    side_close(&filler);
    arena_free(scratch);
    h->given.name = h->suspect->name;
    return ok && side_open_recording(&h->given, c->memory, c->d, c->g, r, c->n_tokens);
}

/* ---- one trial */

static const mistake no_mistake = { .name = "none" };

/* A token can only see the one after it where both are in one batch. */
static bool is_cut_off(const mistake *m, uint32_t token, uint32_t last, uint32_t n_tokens) {
    return m->mask_shift > 0 && token == last && token + 1 < n_tokens;
}

static const float *scale_row(hypotheses *h, const float *row, double scale) {
    uint64_t n = value_count(h->c->g->ops[h->target]->out);
    for (uint64_t i = 0; i < n; i++) h->scaled[i] = (float)((double)row[i] * scale);
    return h->scaled;
}

static bool evaluate_batch(hypotheses *h, const trial *t, side *s, uint32_t first, uint32_t n, measure *sum) {
    comparison *c = h->c;
    if (!side_evaluate(s, c->d, c->tokens, first, n)) return false;
    for (uint32_t i = first; i < first + n; i++) {
        uint64_t     count;
        const float *row = side_row(&h->given, h->target, i, &count), *made = side_full_row(s, h->target, i);
        measure      one = { 0 };
        if (!row || is_cut_off(t->mistake, i, first + n - 1, c->n_tokens)) continue;
        if (t->scale < 0 || t->scale > 0) made = scale_row(h, made, t->scale);
        measure_add(sum, made, row, count, i, 0, 0);
        measure_add(&one, made, row, count, i, 0, 0);
        if (t->mistake == &no_mistake && !t->where) h->errors[i] = measure_end(&one).nmse;
    }
    return true;
}

static bool evaluate(hypotheses *h, const trial *t, enum interp_arithmetic arithmetic, uint32_t n_tokens,
                     measure *sum) {
    comparison    *c = h->c;
    arena         *scratch = arena_new();
    side           s = { .name = "a hypothesis" };
    ggufc_model    model = engine_describe(c->base, arithmetic);
    interp_options options = {
        .arithmetic = arithmetic, .n_ctx = c->n_tokens, .n_batch = c->n_batch, .trace = true,
        .mistake = t->mistake, .where = t->where, .roles = h->segment.roles,
    };
    interp_model(scratch, c->g, &options, &model);
    bool ok = side_open_forced(&s, scratch, c->d, c->g, &model, c->options->n_threads, &h->given);
    for (uint32_t first = 0; ok && first < n_tokens; first += c->n_batch) {
        uint32_t n = n_tokens - first < c->n_batch ? n_tokens - first : c->n_batch;
        ok = evaluate_batch(h, t, &s, first, n, sum);
    }
    side_close(&s);
    arena_free(scratch);
    return ok;
}

static bool find_beginning(hypotheses *h) {
    comparison  *c = h->c;
    const double most = c->report->ops[h->target].alone_tolerance;
    const trial  none = { .mistake = &no_mistake };
    uint32_t     n = 0;
    h->errors = ARENA_ARRAY(c->memory, double, c->n_tokens);
    if (!evaluate(h, &none, INTERP_FAITHFUL, c->n_tokens, &h->without)) return false;
    while (h->n_tokens < c->n_tokens && n < BEGINNING) n += !(h->errors[h->n_tokens++] <= most);
    return true;
}

/* In the nearer of the two arithmetics. They are no further apart than their noise, which is a fraction
   of what is tolerated: where one is far off, the other is too. */
static bool measure_trial(hypotheses *h, trial *t, uint32_t n_tokens) {
    const compare_op *o = &h->c->report->ops[h->target];
    measure           sums[2] = { { 0 }, { 0 } };
    if (!evaluate(h, t, INTERP_FAITHFUL, n_tokens, &sums[0])) return false;
    compare_distance by[2] = { measure_end(&sums[0]), { 0 } };
    bool             far = !by[0].n_strange && !(by[0].nmse <= FAR * o->alone_tolerance);
    if (!far && !evaluate(h, t, INTERP_REFERENCE, n_tokens, &sums[1])) return false;
    by[1] = measure_end(&sums[1]);
    const compare_distance *d = &by[!far && !(by[0].nmse <= by[1].nmse)];
    t->nmse = d->n_values ? d->nmse : INFINITY;
    t->matches = d->n_values && d->nmse <= o->alone_tolerance && d->worst <= o->alone_worst_tolerance;
    return true;
}

static bool was_tried(const hypotheses *h, const trial *t) {
    size_t size = h->c->g->n_values * sizeof *t->where;
    for (uint32_t i = 0; i < h->n_trials; i++)
        if (h->trials[i].mistake == t->mistake && t->mistake != &no_mistake &&
            !memcmp(h->trials[i].where, t->where, size))
            return true;
    return false;
}

static bool try_at(hypotheses *h, trial t) {
    if (was_tried(h, &t) || (t.mistake->mask_shift > 0 && h->c->n_batch < 2)) return true;
    if (h->n_trials == MAX_TRIALS || (h->n_trials + 1) * h->products > MAX_PRODUCTS) {
        h->n_left_out++;
        return true;
    }
    if (h->c->options->tried) h->c->options->tried(h->n_trials + 1);
    t.order = h->n_trials;
    bool ok = measure_trial(h, &t, h->n_tokens);
    if (ok && t.matches && h->n_tokens < h->c->n_tokens) ok = measure_trial(h, &t, h->c->n_tokens);
    h->trials[h->n_trials++] = t;
    return ok;
}

static bool any_matches(const hypotheses *h) {
    for (uint32_t i = 0; i < h->n_trials; i++)
        if (h->trials[i].matches) return true;
    return false;
}

/* ---- sets of ops, by what their members have in common */

typedef const char *key_reader(arena *a, const op *o);

static const char *key_any(arena *a, const op *o) {
    (void)a, (void)o;
    return "";
}

/* A name without its layer: "Qcur.rope" of "Qcur-0.rope". */
static const char *without_layer(arena *a, const char *name) {
    size_t n = strcspn(name, "-"), digits = name[n] ? strspn(name + n + 1, "0123456789") : 0;
    return digits ? arena_printf(a, "%.*s%s", (int)n, name, name + n + 1 + digits) : name;
}

static const char *key_name(arena *a, const op *o) {
    return without_layer(a, o->out->name);
}

static const char *key_layer(arena *a, const op *o) {
    return o->layer < 0 ? NULL : arena_printf(a, "%d", o->layer);
}

static const char *key_input(arena *a, const op *o) {
    return o->kind == OP_MATMUL ? without_layer(a, o->in[1]->name) : NULL;
}

/* "attn" of "blk.0.attn_q.weight" */
static const char *key_part(arena *a, const op *o) {
    const char *name = o->kind == OP_MATMUL ? o->in[0]->name : NULL;
    if (!name || strncmp(name, "blk.", 4)) return NULL;
    name += 4;
    name += strcspn(name, ".");
    return arena_printf(a, "%.*s", (int)strcspn(name, "_"), name);
}

/* Only square matrices can be taken for transposed ones without a shape that is wrong. */
static const char *key_square(arena *a, const op *o) {
    (void)a;
    return o->kind == OP_MATMUL && o->in[0]->ne[0] == o->in[0]->ne[1] ? "" : NULL;
}

static key_reader *const keys[KEYS] = { key_any, key_name, key_part, key_square, key_input, key_layer };

static void read_keys(hypotheses *h) {
    const graph *g = h->c->g;
    for (size_t k = 0; k < KEYS; k++) {
        h->keys[k] = ARENA_ARRAY(h->c->memory, const char *, g->n_ops);
        for (uint32_t i = 0; i < g->n_ops; i++) h->keys[k][i] = keys[k](h->c->memory, g->ops[i]);
    }
}

static const char *name_members(hypotheses *h, const trial *t, bool one_name) {
    arena      *a = h->c->memory;
    const char *text = t->first->out->name;
    uint32_t    named = 1, more = t->n_ops - 1;
    if (one_name) return arena_printf(a, "%s and %u more of its name", text, more);
    for (uint32_t i = 0; i < h->c->g->n_ops && named < MAX_NAMED; i++) {
        const op *o = h->c->g->ops[i];
        if (o == t->first || !t->where[o->out->id]) continue;
        text = arena_printf(a, "%s%s%s", text, --more ? ", " : " and ", o->out->name);
        named++;
    }
    return more ? arena_printf(a, "%s and %u more", text, more) : text;
}

static const char *describe_set(hypotheses *h, const trial *t) {
    arena      *a = h->c->memory;
    const char *name = key_name(a, t->first);
    bool        one_name = true;
    for (uint32_t i = 0; i < h->c->g->n_ops; i++) {
        const op *o = h->c->g->ops[i];
        if (t->where[o->out->id] && strcmp(key_name(a, o), name)) one_name = false;
    }
    const char *what = one_name ? mistake_text(a, t->mistake, h->c->g, t->first)
                                : mistake_text_of_many(a, t->mistake, h->c->g, t->first);
    return arena_printf(a, "in %s, %s", name_members(h, t, one_name), what);
}

static bool can_be_at(const hypotheses *h, const mistake *m, const bool *among, uint32_t i) {
    return among[i] && mistake_applies(m, h->c->g, h->c->g->ops[i]);
}

/* Those of `among` that have the key of op i; no members if one before i has it, which was the first. */
static trial make_set(hypotheses *h, const mistake *m, const bool *among, const char *const *of, uint32_t i) {
    const graph *g = h->c->g;
    trial        t = { .mistake = m, .first = g->ops[i] };
    for (uint32_t k = 0; of[i] && k < g->n_ops; k++) {
        if (!of[k] || strcmp(of[k], of[i]) || !can_be_at(h, m, among, k)) continue;
        if (k < i) return (trial){ .mistake = m };
        if (!t.where) t.where = ARENA_ARRAY(h->c->memory, bool, g->n_values);
        t.where[g->ops[k]->out->id] = true;
        t.n_ops++;
    }
    return t;
}

/* Which weight is read instead is only the same for ops of one name. */
static bool try_sets(hypotheses *h, const mistake *m, const bool *among, size_t key) {
    for (uint32_t i = 0; i <= h->target && (!m->sibling || keys[key] == key_name); i++) {
        if (!can_be_at(h, m, among, i)) continue;
        trial t = make_set(h, m, among, h->keys[key], i);
        if (t.n_ops < 2) continue;
        t.what = describe_set(h, &t);
        if (!try_at(h, t)) return false;
    }
    return true;
}

static bool try_each(hypotheses *h, const mistake *m, const bool *among) {
    comparison *c = h->c;
    for (uint32_t i = 0; i <= h->target; i++) {
        if (!can_be_at(h, m, among, i)) continue;
        const op   *o = c->g->ops[i];
        trial       t = { .mistake = m, .first = o, .n_ops = 1 };
        const char *what = mistake_text(c->memory, m, c->g, o);
        t.where = ARENA_ARRAY(c->memory, bool, c->g->n_values);
        t.where[o->out->id] = true;
        t.what = i == h->target ? what : arena_printf(c->memory, "in %s, %s", o->out->name, what);
        if (!try_at(h, t)) return false;
    }
    return true;
}

/* What is most likely comes first, as a long segment may leave no time for the rest. */
static bool try_all(hypotheses *h, const bool *among) {
    for (size_t k = 0; k < KEYS; k++) {
        for (const mistake *m = mistakes; m->name; m++)
            if (!try_sets(h, m, among, k)) return false;
        if (any_matches(h) && h->n_trials * h->products > ENOUGH) return true;
    }
    for (const mistake *m = mistakes; m->name; m++)
        if (!try_each(h, m, among)) return false;
    return true;
}

/* ---- all of them */

/* How many match about as well as the first does, of sorted trials. */
static uint32_t count_as_good(const hypotheses *h) {
    double   most = fmax(FAR * h->trials[0].nmse, ROUNDING * ROUNDING);
    uint32_t n = 0;
    for (uint32_t i = 1; i < h->n_trials; i++) n += h->trials[i].matches && h->trials[i].nmse <= most;
    return n;
}

static int compare_trials(const void *x, const void *y) {
    const trial *a = x, *b = y;
    if (a->matches != b->matches) return a->matches ? -1 : 1;
    if (a->nmse < b->nmse || a->nmse > b->nmse) return a->nmse < b->nmse ? -1 : 1;
    return a->order < b->order ? -1 : 1;
}

static void tell(hypotheses *h) {
    comparison     *c = h->c;
    compare_report *r = c->report;
    qsort(h->trials, h->n_trials, sizeof *h->trials, compare_trials);
    r->n_hypotheses = h->n_trials < MAX_REPORTED ? h->n_trials : MAX_REPORTED;
    r->hypotheses = ARENA_ARRAY(c->memory, compare_hypothesis, r->n_hypotheses);
    for (uint32_t i = 0; i < r->n_hypotheses; i++)
        r->hypotheses[i] = (compare_hypothesis){ h->trials[i].what, h->trials[i].nmse, h->trials[i].matches };
    if (h->n_left_out)
        compare_note(c, "%u hypotheses were not tried: %u ops may be what is wrong", h->n_left_out,
                     h->segment.n_computed);
    if (!any_matches(h)) return;
    uint32_t    n = count_as_good(h);
    const char *name = r->ops[h->target].name, *what = h->trials[0].what;
    r->verdict = n ? arena_printf(c->memory, "%s: matches when %s (so it does by %u other hypothes%s)", name, what, n,
                                  n == 1 ? "is" : "es")
                   : arena_printf(c->memory, "%s: matches when %s", name, what);
}

/* The factor that brings what should be there nearest to what the suspect has. */
static bool try_scale(hypotheses *h, int digits) {
    double scale = compare_round(h->without.ab / h->without.aa, digits);
    trial  t = { .mistake = &no_mistake, .first = h->c->g->ops[h->target], .n_ops = 1, .scale = scale };
    if (!isfinite(scale) || !(fabs(scale) > 0) || fabs(scale - 1) < 1e-6) return true;
    t.where = ARENA_ARRAY(h->c->memory, bool, h->c->g->n_values);
    t.what = arena_printf(h->c->memory, "its values are multiplied by %g", scale);
    return try_at(h, t);
}

/* Another number than those of the table; people choose such as have few digits. */
static bool try_fit(hypotheses *h) {
    static const int digits[] = { 1, 2, 4, 6 };
    for (size_t i = 0; i < ARRAY_LEN(digits) && !any_matches(h); i++) {
        mistake *m = ARENA_NEW(h->c->memory, mistake);
        if (compare_fit(h->c, h->target, digits[i], m) && !try_each(h, m, h->segment.suspicious)) return false;
        if (!any_matches(h) && !try_scale(h, digits[i])) return false;
    }
    return true;
}

static double count_products(const hypotheses *h) {
    double n = 0;
    for (uint32_t i = 0; i < h->c->g->n_ops; i++) {
        const op *o = h->c->g->ops[i];
        if (h->segment.roles[i] == INTERP_COMPUTED && o->kind == OP_MATMUL) n += (double)value_count(o->in[0]);
    }
    return n * h->n_tokens;
}

bool compare_try_hypotheses(comparison *c, uint32_t at) {
    hypotheses h = { .c = c, .suspect = compare_suspect(c), .target = at };
    bool      *computed = ARENA_ARRAY(c->memory, bool, c->g->n_ops);
    h.segment = compare_find_filled_segment(c, at);
    h.scaled = ARENA_ARRAY(c->memory, float, value_count(c->g->ops[at]->out));
    h.trials = ARENA_ARRAY(c->memory, trial, MAX_TRIALS);
    for (uint32_t i = 0; i < c->g->n_ops; i++) computed[i] = h.segment.roles[i] == INTERP_COMPUTED;
    bool ok = gather(&h) && find_beginning(&h);
    read_keys(&h);
    h.products = count_products(&h);
    ok = ok && try_all(&h, h.segment.suspicious) && try_fit(&h);
    if (ok && !any_matches(&h) && h.segment.n_suspicious < h.segment.n_computed) ok = try_all(&h, computed);
    if (c->options->tried) c->options->tried(0);
    if (ok) tell(&h);
    return ok;
}
