/* What is measured, in which order: for each number of threads the limits, the whole model, kernels,
 * variants; and the limits again in between and at the end. */
#include "bench_parts.h"

#include "cpu.h"

#include <string.h>
#include <time.h>

/* ---- going on */

bool bench_stopped(const bench *b) {
    return b->options->stop && *b->options->stop;
}

bool bench_goes_on(const bench *b, const char *format, ...) {
    char    text[100];
    va_list args;
    if (bench_stopped(b)) return false;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (b->options->progress) b->options->progress(text);
    return true;
}

bool bench_check(const bench *b, ggufc_status status, const ggufc_error *error) {
    return status == GGUFC_OK || diag_error(b->messages, "%s", error->text);
}

void bench_unpin(const bench *b) {
    sched_setaffinity(0, sizeof b->allowed, &b->allowed);
}

/* ---- sides */

/* What the model as it is has warned of already, the others need not. */
static void pass_errors(void *user, enum diag_level level, const char *line) {
    if (level == DIAG_ERROR) diag_error(user, "%s", line);
}

static bool open_side(bench *b, int s, const engine_options *options) {
    bench_side *side = &b->sides[s];
    diag        quiet = { .sink = pass_errors, .user = b->messages };
    if (!bench_goes_on(b, "compiling")) return false;
    side->opened = true;
    return engine_open(&side->engine, options, s == BENCH_PLAIN ? b->messages : &quiet);
}

static bool open_others(bench *b) {
    engine_options o = b->options->engine;
    o.compile.verbose = false;
    o.kernels = ENGINE_INTERPRETED;
    if (!open_side(b, BENCH_INTERPRETED, &o)) return false;
    o.kernels = ENGINE_COMPILED;
    o.compile.unroll = b->options->engine.compile.unroll ? 0 : 4;
    b->sides[BENCH_UNROLL].flag = o.compile.unroll ? "--unroll=4" : "--unroll=full";
    if (!open_side(b, BENCH_UNROLL, &o)) return false;
    o.compile.unroll = b->options->engine.compile.unroll;
    o.compile.no_fuse = !b->options->engine.compile.no_fuse;
    b->sides[BENCH_FUSE].flag = o.compile.no_fuse ? "--no-fuse" : "without --no-fuse";
    return open_side(b, BENCH_FUSE, &o);
}

/* ---- sessions */

static void close_sessions(bench *b) {
    for (int s = 0; s < BENCH_SIDES; s++) {
        ggufc_session_close(b->sides[s].session);
        b->sides[s].session = NULL;
    }
    bench_unpin(b);
}

static bool open_sessions(bench *b) {
    for (int s = 0; s < BENCH_SIDES; s++) {
        ggufc_error error;
        ggufc_session_options o = {
            .model = &b->sides[s].engine.model, .n_threads = b->limits->n_threads, .pin_threads = 1,
        };
        if (!b->sides[s].opened) continue;
        bench_unpin(b);
        if (!bench_check(b, ggufc_session_open(&b->sides[s].session, &o, &error), &error)) return false;
    }
    return true;
}

/* ---- what is measured */

static const char *cpu_name(arena *a) {
    char line[256], *name = NULL;
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f && !name && fgets(line, sizeof line, f))
        if (!strncmp(line, "model name", 10) && (name = strchr(line, ':'))) {
            name += 1 + strspn(name + 1, " ");
            name[strcspn(name, "\n")] = 0;
        }
    if (f) fclose(f);
    return name ? arena_copy_text(a, name, strlen(name)) : NULL;
}

static const char *flags_text(arena *a, const ggufc_compile_options *o) {
    const char *text = o->cpu ? arena_printf(a, " --cpu=%s", o->cpu) : "";
    if (o->features) text = arena_printf(a, "%s --features=%s", text, o->features);
    if (o->ctx) text = arena_printf(a, "%s --ctx=%u", text, o->ctx);
    if (o->unroll) text = arena_printf(a, "%s --unroll=%u", text, o->unroll);
    if (o->no_fuse) text = arena_printf(a, "%s --no-fuse", text);
    if (o->arch) text = arena_printf(a, "%s --arch=%s", text, o->arch);
    return *text ? text + 1 : text;
}

static const char *copy_text(arena *a, const char *text) {
    return arena_copy_text(a, text, strlen(text));
}

static void describe(bench *b) {
    bench_report *r = b->report;
    const engine *e = &b->sides[BENCH_PLAIN].engine;
    r->path = e->options.compile.model;
    r->name = copy_text(b->memory, e->model.name); /* code and file go before the report does */
    r->arch = copy_text(b->memory, e->model.arch);
    r->types = graph_weight_types(b->memory, e->compilation.graph, &r->n_params);
    r->target = copy_text(b->memory, e->model.target);
    r->kernels = engine_kernels_names[b->options->engine.kernels];
    r->cpu = cpu_name(b->memory);
    r->flags = flags_text(b->memory, &e->options.compile);
    r->weight_bytes = e->model.weight_bytes;
    r->file_bytes = e->model.file_bytes;
    r->n_ctx = e->model.n_ctx;
    r->n_batch = e->model.n_batch;
    r->n_processors = (uint32_t)CPU_COUNT(&b->allowed);
}

static uint32_t most_of(const bench_sizes *s) {
    uint32_t most = 0;
    for (uint32_t i = 0; i < s->n; i++)
        if (s->at[i] > most) most = s->at[i];
    return most;
}

/* What is asked for has room in the context. */
static bool check_sizes(const bench *b) {
    const bench_options *o = b->options;
    uint32_t n_ctx = b->report->n_ctx, depth = most_of(&o->depths), most = 1;
    if (o->prompts_asked && most_of(&o->prompts) > most) most = most_of(&o->prompts);
    if (o->generations_asked && most_of(&o->generations) > most) most = most_of(&o->generations);
    if ((uint64_t)depth + most <= n_ctx) return true;
    return diag_error(b->messages, "%s: %u tokens at a depth of %u cannot be measured, the context has "
                      "room for %u; --ctx=N makes another", b->report->path, most, depth, n_ctx);
}

static bool begin_limits(bench *b, uint32_t n_threads) {
    bench_report *r = b->report;
    b->limits = ARENA_NEW(b->memory, bench_limits);
    b->limits->n_threads = n_threads;
    *(bench_limits **)arena_push(b->memory, (void **)&r->limits, &r->n_limits, &r->cap_limits,
                                 sizeof b->limits) = b->limits;
    return bench_measure_limits(b);
}

/* The limits every now and then, lest a time in which others had the machine counts as its best. */
static bool measure_threads(bench *b, uint32_t n_threads) {
    bool ok = begin_limits(b, n_threads) && open_sessions(b) && bench_measure_model(b);
    if (ok && b->compiled)
        ok = bench_measure_limits(b) && bench_measure_kernels(b) && bench_measure_limits(b) &&
             bench_measure_variants(b);
    close_sessions(b);
    return ok;
}

/* Code for another machine is refused before any of it is run. */
static bool check_machine(const bench *b) {
    const engine *e = &b->sides[BENCH_PLAIN].engine;
    return !b->compiled || cpu_can_run(e->model.target) ||
           diag_error(b->messages, "%s was to be compiled for %s, which this processor is not",
                      b->report->path, e->model.target);
}

static bool measure(bench *b) {
    const bench_options *o = b->options;
    if (!open_side(b, BENCH_PLAIN, &o->engine)) return false;
    describe(b);
    if (!check_sizes(b) || !check_machine(b) || (b->compiled && !open_others(b)) || !bench_peak_open(b))
        return false;
    uint32_t n_vocab = b->sides[BENCH_PLAIN].engine.model.n_vocab;
    b->tokens = ARENA_ARRAY(b->memory, int32_t, b->report->n_ctx);
    for (uint32_t i = 0; i < b->report->n_ctx; i++)
        b->tokens[i] = (int32_t)((i + 1) * UINT64_C(2654435761) % n_vocab);
    for (uint32_t i = 0; i < o->threads.n; i++)
        if (!measure_threads(b, o->threads.at[i])) return false;
    for (uint32_t i = 0; i < b->report->n_limits; i++) {
        b->limits = b->report->limits[i];
        if (!bench_measure_limits(b)) return false;
    }
    return true;
}

enum bench_outcome bench_run(arena *a, diag *d, const bench_options *options, bench_report *report) {
    bench b = { .memory = a, .messages = d, .options = options, .report = report };
    *report = (bench_report){ 0 };
    b.compiled = options->engine.kernels == ENGINE_COMPILED;
    sched_getaffinity(0, sizeof b.allowed, &b.allowed);
    bool ok = measure(&b);
    bench_peak_close(&b);
    for (int s = 0; s < BENCH_SIDES; s++)
        if (b.sides[s].opened) engine_close(&b.sides[s].engine);
    if (options->progress) options->progress(NULL);
    return ok ? BENCH_DONE : bench_stopped(&b) ? BENCH_STOPPED : BENCH_FAILED;
}
