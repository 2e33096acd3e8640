/* The cost of a point is the sum of its halves' costs, which are few: 81 or 64 each. Points are gone
 * through by their second half; most halves are passed over at once, as with the cheapest first half
 * of all they would cost more than the best point found. */
#include "quant_search.h"

#include <float.h>
#include <pthread.h>

static quant_search searches[QUANT_GRID_COUNT];

static uint32_t level_of(const quant_search *s, int8_t v) {
    uint32_t k = 0;
    while (s->levels[k] != v) k++;
    return k;
}

static void make_search(enum quant_grid grid, quant_search *s) {
    const quant_grid_info *info = quant_grid_find(grid);
    s->width = info->width;
    s->n_levels = info->n_levels;
    s->levels = info->levels;
    s->points = quant_grid_values(grid);
    s->n_halves = 1;
    for (uint32_t i = 0; i < s->width / 2; i++) s->n_halves *= s->n_levels;
    uint32_t n_begun = 0;
    for (uint32_t p = 0; p < info->n_points; p++) {
        uint32_t half[2] = { 0, 0 };
        for (uint32_t i = s->width; i-- > 0;) {
            uint32_t *h = &half[i >= s->width / 2];
            *h = *h * s->n_levels + level_of(s, s->points[p * s->width + i]);
        }
        s->first[p] = (uint8_t)half[0];
        while (n_begun <= half[1]) s->start[n_begun++] = (uint16_t)p;
    }
    while (n_begun <= s->n_halves) s->start[n_begun++] = (uint16_t)info->n_points;
}

static void make_all(void) {
    for (int i = 0; i < QUANT_GRID_COUNT; i++) make_search((enum quant_grid)i, &searches[i]);
}

const quant_search *quant_search_find(enum quant_grid grid) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_all);
    return &searches[grid];
}

/* The costs of all halves: of the digits after the first n, then those with one digit more. */
static inline void add_up_halves(const float cost[][QUANT_MOST_LEVELS], uint32_t n_digits,
                                 uint32_t n_levels, float *sum) {
    uint32_t n = n_levels;
    for (uint32_t l = 0; l < n_levels; l++) sum[l] = cost[0][l];
    for (uint32_t i = 1; i < n_digits; i++, n *= n_levels)
        for (uint32_t l = n_levels; l-- > 0;)
            for (uint32_t k = 0; k < n; k++) sum[l * n + k] = sum[k] + cost[i][l];
}

static inline uint32_t least_of(const float *of, uint32_t n) {
    uint32_t least = 0;
    for (uint32_t i = 1; i < n; i++) least = of[i] < of[least] ? i : least;
    return least;
}

typedef struct found {
    float    cost;
    uint32_t point;
} found;

static inline void scan(const quant_search *s, const float *first, float second, uint32_t half,
                        found *best) {
    for (uint32_t p = s->start[half]; p < s->start[half + 1]; p++) {
        const float c = first[s->first[p]] + second;
        if (c < best->cost) {
            best->cost = c;
            best->point = p;
        }
    }
}

float quant_search_point(const quant_search *s, const float cost[][QUANT_MOST_LEVELS], uint32_t *point) {
    float first[QUANT_MOST_HALVES], second[QUANT_MOST_HALVES];
    if (s->width == 8) {
        add_up_halves(cost, 4, 3, first);
        add_up_halves(cost + 4, 4, 3, second);
    } else {
        add_up_halves(cost, 2, 8, first);
        add_up_halves(cost + 2, 2, 8, second);
    }
    const float    least = first[least_of(first, s->n_halves)];
    const uint32_t begin = least_of(second, s->n_halves);
    found          best = { FLT_MAX, 0 };
    scan(s, first, second[begin], begin, &best);
    for (uint32_t h = 0; h < s->n_halves; h++)
        if (second[h] + least < best.cost && h != begin) scan(s, first, second[h], h, &best);
    *point = best.point;
    return best.cost;
}
