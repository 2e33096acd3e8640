/* `ggufc run` and `ggufc trace`: a model evaluated in this process. What is no option of the compiler
 * is one of the executable: that part of the line is checked, then goes to its command line
 * (runtime/cli.h) with the model and the trace before it. */
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
    const char    *model;  /* with its kernels */
    const char    *output; /* of a trace; NULL: none is kept */
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
    o->engine.compile.trace = true;
    return true;
}

/* As an executable's -m; the model may also stand alone. */
static bool read_model(void *to, const char *name, const char *text) {
    run_options *o = to;
    (void)name;
    if (!o->model) {
        o->model = text;
        return true;
    }
    fprintf(stderr, "ggufc: error: two models are named: '%s' and '%s'\n", o->model, text);
    return false;
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
    { "--model", "-m", "FILE", read_model, "the model, unless it stands alone" },
    { "--mistake", NULL, "NAME[@LAYER]", read_mistake, "make a mistake on purpose, to see what it looks like" },
    { "--ctx-size", "-c", "N", read_ctx_size, "as --ctx" },
    { "--trace", NULL, "ACTS.gguf", read_output, NULL }, /* told of with the executable's */
    { 0 },
};

static const option trace_rows[] = {
    { "--output", "-o", "ACTS.gguf", read_output, "where the activations go" },
    { "--mistake", NULL, "NAME[@LAYER]", read_mistake, "make a mistake on purpose, to see what it looks like" },
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
    char              **rest; /* the executable's options */
    int                 n_rest;
    int                 status; /* the exit status where nothing is left to do */
} line;

static int print_help(const line *l) {
    static const char *const ours[] = { "-m", "-c", "--help", "--version", NULL };
    stream out = { .fd = STDOUT_FILENO };
    printf("%s\n", l->usage);
    option_print_rows(l->tables);
    puts("  --help, --version\n\nand those of a compiled model:\n");
    if (option_done()) return 1;
    cli_flags_print_rows(&out, ours);
    stream_printf(&out, "\nExit status: 0; 1 the input was bad; 2 usage; 130 interrupted.\n");
    return out.failure != 0;
}

/* Takes what stands at argv[0]; how many words that were, 0 after what is wrong was said. */
static int take(line *l, char **argv, run_options *o) {
    const option_table *table;
    int words;
    const option *found = option_find(l->tables, argv, &table, &words);
    if (found) {
        if (!strcmp(found->name, "--verbose")) l->rest[l->n_rest++] = "-v";
        return option_read(found, table, argv) ? words : 0;
    }
    bool is_option = argv[0][0] == '-' && argv[0][1];
    if (!is_option && !o->model) {
        o->model = argv[0];
        return 1;
    }
    words = is_option ? cli_flags_words(argv) : 1;
    if (!words) words = 1; /* what is unknown is refused when all of the rest is checked */
    for (int i = 0; i < words; i++) l->rest[l->n_rest++] = argv[i];
    return words;
}

/* False where nothing is left to do. */
static bool parse(line *l, int argc, char **argv, run_options *o) {
    for (int i = 1, words; i < argc; i += words) {
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            l->status = print_help(l);
            return false;
        }
        if (!strcmp(argv[i], "--version")) {
            puts(COMPILATION_VERSION);
            l->status = option_done();
            return false;
        }
        words = take(l, argv + i, o);
        l->status = words ? 0 : 2;
        if (!words) return false;
    }
    return true;
}

/* NULL, or what is wrong with the line as a whole. */
static const char *find_fault(const line *l, const run_options *o) {
    if (!o->model || !*o->engine.compile.model) return "no model given";
    if (l->is_trace && !o->output) return "no output given; say -o ACTS.gguf";
    if (o->engine.mistake && o->engine.kernels == ENGINE_COMPILED)
        return "--mistake is for interpreted:MODEL.gguf and reference:MODEL.gguf";
    return NULL;
}

/* The executable's whole line, to be freed. */
static char **make_line(const line *l, const run_options *o, int *argc) {
    char **argv = calloc((size_t)l->n_rest + 6, sizeof *argv);
    int    n = 0;
    if (!argv) return NULL;
    argv[n++] = l->is_trace ? "ggufc trace" : "ggufc run";
    argv[n++] = "-m";
    argv[n++] = (char *)o->engine.compile.model;
    if (o->output) argv[n++] = "--trace";
    if (o->output) argv[n++] = (char *)o->output;
    for (int i = 0; i < l->n_rest; i++) argv[n++] = l->rest[i];
    *argc = n;
    return argv;
}

/* What is wrong with the line is told before the model is compiled. */
static int evaluate(const run_options *o, int argc, char **argv) {
    cli_flags   flags;
    ggufc_error error;
    engine e;
    diag   d = { 0 };
    int    status = 1;
    if (cli_flags_parse(&flags, argc, argv, &error) != GGUFC_OK) {
        fprintf(stderr, "%s: %s\n", argv[0], error.text);
        return 2;
    }
    if (engine_open(&e, &o->engine, &d)) status = cli_main(&e.model, argc, argv);
    engine_close(&e);
    return status;
}

static int run_line(const line *l, run_options *o) {
    int   argc, status = 1;
    if (o->model) o->engine.compile.model = engine_parse_name(o->model, &o->engine.kernels);
    const char *fault = find_fault(l, o);
    if (fault) {
        fprintf(stderr, "ggufc: error: %s; %.*s\n", fault, (int)strcspn(l->usage, "\n"), l->usage);
        return 2;
    }
    char **argv = make_line(l, o, &argc);
    if (argv) status = evaluate(o, argc, argv);
    free(argv);
    return status;
}

static int run(line *l, int argc, char **argv, run_options *o) {
    l->rest = calloc((size_t)argc, sizeof *l->rest);
    if (!l->rest) return 1;
    if (parse(l, argc, argv, o)) l->status = run_line(l, o);
    free(l->rest);
    return l->status;
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
    option_table tables[] = { { trace_rows, &o }, { run_rows, &o }, { options_of_model, &o.engine.compile },
                              { NULL, NULL } };
    line         l = { .tables = tables, .usage = trace_usage, .is_trace = true };
    return run(&l, argc, argv, &o);
}
