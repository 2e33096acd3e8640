/* arch.h - architectures as text: parsing an .arch file, and building a model's graph from it.
 *
 * The language is specified in templates/arch/README.md. A file says which metadata keys are read
 * (with defaults), which tensors exist with which shapes (optional ones marked), and the layer as
 * lines of named values. All of the functions it can call are rows of op_infos (graph.h).
 *
 * Promise: whatever is wrong with the text is reported with file:line:column; whatever is wrong
 * with the model (a key missing or of the wrong type, a tensor missing, of a wrong shape or an
 * unexpected one) is reported with the model's file and the key or tensor, what was found and what
 * was expected, and evaluating any text ends: expressions are bounded, counts are checked.
 */
#ifndef GGUFC_ARCH_H
#define GGUFC_ARCH_H

#include "graph.h"

typedef struct arch arch;

/* The text of the built-in template for `general.architecture`, or NULL; sets *size. */
const char *arch_builtin(const char *name, size_t *size);

/* The names of all built-in templates, ending with NULL. */
const char *const *arch_builtin_names(void);

/* Parses `size` bytes of text, which must outlive the result; `path` is for messages. NULL after
   an error was reported. */
arch *arch_parse(arena *a, diag *d, const char *path, const char *text, size_t size);

/* The graph of the model in `file`: ops of the .arch language only, activations named as
   llama.cpp names them. NULL after an error was reported. Tensors of the file that nothing reads
   are warned about. */
graph *arch_build(arena *a, diag *d, const arch *t, const gguf_file *file);

#endif
