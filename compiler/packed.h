/* packed.h - weights in a file of their own, laid out for the CPU (--pack).
 *
 * Read in place from a GGUF file, a row of Q8_0 is multiplied by itself, and the sum of a vector is
 * taken for each row and token. In tiles (emit_tile.c) lanes are rows: nothing is left to sum, and a
 * few tokens share every load. A prompt's weights are unpacked to tiles on the way; with --pack they
 * are so in the file, which an executable maps in place of the GGUF file, and single tokens are
 * multiplied by tiles as well. The file is as large as the weights: a block of 32 columns of r rows
 * takes 34 · r bytes,
 *
 *     i8  words[8][r][4]     r rows of four neighbouring columns; u8, q + 128, where the ISA's dot wants that
 *     f16 scales[r]
 *
 * where r is 2 · lanes, or what is left of a unit's rows (pass_plan.c) at its end. All of a tile's
 * blocks follow one another, then the next tile. Weights that are no Q8_0 of a matrix product are
 * copied as they are, each aligned to 64 bytes; one that is read in both ways is there twice.
 */
#ifndef GGUFC_PACKED_H
#define GGUFC_PACKED_H

#include "diag.h"
#include "graph.h"
#include "plan.h"

/* What the file begins with, little-endian; the weights begin at PACKED_BEGIN. */
typedef struct packed_header {
    char     magic[8]; /* PACKED_MAGIC */
    uint32_t version;  /* PACKED_VERSION */
    uint32_t lanes;    /* rows of a vector */
    uint32_t bias;     /* what is added to quants: 128 or 0 */
    uint32_t reserved; /* 0 */
    uint64_t bytes;    /* of the file */
    uint64_t gguf_bytes, gguf_index_hash; /* of the GGUF file it was made from */
    char     isa[24];
} packed_header;

#define PACKED_MAGIC   "ggufcpk"
#define PACKED_VERSION 2
#define PACKED_BEGIN   4096

/* Whether code for that ISA can read packed weights. */
bool packed_supported(const isa *target);

/* Gives every weight its place in the packed file. To be called when calls are planned. */
void packed_place(graph *g, plan *p, const isa *target);

/* Whether a product in units of `rows` rows reads its weights from tiles in the packed file. */
bool packed_for(const op *o, uint32_t rows);

packed_header packed_describe(const gguf_file *f, const plan *p, const isa *target);

/* Writes the file; false after an error was reported. */
bool packed_write(diag *d, const char *path, const graph *g, const plan *p, const packed_header *header);

#endif
