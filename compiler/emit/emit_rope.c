/* Rotary position embedding (Su et al. 2021): the angles' frequencies, and turning a head by a row
 * of the rope table (graph.h: cosines, then sines). */
#include "emit.h"

#include <math.h>

/* Rotates pairs [first, first + n) of the head in `head`. */
static void rotate_pairs(emit *e, const op_params *p, val head, val angles, uint32_t first,
                         uint32_t n) {
    uint32_t half = p->rope_dims / 2;
    bool     adjacent = p->rope_pairing == ROPE_ADJACENT;
    type     t = emit_vector(e->f32, n);
    val      c = emit_load(e, t, emit_at_const(e, angles, 4 * first), 4);
    val      s = emit_load(e, t, emit_at_const(e, angles, 4 * (first + half)), 4);
    val      a, b, at_a, at_b = NULL;
    if (adjacent) {
        at_a = emit_at_const(e, head, 8 * first);
        val both = emit_load(e, emit_vector(e->f32, 2 * n), at_a, 4);
        a = emit_pick(e, both, NULL, 0, 2, n);
        b = emit_pick(e, both, NULL, 1, 2, n);
    } else {
        at_a = emit_at_const(e, head, 4 * first);
        at_b = emit_at_const(e, head, 4 * (first + half));
        a = emit_load(e, t, at_a, 4);
        b = emit_load(e, t, at_b, 4);
    }
    val ra = emit_fsub(e, emit_fmul(e, a, c), emit_fmul(e, b, s));
    val rb = emit_fadd(e, emit_fmul(e, a, s), emit_fmul(e, b, c));
    if (adjacent) {
        emit_store(e, emit_interleave(e, ra, rb), at_a, 4);
    } else {
        emit_store(e, ra, at_a, 4);
        emit_store(e, rb, at_b, 4);
    }
}

void emit_rotate(emit *e, const op_params *p, val head, val angles) {
    uint32_t pairs = p->rope_dims / 2, lanes = e->isa->lanes;
    for (uint32_t i = 0; i < pairs; i += lanes)
        rotate_pairs(e, p, head, angles, i, pairs - i < lanes ? pairs - i : lanes);
}

val emit_rope_frequencies(emit *e, const op_params *p) {
    uint32_t pairs = p->rope_dims / 2;
    val     *all = ARENA_ARRAY(e->memory, val, pairs);
    for (uint32_t i = 0; i < pairs; i++)
        all[i] = LLVMConstReal(e->f64, p->rope_scale * pow(p->rope_base, -2.0 * i / p->rope_dims));
    return emit_constant(e, "frequencies", LLVMConstArray2(e->f64, all, pairs), 64);
}
