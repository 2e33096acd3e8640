/* main.c - main() of an executable; alone, so that a program with its own main() that links the
 * runtime as a library does not get this one. */
#include "cli.h"

extern const ggufc_model ggufc_compiled; /* what the compiler emits for an executable */

int main(int argc, char **argv) {
    return cli_main(&ggufc_compiled, argc, argv);
}
