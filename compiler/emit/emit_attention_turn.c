/* Turning rows of the cache so that lanes are positions. Rows as long as there are lanes go by groups of
 * four, which is what processors shuffle at once. Shorter ones are interleaved with those half of all
 * before them until they are full; then each step halves how many neighbours of one row a vector holds.
 */
#include "emit_attention.h"

static val half(emit *e, val v, uint32_t which) {
    uint32_t n = emit_length(v) / 2;
    return emit_pick(e, v, NULL, which * n, 1, n);
}

/* The vector of which element i is from[i] of the pair (x, y). */
static val gather(emit *e, val x, val y, const uint32_t *from, uint32_t n) {
    val mask[EMIT_MAX_LANES];
    for (uint32_t i = 0; i < n; i++) mask[i] = emit_i32(e, from[i]);
    return LLVMBuildShuffleVector(e->builder, x, y, LLVMConstVector(mask, n), "");
}

/* Of x and y, taken as groups of four: in each group elements a and b of x's, then the same of y's
   (pairs), or each element of x followed by y's. */
static val mix_groups(emit *e, val x, val y, uint32_t a, uint32_t b, bool pairs) {
    uint32_t from[EMIT_MAX_LANES], n = emit_length(x);
    for (uint32_t i = 0; i < n; i += 4) {
        from[i] = i + a;
        from[i + 1] = pairs ? i + b : n + i + a;
        from[i + 2] = pairs ? n + i + a : i + b;
        from[i + 3] = n + i + b;
    }
    return gather(e, x, y, from, n);
}

/* Every other group of four of x, then of y, from the first-th on. */
static val pick_fours(emit *e, val x, val y, uint32_t first) {
    uint32_t from[EMIT_MAX_LANES], n = emit_length(x);
    for (uint32_t i = 0; i < n; i++) from[i] = (2 * (i / 4) + first) * 4 + i % 4;
    return gather(e, x, y, from, n);
}

/* Four vectors: their groups of four are turned, each for itself. */
static void turn_fours(emit *e, val *v) {
    val low = mix_groups(e, v[0], v[1], 0, 1, false), high = mix_groups(e, v[0], v[1], 2, 3, false);
    val low2 = mix_groups(e, v[2], v[3], 0, 1, false), high2 = mix_groups(e, v[2], v[3], 2, 3, false);
    v[0] = mix_groups(e, low, low2, 0, 1, true);
    v[1] = mix_groups(e, low, low2, 2, 3, true);
    v[2] = mix_groups(e, high, high2, 0, 1, true);
    v[3] = mix_groups(e, high, high2, 2, 3, true);
}

/* As many vectors as lanes become the vectors of their first elements, their second, …: in groups of
   four, which is what processors do at once, and then whole groups. */
static void turn_square(emit *e, val *v) {
    uint32_t lanes = e->isa->lanes, n = lanes / 4;
    for (uint32_t i = 0; i < lanes; i += 4) turn_fours(e, &v[i]);
    for (uint32_t k = 0; k < 4; k++) {
        val groups[EMIT_MAX_LANES / 4], next[EMIT_MAX_LANES / 4];
        for (uint32_t i = 0; i < n; i++) groups[i] = v[4 * i + k];
        for (uint32_t step = 1; step < n; step *= 2) {
            for (uint32_t i = 0; i < n / 2; i++)
                for (uint32_t j = 0; j < 2; j++)
                    next[i + j * n / 2] = pick_fours(e, groups[2 * i], groups[2 * i + 1], j);
            for (uint32_t i = 0; i < n; i++) groups[i] = next[i];
        }
        for (uint32_t i = 0; i < n; i++) v[4 * i + k] = groups[i];
    }
}

void attention_turn(emit *e, val *vectors, uint32_t n) {
    uint32_t lanes = e->isa->lanes, left = lanes;
    if (n == lanes && lanes % 4 == 0) {
        turn_square(e, vectors);
        return;
    }
    while (left > n) {
        left /= 2;
        for (uint32_t i = 0; i < left; i++) vectors[i] = emit_interleave(e, vectors[i], vectors[i + left]);
    }
    for (uint32_t groups = 1; left > 1; groups *= 2) {
        val next[EMIT_MAX_LANES];
        left /= 2;
        for (uint32_t g = 0; g < groups; g++)
            for (uint32_t i = 0; i < left; i++) {
                val x = vectors[2 * g * left + i], y = vectors[2 * g * left + i + left];
                next[2 * g * left + i] = emit_interleave(e, half(e, x, 0), half(e, y, 0));
                next[(2 * g + 1) * left + i] = emit_interleave(e, half(e, x, 1), half(e, y, 1));
            }
        for (uint32_t i = 0; i < n; i++) vectors[i] = next[i];
    }
}
