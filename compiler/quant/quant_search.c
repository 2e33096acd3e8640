/* The cost of a point is the sum of the costs of its quarters, of which there are few: 9 or 8. Points
 * are gone through by their second half; most halves are passed over at once, as with the cheapest
 * first half there could be they would cost more than the best point so far. */
#include "quant_search.h"

#include <pthread.h>

static quant_search searches[QUANT_GRID_COUNT];

static uint32_t level_of(const quant_search *s, int8_t v) {
    uint32_t k = 0;
    while (s->levels[k] != v) k++;
    return k;
}

static uint32_t quarter_of(const quant_search *s, const int8_t *v) {
    return s->width == 4 ? level_of(s, v[0]) : level_of(s, v[0]) + s->n_levels * level_of(s, v[1]);
}

static uint32_t half_of(const quant_search *s, const int8_t *v) {
    return quarter_of(s, v) + 16 * quarter_of(s, v + s->width / 4);
}

static void make_search(enum quant_grid grid, quant_search *s) {
    const quant_grid_info *info = quant_grid_find(grid);
    s->width = info->width;
    s->n_levels = info->n_levels;
    s->n_quarters = s->width == 4 ? s->n_levels : s->n_levels * s->n_levels;
    s->levels = info->levels;
    s->points = quant_grid_values(grid);
    uint32_t begun = 0;
    for (uint32_t p = 0; p < info->n_points; p++) {
        const int8_t  *v = s->points + p * s->width;
        const uint32_t second = half_of(s, v + s->width / 2);
        s->half[0][p] = (uint8_t)half_of(s, v);
        s->half[1][p] = (uint8_t)second;
        while (begun <= second) s->start[begun++] = (uint16_t)p;
    }
    while (begun <= QUANT_HALVES) s->start[begun++] = (uint16_t)info->n_points;
}

static void make_all(void) {
    for (int i = 0; i < QUANT_GRID_COUNT; i++) make_search((enum quant_grid)i, &searches[i]);
}

const quant_search *quant_search_find(enum quant_grid grid) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_all);
    return &searches[grid];
}

typedef struct quarter {
    float cost[16]; /* of each there is */
    float least;
} quarter;

static inline float least_cost(const quant_costs costs, uint32_t n_levels, uint32_t at) {
    float least = costs[0][at];
    for (uint32_t l = 1; l < n_levels; l++) least = costs[l][at] < least ? costs[l][at] : least;
    return least;
}

static inline void add_up_quarter(const quant_costs costs, uint32_t width, uint32_t at, quarter *q) {
    if (width == 8) {
        for (uint32_t k = 0; k < 9; k++) q->cost[k] = costs[k % 3][at] + costs[k / 3][at + 1];
        for (uint32_t k = 9; k < 16; k++) q->cost[k] = 0;
        q->least = least_cost(costs, 3, at) + least_cost(costs, 3, at + 1);
    } else {
        for (uint32_t k = 0; k < 8; k++) q->cost[k] = costs[k][at];
        for (uint32_t k = 8; k < 16; k++) q->cost[k] = 0;
        q->least = least_cost(costs, 8, at);
    }
}

typedef struct found {
    float    cost;
    uint32_t point;
} found;

static inline void scan(const quant_search *s, const float *first, float second, uint32_t half,
                        found *best) {
    for (uint32_t p = s->start[half]; p < s->start[half + 1]; p++) {
        const float cost = first[s->half[0][p]] + second;
        if (cost < best->cost) *best = (found){ cost, p };
    }
}

float quant_search_point(const quant_search *s, const quant_costs costs, uint32_t at, uint32_t *point) {
    quarter        quarters[4];
    float          first[QUANT_HALVES];
    const uint32_t n = s->n_quarters, width = s->width;
    for (uint32_t k = 0; k < 4; k++) add_up_quarter(costs, width, at + k * (width / 4), &quarters[k]);
    for (uint32_t k = 0; k < n; k++)
        for (uint32_t i = 0; i < 16; i++)
            first[16 * k + i] = quarters[0].cost[i] + quarters[1].cost[k];

    const quarter *low = &quarters[2], *high = &quarters[3];
    const float    least_first = quarters[0].least + quarters[1].least;
    const uint32_t guess = s->half[1][*point];
    const float    guessed = low->cost[guess % 16] + high->cost[guess / 16];
    found          best = { first[s->half[0][*point]] + guessed, *point };
    for (uint32_t k = 0; k < n; k++) {
        if (high->cost[k] + low->least + least_first >= best.cost) continue;
        for (uint32_t i = 0; i < n; i++) {
            const float second = high->cost[k] + low->cost[i];
            if (second + least_first < best.cost) scan(s, first, second, 16 * k + i, &best);
        }
    }
    *point = best.point;
    return best.cost;
}
