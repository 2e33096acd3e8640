/* mistake.h - the mistakes that inference engines make, a row each.
 *
 * A mistake is made at an op: it computes something else than the graph says. The interpreter can
 * make any of them (interp.h), which serves two users: a comparison tries them, as hypotheses, on
 * the op that is wrong (compare.h), and tests make whole engines that are broken in one way. */
#ifndef GGUFC_MISTAKE_H
#define GGUFC_MISTAKE_H

#include "graph.h"

/* Which operand of an OP_ADD is left out. */
enum mistake_operand { MISTAKE_NO_OPERAND, MISTAKE_FIRST_OPERAND, MISTAKE_SECOND_OPERAND };

typedef struct mistake {
    const char *name; /* on a command line: "transposed" */
    const char *what; /* "{weight} is read transposed", see mistake_text */
    uint32_t    ops;  /* a bit set of 1 << op_kind */

    /* What is done; a row sets what it is about, all else is done right. */

    bool          transposed; /* weight element (row r, column i) is taken from r + i · rows */
    uint32_t      sibling;    /* that tensor of mistake_sibling is read instead; 0: the right one */
    quant_mistake reading;    /* of the weight's blocks */

    bool   other_pairing, no_rope_factors, no_rope_scale, no_rotation;
    double rope_base;  /* 0: the right one */
    int    first_position;

    bool  no_norm_weight, norm_weight_plus_one, other_eps;
    float eps; /* where other_eps */

    bool heads_by_modulo, no_attn_scale;
    int  mask_shift; /* how many tokens beyond its own a token sees */

    bool exchanged; /* the inputs of OP_SWIGLU */
    enum mistake_operand left_out;
} mistake;

extern const mistake mistakes[]; /* the last has a NULL name */

/* NULL where no row has the name. */
const mistake *mistake_find(const char *name);

/* Whether making it at o could make any difference. */
bool mistake_applies(const mistake *m, const graph *g, const op *o);

/* The n-th (from 1) other weight of o's layer that has the shape of o's own; NULL past the last. */
const value *mistake_sibling(const graph *g, const op *o, uint32_t n);

/* Its `what` for o: {weight} is the tensor's name without that of its layer, {base}, {eps} and the
   like the op's right parameters. */
const char *mistake_text(arena *a, const mistake *m, const graph *g, const op *o);

/* The same for several ops that are made of different weights and values: what of o these are is
   told without their names. */
const char *mistake_text_of_many(arena *a, const mistake *m, const graph *g, const op *o);

#endif
