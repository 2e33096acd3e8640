/* engine.h - a model that runs in this process, by one of three kernels.
 *
 *     compiled      generated code, loaded from the object that would be linked (jit.h)
 *     interpreted   the graph before fusion by generic kernels, faithful arithmetic (interp.h)
 *     reference     the same in f64
 *
 * All three end in a ggufc_model, which the runtime's sessions evaluate. */
#ifndef GGUFC_ENGINE_H
#define GGUFC_ENGINE_H

#include "compilation.h"
#include "interp.h"
#include "jit.h"

enum engine_kernels { ENGINE_COMPILED, ENGINE_INTERPRETED, ENGINE_REFERENCE };

extern const char *const engine_kernels_names[]; /* ends with NULL */

/* The path in [KERNELS:]PATH, and the kernels (compiled where none are named). A file whose own name
   begins so is named as ./compiled:x. */
const char *engine_parse_name(const char *name, enum engine_kernels *kernels);

typedef struct engine_options {
    ggufc_compile_options compile; /* model, arch, ctx, batch, cpu, …; trace */
    enum engine_kernels   kernels;
    const mistake        *mistake; /* see interp_options; not for ENGINE_COMPILED */
    int32_t               layer;
    arena                *memory; /* where what outlives the engine's maps is put; NULL: its own */
} engine_options;

typedef struct engine {
    engine_options options;
    compilation    compilation; /* file, graph (of ENGINE_COMPILED fused), vocab */
    jit           *jit;
    ggufc_model    model; /* its `embedded` is the mapped file: sessions map nothing */
} engine;

/* False after an error was reported to `d`; engine_close either way. */
bool engine_open(engine *e, const engine_options *options, const diag *d);
void engine_close(engine *e);

/* What a model of the engine's file is, but for what evaluating it is about: that, interp_model adds.
   `e` must not be ENGINE_COMPILED, whose graph was changed by passes. */
ggufc_model engine_describe(engine *e, enum interp_arithmetic arithmetic);

#endif
