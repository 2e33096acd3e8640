/* measure.h - how far apart two rows of numbers are, gathered over tokens; what the figures mean
 * stands in compare.h. */
#ifndef GGUFC_MEASURE_H
#define GGUFC_MEASURE_H

#include "compare.h"

/* The noise of a row is by how much (root mean square) it may differ for no fault of anybody's. */
typedef struct measure {
    uint64_t n_values, n_match, n_strange;
    uint32_t n_tokens;
    double   nmse, noise;             /* of rows, summed; noise as a share of the row's square too */
    double   worst, worst_noise;      /* of one row */
    uint32_t worst_token;
    double   mean;                    /* |b - a|, summed */
    double   aa, ab, bb;              /* products, summed */
    double   most, most_a, most_b;
    uint64_t most_index;
    uint32_t most_token;
} measure;

/* Takes in the `n` values of `token`: they match within slack times the row's noise, or slack ulps. */
void measure_add(measure *m, const float *a, const float *b, uint64_t n, uint32_t token, double noise,
                 double slack);

/* The root mean square of b - a; infinite where one is strange. */
double measure_noise(const float *a, const float *b, uint64_t n);

compare_distance measure_end(const measure *m);

/* What the noise allows nmse and worst to be: see Tolerance in compare.h. */
compare_tolerance measure_tolerance(const measure *m, double slack);

#endif
