/* plan.h - how a fused graph is executed: calls, units, barriers, and a place for every value.
 *
 *     body   ops of all layers: run for every batch of tokens, T = 1 (decode) or more (prefill)
 *     head   result_norm and result_output: run for one token, when its logits are wanted, or for at
 *            most PLAN_FEW_TOKENS neighbours
 *
 * Both bodies, and both heads, use the same places in the arena, sized for the largest batch.
 */
#ifndef GGUFC_PLAN_H
#define GGUFC_PLAN_H

#include "graph.h"
#include "isa.h"

/* Rows of a unit of a matrix product whose rows are a multiple of it: what fusion can count on. */
#define PLAN_UNIT_ROWS 32

/* Caches have room for a multiple of so many positions: attention takes that many at a time. */
#define PLAN_CTX_STEP 32

/* A range of a cache that attention of a few tokens is split into has that many positions times a
   power of two. A constant, whatever the number of threads: they must not change a result. */
#define PLAN_RANGE_LEAST 1024

typedef struct plan_options {
    uint32_t n_ctx;   /* positions in the key-value cache */
    uint32_t n_batch; /* most tokens in one call */
    bool     trace;   /* named activations are all there when a call is over */
    bool     pack;    /* weights are in a file of their own, in tiles where they can be (packed.h) */
} plan_options;

/* Batches of at most that many tokens give each the very result that it has alone: look-ahead counts
   on it. Longer ones may sum in another order. */
#define PLAN_FEW_TOKENS 7

/* Attention over a long context is two calls: the first leaves for each range of the cache what its
   softmax has come to in `scratch`, the second merges. A long batch is done by the first alone. */
enum plan_step { PLAN_WHOLE, PLAN_RANGES, PLAN_MERGE };

/* One op's execution. A unit is what a thread computes at a time: `rows` rows of a matrix product
   for all tokens, the `rows` heads that share keys for one token (and one range of the cache), or
   all of another op for one token. Where `rows` do not divide those of a product, its last unit ends with
   the product: it makes some of the rows before it again, to the same values. Kernels of attention make
   other units of so many where a batch is long or a cache not yet full (emit_attention.h). */
typedef struct plan_call {
    const op *op;
    enum plan_step step;
    uint32_t  rows;      /* of a unit; 0 where it is all of the op */
    uint32_t  range;     /* positions of a range; 0 where there is one */
    uint64_t  scratch;   /* offset in the arena of what ranges leave */
    uint32_t  units;     /* for one token where per_token */
    bool      per_token;

    /* Units of calls beside it, as large as its own and between the same barriers, which threads share out together
       with these. */
    uint32_t  before, after;

    /* Of all these units for one token, in multiply-adds of a product: a guess of how long they take. */
    uint64_t work;

    /* One token's part takes less time than waiting for other threads: in lists for one token (`decode` and `head` of
       ggufc/model.h) each thread does it for itself, to row thread % n_batch of the results. The head reads of the
       body's, as a trace does, what thread 0 made. */
    bool      each;

    /* After it, something reads what calls since the last barrier wrote: in lists for more than one token, and for
       one. All of the latter are among the former. */
    bool      barrier, barrier_one;
} plan_call;

typedef struct plan {
    plan_call *body, *head;
    uint32_t   n_body, n_head;
    uint32_t   n_ctx, n_ctx_padded; /* padded to whole blocks of attention */
    uint32_t   n_batch;
    bool       trace; /* named activations have places that nothing else uses */
    uint64_t   arena_bytes, kv_bytes, weight_bytes;
    uint64_t   packed_bytes; /* of the packed file; 0: weights are read from the GGUF file */
} plan;

/* Requires a fused graph; sets offset, stride and `each` of all of its values. The arena is packed by
   liveness in stages: values share memory only when a barrier of both kinds of lists stands between the last
   use of one and the making of the other. */
plan *pass_plan(graph *g, const isa *target, const plan_options *options);

/* How many tokens' rows there are at the place of an activation. */
uint32_t plan_value_tokens(const plan *p, const value *v);

/* What attention leaves for a range of one token's head: f32 sums[head_dim], the largest score and
   the weights' total; in bytes, a multiple of 64. */
uint64_t plan_range_bytes(const op *attention);

/* Prints the calls with their units and the places of their results. */
void plan_print(const plan *p, void *stream);

#endif
