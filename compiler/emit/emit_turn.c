/* Turning rows to columns. Processors shuffle within groups of four lanes of 32 bits, and whole groups:
 * with two vectors that differ in one bit of their rows' number, a step puts that bit where one of the
 * column's number was among the lanes, and the columns' bit then tells the two vectors apart.
 */
#include "emit.h"

#define GROUP 4

/* Of each group of a and b half the elements, the first or (`which`) the last ones, by turns `unit` of a
   and as many of b. */
static val mix_groups(emit *e, val a, val b, uint32_t group, uint32_t unit, uint32_t which) {
    uint32_t from[EMIT_MAX_LANES], n = emit_length(a);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t place = i % group, at = place / (2 * unit) * unit + place % unit;
        from[i] = place / unit % 2 * n + i - place + which * group / 2 + at;
    }
    return emit_shuffle(e, a, b, from, n);
}

/* Every other whole group of a, then of b, from the first or the second on. */
static val pick_groups(emit *e, val a, val b, uint32_t which) {
    uint32_t from[EMIT_MAX_LANES], n = emit_length(a);
    for (uint32_t i = 0; i < n; i++) from[i] = (2 * (i / GROUP) + which) * GROUP + i % GROUP;
    return emit_shuffle(e, a, b, from, n);
}

/* Rows first, first + apart, … as one vector. */
static val join_rows(emit *e, const val *rows, uint32_t first, uint32_t apart, uint32_t count) {
    if (count == 1) return rows[first];
    return emit_concat(e, join_rows(e, rows, first, apart, count / 2),
                       join_rows(e, rows, first + count / 2 * apart, apart, count / 2));
}

void emit_turn(emit *e, val *rows, uint32_t n) {
    uint32_t lanes = e->isa->lanes, group = n < GROUP ? n : GROUP, joined = lanes / n;
    val      v[EMIT_MAX_LANES];
    if (n == 1) {
        rows[0] = join_rows(e, rows, 0, 1, lanes);
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        v[i] = join_rows(e, rows, i / group * group * joined + i % group, group, joined);
    for (uint32_t apart = 1; apart < n; apart *= 2)
        for (uint32_t i = 0; i < n; i++) {
            if (i & apart) continue;
            val a = v[i], b = v[i + apart];
            for (uint32_t which = 0; which < 2; which++)
                v[i + which * apart] = apart < group ? mix_groups(e, a, b, group, apart, which)
                                                     : pick_groups(e, a, b, which);
        }
    /* The first two steps left a column's number with its lowest bits exchanged. */
    for (uint32_t i = 0; i < n; i++) rows[group < GROUP ? i : (i & ~3u) | (i & 1) << 1 | (i >> 1 & 1)] = v[i];
}
