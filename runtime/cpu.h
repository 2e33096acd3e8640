/* cpu.h - whether this processor can run what was compiled, and which of several it runs. */
#ifndef GGUFC_CPU_H
#define GGUFC_CPU_H

#include <stdbool.h>
#include <stddef.h>

#include "ggufc/model.h"

/* `target` is ggufc_model.target, "x86_64 avx512-vnni". False when the processor lacks what that
   instruction set is known to need; true for one that the table does not know. Code compiled for a
   processor by name, or for the compiler's own, may use more than its instruction set asks for: that
   is not checked, but what is compiled for several uses nothing else. For AMX, which Linux lets only those processes use that ask for it, this asks, once for all. */
bool cpu_can_run(const char *target);

/* The first that it can run, of a model compiled for one CPU or several. NULL: none. */
const ggufc_model *cpu_choose(const ggufc_model *model);

/* What it was compiled for, as "x86_64 avx2, x86_64 ssse3", cut where `size` is too small. */
void cpu_list_targets(const ggufc_model *model, char *text, size_t size);

#endif
