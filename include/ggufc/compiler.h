/* ggufc/compiler.h - the compiler as a library.
 *
 *     ggufc_compile_options options;
 *     ggufc_compile_defaults(&options);
 *     options.model = "story.gguf";
 *     options.output = "story";
 *     if (!ggufc_compile(&options, NULL, NULL)) …      errors went to standard error
 */
#ifndef GGUFC_COMPILER_H
#define GGUFC_COMPILER_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum ggufc_emit {
    GGUFC_EMIT_EXE,     /* an executable */
    GGUFC_EMIT_OBJ,     /* the model's object, to be linked with the runtime library */
    GGUFC_EMIT_LIB,     /* FILE.a: object and runtime, with FILE.h beside it */
    GGUFC_EMIT_SO,      /* FILE.so: the same as a shared library, which has the model's symbol and ggufc/runtime.h's */
    GGUFC_EMIT_LLVM_IR, /* the module as text, after LLVM's passes */
    GGUFC_EMIT_ASM
};

/* In the order they are run. --stop-after ends with one, --dump prints what one made. */
enum ggufc_stage {
    GGUFC_STAGE_GGUF,
    GGUFC_STAGE_ARCH,
    GGUFC_STAGE_RESOLVE,
    GGUFC_STAGE_FUSE,
    GGUFC_STAGE_PLAN,
    GGUFC_STAGE_EMIT,
    GGUFC_STAGE_TARGET,
    GGUFC_STAGE_LINK
};

#define GGUFC_MAX_TOKENS (1 << 24) /* of a context, of a batch */

enum {
    GGUFC_DUMP_GRAPH = 1, /* as the last stage before the plan left it */
    GGUFC_DUMP_PLAN = 2,
    GGUFC_DUMP_LLVM_IR = 4,
    GGUFC_DUMP_ASM = 8
};

typedef struct ggufc_compile_options {
    const char      *model;      /* the GGUF file */
    const char      *output;     /* "-": standard output, of what --emit=llvm-ir, asm and obj make; NULL only where
                                    stop_after comes before any output */
    enum ggufc_emit  emit;
    enum ggufc_stage stop_after;
    unsigned         dump;       /* GGUFC_DUMP_*, to standard output */
    const char      *arch;       /* an .arch file instead of the built-in one, or NULL */
    const char      *target;     /* a triple; NULL: this machine's */
    const char      *cpu;        /* an LLVM name; NULL or "native": this machine's. "NAME,NAME,…", for executables and
                                    libraries: code for each, of which the best that a machine can run is run */
    const char      *features;   /* "+a,-b", added to what the CPU has; or NULL */
    const char      *symbol;     /* of the emitted ggufc_model */
    uint32_t         ctx;        /* positions; 0: what the model was trained for, at most 4096 */
    uint32_t         batch;      /* most tokens of a prompt at a time */
    uint32_t         unroll;     /* blocks, a multiple of 4; 0: whole rows */
    bool             no_fuse;    /* every op is a kernel of its own: see pass_fuse (compiler/pass.h) */
    const char      *runtime;    /* the runtime library; NULL: beside the compiler, or installed */
    bool             pack;       /* weights laid out for the CPU, in OUTPUT.weights, read in place of the model */
    bool             embed_weights; /* the weights are part of the output, which needs no file when it runs */
    bool             trace;      /* named activations can be looked at: ggufc_model.activations */
    bool             verbose;    /* a note for each stage, with its time */
} ggufc_compile_options;

void ggufc_compile_defaults(ggufc_compile_options *options);

/* Receives a line about the model or its compilation: level 0 a note, 1 a warning, 2 an error. */
typedef void ggufc_message(void *user, int level, const char *line);

/* False after an error was reported (to `message`, or to standard error where that is NULL): options
   out of range, a model that cannot be compiled, a file that cannot be written. The output appears
   whole or not at all; while it is written, SIGINT, SIGTERM and SIGHUP, where they would end the
   process, remove what is unfinished first. Linking runs $CC or cc, a library also ar. Out of memory
   ends the process with status 1. */
bool ggufc_compile(const ggufc_compile_options *options, ggufc_message *message, void *user);

#ifdef __cplusplus
}
#endif

#endif
