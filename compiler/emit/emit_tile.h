/* emit_tile.h - what a tile (emit_tile.c) is made of. Private to emit_tile*.c. */
#ifndef GGUFC_EMIT_TILE_H
#define GGUFC_EMIT_TILE_H

#include "emit_block.h"

typedef struct tile    tile;
typedef struct product product;

/* How a type is multiplied by tiles: by the first of these that the ISA has, of those for packed weights, or for a
   matrix unit, where that is asked for (emit_tiles), else of the others. */
typedef struct tile_kind {
    const char *name;
    bool (*has)(const isa *target, enum quant_type weight);
    /* How much is added to quants to make them unsigned; NULL: nothing. */
    uint32_t (*bias)(const isa *target, enum quant_type weight);
    uint32_t (*columns)(const isa *target); /* in a lane */
    uint32_t (*tokens)(const isa *target);  /* at a time */
    uint32_t (*steps)(const isa *target);   /* words that stand straight-line: with more, LLVM would
                                               load too far ahead and run out of registers */
    /* Columns [first, first + n) of the row whose block is at `block`, as words: of each plane. */
    void (*words)(const tile *t, val block, uint32_t first, uint32_t n, val *planes);
    /* Where a token's words begin in its row of activations. */
    uint64_t (*x)(const activation_layout *layout);
    val (*dot)(emit *e, val weights, val x, val sum);
    bool in_pairs; /* `dot` adds to sums of i16, which are added to the rest in time (emit_block_in_pairs) */
    bool packed;   /* `words` is not needed */
    bool matrix;   /* by the ISA's matrix unit (emit_tile_matrix.c); of more tokens than EMIT_MAX_TILE_TOKENS */

    /* Quants are multiplied by their sub-block's integer, which makes two bytes: where a column is one, these are in
       planes, words of their own. A group is a whole block. */
    bool multiplied;
} tile_kind;

/* A tile being unpacked or multiplied. */
struct tile {
    emit             *e;
    const tile_kind  *kind;
    const emit_block *form; /* NULL: plain numbers, nothing is scaled */
    const emit_tiles *of;
    uint32_t          n_vectors; /* of rows */
    uint32_t          n_planes;  /* of each vector's words */
    uint64_t          row_bytes; /* as stored */
    uint32_t          group;     /* columns that are summed before they are scaled, or (plain numbers) a vector's */
    uint32_t          span;      /* columns of whole blocks and groups, unpacked at once */
};

/* A tile and a few tokens. Sums and accumulators are [token][vector]. */
struct product {
    const tile       *t;
    uint32_t          n_tokens;
    activation_layout layout;
    val               tile, x[EMIT_MAX_TILE_TOKENS]; /* addresses */
    val               x_stride, out, out_stride; /* of x[0]; where a row of f32 sums for each token goes */
};

#define TILE_SPAN_MOST 256 /* columns of a row that are taken apart at once: a block, or several */
#define TILE_MAX_INTEGERS 8 /* pairs of a group's minima */
#define TILE_MAX_SUMS (EMIT_MAX_TILE_TOKENS * EMIT_MAX_TILE_VECTORS)

static inline uint32_t tile_group_words(const tile *t) {
    return t->group / t->kind->columns(t->e->isa);
}

/* Where `vector` of a group's word is, in the first plane; those of the next one follow. */
static inline uint64_t tile_word_at(const tile *t, uint32_t word, uint32_t vector) {
    return 4ull * t->e->isa->lanes * (word * t->n_planes * t->n_vectors + vector);
}

static inline uint64_t tile_plane_at(const tile *t, uint32_t plane) {
    return 4ull * t->e->isa->lanes * t->n_vectors * plane;
}

/* Bits of a product in the first plane; the second has the rest, with the sign. No type's are of more than 14 with it
   (Q6_K: 32 · 128), which leaves one to spare. */
enum { TILE_PLANE_BITS = 7 };

/* The numbers after the words, of 32 bits for each row: scales, minima, integers of minima by two. */
enum { TILE_SCALES, TILE_MINIMA, TILE_INTEGERS };

static inline uint64_t tile_number_at(const tile *t, uint32_t which, uint32_t vector) {
    return tile_word_at(t, tile_group_words(t), 0) + 4ull * t->e->isa->lanes * (which * t->n_vectors + vector);
}

/* How many pairs of integers of minima a group has. */
static inline uint32_t tile_integers(const tile *t) {
    return t->kind->multiplied && t->form->minima ? t->group / t->form->sub / 2 : 0;
}

uint64_t tile_group_bytes(const tile *t, uint32_t rows);

/* Columns that activations have a scale for. */
uint32_t tile_x_block(const tile *t);

/* Adds the products of some words, which begin at `tile_at` in the tile and at `x_at` in the activations' words, to
   the sums, a word of each row at a time. */
void tile_multiply_words(const product *p, val tile_at, val x_at, uint32_t count, val *sums);

/* The scales of all tokens for block `number` of the activations. */
void tile_x_scales(const product *p, val number, val *x_scales);

/* Scales the sums of group `number`, of `n` vectors from v on, and adds them, less the minima, to acc: by the rows'
   scales, and by the tokens' unless these are NULL. Here, sums and acc are [token][n]. */
void tile_add_scaled(const product *p, val number, const val *x_scales, uint32_t v, uint32_t n, const val *sums,
                     val *acc);

/* ---- emit_tile_matrix.c: all of a product */

void tile_multiply_matrix(const product *p);

/* ---- emit_tile_unpack.c */

/* void (rows, to): unpacks a tile. */
val tile_unpack_function(const tile *t);

#endif
