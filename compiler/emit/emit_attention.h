/* emit_attention.h - what the files of attention share.
 *
 *     emit_attention.c        the kernels and their units
 *     emit_attention_heads.c  a few heads of a token, their sums in registers
 *     emit_attention_tile.c   many rows (queries) times a chunk of the cache, as matrix products
 *     emit_attention_range.c  results: to the sinks, or a range's to memory and all ranges merged
 *
 * A row is one query head of one token. A unit has the rows of one kv head (they read the same keys
 * and values), of a block of tokens, over one range of positions. In batches of PLAN_FEW_TOKENS or
 * less ranges are what the plan says; in longer ones there is one, and blocks are larger. The plan
 * cannot know how many blocks and ranges are in use: a kernel is given a part of the units that there
 * could be and takes the same part of those that there are, which again leaves out none and takes
 * none twice.
 *
 * Caches are [kv head][position][head_dim] f16. The softmax runs along in chunks of positions
 * (Milakov and Gimelshein 2018): what was summed is scaled down whenever the maximum grows. A row's
 * result depends on where chunks and ranges end, not on the rows and tokens that it is taken with.
 */
#ifndef GGUFC_EMIT_ATTENTION_H
#define GGUFC_EMIT_ATTENTION_H

#include "emit.h"

typedef struct attention {
    emit     *e;
    const op *o;
    uint32_t  d, n_heads, n_kv;
    uint32_t  group;    /* query heads of a kv head */
    uint32_t  range;    /* positions of a range, 0: all */
    uint32_t  n_ranges; /* at most */
    val       q, q_stride, k, v, scratch; /* operands */
    val       divide; /* a function; NULL where processors can */
    sink      to;
} attention;

/* Where a row's result goes: head and token as i64. */
typedef struct attention_row {
    val token, head;
    val range; /* its number; NULL where the row is done and goes to the sinks */
} attention_row;

/* The part of a cache that belongs to a kv head. */
val attention_cache(const attention *a, val cache, val kv_head);

/* The query of a row: d f32. */
val attention_query(const attention *a, val token, val head);

/* Ranges that a token at `position` sees. */
val attention_ranges(const attention *a, val position);

/* Of numbers below 2^32 (i64) by a constant: processors that cannot divide multiply instead. */
val attention_divide(emit *e, val n, uint32_t by);
val attention_remainder(emit *e, val n, uint32_t by);

/* ---- emit_attention_range.c */

/* Gives `sums` (f32 in memory, d of them) with the largest score and the total of all weights to
   where the row belongs. */
void attention_finish(const attention *a, const attention_row *row, val sums, val most, val total);

/* Merges what the ranges of a token's head have left. */
void attention_merge(const attention *a, val token, val head);

/* ---- emit_attention_heads.c */

/* Whether the heads of a group are taken by a few whose queries and sums fit the registers. */
bool attention_goes_by_heads(const attention *a);

/* Those of a kv head for one token, over one range of positions (NULL: all). */
void attention_by_heads(const attention *a, val kv_head, val token, val range);

/* ---- emit_attention_tile.c */

/* How rows are taken through the cache: `rows` at a time in registers. */
typedef struct tiling {
    uint32_t rows;    /* of a tile */
    uint32_t vectors; /* of positions, or of a head's values, that a row of a tile has at a time */
    uint32_t width;   /* f32s of a vector of a head's values */
    uint32_t padded;  /* a head's values, filled up to whole vectors */
    uint32_t chunk;   /* positions */
    bool     direct;  /* values are read from the cache, not converted before */
    bool     ahead;   /* the next chunk is asked for while this one is worked on */
} tiling;

/* For units of `rows` rows. */
tiling attention_tiling(const attention *a, uint32_t rows);

/* Makes the function that units call, unless it is there. Not while a kernel is being written. */
val attention_tile_function(const attention *a, const tiling *t);

/* Bytes that `rows` rows take in a frame. */
uint64_t attention_frame_bytes(const attention *a, const tiling *t, uint32_t rows);

/* A block of tokens [token, token + count) of a kv head over positions from … its last one's, or to
   the end of `range` (NULL: no ranges). `frame` has room for its rows. */
typedef struct attention_block {
    val function, frame;
    val kv_head, token, count;
    val range;
} attention_block;

void attention_tile_block(const attention *a, const tiling *t, const attention_block *b);

#endif
