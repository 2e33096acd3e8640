#include "arch.h"
#include "arch_builtin.h"

#include <string.h>

#define MAX_BUILTIN 256

const char *arch_builtin(const char *name, size_t *size) {
    for (const arch_builtin_text *b = arch_builtin_texts; b->name; b++) {
        if (strcmp(b->name, name)) continue;
        *size = b->size;
        return b->text;
    }
    return NULL;
}

const char *const *arch_builtin_names(void) {
    static const char *names[MAX_BUILTIN + 1];
    size_t n = 0;
    for (const arch_builtin_text *b = arch_builtin_texts; b->name; b++) {
        if (n == MAX_BUILTIN) bug("more than %d built-in architectures", MAX_BUILTIN);
        names[n++] = b->name;
    }
    return names;
}
