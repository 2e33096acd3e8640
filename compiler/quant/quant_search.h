/* quant_search.h - the point of a grid that is nearest to given values. */
#ifndef GGUFC_QUANT_SEARCH_H
#define GGUFC_QUANT_SEARCH_H

#include "quant_grid.h"

enum { QUANT_MOST_LEVELS = 8, QUANT_HALVES = 16 * 16 };

/* A grid's points by their quarters, which are one value or two: a quarter is a number of that many
   digits in base n_levels, and a half is its first quarter plus 16 times its second. Points in their
   order are ascending in the second half. */
typedef struct quant_search {
    uint32_t      width, n_levels, n_quarters; /* n_quarters: how many different ones */
    const int8_t *points, *levels;
    uint16_t      start[QUANT_HALVES + 1]; /* points with second half h are from start[h] */
    uint8_t       half[2][2048];           /* a point's halves */
} quant_search;

/* Good for ever, made when first asked for. */
const quant_search *quant_search_find(enum quant_grid grid);

/* By level and value: what it costs if a value is that level. None is below 0. */
typedef float quant_costs[QUANT_MOST_LEVELS][32];

/* The point for the values from `at` with the least sum of costs, exactly, and that sum. *point is a
   guess before: the better, the sooner done. */
float quant_search_point(const quant_search *s, const quant_costs costs, uint32_t at, uint32_t *point);

#endif
