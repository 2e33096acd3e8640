/* options.h - the compiler's command line, and the part of it that other commands share. */
#ifndef GGUFC_OPTIONS_H
#define GGUFC_OPTIONS_H

#include "ggufc/compiler.h"
#include "option.h"

/* How a model is generated, in memory or for a file; the target is a ggufc_compile_options. */
extern const option options_of_model[];

enum options_result { OPTIONS_COMPILE, OPTIONS_DONE, OPTIONS_WRONG };

/* Reads the arguments into `o`, whose strings point into argv. OPTIONS_DONE: --help or --version
   was answered. OPTIONS_WRONG: one line on standard error said what was wrong. */
enum options_result options_parse(ggufc_compile_options *o, int argc, char **argv);

#endif
