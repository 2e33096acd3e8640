/* measure.h - how far apart two rows of numbers are, gathered over tokens; what the figures mean
 * stands in compare.h. */
#ifndef GGUFC_MEASURE_H
#define GGUFC_MEASURE_H

#include "compare.h"

typedef struct measure {
    uint64_t n_values, n_match, n_strange;
    uint32_t n_tokens;
    double   nmse;             /* summed over tokens */
    double   mean;             /* |b - a|, summed */
    double   aa, ab, bb;       /* products, summed */
    double   most, most_a, most_b;
    uint64_t most_index;
    uint32_t most_token;
} measure;

/* Takes in the `n` values of `token`. `noise` is by how much (root mean square) the row may differ
   for no fault of b's: values match within slack times that, or slack ulps. */
void measure_add(measure *m, const float *a, const float *b, uint64_t n, uint32_t token, double noise,
                 double slack);

/* The root mean square of b - a; infinite where one is strange. */
double measure_noise(const float *a, const float *b, uint64_t n);

compare_distance measure_end(const measure *m);

/* The nmse that one op's noise allows: see Tolerance in compare.h. */
double measure_tolerance(double noise_nmse, double slack);

#endif
