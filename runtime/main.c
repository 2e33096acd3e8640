/* main.c - main() of an executable; alone, so that a program with its own main() that links the
 * runtime as a library does not get this one. */
#include "cli.h"

/* In C the model cannot be called what its type is called, so here it goes by another name. */
#define SYMBOL_PREFIX_2(prefix) #prefix
#define SYMBOL_PREFIX(prefix)   SYMBOL_PREFIX_2(prefix)
extern const ggufc_model compiled_model __asm__(SYMBOL_PREFIX(__USER_LABEL_PREFIX__) "ggufc_model");

int main(int argc, char **argv) {
    return cli_main(&compiled_model, argc, argv);
}
