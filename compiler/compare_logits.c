/* What the ops' differences come to: the most likely tokens, KL divergence, perplexity. */
#include "comparison.h"

#include <math.h>

#define LONG_ENOUGH 32 /* tokens, for a perplexity to mean something */

struct compare_logits_sum {
    comparison *c;
    double      overlap, divergence, loss_a, loss_b;
};

compare_logits_sum *compare_logits_begin(comparison *c) {
    compare_logits_sum *s = ARENA_NEW(c->memory, compare_logits_sum);
    s->c = c;
    for (uint32_t i = 0; i < COMPARE_TOP; i++)
        c->report->logits.best_a[i] = c->report->logits.best_b[i] = -1;
    return s;
}

/* Whether x is better than y; what is no number is worst. */
static bool is_better(float x, float y) {
    return isnan(y) ? !isnan(x) : x > y;
}

/* The indices of the largest of n, the largest first, of equals the lower index first; then -1. */
static void find_best(const float *x, uint64_t n, int32_t best[COMPARE_TOP]) {
    uint32_t found = 0;
    for (uint32_t i = 0; i < COMPARE_TOP; i++) best[i] = -1;
    for (uint64_t i = 0; i < n; i++) {
        uint32_t at = found < COMPARE_TOP ? found++ : COMPARE_TOP;
        for (; at > 0 && is_better(x[i], x[best[at - 1]]); at--)
            if (at < COMPARE_TOP) best[at] = best[at - 1];
        if (at < COMPARE_TOP) best[at] = (int32_t)i;
    }
}

static double log_sum_exp(const float *x, uint64_t n) {
    double most = -INFINITY, sum = 0;
    for (uint64_t i = 0; i < n; i++) most = fmax(most, (double)x[i]);
    for (uint64_t i = 0; i < n; i++) sum += exp((double)x[i] - most);
    return most + log(sum);
}

static uint32_t count_common(const int32_t *a, const int32_t *b, uint32_t n) {
    uint32_t common = 0;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < n; j++) common += a[i] == b[j];
    return common;
}

/* An id that there is none of has no logit and no text. */
static void keep_best(const comparison *c, const float *x, const int32_t *best, int32_t *ids, double *logits,
                      const char **texts) {
    for (uint32_t i = 0; i < COMPARE_TOP; i++) {
        ids[i] = best[i];
        logits[i] = best[i] < 0 ? 0 : (double)x[best[i]];
        texts[i] = best[i] < 0 ? NULL : compare_token_text(c, best[i]);
    }
}

/* Σ p_a · (log p_a - log p_b), where what A holds to be impossible counts nothing. */
static double divergence_of(const float *a, double norm_a, const float *b, double norm_b, uint64_t n) {
    double sum = 0;
    for (uint64_t i = 0; i < n; i++) {
        double log_a = (double)a[i] - norm_a, p = exp(log_a);
        if (!(p <= 0)) sum += p * (log_a - ((double)b[i] - norm_b));
    }
    return sum;
}

void compare_logits_add(compare_logits_sum *s, uint32_t token, const float *a, const float *b) {
    const comparison *c = s->c;
    compare_logits   *l = &c->report->logits;
    uint64_t n = c->g->n_vocab;
    uint32_t top = n < COMPARE_TOP ? (uint32_t)n : COMPARE_TOP;
    int32_t  best_a[COMPARE_TOP], best_b[COMPARE_TOP];
    double   norm_a = log_sum_exp(a, n), norm_b = log_sum_exp(b, n);
    double   divergence = divergence_of(a, norm_a, b, norm_b, n);
    find_best(a, n, best_a);
    find_best(b, n, best_b);
    l->n_tokens++;
    l->same_best += best_a[0] == best_b[0];
    s->overlap += (double)count_common(best_a, best_b, top) / top;
    s->divergence += divergence;
    if (isnan(divergence) || divergence > l->divergence_most) l->divergence_most = divergence;
    if (token + 1 < c->n_tokens) {
        int32_t next = c->tokens[token + 1];
        s->loss_a += norm_a - (double)a[next];
        s->loss_b += norm_b - (double)b[next];
        l->n_predicted++;
        return;
    }
    keep_best(c, a, best_a, l->best_a, l->best_logit_a, l->best_text_a);
    keep_best(c, b, best_b, l->best_b, l->best_logit_b, l->best_text_b);
}

void compare_logits_end(compare_logits_sum *s) {
    compare_logits *l = &s->c->report->logits;
    if (!l->n_tokens) return;
    l->top_overlap = s->overlap / l->n_tokens;
    l->divergence = s->divergence / l->n_tokens;
    if (l->n_predicted < LONG_ENOUGH) l->n_predicted = 0;
    if (!l->n_predicted) return;
    l->perplexity_a = exp(s->loss_a / l->n_predicted);
    l->perplexity_b = exp(s->loss_b / l->n_predicted);
}
