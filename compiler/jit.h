/* jit.h - an object's code in this process.
 *
 * The object is the one that would be linked, byte for byte, so what is run here is what an
 * executable runs. LLVM's ORC places it: it needs no linker, no compiler driver and no temporary
 * file, where a shared object would need all three. */
#ifndef GGUFC_JIT_H
#define GGUFC_JIT_H

#include <llvm-c/Types.h>

#include "diag.h"

typedef struct jit jit;

/* Takes `object` over, also when it fails. *address is where `symbol` is. NULL after an error was
   reported. The code is there until jit_free. */
jit *jit_load(diag *d, LLVMMemoryBufferRef object, const char *symbol, const void **address);
void jit_free(jit *j); /* NULL is allowed */

#endif
