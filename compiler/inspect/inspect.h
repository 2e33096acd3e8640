/* inspect.h - what a GGUF file is, and what would become of it when compiled.
 *
 * Told of, in this order: the file or its parts; all metadata; how many tensors, values and bytes there
 * are of each type, and, if asked for, each tensor; and either what compiling makes (for which
 * architecture, tokenizer, instruction set, context and batch; how much memory it takes) or the one
 * message that compiling would end with. To know that, the stages up to the plan are run, with the same
 * options: nothing is generated.
 *
 * Of arrays, the number of elements and the first INSPECT_SHOWN are told (in JSON INSPECT_LISTED), of
 * arrays of arrays the number alone. */
#ifndef GGUFC_INSPECT_H
#define GGUFC_INSPECT_H

#include "diag.h"
#include "ggufc/compiler.h"

#include <stdio.h>

#define INSPECT_SHOWN  4
#define INSPECT_LISTED 64

typedef struct inspect_options {
    ggufc_compile_options compile; /* the model, and how it would be compiled */
    bool tensors;                  /* each of them */
    bool json;                     /* one object, else text for people */
} inspect_options;

/* Writes all this to `out`. A model that cannot be compiled is no error here. False after one was
   reported: the file cannot be read as a GGUF. Whether writing worked is for ferror to say. */
bool inspect_model(const inspect_options *o, diag *d, FILE *out);

#endif
