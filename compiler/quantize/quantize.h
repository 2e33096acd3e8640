/* quantize.h - a GGUF file again, with its weights in other types: `ggufc quantize IN OUT TYPE`.
 *
 * What becomes of each tensor is decided before anything is written (mixture.h), so that what cannot
 * be done is refused at once: a type that activations have, one that needs an importance matrix
 * where there is none, weights quantized already. Then rows are converted by several threads and go
 * straight to their places in OUT, which appears whole or not at all. The bytes do not depend on the
 * number of threads. Memory: for each thread the larger of a row and a piece of some MiB, its blocks and
 * its values twice.
 *
 * OUT has IN's metadata, entry for entry, but general.quantization_version, general.file_type and what
 * is overridden, which stand at the end, and the keys of split files, which are left out; its tensors
 * are in the order of mixture_compare. So it is llama.cpp's file to the byte where the blocks are.
 *
 * Weights that are not finite are refused, also in tensors that are only copied, as are such that
 * are not in their new type (an F16 holds at most 65504). */
#ifndef GGUFC_QUANTIZE_H
#define GGUFC_QUANTIZE_H

#include "diag.h"
#include "gguf.h"
#include "mixture.h"
#include "tensor_pattern.h"

/* A key with another value; its type is GGUF_U32, GGUF_F32, GGUF_BOOL or GGUF_STRING. */
typedef struct quantize_override {
    const char    *key;
    enum gguf_type kind;
    uint32_t       number;
    float          real;
    bool           truth;
    const char    *text;
} quantize_override;

typedef struct quantize_list {
    const char **items;
    uint32_t     n, room;
} quantize_list;

typedef struct quantize_options {
    const char    *input, *output; /* output: unused in a dry run */
    const mixture *mix;
    uint32_t       n_threads; /* 0: one for each processor */
    uint32_t       output_quant, embedding_quant; /* QUANT_COUNT: as the mixture says */
    bool           leave_output, allow_requantize, pure, dry_run, verbose;

    tensor_patterns    patterns;
    const char        *imatrix; /* a path, or NULL */
    quantize_list      pattern_files; /* where patterns were read: no output goes there */
    quantize_list      include, exclude; /* parts of names of its entries */
    quantize_override *overrides;
    uint32_t           n_overrides, overrides_room;
} quantize_options;

/* False after an error was reported; the file is not there then, or is what it was. */
bool quantize_file(quantize_options *o, diag *d);

/* KEY=TYPE:VALUE with TYPE int, float, bool or str. NULL, or what `text` is not. */
const char *quantize_read_override(arena *a, const char *text, quantize_override *out);

#endif
