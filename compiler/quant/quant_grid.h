/* quant_grid.h - the tables that quants are positions in: the grids of IQ1, IQ2 and IQ3, and the
 * sixteen values of IQ4 and of 4-bit floats. Their numbers are ggml's (ggml-common.h).
 *
 * A grid is a set of points, numbered: a quant of IQ1 and IQ2 stands for a point of eight small
 * integers, one of IQ3 for a point of four. What a weight is besides (a scale, signs, a shift) is
 * said where blocks are read, quant_unpack_iq.c. */
#ifndef GGUFC_QUANT_GRID_H
#define GGUFC_QUANT_GRID_H

#include "base.h"

enum quant_grid {
    QUANT_GRID_IQ1,     /* iq1s_grid, of IQ1_S and IQ1_M: 2048 points of 8, signs included */
    QUANT_GRID_IQ2_XXS, /* iq2xxs_grid: 256 of 8, magnitudes, as are all that follow */
    QUANT_GRID_IQ2_XS,  /* iq2xs_grid: 512 of 8 */
    QUANT_GRID_IQ2_S,   /* iq2s_grid: 1024 of 8 */
    QUANT_GRID_IQ3_XXS, /* iq3xxs_grid: 256 of 4 */
    QUANT_GRID_IQ3_S,   /* iq3s_grid: 512 of 4 */
    QUANT_GRID_COUNT
};

enum { QUANT_GRID_MOST = 2048 * 8 }; /* values of a grid */

typedef struct quant_grid_info {
    uint32_t      n_points, width; /* width: values a point, 8 or 4 */
    uint32_t      n_levels;        /* the values there are, ascending */
    const int8_t *levels;
} quant_grid_info;

const quant_grid_info *quant_grid_find(enum quant_grid grid);

/* All points in their order, n_points × width values. The second form is good for ever, made for all
   grids when first called, from any thread. Values stand in ascending order of their places in a
   block, so that a point in memory is what ggml has as a little-endian u64 or u32. */
void          quant_grid_expand(enum quant_grid grid, int8_t *values);
const int8_t *quant_grid_values(enum quant_grid grid);

/* The signs of eight values as IQ2_XXS, IQ2_XS and IQ3_XXS store them: seven bits, a set one for a
   value that is negative, and the eighth such that their number is even (ksigns_iq2xs). */
static inline uint8_t quant_grid_signs(uint32_t seven_bits) {
    return (uint8_t)(seven_bits | (uint32_t)__builtin_parity(seven_bits) << 7);
}

/* Of IQ4_NL and IQ4_XS; twice the values of f4 e2m1, of MXFP4 and NVFP4. */
extern const int8_t quant_iq4_values[16], quant_fp4_values[16];

#endif
