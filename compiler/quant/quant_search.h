/* quant_search.h - the point of a grid that is nearest to given values. */
#ifndef GGUFC_QUANT_SEARCH_H
#define GGUFC_QUANT_SEARCH_H

#include "quant_grid.h"

enum { QUANT_MOST_LEVELS = 8, QUANT_MOST_HALVES = 81 };

/* A grid's points by their halves: a half is a number of width / 2 digits in base n_levels, and
   points in their order are ascending in the second half, then the first. */
typedef struct quant_search {
    uint32_t      width, n_levels, n_halves;
    const int8_t *points, *levels;
    uint16_t      start[QUANT_MOST_HALVES + 1]; /* points with second half h are from start[h] */
    uint8_t       first[2048];                  /* a point's first half */
} quant_search;

/* Good for ever, made when first asked for. */
const quant_search *quant_search_find(enum quant_grid grid);

/* The point with the least cost, exactly, and that cost: the sum over i < width of what level each of
   its values is, in cost[i][level]. No cost is below 0. */
float quant_search_point(const quant_search *s, const float cost[][QUANT_MOST_LEVELS], uint32_t *point);

#endif
