/* sampler.c - see sampler.h for what the steps mean.
 *
 * Each of top_k, top_p and min_p keeps the first so many of the candidates in descending order, so
 * no more of that order is made than is looked at: top_k of a large vocabulary keeps the best k so
 * far in a heap whose root is the worst of them, one comparison for most logits; then the
 * candidates are made a heap the other way and taken off the top until top_p or min_p says stop.
 * The taken ones gather, best last, at the end of the same array.
 */
#include "sampler.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

typedef struct candidate {
    float logit;
    int32_t id;
} candidate;

struct sampler {
    sampler_options options;
    uint32_t n_vocab;
    uint64_t random;       /* SplitMix64's state */
    float *logits;         /* n_vocab: after penalties, without NaN */
    candidate *candidates; /* n_vocab */
    double *weights;       /* n_vocab: of the candidates drawn from */
    bool *forbidden;       /* n_vocab */
    bool any_forbidden;    /* most runs have none, and need not look */
    int32_t *counts;       /* n_vocab: how often each is in the window */
    int32_t *window;       /* repeat_last_n: the last accepted, a ring */
    uint32_t n_window, window_next;
};

sampler_options sampler_defaults(void) {
    return (sampler_options){ .temp = 0.8f,
                              .top_k = 40,
                              .top_p = 0.95f,
                              .min_p = 0.05f,
                              .repeat_penalty = 1.0f,
                              .repeat_last_n = 64 };
}

sampler *sampler_new(uint32_t n_vocab, const sampler_options *options) {
    sampler *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->options = *options;
    s->n_vocab = n_vocab;
    s->random = options->seed;
    if (s->options.repeat_last_n < 0) s->options.repeat_last_n = 0;
    float penalty = options->repeat_penalty;
    if (!(penalty > 0) || !isfinite(penalty)) s->options.repeat_penalty = 1.0f;
    s->logits = calloc(n_vocab, sizeof *s->logits);
    s->candidates = calloc(n_vocab, sizeof *s->candidates);
    s->weights = calloc(n_vocab, sizeof *s->weights);
    s->forbidden = calloc(n_vocab, sizeof *s->forbidden);
    s->counts = calloc(n_vocab, sizeof *s->counts);
    s->window = calloc((size_t)s->options.repeat_last_n + 1, sizeof *s->window);
    if (s->logits && s->candidates && s->weights && s->forbidden && s->counts && s->window)
        return s;
    sampler_free(s);
    return NULL;
}

void sampler_free(sampler *s) {
    if (!s) return;
    free(s->logits);
    free(s->candidates);
    free(s->weights);
    free(s->forbidden);
    free(s->counts);
    free(s->window);
    free(s);
}

void sampler_accept(sampler *s, int32_t id) {
    uint32_t size = (uint32_t)s->options.repeat_last_n;
    if (!size || id < 0 || (uint32_t)id >= s->n_vocab) return;
    if (s->n_window == size)
        s->counts[s->window[s->window_next]]--;
    else
        s->n_window++;
    s->window[s->window_next] = id;
    s->counts[id]++;
    s->window_next = (s->window_next + 1) % size;
}

void sampler_forbid(sampler *s, int32_t id) {
    if (id >= 0 && (uint32_t)id < s->n_vocab) s->forbidden[id] = s->any_forbidden = true;
}

/* Fills s->logits. A forbidden token gets -infinity, like a NaN. */
static void penalize_logits(sampler *s, const float *logits) {
    for (uint32_t i = 0; i < s->n_vocab; i++)
        s->logits[i] = isnan(logits[i]) ? -INFINITY : logits[i];
    for (uint32_t i = 0; s->any_forbidden && i < s->n_vocab; i++)
        if (s->forbidden[i]) s->logits[i] = -INFINITY;
    float penalty = s->options.repeat_penalty;
    if (penalty == 1.0f) return;
    for (uint32_t i = 0; i < s->n_window; i++) {
        int32_t id = s->window[i];
        if (s->counts[id] < 0) continue; /* done: it is in the window more than once */
        s->logits[id] = s->logits[id] > 0 ? s->logits[id] / penalty : s->logits[id] * penalty;
        s->counts[id] = -s->counts[id];
    }
    for (uint32_t i = 0; i < s->n_window; i++)
        s->counts[s->window[i]] = abs(s->counts[s->window[i]]);
}

static int32_t find_best(const sampler *s) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < s->n_vocab; i++)
        if (s->logits[i] > s->logits[best]) best = i;
    return (int32_t)best;
}

/* A forbidden token is the best only where no logit is above -infinity. */
static int32_t find_allowed(const sampler *s, int32_t best) {
    if (!s->forbidden[best]) return best;
    for (uint32_t i = 0; i < s->n_vocab; i++)
        if (!s->forbidden[i]) return (int32_t)i;
    return best;
}

/* ---- heaps of candidates */

static bool is_better(candidate a, candidate b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

/* Lets the candidate at `i` sink in a heap of n whose root is the best, or the worst. */
static void sink_candidate(candidate *c, uint32_t n, uint32_t i, bool worst_on_top) {
    candidate moved = c[i];
    for (uint64_t child; (child = 2 * (uint64_t)i + 1) < n; i = (uint32_t)child) {
        if (child + 1 < n && is_better(c[child + 1], c[child]) != worst_on_top) child++;
        if (is_better(c[child], moved) == worst_on_top) break;
        c[i] = c[child];
    }
    c[i] = moved;
}

static void make_heap(candidate *c, uint32_t n, bool worst_on_top) {
    for (uint32_t i = n / 2; i-- > 0;) sink_candidate(c, n, i, worst_on_top);
}

/* Fills s->candidates with the top_k best in no particular order; returns how many. */
static uint32_t select_top_k(sampler *s) {
    uint32_t k = s->n_vocab;
    candidate *c = s->candidates;
    if (s->options.top_k > 0 && (uint32_t)s->options.top_k < k) k = (uint32_t)s->options.top_k;
    for (uint32_t i = 0; i < k; i++) c[i] = (candidate){ s->logits[i], (int32_t)i };
    if (k == s->n_vocab) return k;
    make_heap(c, k, true);
    for (uint32_t i = k; i < s->n_vocab; i++) {
        if (!(s->logits[i] > c[0].logit)) continue;
        c[0] = (candidate){ s->logits[i], (int32_t)i };
        sink_candidate(c, k, 0, true);
    }
    return k;
}

/* ---- drawing */

/* exp(x) for x <= 0 to about 1e-16, 0 for NaN and below the normal range: x is n ln 2 + r with r
   at most ln 2 / 2 from 0, a Taylor series gives e^r, and 2^n is made from its bits. */
static double exp_negative(double x) {
    if (!(x > -700)) return 0;
    int n = (int)(x * 1.44269504088896340736 - 0.5);
    double r = x - n * 0.69314718055994530942, sum = 1;
    for (int i = 13; i > 0; i--) sum = 1 + sum * r / i;
    uint64_t bits = (uint64_t)(1023 + n) << 52;
    double power;
    memcpy(&power, &bits, sizeof power);
    return sum * power;
}

/* 0 <= result < 1 */
static double draw_uniform(sampler *s) {
    uint64_t z = s->random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return (double)(z >> 11) * 0x1p-53;
}

/* Keeps what top_p and min_p leave of the n candidates, at the array's end; returns how many. */
static uint32_t keep_probable(sampler *s, uint32_t n, float best) {
    double top_p = s->options.top_p, min_p = s->options.min_p, total = 0, sum = 0;
    candidate *c = s->candidates;
    uint32_t left = n;
    if (!(top_p < 1) && !(min_p > 0)) return n;
    for (uint32_t i = 0; i < n; i++) total += exp_negative((double)c[i].logit - best);
    make_heap(c, n, false);
    while (left) {
        double p = exp_negative((double)c[0].logit - best);
        if (left < n && p < min_p) break;
        candidate taken = c[0];
        c[0] = c[--left];
        if (left) sink_candidate(c, left, 0, false);
        c[left] = taken;
        sum += p;
        if (top_p < 1 && sum >= top_p * total) break;
    }
    return n - left;
}

static int32_t draw_candidate(sampler *s, const candidate *c, uint32_t n, float best) {
    double sum = 0, temp = s->options.temp;
    for (uint32_t i = 0; i < n; i++) {
        s->weights[i] = exp_negative(((double)c[i].logit - best) / temp);
        sum += s->weights[i];
    }
    double rest = draw_uniform(s) * sum;
    uint32_t last = 0; /* the last with any weight, should rounding leave some of the sum */
    for (uint32_t i = 0; i < n; i++) {
        if (!(s->weights[i] > 0)) continue;
        last = i;
        rest -= s->weights[i];
        if (rest < 0) break;
    }
    return c[last].id;
}

int32_t sampler_pick(sampler *s, const float *logits) {
    penalize_logits(s, logits);
    int32_t best = find_allowed(s, find_best(s));
    float largest = s->logits[best];
    if (!(s->options.temp > 0) || !isfinite(largest)) return best;
    uint32_t n = select_top_k(s);
    uint32_t kept = keep_probable(s, n, largest);
    return draw_candidate(s, s->candidates + (n - kept), kept, largest);
}
