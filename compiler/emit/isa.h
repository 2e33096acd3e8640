/* isa.h - what the emitters need to know of an instruction set, a row each.
 *
 * Kernels are written once, over LLVM's vectors; an ISA says how wide those should be and how it
 * multiplies pairs of 8-bit integers. The generic row uses nothing but LLVM's own vector
 * operations and works on every target.
 *
 * Q8_0 activations are stored planar, for n values (all offsets from the row's start, rows aligned
 * to 64 bytes):
 *
 *     i8  quants[n]
 *     i32 corrections[n / 32][8]      where `unsigned_weights`
 *     f32 scales[n / 32]              each already rounded to f16
 *     i32 totals[n / 32]              of a block's corrections, where there is dot_rows as well
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

typedef struct isa {
    const char *name;
    const char *arch;      /* as a triple begins: "x86_64"; NULL: any */
    const char *features;  /* all that must be there, space-separated LLVM names */
    uint32_t    lanes;     /* f32 values in a vector */
    uint32_t    registers; /* vector registers */
    uint32_t    tokens;    /* of a prompt, taken at a time: their sums fit the registers; 2^n */
    bool        native_f16;       /* LLVM converts f16 without calling a library */
    bool        unsigned_weights; /* the dot takes w + 128: the excess is in `corrections` */

    uint32_t    dot_length;       /* weights the dot likes to take: 32 or 64 */

    /* Tiles (emit_tile.c): vectors of rows, tokens at a time for quantized and for other weights (0:
       none), how many columns of quantized ones a 32-bit lane holds: 4 as bytes, 2 as i16, and how many
       lanes of a block stand straight-line. */
    uint32_t tile_vectors, tile_tokens, plain_tokens, tile_columns, tile_steps;

    /* Adds the products of 32 or dot_length weights and activations, four neighbours a lane, to the
       i32 lanes of `sum`. Where unsigned_weights, those must begin with -128 · Σ activations. */
    struct LLVMOpaqueValue *(*dot)(struct emit *e, struct LLVMOpaqueValue *weights,
                                   struct LLVMOpaqueValue *activations,
                                   struct LLVMOpaqueValue *sum);

    /* The same for as many rows as there are lanes: adds to each i32 lane the products of its
       tile_columns weights with as many activations, both as i32 lanes. NULL: there is no good way. */
    struct LLVMOpaqueValue *(*dot_rows)(struct emit *e, struct LLVMOpaqueValue *weights,
                                        struct LLVMOpaqueValue *activations,
                                        struct LLVMOpaqueValue *sum);

    /* Adds to each f32 lane the products of two bf16 with two, both as i32 lanes. NULL: there is no
       such instruction. */
    struct LLVMOpaqueValue *(*dot_bf16)(struct emit *e, struct LLVMOpaqueValue *weights,
                                        struct LLVMOpaqueValue *activations,
                                        struct LLVMOpaqueValue *sum);
} isa;

/* All rows, best first; the last is generic. */
extern const isa *const isa_rows[];

/* The best row for a triple's architecture whose features are all in `features`
   ("+avx2,-sse4a,…", the last mention of a feature counts). */
const isa *isa_select(const char *triple, const char *features);

/* The features a CPU name implies, of those that ISA rows ask for, as "+avx2,+fma": LLVM's C API
   cannot tell. NULL for a name without a row. */
const char *isa_cpu_features(const char *cpu);

/* How many bytes ahead of what it multiplies a kernel that streams weights from memory should ask for
   them on that CPU; 0: not at all, its own prefetchers do better alone. */
uint32_t isa_cpu_prefetch(const char *cpu);

/* Where the parts of one row of `n` activations of `type` are. */
typedef struct activation_layout {
    uint64_t corrections, scales, totals;
    uint64_t halves;
    uint64_t tile; /* what tiles are multiplied with: quants, wide, values, or halves of BF16 */
    uint64_t bytes;
} activation_layout;

activation_layout isa_activation_layout(const isa *target, enum quant_type type, uint64_t n);

#endif
