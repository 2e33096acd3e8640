/* command.h - what `ggufc NAME …` does for each name; anything else compiles a model. Each gets its
 * name as argv[0], and returns the exit status: 0; 1 the input was bad; 2 usage (but for compare,
 * see there). */
#ifndef GGUFC_COMMAND_H
#define GGUFC_COMMAND_H

typedef int command_main(int argc, char **argv);

command_main command_run, command_trace; /* command_run.c */
command_main command_compare;            /* command_compare.c */
command_main command_dump;               /* command_dump.c */
command_main command_bench;              /* command_bench.c */
command_main command_quantize;           /* command_quantize.c */
command_main command_inspect;            /* command_inspect.c */

/* NULL where no command is called so. */
command_main *command_find(const char *name);

#endif
