/* A comparison from its two names to its report, in the order that compare.h gives. */
#include "compare.h"

#include "comparison.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define DEFAULT_SLACK 8
/* For the activations of a batch, on all sides; or half the file, where that is more. */
#define LEAST_MEMORY ((uint64_t)512 << 20)
#define COPIES       2 /* of a side's: its arena, and what is kept of it */

void compare_defaults(compare_options *o) {
    *o = (compare_options){ .slack = DEFAULT_SLACK };
    ggufc_compile_defaults(&o->compile);
}

void compare_note(comparison *c, const char *format, ...) {
    char    text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    compare_report *r = c->report;
    const char **notes = ARENA_ARRAY(c->memory, const char *, r->n_notes + 1);
    if (r->n_notes) memcpy(notes, r->notes, r->n_notes * sizeof *notes);
    notes[r->n_notes++] = arena_copy_text(c->memory, text, strlen(text));
    r->notes = notes;
}

/* ---- inputs */

static bool open_file(comparison *c, engine *e, const char *path) {
    engine_options options = { .compile = c->options->compile, .kernels = ENGINE_INTERPRETED, .layer = -1,
                               .memory = c->memory };
    options.compile.model = path;
    return engine_open(e, &options, c->d);
}

static bool open_input(comparison *c, int i, const char *name) {
    compare_input *in = &c->in[i];
    in->name = name;
    in->path = engine_parse_name(name, &in->kernels);
    if (in->path == name && recording_is(name)) {
        in->recording = recording_open(c->memory, c->d, name, c->options->map);
        return in->recording != NULL;
    }
    engine *other = i ? c->in[0].file : NULL;
    if (other && !strcmp(other->compilation.file->path, in->path)) {
        in->file = other;
        return true;
    }
    in->file = &c->files[i];
    return open_file(c, in->file, in->path);
}

/* The model that says what is right: A's, else B's, else the one given. */
static bool choose_base(comparison *c) {
    const compare_input *a = &c->in[0], *b = &c->in[1];
    const char *model = c->options->model;
    if (a->file && model) return diag_error(c->d, "--model is for two recordings; %s is a model", a->name);
    c->base = a->file ? a->file : b->file;
    if (!c->base && !model)
        return diag_error(c->d, "%s and %s are recordings, which cannot tell what is right: say what model "
                          "they are of with --model=MODEL.gguf", a->name, b->name);
    if (!c->base) {
        if (!open_file(c, &c->model, model)) return false;
        c->base = &c->model;
    }
    c->g = c->base->compilation.graph;
    c->report->model = c->base->compilation.file->path;
    return true;
}

/* ---- sides */

static void choose_batch(comparison *c) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < c->g->n_ops; i++) bytes += value_count(c->g->ops[i]->out) * sizeof(float);
    uint64_t memory = c->base->compilation.file->size / 2, sides = 5; /* two judges, at most three forced */
    if (memory < LEAST_MEMORY) memory = LEAST_MEMORY;
    for (int i = 0; i < 2; i++) sides += !c->in[i].recording;
    uint64_t most = memory / (bytes * COPIES * sides);
    if (most > c->options->compile.batch) most = c->options->compile.batch;
    if (most < 1) most = 1;
    c->n_batch = c->n_tokens < most ? c->n_tokens : (uint32_t)most;
}

static ggufc_model new_model(comparison *c, engine *file, enum interp_arithmetic arithmetic) {
    interp_options options = {
        .arithmetic = arithmetic, .n_ctx = c->n_tokens, .n_batch = c->n_batch, .trace = true, .layer = -1,
    };
    ggufc_model model = engine_describe(file, arithmetic);
    interp_model(file->compilation.memory, file->compilation.graph, &options, &model);
    return model;
}

static bool open_code(comparison *c, int i, ggufc_model *model) {
    engine_options options = { .compile = c->options->compile, .layer = -1 };
    options.compile.model = c->in[i].path;
    options.compile.ctx = c->n_tokens;
    options.compile.batch = c->n_batch;
    options.compile.trace = true;
    if (!engine_open(&c->code[i], &options, c->d)) return false;
    *model = c->code[i].model;
    model->embedded = c->in[i].file->compilation.file->data; /* one map for all */
    return true;
}

static bool open_side(comparison *c, int i) {
    compare_input *in = &c->in[i];
    side          *s = &c->sides[i];
    const char   **what = i ? &c->report->what_b : &c->report->what_a;
    ggufc_model    model;
    s->name = in->name;
    if (in->recording) {
        const char *producer = in->recording->producer;
        const char *kind = in->recording->kind;
        *what = producer ? arena_printf(c->memory, "%s, %s", kind, producer) : kind;
        return side_open_recording(s, c->memory, c->d, c->g, in->recording, c->n_tokens);
    }
    if (in->kernels != ENGINE_COMPILED)
        model = new_model(c, in->file, in->kernels == ENGINE_REFERENCE ? INTERP_REFERENCE : INTERP_FAITHFUL);
    else if (!open_code(c, i, &model))
        return false;
    *what = arena_printf(c->memory, "model, %s%s", in->kernels == ENGINE_COMPILED ? "compiled for " : "",
                         in->kernels == ENGINE_COMPILED ? model.target : engine_kernels_names[in->kernels]);
    return side_open_model(s, c->memory, c->d, c->g, &model, c->options->n_threads);
}

static bool open_judge(comparison *c, side *s, enum interp_arithmetic arithmetic) {
    ggufc_model model = new_model(c, c->base, arithmetic);
    s->name = model.target;
    return side_open_model(s, c->memory, c->d, c->g, &model, c->options->n_threads);
}

/* ---- evaluating */

/* The suspect's ops computed from its own values. */
enum { FAITHFUL, REFERENCE, UNROUNDED, FORCED };

typedef struct op_sums {
    measure between, alone[2];
} op_sums;

typedef struct pass {
    comparison *c;
    arena      *memory;
    side       *suspect;
    bool        again; /* only `alone` is still wanted */
    side        forced[FORCED];
    op_sums    *sums;
    compare_logits_sum *logits;
} pass;

side *compare_suspect(comparison *c) {
    return &c->sides[*c->report->suspect == 'B'];
}

bool compare_open_filler(comparison *c, arena *a, side *s) {
    ggufc_model model = new_model(c, c->base, INTERP_FAITHFUL);
    s->name = model.target;
    return side_open_forced(s, a, c->d, c->g, &model, c->options->n_threads, compare_suspect(c));
}

static bool open_forced(pass *p, int i) {
    comparison *c = p->c;
    ggufc_model model = new_model(c, c->base, i == REFERENCE ? INTERP_REFERENCE : INTERP_FAITHFUL);
    p->forced[i].name = model.target;
    p->forced[i].unrounded = i == UNROUNDED;
    return side_open_forced(&p->forced[i], p->memory, c->d, c->g, &model, c->options->n_threads, p->suspect);
}

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* Root mean squares of what is independent. */
static double add_noise(double a, double b) {
    return isfinite(a) && isfinite(b) ? hypot(a, b) : INFINITY;
}

static double noise_between(const comparison *c, uint32_t at, uint32_t token, uint64_t n) {
    if (c->report->cost) return 0;
    const float *exact = side_full_row(&c->reference, at, token);
    const float *faithful = side_full_row(&c->interpreted, at, token);
    double       rounding = add_noise(side_rounding(&c->sides[0], at, token),
                                      side_rounding(&c->sides[1], at, token));
    return add_noise(measure_noise(exact, faithful, n), rounding);
}

static void add_between(pass *p, uint32_t at, uint32_t token) {
    comparison  *c = p->c;
    uint64_t     n_a, n_b;
    const float *a = side_row(&c->sides[0], at, token, &n_a), *b = side_row(&c->sides[1], at, token, &n_b);
    if (!a || !b) return;
    uint64_t n = least(n_a, n_b);
    measure_add(&p->sums[at].between, a, b, n, token, noise_between(c, at, token, n), c->options->slack);
    if (p->logits && c->g->ops[at]->out == c->g->output && n_a == n_b && n_a == c->g->n_vocab)
        compare_logits_add(p->logits, token, a, b);
}

static void add_alone(pass *p, uint32_t at, uint32_t token) {
    uint64_t     n;
    const float *x = side_row(p->suspect, at, token, &n);
    if (!x) return;
    const float *faithful = side_full_row(&p->forced[FAITHFUL], at, token);
    const float *exact = side_full_row(&p->forced[REFERENCE], at, token);
    double       noise = measure_noise(exact, faithful, n), slack = p->c->options->slack;
    if (p->suspect->rounded) {
        const float *other = side_full_row(&p->forced[UNROUNDED], at, token);
        noise = add_noise(noise, measure_noise(faithful, other, n));
        noise = add_noise(noise, side_rounding(p->suspect, at, token));
    }
    measure_add(&p->sums[at].alone[FAITHFUL], faithful, x, n, token, noise, slack);
    measure_add(&p->sums[at].alone[REFERENCE], exact, x, n, token, noise, slack);
}

static bool evaluate_batch(pass *p, uint32_t first, uint32_t n) {
    comparison *c = p->c;
    bool  judged = !c->report->cost && !p->again;
    side *all[] = {
        &c->sides[0], &c->sides[1], judged ? &c->reference : NULL, judged ? &c->interpreted : NULL,
        &p->forced[FAITHFUL], &p->forced[REFERENCE], p->suspect->rounded ? &p->forced[UNROUNDED] : NULL,
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        if (all[i] && !side_evaluate(all[i], c->d, c->tokens, first, n)) return false;
    for (uint32_t at = 0; at < c->g->n_ops; at++)
        for (uint32_t t = first; t < first + n; t++) {
            if (!p->again) add_between(p, at, t);
            add_alone(p, at, t);
        }
    return true;
}

static bool run_pass(pass *p) {
    comparison *c = p->c;
    p->memory = arena_new();
    bool ok = open_forced(p, FAITHFUL) && open_forced(p, REFERENCE) &&
              (!p->suspect->rounded || open_forced(p, UNROUNDED));
    for (uint32_t first = 0; ok && first < c->n_tokens; first += c->n_batch) {
        if (c->options->progress) c->options->progress(first, c->n_tokens);
        ok = evaluate_batch(p, first, (uint32_t)least(c->n_batch, c->n_tokens - first));
    }
    if (c->options->progress) c->options->progress(c->n_tokens, c->n_tokens);
    for (int i = 0; i < FORCED; i++) side_close(&p->forced[i]);
    arena_free(p->memory);
    return ok;
}

/* ---- judging */

static bool exceeds(const compare_distance *d, const compare_tolerance *t) {
    return d->n_values && !(d->nmse <= t->nmse && d->worst <= t->worst);
}

static void judge_alone(const comparison *c, const op_sums *s, compare_op *o) {
    compare_distance by[2] = { measure_end(&s->alone[0]), measure_end(&s->alone[1]) };
    int nearer = !(by[0].nmse <= by[1].nmse);
    o->alone = by[nearer];
    o->alone_tolerance = o->alone_worst_tolerance = o->alone_beyond = 0;
    if (c->report->cost) return;
    compare_tolerance t = measure_tolerance(&s->alone[nearer], c->options->slack);
    o->alone_tolerance = t.nmse;
    o->alone_worst_tolerance = t.worst;
    o->alone_beyond = exceeds(&o->alone, &t);
}

static void judge_op(const comparison *c, const op_sums *s, compare_op *o) {
    o->between = measure_end(&s->between);
    if (!c->report->cost) {
        compare_tolerance t = measure_tolerance(&s->between, c->options->slack);
        o->tolerance = t.nmse;
        o->worst_tolerance = t.worst;
        o->beyond = exceeds(&o->between, &t);
    }
    judge_alone(c, s, o);
}

static const char *shape_text(arena *a, const value *v) {
    const char *text = arena_printf(a, "[%llu", (unsigned long long)v->ne[0]);
    for (int i = 1; i < 4 && v->ne[i] > 1; i++)
        text = arena_printf(a, "%s, %llu", text, (unsigned long long)v->ne[i]);
    return arena_printf(a, "%s]", text);
}

static void list_ops(comparison *c) {
    compare_report *r = c->report;
    r->n_ops = c->g->n_ops;
    r->ops = ARENA_ARRAY(c->memory, compare_op, r->n_ops);
    for (uint32_t i = 0; i < r->n_ops; i++) {
        const op *o = c->g->ops[i];
        r->ops[i].name = o->out->name;
        r->ops[i].kind = op_infos[o->kind].name;
        r->ops[i].shape = shape_text(c->memory, o->out);
        r->ops[i].layer = o->layer;
    }
}

static int32_t find_first(const compare_report *r) {
    for (uint32_t i = 0; i < r->n_ops; i++)
        if (r->ops[i].beyond || r->ops[i].alone_beyond) return (int32_t)i;
    return -1;
}

/* How much there is to doubt in a side: in a model that is what judges, nothing. */
static int doubt(const comparison *c, int i) {
    const compare_input *in = &c->in[i];
    if (in->recording) return 2;
    return in->kernels == ENGINE_COMPILED || in->file != c->base;
}

/* The first op that is wrong by itself, none after `last` being looked for; -1: none. */
static int32_t find_made(const compare_op *ops, uint32_t n, int32_t last) {
    for (uint32_t i = 0; i < n && (last < 0 || i <= (uint32_t)last); i++)
        if (ops[i].alone_beyond) return (int32_t)i;
    return -1;
}

/* The side that is no suspect may be what is wrong: it is looked at the same way. Where that finds
   nothing either, the report stays as it was. */
static bool look_at_other_side(comparison *c) {
    compare_report *r = c->report;
    int   other = *r->suspect == 'A';
    pass  p = { .c = c, .suspect = &c->sides[other], .again = true };
    p.sums = ARENA_ARRAY(c->memory, op_sums, r->n_ops);
    if (!run_pass(&p)) return false;
    compare_op *ops = ARENA_ARRAY(c->memory, compare_op, r->n_ops);
    for (uint32_t i = 0; i < r->n_ops; i++) {
        ops[i] = r->ops[i];
        judge_alone(c, &p.sums[i], &ops[i]);
    }
    int32_t made = find_made(ops, r->n_ops, r->first);
    if (made < 0) return true;
    r->ops = ops;
    r->suspect = other ? "B" : "A";
    r->first = made;
    return true;
}

/* ---- the whole */

static bool prepare(comparison *c) {
    const compare_options *o = c->options;
    if (!open_input(c, 0, o->a) || !open_input(c, 1, o->b)) return false;
    if (o->map && !c->in[0].recording && !c->in[1].recording)
        return diag_error(c->d, "a map is for a folder of text dumps; %s and %s are models", o->a, o->b);
    if (!choose_base(c) || !compare_tokens(c)) return false;
    choose_batch(c);
    if (c->in[0].file && c->in[1].file) c->report->cost = compare_weights(c);
    if (!open_side(c, 0) || !open_side(c, 1)) return false;
    return c->report->cost || (open_judge(c, &c->reference, INTERP_REFERENCE) &&
                               open_judge(c, &c->interpreted, INTERP_FAITHFUL));
}

static bool judge(comparison *c, pass *p) {
    compare_report *r = c->report;
    for (uint32_t i = 0; i < r->n_ops; i++) judge_op(c, &p->sums[i], &r->ops[i]);
    compare_logits_end(p->logits);
    if (!compare_count_ops(r))
        return diag_error(c->d, "%s and %s have no activation in common", r->name_a, r->name_b);
    if (!r->cost) r->first = find_first(r);
    bool innocent = !r->cost && find_made(r->ops, r->n_ops, r->first) < 0;
    if (innocent && doubt(c, *r->suspect == 'A') && !look_at_other_side(c)) return false;
    compare_tell(c);
    return r->first < 0 || !r->ops[r->first].alone_beyond || compare_try_hypotheses(c, (uint32_t)r->first);
}

static bool run(comparison *c) {
    compare_report *r = c->report;
    if (!prepare(c)) return false;
    list_ops(c);
    r->suspect = !r->cost && doubt(c, 0) > doubt(c, 1) ? "A" : "B";
    pass p = { .c = c, .suspect = compare_suspect(c) };
    p.sums = ARENA_ARRAY(c->memory, op_sums, r->n_ops);
    p.logits = compare_logits_begin(c);
    if (!run_pass(&p) || !judge(c, &p)) return false;
    bool same = r->first < 0 && !r->cost;
    r->outcome = same ? COMPARE_SAME : COMPARE_DIFFERENT;
    return true;
}

static void close(comparison *c) {
    side *sides[] = { &c->sides[0], &c->sides[1], &c->reference, &c->interpreted };
    for (size_t i = 0; i < ARRAY_LEN(sides); i++) side_close(sides[i]);
    for (int i = 0; i < 2; i++) {
        engine_close(&c->code[i]);
        engine_close(&c->files[i]);
        recording_close(c->in[i].recording);
    }
    engine_close(&c->model);
}

enum compare_outcome compare_run(arena *a, diag *d, const compare_options *o, compare_report *r) {
    comparison *c = ARENA_NEW(a, comparison);
    *c = (comparison){ .memory = a, .d = d, .options = o, .report = r };
    *r = (compare_report){
        .name_a = o->a, .name_b = o->b, .version = COMPILATION_VERSION, .slack = o->slack, .first = -1,
        .outcome = COMPARE_FAILED,
    };
    run(c);
    close(c);
    return r->outcome;
}
