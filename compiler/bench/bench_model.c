/* The whole model: reading prompts and generating, as it is compiled and by turns with the same model
 * compiled otherwise. As in llama-bench a generated token is a made-up one that is evaluated and whose
 * logits are computed; choosing one is not measured. */
#include "bench_parts.h"

#include <math.h>
#include <time.h>

enum {
    WARM_TOKENS = 4,
    LEAST_RUNS = 2, MOST_RUNS = 9,                  /* of a test, where nobody says how many */
    LEAST_TURNS = 3, MOST_TURNS = 15,               /* of variants, likewise */
    SHORT_PROMPT = 128, SHORT_GENERATION = 64,      /* of variants, at most */
};

static const double test_ns = 6e9;    /* of all runs of a test, where nobody says how many */
static const double long_ns = 0.5e9;  /* then the first time tells enough */
static const double turn_ns = 0.6e9;  /* of a variant's run */
static const double turns_ns = 4e9;   /* of all of a test's */

/* ---- passes */

static bool go_back(const bench *b, ggufc_session *s, uint32_t depth) {
    ggufc_error error;
    return bench_check(b, ggufc_session_truncate(s, depth, &error), &error);
}

/* Tokens [from, from + n), `piece` at a time; the logits after the last piece, or after each. */
static bool evaluate(const bench *b, ggufc_session *s, uint32_t from, uint32_t n, uint32_t piece, bool each) {
    ggufc_error error;
    for (uint32_t i = 0; i < n; i += piece) {
        uint32_t count = n - i < piece ? n - i : piece;
        if (bench_stopped(b)) return false;
        if (!bench_check(b, ggufc_session_evaluate(s, b->tokens + from + i, count, &error), &error))
            return false;
        if (each || i + count == n) ggufc_session_logits(s);
    }
    return true;
}

bool bench_fill(const bench *b, ggufc_session *s, uint32_t depth) {
    uint32_t there = ggufc_session_n_past(s);
    if (there < depth && !evaluate(b, s, there, depth - there, b->report->n_batch, false)) return false;
    return go_back(b, s, depth);
}

bool bench_prefill(const bench *b, ggufc_session *s, uint32_t depth, uint32_t n) {
    return go_back(b, s, depth) && evaluate(b, s, depth, n, b->report->n_batch, false);
}

bool bench_decode(const bench *b, ggufc_session *s, uint32_t depth, uint32_t n) {
    return go_back(b, s, depth) && evaluate(b, s, depth, n, 1, true);
}

static bool timed(const bench *b, ggufc_session *s, const bench_test *t, uint64_t *ns) {
    uint64_t begin = bench_clock_ns();
    bool ok = t->n_prompt ? bench_prefill(b, s, t->n_depth, t->n_prompt)
                          : bench_decode(b, s, t->n_depth, t->n_gen);
    *ns = bench_clock_ns() - begin;
    return ok;
}

/* Touches what a run will, and guesses how long a token takes. */
static bool warm_up(const bench *b, ggufc_session *s, const bench_test *t, double *token_ns) {
    bench_test first = *t;
    uint64_t   ns;
    uint32_t   batch = b->report->n_batch;
    if (t->n_prompt > batch) first.n_prompt = batch;
    if (t->n_gen > WARM_TOKENS) first.n_gen = WARM_TOKENS;
    if (!bench_fill(b, s, t->n_depth) || !timed(b, s, &first, &ns)) return false;
    if ((double)ns < long_ns && !timed(b, s, &first, &ns)) return false;
    *token_ns = (double)ns / (first.n_prompt + first.n_gen);
    return true;
}

uint32_t bench_how_often(double each_ns, double all_ns, uint32_t least, uint32_t most) {
    double n = all_ns / each_ns;
    return n < least ? least : n > most ? most : (uint32_t)n;
}

uint32_t bench_runs(const bench *b, double each_ns, double all_ns, uint32_t least, uint32_t most) {
    return b->options->runs ? b->options->runs : bench_how_often(each_ns, all_ns, least, most);
}

/* ---- tests */

static void begin_test(bench_test *t) {
    time_t    now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(t->time, sizeof t->time, "%Y-%m-%dT%H:%M:%SZ", &utc);
}

/* The work of one run: each batch, or token, reads all weights. */
static bench_cost cost_of_test(const bench *b, const bench_test *t) {
    const graph *g = b->sides[BENCH_PLAIN].engine.compilation.graph;
    bench_cost   sum = { 0 };
    uint32_t     n = t->n_prompt + t->n_gen, piece = t->n_prompt ? b->report->n_batch : 1;
    for (uint32_t i = 0; i < n; i += piece) {
        bench_cost c = bench_cost_of_graph(g, n - i < piece ? n - i : piece, t->n_depth + i);
        bench_cost_add(&sum, &c, 1);
    }
    return sum;
}

static bool run_test(bench *b, bench_test *t) {
    ggufc_session *s = b->sides[BENCH_PLAIN].session;
    double token_ns, ns[BENCH_MOST_RUNS];
    if (!bench_goes_on(b, "%s%u at %u, %u threads", t->n_prompt ? "pp" : "tg", t->n_prompt + t->n_gen,
                       t->n_depth, b->limits->n_threads) ||
        !warm_up(b, s, t, &token_ns))
        return false;
    double run_ns = token_ns * (t->n_prompt + t->n_gen);
    t->n_runs = bench_runs(b, run_ns, test_ns, LEAST_RUNS, MOST_RUNS);
    for (uint32_t i = 0; i < t->n_runs; i++) {
        if (!timed(b, s, t, &t->ns[i])) return false;
        ns[i] = (double)t->ns[i];
    }
    t->median = bench_median(ns, t->n_runs);
    t->cost = cost_of_test(b, t);
    return true;
}

static bool add_test(bench *b, uint32_t n_prompt, uint32_t n_gen, uint32_t depth) {
    bench_report *r = b->report;
    bench_test   *t = ARENA_NEW(b->memory, bench_test);
    *t = (bench_test){ .limits = b->limits, .n_prompt = n_prompt, .n_gen = n_gen, .n_depth = depth };
    begin_test(t);
    if (!run_test(b, t)) return false;
    *(bench_test **)arena_push(b->memory, (void **)&r->tests, &r->n_tests, &r->cap_tests, sizeof t) = t;
    return true;
}

/* What is asked for must fit the context; what is not asked for is as much as fits. */
static uint32_t size_at(const bench *b, uint32_t wanted, uint32_t depth, bool asked) {
    uint32_t room = b->report->n_ctx - depth;
    return asked || wanted < room ? wanted : room;
}

bool bench_measure_model(bench *b) {
    const bench_options *o = b->options;
    for (uint32_t d = 0; d < o->depths.n; d++) {
        uint32_t depth = o->depths.at[d];
        for (uint32_t i = 0; i < o->prompts.n; i++) {
            uint32_t n = size_at(b, o->prompts.at[i], depth, o->prompts_asked);
            if (n && !add_test(b, n, 0, depth)) return false;
        }
        for (uint32_t i = 0; i < o->generations.n; i++) {
            uint32_t n = size_at(b, o->generations.at[i], depth, o->generations_asked);
            if (n && !add_test(b, 0, n, depth)) return false;
        }
    }
    return true;
}

/* ---- variants */

typedef struct turns {
    bench_test test;
    uint32_t   n; /* how often each has its turn */
    double     ns[BENCH_SIDES][BENCH_MOST_RUNS];
} turns;

/* The model as it is, then each variant, then again: so that what slows the machine down for a while
   slows all of them. */
static bool take_turns(bench *b, turns *t) {
    uint64_t ns;
    for (uint32_t i = 0; i < t->n; i++)
        for (int s = 0; s < BENCH_SIDES; s++) {
            if (!b->sides[s].session || s == BENCH_INTERPRETED) continue;
            if (!timed(b, b->sides[s].session, &t->test, &ns)) return false;
            t->ns[s][i] = (double)ns;
        }
    return true;
}

static void add_variant(bench *b, const turns *t, int side) {
    bench_report  *r = b->report;
    bench_variant *v = ARENA_NEW(b->memory, bench_variant);
    double plain[BENCH_MOST_RUNS], ns[BENCH_MOST_RUNS], ratios[BENCH_MOST_RUNS];
    for (uint32_t i = 0; i < t->n; i++) {
        plain[i] = t->ns[BENCH_PLAIN][i];
        ns[i] = t->ns[side][i];
        ratios[i] = ns[i] / plain[i];
    }
    *v = (bench_variant){
        .limits = b->limits, .flag = b->sides[side].flag, .n_prompt = t->test.n_prompt,
        .n_gen = t->test.n_gen, .n_depth = t->test.n_depth, .n_runs = t->n,
        .plain = bench_median(plain, t->n), .ns = bench_median(ns, t->n), .ratio = bench_median(ratios, t->n),
    };
    bench_variant **to = arena_push(b->memory, (void **)&r->variants, &r->n_variants, &r->cap_variants,
                                    sizeof *to);
    *to = v;
}

static bool compare_variants(bench *b, bench_test test) {
    double token_ns = 0;
    turns  t = { .test = test };
    if (!bench_goes_on(b, "variants, %s%u, %u threads", test.n_prompt ? "pp" : "tg",
                       test.n_prompt + test.n_gen, b->limits->n_threads))
        return false;
    for (int s = BENCH_SIDES - 1; s >= 0; s--) { /* the model as it is last: the guess is of it */
        if (!b->sides[s].session || s == BENCH_INTERPRETED) continue;
        if (!warm_up(b, b->sides[s].session, &test, &token_ns)) return false;
    }
    uint32_t *n = test.n_prompt ? &t.test.n_prompt : &t.test.n_gen;
    *n = bench_how_often(token_ns, turn_ns, 1, *n);
    t.n = bench_runs(b, token_ns * *n, turns_ns / (BENCH_SIDES - 1), LEAST_TURNS, MOST_TURNS);
    if (!take_turns(b, &t)) return false;
    for (int s = BENCH_UNROLL; s <= BENCH_FUSE; s++)
        if (b->sides[s].session) add_variant(b, &t, s);
    return true;
}

bool bench_measure_variants(bench *b) {
    const bench_options *o = b->options;
    uint32_t   depth = o->depths.at[0], room = b->report->n_ctx - depth;
    bench_test test = { .n_depth = depth };
    if (o->prompts.n && o->prompts.at[0] && room) {
        test.n_prompt = o->prompts.at[0] < SHORT_PROMPT ? o->prompts.at[0] : SHORT_PROMPT;
        if (test.n_prompt > b->report->n_batch) test.n_prompt = b->report->n_batch;
        if (test.n_prompt > room) test.n_prompt = room;
        if (!compare_variants(b, test)) return false;
    }
    if (o->generations.n && o->generations.at[0] && room) {
        test.n_prompt = 0;
        test.n_gen = o->generations.at[0] < SHORT_GENERATION ? o->generations.at[0] : SHORT_GENERATION;
        if (test.n_gen > room) test.n_gen = room;
        if (!compare_variants(b, test)) return false;
    }
    return true;
}
