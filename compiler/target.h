/* target.h - from a module to an object: which machine, LLVM's passes, code. */
#ifndef GGUFC_TARGET_H
#define GGUFC_TARGET_H

#include <llvm-c/TargetMachine.h>

#include "diag.h"
#include "isa.h"

typedef struct target {
    LLVMTargetMachineRef machine;
    LLVMTargetDataRef    layout;
    char                *triple, *cpu, *features; /* in the arena */
    const isa           *isa;
    const char          *name; /* "x86_64 avx512-vnni" */
    bool                 native; /* of this machine's architecture */
} target;

/* NULL for triple or cpu means this machine's; `features` is added to the CPU's. Errors: unknown
   triple or CPU. False after one was reported; else target_close when done. */
bool target_open(target *t, arena *a, diag *d, const char *triple, const char *cpu,
                 const char *features);
void target_close(target *t);

/* Sets the module's triple and data layout. */
void target_prepare(const target *t, LLVMModuleRef module);

/* Verifies the module and runs LLVM's passes over it. */
bool target_optimize(const target *t, diag *d, LLVMModuleRef module);

/* The code as bytes, an object or assembly; the caller disposes of the buffer. NULL after an error
   was reported. */
LLVMMemoryBufferRef target_code(const target *t, diag *d, LLVMModuleRef module, bool assembly);

#endif
