/* cpu.h - whether this processor can run what was compiled. */
#ifndef GGUFC_CPU_H
#define GGUFC_CPU_H

#include <stdbool.h>

/* `target` is ggufc_model.target, "x86_64 avx512-vnni". False when the processor lacks what that
   instruction set is known to need; true for one that the table does not know. Code compiled for a
   processor by name, or for the compiler's own, may use more than its instruction set asks for: that
   is not checked. For AMX, which Linux lets only those processes use that ask for it, this asks, once for all. */
bool cpu_can_run(const char *target);

#endif
