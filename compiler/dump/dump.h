/* dump.h - a tensor as it is stored: raw blocks, their values, and whether its scales are usual.
 *
 * Told of a tensor, in this order: name, type, shape (dims[0] first, as in ggml), place and sizes;
 * the chosen blocks of the chosen row, each field as stored (scales as bits and as numbers, quants
 * as the integers they are stored as) and the values decoded from them, to all digits; statistics
 * of the row and of the whole tensor, of values and of block scales; and what is usual here.
 *
 * What is usual. No scale is large or small in itself: it is compared with the scales of all tensors
 * of the same type in the same file, of which the exact distribution of |scale| is told (from a
 * count of each bit pattern; a quantile is the smallest |scale| that this share of the finite ones
 * does not exceed; a median likewise). A scale is called suspicious only where it is
 *
 *     infinite or no number, or
 *     above 16 times the |scale| that 99.9 % of the finite ones do not exceed, where at least the
 *     largest one is not counted among these 99.9 %, so that one wild scale shows in a small file
 *
 * A small scale is never suspicious: blocks of nothing but small weights are common. An f16 scale
 * below 2^-14 is a subnormal number, a value like any other: how many there are is told, and that
 * they must not be flushed to zero.
 *
 * Of a split model, a tensor's part is named (in JSON as tensor.part) and offsets count from its start.
 *
 * Nothing is told of the scales of IQ1_M, which spreads its own over other fields, and of plain numbers.
 *
 * Time is that of reading the tensor once, and the scales of those of its type; memory does not
 * grow with them. */
#ifndef GGUFC_DUMP_H
#define GGUFC_DUMP_H

#include "base.h"
#include "diag.h"

#include <stdio.h>

typedef struct dump_options {
    const char *model;
    const char *tensor; /* its whole name */
    int64_t     row;    /* of dims[1] × dims[2] × dims[3], counted from 0; -1: the first */
    int64_t     block;  /* of the row, the first to show; of plain types the first value; -1: 0 */
    int64_t     count;  /* blocks to show, of plain types values; -1: what makes 32 values, or a block */
    bool        json;   /* one object, else text for people */
} dump_options;

/* Writes all this to `out`. False after an error was reported: the file, a tensor that is not there
   (with up to three similar names), a row, block or count out of range, writing. */
bool dump_tensor(const dump_options *o, diag *d, FILE *out);

/* Writes a line for each tensor, in the file's order: name, type, shape. With `json` an object
   {"file", "tensors": [{"name", "type", "shape", "bytes", "offset"}, …]}. `tensor`, `row`, `block`
   and `count` are not looked at. */
bool dump_list(const dump_options *o, diag *d, FILE *out);

#endif
