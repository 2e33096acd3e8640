/* compilation.h - a compilation from stage to stage, for those who need its parts: the driver, which
 * runs the stages, and engine.c, which runs what they made. */
#ifndef GGUFC_COMPILATION_H
#define GGUFC_COMPILATION_H

#include "diag.h"
#include "ggufc/compiler.h"
#include "ggufc/model.h"
#include "gguf.h"
#include "graph.h"
#include "plan.h"
#include "target.h"
#include "vocab.h"

#define COMPILATION_VERSION "ggufc " GGUFC_VERSION

/* What is made of the graph for a CPU. */
typedef struct variant {
    target              target;
    const char         *symbol; /* of its ggufc_model */
    plan               *plan;
    LLVMModuleRef       module;
    LLVMMemoryBufferRef object;
} variant;

typedef struct compilation {
    const ggufc_compile_options *options;
    arena     *memory;
    diag       messages;
    gguf_file *file;
    graph     *graph;

    uint32_t n_ctx;    /* positions in the cache, from the plan on */
    variant *variants; /* best first: one, or as many as --cpu names */
    uint32_t n_variants;
    variant *variant; /* of these the one that the stages work on */

    vocab_tables   vocab;
    bool           has_vocab;
    LLVMContextRef context;
} compilation;

/* Runs the stages up to options->stop_after, in order. `c` has its options, messages and memory
   set. False after an error was reported. */
bool compilation_run(compilation *c);

/* Gives back all that the stages made, c->memory included. */
void compilation_release(compilation *c);

/* ---- parts of stages */

bool        compilation_read_vocab(compilation *c);  /* sets has_vocab; warns where there is none of ours */
bool        compilation_check_heads(compilation *c); /* false, reported: heads larger than kernels take */
uint32_t    compilation_choose_ctx(compilation *c);  /* positions in the cache; warns where they are many */
const char *compilation_model_name(compilation *c);  /* general.name, or the file's */

/* What of the GGUF file an executable is to know: path, fingerprint, parts. In m, all else is left alone. */
void compilation_describe_file(compilation *c, ggufc_model *m);

/* driver_output.c: whether the options' output can be one, and writing it, the last stage. */
const char *compilation_packed_path(compilation *c); /* absolute: OUTPUT.weights; NULL: reported */
bool compilation_is_linked(const compilation *c); /* with the runtime: an executable, a library */
bool compilation_check_output(compilation *c);
bool compilation_write_output(compilation *c);

/* driver_embed.c: weights that become part of a program, as an object of their own that the assembler makes of the
   files: through LLVM they would be in memory three times. */
const char *compilation_weights_symbol(const compilation *c);
bool        compilation_check_embedded(compilation *c); /* false, reported: too many bytes for the target */
const char *compilation_weights_text(compilation *c, const char *packed); /* assembly; `packed`: where these are, where
                                                                             the plan has them */
const char *compilation_absolute(arena *a, const char *path); /* links resolved; as it is where there is nothing */

#endif
