/* cli_flags.h - the executable's command line.
 *
 * Names and meanings are llama.cpp's where it has them. Every option is a row of one table, from
 * which the help is printed too.
 */
#ifndef GGUFC_CLI_FLAGS_H
#define GGUFC_CLI_FLAGS_H

#include <stdbool.h>
#include <stdint.h>

#include "ggufc/runtime.h"
#include "stream.h"
#include "sampler.h"

typedef struct cli_flags {
    const char *model_path;                    /* NULL: search */
    bool        no_mmap;
    bool        mlock;
    const char *prompt, *prompt_file, *tokens; /* at most one is not NULL */
    int64_t     n_predict;                     /* negative: until the end */
    uint32_t    n_ctx, n_threads;              /* 0: the model's; all processors */
    int64_t     seed;                          /* -1: random */
    sampler_options sampling;                  /* but for its seed */
    uint32_t    bench_prompt, bench_depth, bench_runs;
    const char *trace, *trace_filter;          /* NULL: none; every activation */
    bool        last_token;
    bool        look_ahead, always_draft;      /* on; off */
    uint32_t    max_draft;
    bool        ignore_eos, hide_prompt, verbose;
    bool        help, version, info, bench;
} cli_flags;

/* Reads argv[1] and on. An error is one line that names the option. */
ggufc_status cli_flags_parse(cli_flags *o, int argc, char **argv, ggufc_error *error);

/* How many of the arguments from argv[0] on an option takes with its value; 0: it is none of these. */
int cli_flags_words(char *const *argv);

void cli_flags_print_help(stream *out, const char *program);

/* Its lines of options alone, without those that have a name of `without`, which ends with NULL. */
void cli_flags_print_rows(stream *out, const char *const *without);

#endif
