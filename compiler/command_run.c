/* `ggufc run` and `ggufc trace`: a model evaluated in this process. What is no option of the compiler
 * is one of the executable: the rest of the line goes to its command line (runtime/cli.h). */
#include "command.h"

#include "cli.h"
#include "cli_flags.h"
#include "engine.h"
#include "options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct run_options {
    engine_options engine;
    const char    *output; /* of a trace */
} run_options;

/* ---- options of our own */

static bool read_ctx_size(void *to, const char *name, const char *text) {
    run_options *o = to;
    return option_read_u32(name, text, 0, GGUFC_MAX_TOKENS, &o->engine.compile.ctx);
}

static bool read_output(void *to, const char *name, const char *text) {
    run_options *o = to;
    if (!*text) return option_wrong(name, text, "a file name");
    o->output = text;
    return true;
}

/* NAME, made everywhere, or NAME@LAYER. */
static bool read_mistake(void *to, const char *name, const char *text) {
    run_options *o = to;
    char         mistake_name[64];
    uint32_t     layer;
    size_t       n = strcspn(text, "@");
    snprintf(mistake_name, sizeof mistake_name, "%.*s", (int)n, text);
    o->engine.mistake = mistake_find(mistake_name);
    if (o->engine.mistake && !text[n]) return true;
    if (o->engine.mistake && option_read_u32(name, text + n + 1, 0, INT32_MAX, &layer)) {
        o->engine.layer = (int32_t)layer;
        return true;
    }
    if (o->engine.mistake) return false;
    fprintf(stderr, "ggufc: error: %s: '%s' is not one of", name, mistake_name);
    for (const mistake *m = mistakes; m->name; m++) fprintf(stderr, "%s %s", m == mistakes ? "" : ",", m->name);
    fputs("\n", stderr);
    return false;
}

static const option run_rows[] = {
    { "--mistake", NULL, "NAME[@LAYER]", read_mistake, "make a mistake on purpose, to see what it looks like" },
    { "--ctx-size", "-c", "N", read_ctx_size, NULL },
    { 0 },
};

static const option trace_rows[] = {
    { "--output", "-o", "ACTS.gguf", read_output, "where the activations go" },
    { "--mistake", NULL, "NAME[@LAYER]", read_mistake, "make a mistake on purpose, to see what it looks like" },
    { "--ctx-size", "-c", "N", read_ctx_size, NULL },
    { 0 },
};

static const char run_usage[] =
    "usage: ggufc run [KERNELS:]MODEL.gguf -p TEXT [options]\n\n"
    "Generates in this process: by generated code (KERNELS compiled, the default), by generic loops\n"
    "with the same arithmetic (interpreted), or in f64 (reference).\n";

static const char trace_usage[] =
    "usage: ggufc trace [KERNELS:]MODEL.gguf -p TEXT -o ACTS.gguf [--filter=GLOB] [--last-token]\n\n"
    "Evaluates a text and writes every named activation to a GGUF, a column for each token.\n"
    "KERNELS: compiled (the default), interpreted, or reference (f64).\n";

/* ---- sorting the command line */

typedef struct line {
    const option_table *tables;
    const char         *usage;
    bool                is_trace;
    char              **rest; /* of the executable's */
    int                 n_rest;
    const char         *model; /* with its kernels */
} line;

static void give(line *l, const char *text) {
    l->rest[l->n_rest++] = (char *)text;
}

static void print_help(const line *l) {
    printf("%s\n", l->usage);
    for (const option_table *t = l->tables; t->rows; t++)
        for (const option *o = t->rows; o->name; o++)
            if (o->help)
                printf("  %s%s%-*s %s\n", o->name, o->argument ? "=" : " ",
                       (int)(31 - strlen(o->name)), o->argument ? o->argument : "", o->help);
    fflush(stdout);
    cli_flags_print_help(&(stream){ .fd = STDOUT_FILENO }, "MODEL");
}

/* Takes what stands at argv[0]; how many words that were, 0 after what is wrong was said. */
static int take(line *l, char **argv, run_options *o) {
    const option_table *table;
    int words;
    const option *found = option_find(l->tables, argv, &table, &words);
    if (found) {
        if (!strcmp(found->name, "--verbose")) give(l, "-v");
        return option_read(found, table, argv) ? words : 0;
    }
    bool is_option = argv[0][0] == '-' && argv[0][1];
    if (!is_option && !l->model) {
        l->model = argv[0];
        return 1;
    }
    words = is_option ? cli_flags_words(argv) : 1; /* what is unknown is refused there */
    if (!words) words = 1;
    if (!strncmp(argv[0], "--trace", 7)) o->engine.compile.trace = true;
    for (int i = 0; i < words; i++) give(l, argv[i]);
    return words;
}

static enum option_result parse(line *l, int argc, char **argv, run_options *o) {
    for (int i = 1, words; i < argc; i += words) {
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            print_help(l);
            return OPTION_DONE;
        }
        words = take(l, argv + i, o);
        if (!words) return OPTION_WRONG;
    }
    return OPTION_RUN;
}

/* NULL, or what is wrong with the line as a whole. */
static const char *find_fault(const line *l, const run_options *o) {
    if (!l->model) return "no model given";
    if (l->is_trace && !o->output) return "no output given; say -o ACTS.gguf";
    if (o->engine.mistake && o->engine.kernels == ENGINE_COMPILED)
        return "--mistake is for interpreted:MODEL.gguf and reference:MODEL.gguf";
    return NULL;
}

static int evaluate(line *l, const run_options *o) {
    engine e;
    diag   d = { 0 };
    int    status = 1;
    give(l, "-m");
    give(l, o->engine.compile.model);
    if (o->output) give(l, "--trace");
    if (o->output) give(l, o->output);
    if (engine_open(&e, &o->engine, &d)) status = cli_main(&e.model, l->n_rest, l->rest);
    engine_close(&e);
    return status;
}

static int run(line *l, int argc, char **argv, run_options *o) {
    enum { ADDED = 6 };
    l->rest = calloc((size_t)argc + ADDED, sizeof *l->rest);
    if (!l->rest) return 1;
    give(l, l->is_trace ? "ggufc trace" : "ggufc run");
    enum option_result result = parse(l, argc, argv, o);
    int status = result == OPTION_DONE ? 0 : 2;
    if (result == OPTION_RUN) {
        if (l->model) o->engine.compile.model = engine_parse_name(l->model, &o->engine.kernels);
        const char *fault = find_fault(l, o);
        if (fault)
            fprintf(stderr, "ggufc: error: %s; %.*s\n", fault, (int)strcspn(l->usage, "\n"), l->usage);
        else
            status = evaluate(l, o);
    }
    free(l->rest);
    return status;
}

/* ---- the commands */

static run_options defaults(void) {
    run_options o = { .engine.layer = -1 };
    ggufc_compile_defaults(&o.engine.compile);
    return o;
}

int command_run(int argc, char **argv) {
    run_options  o = defaults();
    option_table tables[] = { { run_rows, &o }, { options_of_model, &o.engine.compile }, { NULL, NULL } };
    line         l = { .tables = tables, .usage = run_usage };
    return run(&l, argc, argv, &o);
}

int command_trace(int argc, char **argv) {
    run_options  o = defaults();
    option_table tables[] = { { trace_rows, &o }, { options_of_model, &o.engine.compile }, { NULL, NULL } };
    line         l = { .tables = tables, .usage = trace_usage, .is_trace = true };
    o.engine.compile.trace = true;
    return run(&l, argc, argv, &o);
}
