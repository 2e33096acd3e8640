/* cpu.h - whether this processor can run what was compiled, and which of several it runs. */
#ifndef GGUFC_CPU_H
#define GGUFC_CPU_H

#include <stdbool.h>
#include <stddef.h>

#include "ggufc/model.h"

/* `target` is ggufc_model.target, "x86_64 avx512-vnni". False when the processor lacks what that instruction set is
   known to need; true for one that the table does not know, and where there is no way to ask. Code compiled for one
   CPU by name, or for the compiler's own, may use more than its instruction set asks for: that is not checked. Code
   compiled for several uses nothing else.
   AMX is for processes that have asked Linux for it: this asks, once for all. */
bool cpu_can_run(const char *target);

/* What --cpu calls the least of this architecture: "x86-64". */
extern const char cpu_least[];

/* The first that it can run, of a model compiled for one CPU or several. NULL: none. */
const ggufc_model *cpu_choose(const ggufc_model *model);

/* What it was compiled for, as "x86_64 avx2, x86_64 ssse3", cut where `size` is too small. */
void cpu_list_targets(const ggufc_model *model, char *text, size_t size);

#endif
