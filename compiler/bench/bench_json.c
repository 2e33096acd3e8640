/* The report as JSON. Tests have llama-bench's fields, with its names and meanings, so that what reads
 * the one reads the other; everything else is ours. */
#include "bench.h"

#include "json.h"

#include <math.h>

static const char *type_text(char *to, size_t size, const bench_report *r) {
    snprintf(to, size, "%s %.1fM %s", r->arch, 1e-6 * (double)r->n_params, r->types);
    return to;
}

static double mean(const double *x, uint32_t n) {
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += x[i];
    return n ? sum / n : 0;
}

/* Of a sample, as llama-bench has it. */
static double deviation(const double *x, uint32_t n) {
    double m = mean(x, n), sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += (x[i] - m) * (x[i] - m);
    return n > 1 ? sqrt(sum / (n - 1)) : 0;
}

static void put_model(json *j, const bench_report *r) {
    char type[200];
    json_text(j, "cpu_info", r->cpu ? r->cpu : "");
    json_text(j, "backends", "CPU");
    json_text(j, "model_filename", r->path);
    json_text(j, "model_type", type_text(type, sizeof type, r));
    json_count(j, "model_size", r->weight_bytes);
    json_count(j, "model_n_params", r->n_params);
    json_count(j, "n_batch", r->n_batch);
}

static void put_cost(json *j, const bench_cost *cost, const bench_limits *limits, double ns) {
    enum bench_bound bound;
    double limit = bench_limit_ns(cost, limits, &bound);
    json_number(j, "bytes", cost->bytes);
    json_number(j, "dots", cost->dots);
    json_number(j, "fmas", cost->fmas);
    json_number(j, "bytes_per_second", 1e9 * cost->bytes / ns);
    json_number(j, "multiply_adds_per_second", 1e9 * (cost->dots + cost->fmas) / ns);
    if (bound == BENCH_UNBOUND) {
        json_null(j, "limit");
        json_null(j, "share");
    } else {
        json_text(j, "limit", bench_bound_names[bound]);
        json_number(j, "share", limit / ns);
    }
}

static void put_test(json *j, const bench_report *r, const bench_test *t) {
    double   ns[BENCH_MOST_RUNS], ts[BENCH_MOST_RUNS];
    uint32_t n = t->n_prompt + t->n_gen;
    for (uint32_t i = 0; i < t->n_runs; i++) {
        ns[i] = (double)t->ns[i];
        ts[i] = 1e9 * n / ns[i];
    }
    json_open_line(j, NULL, '{');
    put_model(j, r);
    json_count(j, "n_ubatch", r->n_batch);
    json_count(j, "n_threads", t->limits->n_threads);
    json_text(j, "type_k", "f16");
    json_text(j, "type_v", "f16");
    json_count(j, "n_prompt", t->n_prompt);
    json_count(j, "n_gen", t->n_gen);
    json_count(j, "n_depth", t->n_depth);
    json_text(j, "test_time", t->time);
    json_count(j, "avg_ns", (uint64_t)mean(ns, t->n_runs));
    json_count(j, "stddev_ns", (uint64_t)deviation(ns, t->n_runs));
    json_number(j, "avg_ts", mean(ts, t->n_runs));
    json_number(j, "stddev_ts", deviation(ts, t->n_runs));
    json_open_line(j, "samples_ns", '[');
    for (uint32_t i = 0; i < t->n_runs; i++) json_count(j, NULL, t->ns[i]);
    json_close(j, ']');
    json_open_line(j, "samples_ts", '[');
    for (uint32_t i = 0; i < t->n_runs; i++) json_number(j, NULL, ts[i]);
    json_close(j, ']');
    json_number(j, "median_ns", t->median);
    json_number(j, "median_ts", 1e9 * n / t->median);
    put_cost(j, &t->cost, t->limits, t->median);
    json_close(j, '}');
}

static void put_limits(json *j, const bench_limits *l) {
    json_open_line(j, NULL, '{');
    json_count(j, "n_threads", l->n_threads);
    json_number(j, "memory_bytes_per_second", l->memory);
    json_number(j, "weights_bytes_per_second", l->weights);
    json_number(j, "dots_per_second", l->dots);
    json_number(j, "fmas_per_second", l->fmas);
    json_close(j, '}');
}

static void put_pass(json *j, const bench_pass *p) {
    json_open_line(j, NULL, '{');
    json_count(j, "n_threads", p->limits->n_threads);
    json_bool(j, "prefill", p->prefill);
    json_count(j, "n_tokens", p->n_tokens);
    json_count(j, "position", p->position);
    json_number(j, "ns", p->ns);
    json_number(j, "kernels_ns", p->kernels);
    json_count(j, "interpreted_tokens", p->interpreted_tokens);
    json_count(j, "interpreted_position", p->interpreted_position);
    json_number(j, "unpaired_ns", p->unpaired);
    json_close(j, '}');
}

static void put_kernel(json *j, const bench_kernel *k) {
    json_open_line(j, NULL, '{');
    json_text(j, "name", k->name);
    json_text(j, "what", k->what);
    json_bool(j, "prefill", k->prefill);
    json_count(j, "n_threads", k->limits->n_threads);
    json_count(j, "n_calls", k->n_calls);
    json_count(j, "n_tokens", k->n_tokens);
    json_number(j, "ns", k->ns);
    put_cost(j, &k->cost, k->limits, k->ns);
    if (k->interpreted_ns > 0) {
        json_open_line(j, "interpreted", '{');
        json_count(j, "n_tokens", k->interpreted_tokens);
        json_number(j, "ns", k->interpreted_ns);
        put_cost(j, &k->interpreted, k->limits, k->interpreted_ns);
        json_close(j, '}');
    } else {
        json_null(j, "interpreted");
    }
    json_close(j, '}');
}

static void put_variant(json *j, const bench_variant *v) {
    json_open_line(j, NULL, '{');
    json_text(j, "flag", v->flag);
    json_count(j, "n_threads", v->limits->n_threads);
    json_count(j, "n_prompt", v->n_prompt);
    json_count(j, "n_gen", v->n_gen);
    json_count(j, "n_depth", v->n_depth);
    json_count(j, "n_runs", v->n_runs);
    json_number(j, "plain_ns", v->plain);
    json_number(j, "ns", v->ns);
    json_number(j, "ratio", v->ratio);
    json_close(j, '}');
}

void bench_json(const bench_report *r, FILE *to) {
    json j = json_begin(to);
    json_open(&j, NULL, '{');
    json_text(&j, "program", COMPILATION_VERSION);
    put_model(&j, r);
    json_text(&j, "model_name", r->name);
    json_count(&j, "n_ctx", r->n_ctx);
    json_text(&j, "kernels_used", r->kernels);
    json_text(&j, "target", r->target);
    json_text(&j, "flags", r->flags);
    json_count(&j, "n_processors", r->n_processors);
    json_open(&j, "limits", '[');
    for (uint32_t i = 0; i < r->n_limits; i++) put_limits(&j, r->limits[i]);
    json_close(&j, ']');
    json_open(&j, "tests", '[');
    for (uint32_t i = 0; i < r->n_tests; i++) put_test(&j, r, r->tests[i]);
    json_close(&j, ']');
    json_open(&j, "passes", '[');
    for (uint32_t i = 0; i < r->n_passes; i++) put_pass(&j, r->passes[i]);
    json_close(&j, ']');
    json_open(&j, "kernels", '[');
    for (uint32_t i = 0; i < r->n_rows; i++) put_kernel(&j, r->rows[i]);
    json_close(&j, ']');
    json_open(&j, "variants", '[');
    for (uint32_t i = 0; i < r->n_variants; i++) put_variant(&j, r->variants[i]);
    json_close(&j, ']');
    json_close(&j, '}');
}
