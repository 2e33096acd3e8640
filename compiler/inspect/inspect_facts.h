/* inspect_facts.h - all that is told of a model, between inspect.c, which finds it out, and those that
 * write it. */
#ifndef GGUFC_INSPECT_FACTS_H
#define GGUFC_INSPECT_FACTS_H

#include "compilation.h"
#include "inspect.h"

typedef struct inspect_type {
    const quant_info *type;
    uint64_t          n_tensors, n_values, bytes;
} inspect_type;

enum { INSPECT_MAX_WARNINGS = 8 };

typedef struct inspect_facts {
    const compilation *c; /* as far as it came: the file is open */
    bool          tensors;
    inspect_type  types[QUANT_COUNT]; /* most bytes first */
    uint32_t      n_types;
    inspect_type  all;
    const char   *refusal; /* why it cannot be compiled, or NULL */
    const char   *warnings[INSPECT_MAX_WARNINGS]; /* that compiling would bring */
    uint32_t      n_warnings;
} inspect_facts;

void inspect_write_text(const inspect_facts *facts, FILE *out);
void inspect_write_json(const inspect_facts *facts, FILE *out);

/* Tensors in a part. */
uint64_t inspect_count_tensors(const gguf_file *f, const gguf_part *part);

#endif
