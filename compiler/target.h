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
    bool                 shared; /* `cpu` is what code is scheduled for; it uses `features` and nothing else */
} target;

/* NULL for triple or cpu means this machine's; `features` is added to the CPU's. Errors: unknown
   triple or CPU, or several. False after one was reported; else target_close when done. */
bool target_open(target *t, arena *a, diag *d, const char *triple, const char *cpu,
                 const char *features);
void target_close(target *t);

/* For each of several CPUs, "NAME,NAME,…" (one name is target_open's), into an array in the arena, best ISA row
   first. They share a program, which asks the processor what it has (runtime/cpu.h): so code uses what its row asks
   for, and nothing else that such a CPU has. Errors also: two of one row, of which the second would never run; features.
   After any, those that were opened are still to be closed. */
bool target_open_each(target **all, uint32_t *n, arena *a, diag *d, const char *triple, const char *cpus,
                      const char *features);

/* Sets the module's triple and data layout. */
void target_prepare(const target *t, LLVMModuleRef module);

/* Verifies the module and runs LLVM's passes over it. */
bool target_optimize(const target *t, diag *d, LLVMModuleRef module);

/* The code as bytes, an object or assembly; the caller disposes of the buffer. NULL after an error
   was reported. */
LLVMMemoryBufferRef target_code(const target *t, diag *d, LLVMModuleRef module, bool assembly);

#endif
