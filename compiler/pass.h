/* pass.h - what happens to a graph between its template and its code, in this order:
 *
 *     resolve   key-value stores, rope tables and quantized activations become ops of their own
 *     fuse      an op takes over what follows it where that saves a barrier or a trip to memory
 *     plan      units, barriers, and a place in memory for every value          (plan.h)
 *
 * pass_check runs after each, in every build: a graph that does not hold what its stage promises
 * is our bug, never the input's.
 */
#ifndef GGUFC_PASS_H
#define GGUFC_PASS_H

#include "graph.h"

enum graph_stage { STAGE_ARCH, STAGE_RESOLVED, STAGE_FUSED };

/* Ends in bug() unless, for every op: its inputs are given, of a kind its row allows, and made by
   an op before it; its output has the shape its inputs imply; each op kind is legal at `stage`; an
   op outside the head reads nothing of the head; the graph's output exists. */
void pass_check(const graph *g, enum graph_stage stage);

/* Requires STAGE_ARCH, keeps every activation's name. Afterwards
   - the keys and values attention reads are caches, each written by an OP_KV_STORE before it;
   - the rotation angles of OP_ROPE are an OP_ROPE_TABLE, shared by all layers that agree in it;
   - x of each OP_MATMUL has the type its weight is multiplied with (quant_info.activation), made
     by one OP_QUANTIZE per value and type. */
void pass_resolve(graph *g);

/* Requires STAGE_RESOLVED. Every rule only joins an op with the sole reader of its result; the
   arithmetic and its order stay the same. With `trace` the same ops are joined, but every named
   activation is stored all the same: what no op would make any more becomes fused.product, up or
   sum, and no `out` is dropped.

   No rule is needed for right results: a resolved graph left as it is (--no-fuse) holds all that
   STAGE_FUSED asks for. */
void pass_fuse(graph *g, bool trace);

#endif
