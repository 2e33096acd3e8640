/* What is said of the ops: what was not compared, which op is the first wrong one, and where the error
 * comes from. */
#include "comparison.h"

#include <math.h>
#include <string.h>

static const char *plural(uint32_t n, const char *one, const char *many) {
    return n == 1 ? one : many;
}

/* ---- what was not compared */

static void note_ops(comparison *c) {
    uint32_t    missing = 0, tokens = 0, values = 0, overflowing = 0;
    const char *example = NULL;
    for (uint32_t i = 0; i < c->report->n_ops; i++) {
        const compare_distance *d = &c->report->ops[i].between;
        missing += !d->n_values;
        if (isinf(c->report->ops[i].tolerance) && !overflowing++) example = c->report->ops[i].name;
        tokens += d->n_values && d->n_tokens < c->n_tokens;
        values += d->n_values && d->n_values < value_count(c->g->ops[i]->out) * d->n_tokens;
    }
    if (overflowing)
        compare_note(c, "%u %s in the model itself, as %s: what is right cannot be told", overflowing,
                     plural(overflowing, "op overflows", "ops overflow"), example);
    if (missing)
        compare_note(c, "%u of %u ops %s not in both: not compared", missing, c->report->n_ops,
                     plural(missing, "is", "are"));
    if (tokens)
        compare_note(c, "%u %s compared for some of the tokens only", tokens, plural(tokens, "op is", "ops are"));
    if (values)
        compare_note(c, "%u %s compared for the first values of a token only", values,
                     plural(values, "op is", "ops are"));
}

static void note_recording(comparison *c, int i) {
    const recording *r = c->in[i].recording;
    const side      *s = &c->sides[i];
    const char      *name = i ? "B" : "A";
    if (r->n_ignored)
        compare_note(c, "%u %s of %s left out, as %s: no line of the map takes %s", r->n_ignored,
                     plural(r->n_ignored, "file", "files"), name, r->first_ignored,
                     plural(r->n_ignored, "it", "them"));
    if (s->n_foreign)
        compare_note(c, "%s has %u %s that the model has not, as %s", name, s->n_foreign,
                     plural(s->n_foreign, "activation", "activations"), s->foreign);
    if (s->n_bits)
        compare_note(c, "%s computes with %s: that is allowed for", name, s->n_bits == 8 ? "bf16" : "f16");
    else if (s->rounded)
        compare_note(c, "%s's numbers were rounded when they were written: that is allowed for", name);
}

/* ---- the first wrong op */

uint32_t compare_count_ops(const compare_report *r) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->n_ops; i++) n += r->ops[i].between.n_values > 0;
    return n;
}

static const char *worst_cost(comparison *c) {
    const compare_report *r = c->report;
    const compare_op *most = NULL, *last = NULL;
    for (uint32_t i = 0; i < r->n_ops; i++) {
        const compare_op *o = &r->ops[i];
        if (o->between.n_values) last = o;
        if (o->alone.n_values && (!most || o->alone.nmse > most->alone.nmse)) most = o;
    }
    return arena_printf(c->memory, "The weights differ. The most costly op is %s (NMSE %.3g by itself); %s "
                        "comes to NMSE %.3g.", most->name, most->alone.nmse, last->name, last->between.nmse);
}

/* "NMSE 0.3, 1e-05 is tolerated", in the words of what is beyond tolerance, where something is. */
static const char *figures(arena *a, const compare_distance *d, double tolerance, double worst_tolerance) {
    if (d->n_strange)
        return arena_printf(a, "%llu %s infinite or no number on one side only", (unsigned long long)d->n_strange,
                            d->n_strange == 1 ? "value is" : "values are");
    if (d->nmse <= tolerance && !(d->worst <= worst_tolerance))
        return arena_printf(a, "NMSE %.3g at token %u, %.3g is tolerated of one", d->worst, d->worst_token,
                            worst_tolerance);
    return arena_printf(a, "NMSE %.3g, %.3g is tolerated", d->nmse, tolerance);
}

static const char *figures_between(arena *a, const compare_op *o) {
    return figures(a, &o->between, o->tolerance, o->worst_tolerance);
}

static const char *figures_alone(arena *a, const compare_op *o) {
    return figures(a, &o->alone, o->alone_tolerance, o->alone_worst_tolerance);
}

static const char *first_sentence(comparison *c) {
    compare_report   *r = c->report;
    const compare_op *o = r->first < 0 ? NULL : &r->ops[r->first];
    uint32_t          n = compare_count_ops(r);
    if (r->cost) return worst_cost(c);
    if (!o && n == 1) return "The one op that both sides have agrees within tolerance.";
    if (!o) return arena_printf(c->memory, "All of the %u ops that both sides have agree within tolerance.", n);
    if (o->beyond)
        return arena_printf(c->memory, "The first op beyond tolerance is %s (%s).", o->name,
                            figures_between(c->memory, o));
    if (!o->between.n_values)
        return arena_printf(c->memory, "The first wrong op is %s, which only %s has.", o->name, r->suspect);
    return arena_printf(c->memory, "The first wrong op is %s, although A and B agree within tolerance there (%s).",
                        o->name, figures_between(c->memory, o));
}

/* ---- where the error comes from */

/* "B's own inputs" */
static const char *what_from(comparison *c, const compare_segment *s) {
    const char *suspect = c->report->suspect;
    if (!s->n_given && s->n_computed == 1) return "the tokens";
    if (!s->n_given) return arena_printf(c->memory, "the tokens (%s has none of what it depends on)", suspect);
    if (s->n_computed == 1) return arena_printf(c->memory, "%s's own inputs", suspect);
    return arena_printf(c->memory, "what %s has before it, up to %s,", suspect, s->last_given);
}

/* How many other ops are wrong by themselves; only those can be counted whose inputs are there. */
static uint32_t count_others(comparison *c) {
    uint32_t n = 0;
    for (uint32_t i = (uint32_t)c->report->first + 1; i < c->report->n_ops; i++)
        n += c->report->ops[i].alone_beyond && compare_has_inputs(c, i);
    return n;
}

static const char *where_made(comparison *c, const compare_segment *s) {
    uint32_t    others = count_others(c), between = s->n_suspicious - 1;
    const char *also = !others ? "" : arena_printf(c->memory, "; %u other %s wrong by %s too", others,
                                                   plural(others, "op is", "ops are"),
                                                   plural(others, "itself", "themselves"));
    if (!between) return arena_printf(c->memory, "the error is made there%s", also);
    const char *ops = between == 1 ? "the op" : arena_printf(c->memory, "the %u ops", between);
    return arena_printf(c->memory, "the error is made there or in %s before it that %s does not have whole%s", ops,
                        c->report->suspect, also);
}

static const char *origin_sentence(comparison *c) {
    const compare_report *r = c->report;
    const compare_op     *o = r->first < 0 ? NULL : &r->ops[r->first];
    if (!o || !o->alone.n_values) return NULL;
    compare_segment s = compare_find_segment(c, (uint32_t)r->first);
    const char *from = what_from(c, &s), *numbers = figures_alone(c->memory, o);
    if (!o->alone_beyond)
        return arena_printf(c->memory, "Computed from %s it is right (%s): up to there no op is wrong by itself, "
                            "what differs has gathered.", from, numbers);
    return arena_printf(c->memory, "Computed from %s it is wrong%s (%s): %s.", from, o->beyond ? " too" : "",
                        numbers, where_made(c, &s));
}

void compare_tell(comparison *c) {
    compare_report *r = c->report;
    note_ops(c);
    for (int i = 0; i < 2; i++)
        if (c->in[i].recording) note_recording(c, i);
    r->sentence = first_sentence(c);
    r->origin = r->cost ? NULL : origin_sentence(c);
}
