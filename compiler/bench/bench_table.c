#include "bench_table.h"

#include <math.h>

/* ---- cells */

const char *bench_number(arena *a, double x) {
    if (!isfinite(x)) return "–";
    if (x == 0) return "0";
    double size = fabs(x);
    int    decimals = size >= 99.95 ? 0 : size >= 9.995 ? 1 : size >= 0.09995 ? 2 : 3;
    return arena_printf(a, "%.*f", decimals, x);
}

static const char *number_or_none(arena *a, double x, bool there) {
    return there && x > 0 ? bench_number(a, x) : "–";
}

static const char *count(arena *a, uint64_t n) {
    return arena_printf(a, "%llu", (unsigned long long)n);
}

static const char *giga(arena *a, double a_second) {
    return number_or_none(a, a_second / 1e9, true);
}

static const char *percent(arena *a, double share) {
    return share > 0 ? arena_printf(a, "%.0f %%", 100 * share) : "–";
}

static const char **add_row(arena *a, bench_table *t) {
    return *(const char *(*)[BENCH_MOST_COLUMNS])arena_push(a, (void **)&t->rows, &t->n_rows, &t->cap_rows,
                                                            sizeof *t->rows);
}

const char *bench_test_name(arena *a, uint32_t n_prompt, uint32_t n_gen, uint32_t n_depth) {
    const char *name = arena_printf(a, "%s%u", n_prompt ? "pp" : "tg", n_prompt + n_gen);
    return n_depth ? arena_printf(a, "%s @ d%u", name, n_depth) : name;
}

/* ---- limits */

bench_table bench_table_limits(arena *a, const bench_report *r) {
    static const bench_column columns[] = {
        { "threads", "how many work at a time", false },
        { "memory GB/s", "plain reads of memory far larger than the caches", false },
        { "weights GB/s", "plain reads of as many bytes as a token reads of weights", false },
        { "dot G/s", "8-bit multiply-adds by the instruction that kernels use, in billions a second", false },
        { "fma G/s", "f32 multiply-adds, in billions a second", false },
    };
    bench_table t = { .title = "What this machine can do", .columns = columns,
                      .n_columns = ARRAY_LEN(columns) };
    t.note = "Plain reads; of as many bytes as a token reads of weights, too; multiply-adds of 8-bit "
             "integers and of f32, by the instructions that kernels use.";
    for (uint32_t i = 0; i < r->n_limits; i++) {
        const bench_limits *l = r->limits[i];
        const char        **row = add_row(a, &t);
        row[0] = count(a, l->n_threads);
        row[1] = giga(a, l->memory);
        row[2] = giga(a, l->weights);
        row[3] = giga(a, l->dots);
        row[4] = giga(a, l->fmas);
    }
    return t;
}

/* ---- the whole model */

bench_table bench_table_tests(arena *a, const bench_report *r) {
    static const bench_column columns[] = {
        { "test", "tokens of a prompt (pp), generated (tg), at a depth (d)", true },
        { "threads", "how many work at a time", false },
        { "tokens/s", "median of the runs", false },
        { "± %", "half of what the slowest and the fastest run are apart", false },
        { "GB/s", "weights and caches read", false },
        { "G/s", "multiply-adds, in billions a second", false },
        { "of limit", "the least time that this can take, over the time it takes", false },
        { "limit", "what takes the most of that least time: reading, dots, or floats", true },
        { "runs", "how many", false },
    };
    bench_table t = { .title = "Whole model", .columns = columns, .n_columns = ARRAY_LEN(columns) };
    for (uint32_t i = 0; i < r->n_tests; i++) {
        const bench_test *s = r->tests[i];
        const char      **row = add_row(a, &t);
        enum bench_bound  bound;
        double limit = bench_limit_ns(&s->cost, s->limits, &bound);
        double least = (double)s->ns[0], most = least;
        for (uint32_t k = 1; k < s->n_runs; k++) {
            least = fmin(least, (double)s->ns[k]);
            most = fmax(most, (double)s->ns[k]);
        }
        row[0] = bench_test_name(a, s->n_prompt, s->n_gen, s->n_depth);
        row[1] = count(a, s->limits->n_threads);
        row[2] = bench_number(a, 1e9 * (s->n_prompt + s->n_gen) / s->median);
        row[3] = arena_printf(a, "%.1f", 50 * (most - least) / s->median);
        row[4] = bench_number(a, s->cost.bytes / s->median);
        row[5] = bench_number(a, (s->cost.dots + s->cost.fmas) / s->median);
        row[6] = percent(a, limit / s->median);
        row[7] = bench_bound_names[bound];
        row[8] = count(a, s->n_runs);
    }
    return t;
}

/* ---- kernels */

bool bench_is_of_pass(const bench_kernel *k, const bench_pass *pass) {
    return k->limits == pass->limits && k->prefill == pass->prefill;
}

static const bench_column kernel_columns[] = {
    { "kernel", "the values that it makes", true },
    { "what", "its op, and what was joined to it", true },
    { "calls", "in a pass", false },
    { "µs/token", "of all calls", false },
    { "time", "its part of all kernels'", false },
    { "GB/s", "weights and caches read", false },
    { "G/s", "multiply-adds, in billions a second", false },
    { "of limit", "the least time that this can take, over the time it takes", false },
    { "limit", "what takes the most of that least time: reading, dots, or floats", true },
    { "interpreted", "µs a token that the same work takes by generic loops", false },
    { "ratio", "interpreted over generated time", false },
};

static void kernel_row(arena *a, const char **row, const bench_kernel *k, const bench_pass *pass) {
    enum bench_bound bound;
    double limit = bench_limit_ns(&k->cost, k->limits, &bound), products = k->cost.dots + k->cost.fmas;
    bool   bounded = bound != BENCH_UNBOUND;
    double us = 1e-3 * k->ns / k->n_tokens, ratio = bench_kernel_ratio(k);
    row[0] = k->name;
    row[1] = k->what;
    row[2] = count(a, k->n_calls);
    row[3] = bench_number(a, us);
    row[4] = percent(a, k->ns / pass->kernels);
    row[5] = number_or_none(a, k->cost.bytes / k->ns, bounded);
    row[6] = number_or_none(a, products / k->ns, bounded);
    row[7] = percent(a, limit / k->ns);
    row[8] = bench_bound_names[bound];
    row[9] = number_or_none(a, ratio * us, true);
    row[10] = number_or_none(a, ratio, true);
}

static const char *tokens_text(arena *a, uint32_t n_tokens, uint32_t position) {
    return arena_printf(a, "%u token%s at position %u", n_tokens, n_tokens == 1 ? "" : "s", position);
}

static const char *pass_note(arena *a, const bench_pass *pass) {
    const char *text = tokens_text(a, pass->n_tokens, pass->position);
    if (pass->interpreted_tokens != pass->n_tokens)
        text = arena_printf(a, "%s; interpreted: %s", text,
                            tokens_text(a, pass->interpreted_tokens, pass->interpreted_position));
    text = arena_printf(a, "%s. A pass takes %s µs a token, the kernels' sum is %s µs.", text,
                        bench_number(a, 1e-3 * pass->ns / pass->n_tokens),
                        bench_number(a, 1e-3 * pass->kernels / pass->n_tokens));
    if (!(pass->unpaired > 0)) return text;
    return arena_printf(a, "%s Interpreted ops that no kernel stands for take %s µs a token.", text,
                        bench_number(a, 1e-3 * pass->unpaired / pass->interpreted_tokens));
}

bench_table bench_table_kernels(arena *a, const bench_report *r, const bench_pass *pass) {
    uint32_t    n = pass->limits->n_threads;
    bench_table t = { .columns = kernel_columns, .n_columns = ARRAY_LEN(kernel_columns) };
    const char *doing = pass->prefill ? "reading a prompt" : "generating";
    t.title = arena_printf(a, "Kernels, %s, %u thread%s", doing, n, n == 1 ? "" : "s");
    t.note = pass_note(a, pass);
    for (uint32_t i = 0; i < r->n_rows; i++)
        if (bench_is_of_pass(r->rows[i], pass)) kernel_row(a, add_row(a, &t), r->rows[i], pass);
    return t;
}

/* ---- variants */

bench_table bench_table_variants(arena *a, const bench_report *r) {
    static const bench_column columns[] = {
        { "compiled with", "in place of how it is compiled", true },
        { "test", "tokens of a prompt (pp), generated (tg), at a depth (d)", true },
        { "threads", "how many work at a time", false },
        { "as it is", "tokens a second of the model as it is", false },
        { "so", "tokens a second of the model so compiled", false },
        { "ratio", "of the times: more than 1 is slower than the model as it is", false },
        { "turns", "how often each was measured", false },
    };
    bench_table t = { .title = "What unrolling and fusing bring", .columns = columns,
                      .n_columns = ARRAY_LEN(columns) };
    t.note = "Tokens a second, by turns. A ratio above 1 is what the model would lose.";
    for (uint32_t i = 0; i < r->n_variants; i++) {
        const bench_variant *v = r->variants[i];
        const char         **row = add_row(a, &t);
        double tokens = 1e9 * (v->n_prompt + v->n_gen);
        row[0] = v->flag;
        row[1] = bench_test_name(a, v->n_prompt, v->n_gen, v->n_depth);
        row[2] = count(a, v->limits->n_threads);
        row[3] = bench_number(a, tokens / v->plain);
        row[4] = bench_number(a, tokens / v->ns);
        row[5] = arena_printf(a, "%.3f", v->ratio);
        row[6] = count(a, v->n_runs);
    }
    return t;
}

/* ---- what was measured */

const char *bench_model_text(arena *a, const bench_report *r) {
    return arena_printf(a, "%s: %s, %s, %s million parameters, %s MiB of weights; context %u, batch %u",
                        r->name, r->arch, r->types, bench_number(a, 1e-6 * (double)r->n_params),
                        bench_number(a, (double)r->weight_bytes / (1 << 20)), r->n_ctx, r->n_batch);
}

const char *bench_machine_text(arena *a, const bench_report *r) {
    return arena_printf(a, "%s, %u processor%s; %s%s%s%s%s", r->cpu ? r->cpu : "unknown CPU", r->n_processors,
                        r->n_processors == 1 ? "" : "s", COMPILATION_VERSION, ", kernels for ", r->target,
                        *r->flags ? ", " : "", r->flags);
}
