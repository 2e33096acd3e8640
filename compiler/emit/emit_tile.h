/* emit_tile.h - what a tile (emit_tile.c) is made of. Private to emit_tile*.c. */
#ifndef GGUFC_EMIT_TILE_H
#define GGUFC_EMIT_TILE_H

#include "emit_block.h"

typedef struct tile tile;

/* How a type is multiplied by tiles: by the first of these that the ISA has. */
typedef struct tile_kind {
    const char *name;
    bool (*has)(const isa *target, enum quant_type weight);
    /* How much is added to quants to make them unsigned; NULL: nothing. */
    uint32_t (*bias)(const isa *target, enum quant_type weight);
    uint32_t (*columns)(const isa *target); /* in a lane */
    uint32_t (*tokens)(const isa *target);  /* at a time */
    uint32_t (*steps)(const isa *target);   /* words that stand straight-line: with more, LLVM would
                                               load too far ahead and run out of registers */
    /* Columns [first, first + n) of the row whose block is at `block`, as words. */
    val (*words)(const tile *t, val block, uint32_t first, uint32_t n);
    /* Where a token's words begin in its row of activations. */
    uint64_t (*x)(const activation_layout *layout);
    val (*dot)(emit *e, val weights, val x, val sum);
    bool in_pairs; /* `dot` adds to sums of i16, which are added to the rest in time (emit_block_in_pairs) */
} tile_kind;

/* A tile being unpacked or multiplied. */
struct tile {
    emit             *e;
    const tile_kind  *kind;
    const emit_block *form; /* NULL: plain numbers, nothing is scaled */
    const emit_tiles *of;
    uint32_t          n_vectors; /* of rows */
    uint64_t          row_bytes; /* as stored */
    uint32_t          group;     /* columns that share a scale, or (plain numbers) a vector's */
    uint32_t          span;      /* columns of whole blocks and groups, unpacked at once */
};

static inline uint32_t tile_group_words(const tile *t) {
    return t->group / t->kind->columns(t->e->isa);
}

/* Where `vector` of a group's word is; scales stand in the place of the word after the last, minima in
   that of the next. */
static inline uint64_t tile_word_at(const tile *t, uint32_t word, uint32_t vector) {
    return 4ull * t->e->isa->lanes * (word * t->n_vectors + vector);
}

uint64_t tile_group_bytes(const tile *t, uint32_t rows);

/* void (rows, to): unpacks a tile. */
val tile_unpack_function(const tile *t);

#endif
