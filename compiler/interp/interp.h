/* interp.h - the graph before fusion, evaluated by generic kernels that read its shapes at run time.
 *
 * An independent witness of what generated code computes, and the other side of "generated against
 * interpreted": it shares no kernel, no plan and no layout with the emitters, only the graph.
 *
 *     faithful    what llama.cpp's CPU backend does: activations are quantized to the type that the
 *                 weight's is multiplied with (quant_info.activation), the products of a block are
 *                 summed in integers (interp_dot.c), scales are applied in f32; keys and values are
 *                 kept as f16
 *     reference   weights dequantized to f32, f32 activations, sums and functions in f64; keys and
 *                 values are kept as f32
 *
 * An interpreted model is a ggufc_model as a compiled one is: sessions, threads, tokenizer and
 * command line are the runtime's. Its calls are ops, one after another with a barrier between them.
 */
#ifndef GGUFC_INTERP_H
#define GGUFC_INTERP_H

#include "diag.h"
#include "ggufc/model.h"
#include "graph.h"
#include "mistake.h"

enum interp_role { INTERP_COMPUTED, INTERP_GIVEN, INTERP_LEFT_OUT };

enum interp_arithmetic { INTERP_FAITHFUL, INTERP_REFERENCE };

typedef struct interp_options {
    enum interp_arithmetic arithmetic;
    uint32_t n_ctx;   /* positions in the key-value cache */
    uint32_t n_batch; /* most tokens in one call */
    bool     trace;   /* every activation is kept: ggufc_model.activations */

    /* For tests, and for trying what a mistake would do: made at every op of `layer` that it applies
       to (-1: of all layers, and outside them). NULL: none. */
    const mistake *mistake;
    int32_t        layer;
    const bool    *where; /* not NULL: at those ops instead, by id of the value that one makes */

    /* Part of the graph, by position in graph.ops: which ops are left out, and which make nothing
       themselves, since whoever evaluates the calls puts their values where they belong. NULL: all
       ops are computed. What is computed must not read what is left out. */
    const enum interp_role *roles;
} interp_options;

/* Requires a graph as arch built it, which outlives the result. Any graph will do. Fills
   in of *model what evaluating is about: calls, activations, sizes, the place of the logits. What
   is left to the caller: name, target, path, vocabulary, the file's fingerprint. */
void interp_model(arena *a, const graph *g, const interp_options *options, ggufc_model *model);

/* The op whose value this call of an interpreted model made; NULL for one that makes none. */
const op *interp_call_op(const ggufc_call *call);

/* The op that the call is of, be it one that comes before the op's own and makes no value: the
   quantization of x for a matrix product, the storing of keys and values for attention. */
const op *interp_call_owner(const ggufc_call *call);

/* Where in the arena that value is: its first token's, and the bytes to the next token's. */
uint64_t interp_call_offset(const ggufc_call *call);
uint64_t interp_call_stride(const ggufc_call *call);

#endif
