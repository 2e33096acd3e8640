/* arch_builtin.h - the texts of templates/arch/, as the build put them into the binary. */
#ifndef GGUFC_ARCH_BUILTIN_H
#define GGUFC_ARCH_BUILTIN_H

#include <stddef.h>

typedef struct arch_builtin_text {
    const char *name; /* general.architecture; NULL ends the table */
    const char *text;
    size_t      size;
} arch_builtin_text;

extern const arch_builtin_text arch_builtin_texts[];

#endif
