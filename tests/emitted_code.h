/* emitted_code.h - a function that emitters make, compiled for a CPU and placed in this process.
 *
 *     emitted_code c;
 *     emitted_begin(&c, "x86-64-v3", NULL);   c.memory, c.module and c.machine.isa are for the emitter
 *     … emit into c.module …
 *     f *call = emitted_end(&c, "name");
 *     emitted_free(&c); */
#ifndef GGUFC_TESTS_EMITTED_CODE_H
#define GGUFC_TESTS_EMITTED_CODE_H

#include "compiled_model.h"
#include "emit.h"
#include "jit.h"
#include "target.h"

typedef struct emitted_code {
    arena         *memory;
    diag           messages;
    target         machine;
    LLVMContextRef context;
    LLVMModuleRef  module;
    jit           *placed;
} emitted_code;

/* NULL for a CPU: the one at hand. */
static inline void emitted_begin(emitted_code *c, const char *cpu, const char *features) {
    *c = (emitted_code){.memory = arena_new()};
    assert_true(target_open(&c->machine, c->memory, &c->messages, NULL, cpu, features));
    c->context = LLVMContextCreate();
    c->module = LLVMModuleCreateWithNameInContext("emitted", c->context);
    target_prepare(&c->machine, c->module);
}

/* Where `symbol` is, until emitted_free. */
static inline const void *emitted_end(emitted_code *c, const char *symbol) {
    const void *at;
    assert_true(target_optimize(&c->machine, &c->messages, c->module));
    LLVMMemoryBufferRef object = target_code(&c->machine, &c->messages, c->module, false);
    LLVMDisposeModule(c->module);
    LLVMContextDispose(c->context);
    c->placed = jit_load(&c->messages, object, symbol, &at);
    assert_non_null(c->placed);
    return at;
}

static inline void emitted_free(emitted_code *c) {
    jit_free(c->placed);
    target_close(&c->machine);
    arena_free(c->memory);
}

#endif
