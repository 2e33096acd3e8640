/* What an op was computed from: the part of the graph between the suspect's values and the op.
 *
 * It is the op alone where its inputs were recorded, a whole layer where only layers' outputs were.
 * Ops are in order of execution, so that one walk back from the op marks all that it needs. */
#include "comparison.h"

/* For which tokens a value is needed. */
enum need { NEED_NONE, NEED_SAME, NEED_ALL };

typedef struct walk {
    comparison *c;
    const side *suspect;
    uint32_t    at;
    enum need  *needs;
    bool       *reached; /* by op: not behind one that was compared and is right */
    compare_segment *segment;
} walk;

static uint32_t position(const graph *g, const op *o) {
    for (uint32_t i = 0; i < g->n_ops; i++)
        if (g->ops[i] == o) return i;
    bug("%s is not in the graph", o->name);
}

/* Keys and values are read of all tokens before, the rest of the token itself. */
static enum need need_of_input(const op *o, uint32_t k, enum need own) {
    return o->kind == OP_ATTENTION && k > 0 ? NEED_ALL : own;
}

static bool is_input(const value *v) {
    return v && v->kind == VALUE_ACTIVATION;
}

/* Whether the suspect has the op's values for the tokens for which they are needed. */
static bool is_given(const comparison *c, const side *suspect, uint32_t i, enum need need, uint32_t at) {
    uint64_t n;
    for (uint32_t t = 0; t < c->n_tokens; t++) {
        bool same = !suspect->recording || side_row(suspect, at, t, &n);
        if ((need == NEED_ALL || same) && !side_has(suspect, i, t)) return false;
    }
    return true;
}

static bool is_right(const walk *w, uint32_t i) {
    const compare_op *o = &w->c->report->ops[i];
    return i != w->at && o->alone.n_values && !o->alone_beyond;
}

static void mark_inputs(walk *w, uint32_t i) {
    const graph *g = w->c->g;
    const op    *o = g->ops[i];
    for (uint32_t k = 0; k < o->n_in; k++) {
        if (!is_input(o->in[k])) continue;
        uint32_t  from = position(g, o->in[k]->producer);
        enum need need = need_of_input(o, k, w->needs[i]);
        if (need > w->needs[from]) w->needs[from] = need;
        if (w->segment->suspicious[i]) w->reached[from] = true;
    }
}

compare_segment compare_find_segment(comparison *c, uint32_t at) {
    uint32_t        n = c->g->n_ops;
    compare_segment s = { ARENA_ARRAY(c->memory, enum interp_role, n), ARENA_ARRAY(c->memory, bool, n),
                          0, 0, 0, NULL };
    walk w = { c, compare_suspect(c), at, ARENA_ARRAY(c->memory, enum need, n),
               ARENA_ARRAY(c->memory, bool, n), &s };
    w.needs[at] = NEED_SAME;
    w.reached[at] = true;
    for (uint32_t i = n; i-- > 0;) {
        s.roles[i] = INTERP_LEFT_OUT;
        if (w.needs[i] == NEED_NONE) continue;
        bool given = i != at && is_given(c, w.suspect, i, w.needs[i], at);
        s.roles[i] = given ? INTERP_GIVEN : INTERP_COMPUTED;
        if (given && !s.n_given++) s.last_given = c->g->ops[i]->out->name;
        if (given) continue;
        s.suspicious[i] = w.reached[i] && !is_right(&w, i);
        s.n_computed++;
        s.n_suspicious += s.suspicious[i];
        mark_inputs(&w, i);
    }
    return s;
}

bool compare_has_inputs(comparison *c, uint32_t at) {
    const op *o = c->g->ops[at];
    for (uint32_t k = 0; k < o->n_in; k++) {
        if (!is_input(o->in[k])) continue;
        uint32_t from = position(c->g, o->in[k]->producer);
        if (!is_given(c, compare_suspect(c), from, need_of_input(o, k, NEED_SAME), at)) return false;
    }
    return true;
}
