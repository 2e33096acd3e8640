/* isa.h - what the emitters need to know of an instruction set, a row each.
 *
 * Kernels are written once, over LLVM's vectors; an ISA says how wide those should be and how it
 * multiplies pairs of 8-bit integers. The generic row uses nothing but LLVM's own vector
 * operations and works on every target.
 *
 * Q8_0, Q8_1 and Q8_K activations are stored planar, for n values in blocks of 32, 32 or 256 (all
 * offsets from the row's start, rows and parts aligned to 64 bytes):
 *
 *     i8  quants[n]
 *     i32 corrections[n / 4]          -128 · Σ of four quants: this and what else is of Σ as i32 is
 *                                     there for `unsigned_weights` and `pair_tokens` alone
 *     i8  halved[n]                   the quants again: of every 2 · dot_length the first 16 of each 32,
 *                                     then the last 16 of each, as bytes of two nibbles have them
 *     i8  halved[n]                   Q8_K, dot_length 64: likewise the first 32 of each 64, then the last 32
 *     i32 halved_corrections[n / 8]   -128 · Σ of four of the first and four of the last, in the order of
 *                                     blocks of 32
 *     f32 scales[n / block]           those of Q8_0 and Q8_1 already rounded to f16
 *     for each s of 16, 32 and the block:
 *     i32 totals[n / s]               -128 · Σ of s quants
 *     f32 sums[n / s]                 Q8_K, s < 256: Σ of s quants; Q8_1, s = 32: scale · Σ, rounded to f16
 *     i16 counts[n / s]               Q8_K, s < 256: -Σ of s quants
 *     i16 wide[n]                     the quants again, where tile_columns is 2
 *
 * F16 and BF16 activations are rounded to that type and stored as f32 values[n]; then, where there is
 * native_f16 or dot_bf16, as they are: halves[n].
 */
#ifndef GGUFC_ISA_H
#define GGUFC_ISA_H

#include "base.h"
#include "quant.h"

struct emit;
struct LLVMOpaqueValue;

/* A unit that multiplies matrices: sums of vectors of rows and groups of tokens, and what it multiplies, are in
   registers of its own. */
#define ISA_MAX_SUMS 4

enum matrix_product {
    MATRIX_I8,   /* a lane holds four columns of each; sums are i32 */
    MATRIX_BF16, /* … two; f32 */
};

typedef struct isa_matrix {
    uint32_t tokens;  /* of a band, at most */
    uint32_t words;   /* of a row, lanes of 32 bits, at most in a step; a power of two */
    uint32_t bands;   /* of tokens, and */
    uint32_t vectors; /* of rows at a time, at most: ISA_MAX_SUMS in all */

    /* What follows, until the end, is of bands of n_tokens, and has so many words in a step. Between, no function is
       called. */
    void (*begin)(struct emit *e, uint32_t n_tokens, uint32_t words);
    void (*end)(struct emit *e);

    /* The sum of a band of tokens and a vector of rows. */
    void (*zero)(struct emit *e, uint32_t band, uint32_t vector);

    /* A step: adds to all of these sums the products of the tokens' words, each band's from its x on, which
       are x_stride (i64) bytes apart, and of the rows' words, each vector's from its w on, those of the next word
       w_stride bytes on. */
    void (*multiply)(struct emit *e, enum matrix_product kind, uint32_t n_bands, struct LLVMOpaqueValue *const *x,
                     struct LLVMOpaqueValue *x_stride, uint32_t n_vectors, struct LLVMOpaqueValue *const *w,
                     uint64_t w_stride);

    /* Writes a vector for each token, `stride` (i64) bytes apart. */
    void (*store)(struct emit *e, uint32_t band, uint32_t vector, struct LLVMOpaqueValue *to,
                  struct LLVMOpaqueValue *stride);
} isa_matrix;

typedef struct isa {
    const char *name;
    const char *arch;      /* as a triple begins: "x86_64"; NULL: any */
    const char *features;  /* all that must be there, space-separated LLVM names */
    uint32_t    lanes;     /* f32 values in a vector */
    uint32_t    registers; /* vector registers */
    uint32_t    tokens;    /* of a prompt, taken at a time: their sums fit the registers; 2^n */
    bool        native_f16;       /* LLVM converts f16 without calling a library */
    bool        spills_in_order;  /* LLVM, made to keep weights' loads in their order, spills what it has loaded */
    bool        masks;            /* the bits of a register choose lanes of a vector */
    bool        unsigned_weights; /* the dot takes w + 128: the excess is in `corrections` */

    uint32_t    dot_length;       /* weights the dot likes to take: 32 or 64 */

    /* Tiles (emit_tile.c): vectors of rows, tokens at a time for quantized and for other weights (0:
       none), how many columns of quantized ones a 32-bit lane holds: 4 as bytes, 2 as i16, and how many
       lanes of a block stand straight-line. */
    uint32_t tile_vectors, tile_tokens, plain_tokens, tile_columns, tile_steps;

    /* Rows, a power of two, and tokens of F16 at a time (panels, emit_dot.c): their sums fit the registers, and
       beside them a vector of each token's numbers and of one row's. 0: tiles are as good. */
    uint32_t panel_rows, panel_tokens;

    /* Likewise tokens at a time, and lanes straight-line, of weights of so few bits that dot_pairs is for
       them, and their products are added as i16. 0: dot_rows is as good. */
    uint32_t pair_tokens, pair_steps;

    const isa_matrix *matrix; /* NULL: there is none */

    /* Adds the products of 32 or dot_length weights and activations to the i32 lanes of `sum`, of every 16
       four to each of four lanes. Where unsigned_weights, these four are neighbours, and the lane must begin
       with -128 · Σ of their activations. */
    struct LLVMOpaqueValue *(*dot)(struct emit *e, struct LLVMOpaqueValue *weights,
                                   struct LLVMOpaqueValue *activations,
                                   struct LLVMOpaqueValue *sum);

    /* The same for as many rows as there are lanes: adds to each i32 lane the products of its
       tile_columns weights with as many activations, both as i32 lanes. NULL: there is no good way. */
    struct LLVMOpaqueValue *(*dot_rows)(struct emit *e, struct LLVMOpaqueValue *weights,
                                        struct LLVMOpaqueValue *activations,
                                        struct LLVMOpaqueValue *sum);

    /* As dot_rows, but whatever tile_columns is a lane holds four bytes, as packed weights do (packed.h): + 128 where
       unsigned_weights. NULL: there is no good way. */
    struct LLVMOpaqueValue *(*dot_bytes)(struct emit *e, struct LLVMOpaqueValue *weights,
                                         struct LLVMOpaqueValue *activations,
                                         struct LLVMOpaqueValue *sum);

    /* Adds to each f32 lane the products of two bf16 with two, both as i32 lanes. NULL: there is no
       such instruction. */
    struct LLVMOpaqueValue *(*dot_bf16)(struct emit *e, struct LLVMOpaqueValue *weights,
                                        struct LLVMOpaqueValue *activations,
                                        struct LLVMOpaqueValue *sum);

    /* The sums of two neighbouring products each, as i16: of unsigned weights below 64, dot_length of
       them, and activations. NULL, as dot_words: `dot` is better. */
    struct LLVMOpaqueValue *(*dot_pairs)(struct emit *e, struct LLVMOpaqueValue *weights,
                                         struct LLVMOpaqueValue *activations);

    /* The same of signed weights. NULL: `dot` is better. */
    struct LLVMOpaqueValue *(*dot_signed_pairs)(struct emit *e, struct LLVMOpaqueValue *weights,
                                                struct LLVMOpaqueValue *activations);

    /* Two vectors of i32 as i16, which hold them: of every four lanes (128 bits) of both, a's before b's.
       NULL: the sums of four products cost more than those of two, and dot_pairs is for the ISA. */
    struct LLVMOpaqueValue *(*narrow)(struct emit *e, struct LLVMOpaqueValue *a, struct LLVMOpaqueValue *b);

    /* Adds to each i32 lane of `sum` the products of two neighbouring i16. NULL for `sum`: to zero. */
    struct LLVMOpaqueValue *(*dot_words)(struct emit *e, struct LLVMOpaqueValue *a,
                                         struct LLVMOpaqueValue *b, struct LLVMOpaqueValue *sum);

    /* table[index[i]] for each i of bytes below 16. */
    struct LLVMOpaqueValue *(*look_up)(struct emit *e, const int8_t table[16],
                                       struct LLVMOpaqueValue *index);
} isa;

/* All rows, best first; the last is generic. */
extern const isa *const isa_rows[];

/* The best row for a triple's architecture whose features are all in `features`
   ("+avx2,-sse4a,…", the last mention of a feature counts). */
const isa *isa_select(const char *triple, const char *features);

/* The features a name of a CPU of the triple's architecture implies, of those that ISA rows ask for, as "+avx2,+fma":
   LLVM's C API cannot tell. NULL for a name without a row. */
const char *isa_cpu_features(const char *triple, const char *cpu);

/* How many bytes ahead of what it multiplies a kernel should have weights brought to the second-level cache on
   that CPU; 0: not at all, its own prefetchers do better alone. */
typedef struct isa_prefetch {
    uint32_t bytes;  /* weights of 8 bits and more */
    uint32_t packed; /* … of less, which keep a core busier than memory */
    uint32_t pairs;  /* … of BF16 where an instruction multiplies pairs: there is next to nothing to do */
    uint32_t tiles;  /* … in packed tiles, for one token */
    uint32_t least;  /* bytes of all weights: fewer are in that cache anyway, or come fast enough; 0: not
                               known */
} isa_prefetch;

/* What is good for a CPU beyond its ISA. */
typedef struct isa_tuning {
    bool         halves_cost; /* halves are converted by the units that multiply: panels, whose products each need
                                 more than half a conversion, are no better than tiles */
    isa_prefetch prefetch;    /* of weights that decode kernels read from memory */
} isa_tuning;

/* Zeros: nothing is known. */
isa_tuning isa_cpu_tuning(const char *triple, const char *cpu);

/* How many quants a sum is of: 16, 32, a block. */
enum isa_sum { ISA_SUM_16, ISA_SUM_32, ISA_SUM_BLOCK, ISA_SUM_COUNT };

enum isa_sum isa_sum_of(uint32_t quants); /* 16, 32 or 256 */

/* Where the parts of one row of `n` activations of `type` are. */
typedef struct activation_layout {
    uint64_t corrections, halved[2], halved_corrections, scales; /* halved: of 16, of 32 */
    uint64_t totals[ISA_SUM_COUNT], sums[ISA_SUM_COUNT], counts[ISA_SUM_COUNT];
    uint64_t halves;
    uint64_t tile; /* what tiles are multiplied with: quants, wide, values, or halves of BF16 */
    uint64_t bytes;
} activation_layout;

activation_layout isa_activation_layout(const isa *target, enum quant_type type, uint64_t n);

#endif
