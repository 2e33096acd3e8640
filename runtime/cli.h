/* cli.h - a compiled model as a program. */
#ifndef GGUFC_CLI_H
#define GGUFC_CLI_H

#include "ggufc/model.h"

/* All of main(): reads the arguments, does what they ask, returns the exit status: 0; 1 the input
   was bad; 2 usage; 130 interrupted. */
int cli_main(const ggufc_model *model, int argc, char **argv);

#endif
