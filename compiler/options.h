/* options.h - the compiler's command line. */
#ifndef GGUFC_OPTIONS_H
#define GGUFC_OPTIONS_H

#include "ggufc/compiler.h"

enum options_result { OPTIONS_COMPILE, OPTIONS_DONE, OPTIONS_WRONG };

/* Reads the arguments into `o`, whose strings point into argv. OPTIONS_DONE: --help or --version
   was answered. OPTIONS_WRONG: one line on standard error said what was wrong. */
enum options_result options_parse(ggufc_compile_options *o, int argc, char **argv);

#endif
