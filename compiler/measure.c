#include "measure.h"

#include <math.h>

#define ROUNDING 0x1p-24 /* of a result to f32, at most */

/* Both infinite alike, or both no number, is no difference; any other that is not finite is strange. */
static bool alike(float a, float b) {
    return isnan(a) ? isnan(b) : isinf(a) && isinf(b) && signbit(a) == signbit(b);
}

/* A square as a share of the row's own. Where that is nothing, any error is all of it; noise allows none. */
static void take_row(measure *m, double error, double noise, double norm, uint32_t token) {
    double row = norm > 0 ? error / norm : error > 0, allowed = norm > 0 ? noise / norm : 0;
    m->nmse += row;
    m->noise += allowed;
    if (allowed > m->worst_noise) m->worst_noise = allowed;
    if (row <= m->worst) return;
    m->worst = row;
    m->worst_token = token;
}

static void take_most(measure *m, double difference, float a, float b, uint64_t index, uint32_t token) {
    m->most = difference;
    m->most_a = (double)a;
    m->most_b = (double)b;
    m->most_index = index;
    m->most_token = token;
}

void measure_add(measure *m, const float *a, const float *b, uint64_t n, uint32_t token, double noise,
                 double slack) {
    double error = 0, norm = 0;
    for (uint64_t i = 0; i < n; i++) {
        double x = (double)a[i], y = (double)b[i], difference = fabs(y - x);
        if (!isfinite(x) || !isfinite(y)) {
            bool same = alike(a[i], b[i]);
            m->n_match += same;
            if (!same && !m->n_strange++) take_most(m, INFINITY, a[i], b[i], i, token);
            continue;
        }
        error += difference * difference;
        norm += x * x;
        m->ab += x * y;
        m->bb += y * y;
        m->mean += difference;
        m->n_match += difference <= slack * fmax(noise, 2 * ROUNDING * fabs(x));
        if (difference > m->most) take_most(m, difference, a[i], b[i], i, token);
    }
    m->aa += norm;
    take_row(m, error, noise * noise * (double)n, norm, token);
    m->n_values += n;
    m->n_tokens++;
}

double measure_noise(const float *a, const float *b, uint64_t n) {
    double error = 0;
    for (uint64_t i = 0; i < n; i++) {
        double difference = (double)b[i] - (double)a[i];
        error += alike(a[i], b[i]) ? 0 : difference * difference;
    }
    return isfinite(error) ? sqrt(error / (double)n) : INFINITY;
}

compare_distance measure_end(const measure *m) {
    compare_distance d = { .n_values = m->n_values, .n_tokens = m->n_tokens };
    if (!m->n_values) return d;
    double norms = sqrt(m->aa) * sqrt(m->bb);
    d.match = (double)m->n_match / (double)m->n_values;
    d.mean = m->mean / (double)m->n_values;
    d.most = m->most;
    d.most_index = m->most_index;
    d.most_token = m->most_token;
    d.most_a = m->most_a;
    d.most_b = m->most_b;
    d.nmse = m->n_strange ? INFINITY : m->nmse / m->n_tokens;
    d.worst = m->n_strange ? INFINITY : m->worst;
    d.worst_token = m->n_strange ? m->most_token : m->worst_token;
    d.cosine = norms > 0 ? m->ab / norms : m->aa <= 0 && m->bb <= 0;
    d.n_strange = m->n_strange;
    return d;
}

static double tolerate(double noise, double slack) {
    return slack * slack * fmax(noise, ROUNDING * ROUNDING);
}

compare_tolerance measure_tolerance(const measure *m, double slack) {
    if (!m->n_tokens) return (compare_tolerance){ 0 };
    return (compare_tolerance){ tolerate(m->noise / m->n_tokens, slack), tolerate(m->worst_noise, slack) };
}
