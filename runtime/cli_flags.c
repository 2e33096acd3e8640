/* cli_flags.c - see cli_flags.h. */
#include "cli_flags.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "lookup.h"
#include "threads.h"

enum option_type {
    OPTION_ON,   /* sets a bool */
    OPTION_OFF,  /* clears one */
    OPTION_TEXT, /* const char * */
    OPTION_I32,
    OPTION_U32,
    OPTION_I64,
    OPTION_F32
};

enum { OPTION_MAX_NAMES = 3 };

typedef struct option {
    const char      *names[OPTION_MAX_NAMES];
    const char      *value; /* what the help calls it; NULL: takes none */
    enum option_type type;
    size_t           target; /* in struct cli_flags */
    double           min, max;
    const char      *help;
} option;

#define TARGET(field) offsetof(cli_flags, field)

/* clang-format off */
static const option option_table[] = {
    { { "-m", "--model" }, "FILE", OPTION_TEXT, TARGET(model_path), 0, 0,
      "the GGUF file this was compiled from (default: search, see below)" },
    { { "--no-mmap" }, NULL, OPTION_ON, TARGET(no_mmap), 0, 0,
      "read it into memory, in huge pages: slower to start, then faster" },
    { { "--mlock" }, NULL, OPTION_ON, TARGET(mlock), 0, 0,
      "keep it in memory: nothing else on the machine can push it out" },
    { { "-p", "--prompt" }, "TEXT", OPTION_TEXT, TARGET(prompt), 0, 0, "text to go on from" },
    { { "-f", "--file" }, "FILE", OPTION_TEXT, TARGET(prompt_file), 0, 0, "read the prompt there" },
    { { "--tokens" }, "IDS", OPTION_TEXT, TARGET(tokens), 0, 0, "prompt as token ids: 1,2,3" },
    { { "-n", "--predict", "--n-predict" }, "N", OPTION_I64, TARGET(n_predict), -2, INT32_MAX,
      "most tokens to generate (-1: until the end token or a full context)" },
    { { "-c", "--ctx-size" }, "N", OPTION_U32, TARGET(n_ctx), 0, INT32_MAX,
      "most tokens in the context, at most what it was compiled for (0)" },
    { { "-t", "--threads" }, "N", OPTION_U32, TARGET(n_threads), 1, THREADS_MAX,
      "threads (all processors)" },
    { { "-s", "--seed" }, "N", OPTION_I64, TARGET(seed), -1, UINT32_MAX,
      "seed of the random numbers (-1: a random one)" },
    { { "--temp" }, "X", OPTION_F32, TARGET(sampling.temp), 0, 1000,
      "temperature, 0 takes the likeliest token (0.8)" },
    { { "--top-k" }, "N", OPTION_I32, TARGET(sampling.top_k), -1, INT32_MAX,
      "choose among the N likeliest, 0 for all (40)" },
    { { "--top-p" }, "X", OPTION_F32, TARGET(sampling.top_p), 0, 1,
      "… the likeliest that make up X, 1 for all (0.95)" },
    { { "--min-p" }, "X", OPTION_F32, TARGET(sampling.min_p), 0, 1,
      "… those at least X times as likely as the likeliest (0.05)" },
    { { "--repeat-penalty" }, "X", OPTION_F32, TARGET(sampling.repeat_penalty), 0.001, 1000,
      "make repeated tokens less likely, 1 for not (1.0)" },
    { { "--repeat-last-n" }, "N", OPTION_I32, TARGET(sampling.repeat_last_n), 0, INT32_MAX,
      "… those among the last N (64)" },
    { { "--ignore-eos" }, NULL, OPTION_ON, TARGET(ignore_eos), 0, 0, "never choose the end token" },
    { { "--lookup" }, NULL, OPTION_ON, TARGET(look_ahead), 0, 0,
      "draft what the text repeats where it pays: the same text, sooner (on)" },
    { { "--no-lookup" }, NULL, OPTION_OFF, TARGET(look_ahead), 0, 0, "… do not" },
    { { "--lookup-always" }, NULL, OPTION_ON, TARGET(always_draft), 0, 0,
      "… also where it does not pay" },
    { { "--draft-max", "--spec-draft-n-max" }, "N", OPTION_U32, TARGET(max_draft), 0,
      LOOKUP_MAX_DRAFT, "… at most N tokens at a time (6)" },
    { { "--no-display-prompt", "--no-prompt" }, NULL, OPTION_ON, TARGET(hide_prompt), 0, 0,
      "print only what is generated" },
    { { "--display-prompt" }, NULL, OPTION_OFF, TARGET(hide_prompt), 0, 0, NULL },
    { { "-v", "--verbose" }, NULL, OPTION_ON, TARGET(verbose), 0, 0,
      "timings, threads and seed on standard error" },
    { { "--bench" }, NULL, OPTION_ON, TARGET(bench), 0, 0,
      "measure reading a prompt, and generating -n tokens (128)" },
    { { "--bench-prompt" }, "N", OPTION_U32, TARGET(bench_prompt), 1, INT32_MAX,
      "… a prompt of N tokens (512, or the context)" },
    { { "--bench-depth" }, "N", OPTION_U32, TARGET(bench_depth), 0, INT32_MAX,
      "… behind N tokens that are in the context already (0)" },
    { { "--bench-runs" }, "N", OPTION_U32, TARGET(bench_runs), 1, 1000, "… N times (5)" },
    { { "--trace" }, "FILE", OPTION_TEXT, TARGET(trace), 0, 0,
      "write the prompt's activations there, a GGUF (needs ggufc --trace)" },
    { { "--filter" }, "GLOB", OPTION_TEXT, TARGET(trace_filter), 0, 0,
      "… those of such names only: 'Qcur-*'" },
    { { "--last-token" }, NULL, OPTION_ON, TARGET(last_token), 0, 0, "… of the last token only" },
    { { "--info" }, NULL, OPTION_ON, TARGET(info), 0, 0, "what this executable is and needs" },
    { { "-h", "--help" }, NULL, OPTION_ON, TARGET(help), 0, 0, "this text" },
    { { "--version" }, NULL, OPTION_ON, TARGET(version), 0, 0, "what it was compiled from and by" },
};
/* clang-format on */

enum { OPTION_COUNT = sizeof option_table / sizeof *option_table };

static bool option_has_name(const option *row, const char *name, size_t size) {
    for (int i = 0; i < OPTION_MAX_NAMES && row->names[i]; i++)
        if (strlen(row->names[i]) == size && memcmp(row->names[i], name, size) == 0) return true;
    return false;
}

/* `arg` up to `=`, which only long options may have. */
static const option *option_find(const char *arg, size_t *name_size) {
    *name_size = strncmp(arg, "--", 2) == 0 ? strcspn(arg, "=") : strlen(arg);
    for (int i = 0; i < OPTION_COUNT; i++)
        if (option_has_name(&option_table[i], arg, *name_size)) return &option_table[i];
    return NULL;
}

static bool starts_like_number(const char *text) {
    return *text && strchr("+-.0123456789", *text) != NULL;
}

static bool set_integer(const option *row, void *target, const char *text) {
    char *end;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (!starts_like_number(text) || *end || errno) return false;
    if ((double)n < row->min || (double)n > row->max) return false;
    if (row->type == OPTION_I64) *(int64_t *)target = n;
    if (row->type == OPTION_I32) *(int32_t *)target = (int32_t)n;
    if (row->type == OPTION_U32) *(uint32_t *)target = (uint32_t)n;
    return true;
}

static bool set_float(const option *row, float *target, const char *text) {
    char *end;
    float x = strtof(text, &end);
    if (!starts_like_number(text) || *end || !isfinite(x)) return false;
    if ((double)x < row->min || (double)x > row->max) return false;
    *target = x;
    return true;
}

static ggufc_status option_set(cli_flags *o, const option *row, const char *name, const char *value,
                               ggufc_error *error) {
    void *target = (char *)o + row->target;
    switch (row->type) {
    case OPTION_ON:
        *(bool *)target = true;
        return GGUFC_OK;
    case OPTION_OFF:
        *(bool *)target = false;
        return GGUFC_OK;
    case OPTION_TEXT:
        *(const char **)target = value;
        return GGUFC_OK;
    case OPTION_F32:
        if (set_float(row, target, value)) return GGUFC_OK;
        return error_set(error, GGUFC_ERROR_OPTIONS, "%s: '%s' is not a number from %g to %g", name,
                         value, row->min, row->max);
    default:
        if (set_integer(row, target, value)) return GGUFC_OK;
        return error_set(error, GGUFC_ERROR_OPTIONS,
                         "%s: '%s' is not a whole number from %.0f to %.0f", name, value, row->min,
                         row->max);
    }
}

static ggufc_status option_take(cli_flags *o, char ***argv, ggufc_error *error) {
    const char *arg = *(*argv)++;
    size_t name_size;
    const option *row = option_find(arg, &name_size);
    if (!row)
        return error_set(error, GGUFC_ERROR_OPTIONS,
                         arg[0] == '-' ? "unknown option '%s' (see --help)"
                                       : "unexpected argument '%s' (a prompt is given with -p)",
                         arg);
    char name[32] = "";
    memcpy(name, arg, name_size);
    const char *value = arg[name_size] == '=' ? arg + name_size + 1 : NULL;
    if (!row->value && value)
        return error_set(error, GGUFC_ERROR_OPTIONS, "%s takes no value", name);
    if (row->value && !value) value = **argv ? *(*argv)++ : NULL;
    if (row->value && !value)
        return error_set(error, GGUFC_ERROR_OPTIONS, "%s needs a value: %s %s", name, name,
                         row->value);
    return option_set(o, row, name, value, error);
}

ggufc_status cli_flags_parse(cli_flags *o, int argc, char **argv, ggufc_error *error) {
    *o = (cli_flags){
        .n_predict = -1, .seed = -1, .bench_runs = 5, .look_ahead = true, .max_draft = LOOKUP_MAX_DRAFT
    };
    o->sampling = sampler_defaults();
    char **next = argv + (argc > 0);
    while (*next) {
        ggufc_status status = option_take(o, &next, error);
        if (status != GGUFC_OK) return status;
    }
    if ((o->prompt != NULL) + (o->prompt_file != NULL) + (o->tokens != NULL) > 1)
        return error_set(error, GGUFC_ERROR_OPTIONS, "give only one of -p, -f and --tokens");
    if (o->trace && !*o->trace)
        return error_set(error, GGUFC_ERROR_OPTIONS, "--trace: '' is not a file name");
    if (o->trace && o->bench)
        return error_set(error, GGUFC_ERROR_OPTIONS, "give only one of --trace and --bench");
    if (!o->trace && (o->trace_filter || o->last_token))
        return error_set(error, GGUFC_ERROR_OPTIONS, "%s is about --trace=FILE, which is not given",
                         o->trace_filter ? "--filter" : "--last-token");
    return GGUFC_OK;
}

int cli_flags_words(char *const *argv) {
    size_t name_size;
    const option *row = option_find(argv[0], &name_size);
    if (!row) return 0;
    return row->value && argv[0][name_size] != '=' && argv[1] ? 2 : 1;
}

/* ---- help */

static void print_row(stream *out, const option *row) {
    char names[128] = "";
    for (int i = 0; i < OPTION_MAX_NAMES && row->names[i]; i++) {
        if (i) strcat(names, ", ");
        strcat(names, row->names[i]);
    }
    if (row->value) strcat(strcat(names, " "), row->value);
    stream_printf(out, "  %-32s %s\n", names, row->help);
}

void cli_flags_print_rows(stream *out, const char *const *without) {
    for (int i = 0; i < OPTION_COUNT; i++) {
        bool wanted = option_table[i].help != NULL;
        for (const char *const *name = without; *name; name++)
            wanted = wanted && !option_has_name(&option_table[i], *name, strlen(*name));
        if (wanted) print_row(out, &option_table[i]);
    }
}

void cli_flags_print_help(stream *out, const char *program) {
    static const char *const none[] = { NULL };
    stream_printf(out,
                  "usage: %s [options] -p TEXT\n"
                  "Goes on from a text: -p, -f, --tokens, or standard input. What is generated\n"
                  "goes to standard output as it comes, everything else to standard error.\n\n",
                  program);
    cli_flags_print_rows(out, none);
    stream_printf(out, "\nThe weights, unless they are part of the executable, are looked for beside it, then where\n"
                       "they were when it was compiled. "
                       "Exit status: 0; 1 the input was bad; 2 usage; 130 interrupted.\n");
}
