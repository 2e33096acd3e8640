/* `ggufc bench`: how fast a model is, kernel by kernel, and how close to what the machine can do. */
#include "command.h"

#include "bench.h"
#include "options.h"
#include "output.h"
#include "page.h"
#include "threads.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_BAD = 1, EXIT_USAGE = 2, MOST_THREADS = THREADS_MAX };

typedef struct command {
    bench_options bench;
    arena        *memory;
    const char   *html;
    bool          json;
} command;

static volatile sig_atomic_t interrupted; /* the signal's number */

/* ---- options */

/* NUMBER[,NUMBER…] */
static bool read_sizes(const char *name, const char *text, uint32_t least, uint32_t most, bench_sizes *to) {
    char number[16];
    to->n = 0;
    for (;;) {
        size_t n = strcspn(text, ",");
        if (to->n == BENCH_MOST_SIZES) return option_wrong(name, text, "a list of at most 16 numbers");
        if (n >= sizeof number) return option_wrong(name, text, "a number in range");
        snprintf(number, sizeof number, "%.*s", (int)n, text);
        if (!option_read_u32(name, number, least, most, &to->at[to->n])) return false;
        to->n++;
        if (!text[n]) return true;
        text += n + 1;
    }
}

static bool read_prompts(void *to, const char *name, const char *text) {
    bench_options *o = &((command *)to)->bench;
    o->prompts_asked = true;
    return read_sizes(name, text, 0, GGUFC_MAX_TOKENS, &o->prompts);
}

static bool read_generations(void *to, const char *name, const char *text) {
    bench_options *o = &((command *)to)->bench;
    o->generations_asked = true;
    return read_sizes(name, text, 0, GGUFC_MAX_TOKENS, &o->generations);
}

static bool read_depths(void *to, const char *name, const char *text) {
    return read_sizes(name, text, 0, GGUFC_MAX_TOKENS, &((command *)to)->bench.depths);
}

static bool read_threads(void *to, const char *name, const char *text) {
    return read_sizes(name, text, 1, MOST_THREADS, &((command *)to)->bench.threads);
}

static bool read_runs(void *to, const char *name, const char *text) {
    return option_read_u32(name, text, 1, BENCH_MOST_RUNS, &((command *)to)->bench.runs);
}

static bool read_format(void *to, const char *name, const char *text) {
    static const char *const words[] = { "md", "json", NULL };
    int i = option_find_word(words, text, strlen(text));
    if (i < 0) return option_wrong(name, text, "one of md, json");
    ((command *)to)->json = i == 1;
    return true;
}

static bool read_html(void *to, const char *name, const char *text) {
    if (!*text) return option_wrong(name, text, "a file name");
    ((command *)to)->html = text;
    return true;
}

static const option rows[] = {
    { "--n-prompt", "-p", "LIST", read_prompts, "tokens of a prompt to read, as 128,512; 0: none (512)" },
    { "--n-gen", "-n", "LIST", read_generations, "tokens to generate; 0: none (128)" },
    { "--n-depth", "-d", "LIST", read_depths, "that many tokens are in the cache before (0)" },
    { "--threads", "-t", "LIST", read_threads, "threads (1, and as many as there are processors)" },
    { "--repetitions", "-r", "N", read_runs, "how often all is measured (as often as does not take long)" },
    { "--output", "-o", "md|json", read_format, "tables of Markdown (default), or all of it as JSON" },
    { "--html", NULL, "FILE", read_html, "and as a page with roofline plots, in one file" },
    { 0 },
};

static const char usage[] =
    "usage: ggufc bench [KERNELS:]MODEL.gguf [options]\n\n"
    "Measures the model in this process: reading a prompt and generating; what unrolling and fusing bring;\n"
    "and each kernel, generated and interpreted, against what this machine can do, which is measured too.\n"
    "KERNELS: compiled (the default), or interpreted or reference, of which only the whole is measured.\n";

/* ---- running */

static void on_interrupt(int signal_number) {
    interrupted = signal_number;
}

/* The second time it ends the process at once. */
static void catch_interrupts(void) {
    static const int signals[] = { SIGINT, SIGTERM };
    for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
        struct sigaction caught = { .sa_handler = on_interrupt, .sa_flags = SA_RESETHAND }, before;
        if (!sigaction(signals[i], NULL, &before) && before.sa_handler != SIG_IGN)
            sigaction(signals[i], &caught, NULL);
    }
}

static void show_progress(const char *what) {
    fprintf(stderr, what ? "\r\033[K%s" : "\r\033[K", what);
    fflush(stderr);
}

typedef struct page {
    arena              *memory;
    const bench_report *report;
} page;

static void put_page(const void *subject, FILE *to) {
    const page *p = subject;
    bench_html(p->memory, p->report, to);
}

static int write_all(const command *c, diag *d, const bench_report *r, const char *temporary) {
    if (c->json)
        bench_json(r, stdout);
    else
        bench_text(c->memory, r, stdout);
    if (fflush(stdout) || ferror(stdout)) {
        diag_error(d, "standard output: %s", strerror(errno));
        return EXIT_BAD;
    }
    page p = { c->memory, r };
    return temporary && !page_write(d, temporary, c->html, put_page, &p) ? EXIT_BAD : 0;
}

static int run(command *c) {
    diag         d = { 0 };
    bench_report report;
    const ggufc_compile_options *o = &c->bench.engine.compile;
    const char  *temporary = NULL, *inputs[] = { o->model, o->arch, NULL };
    int          status = EXIT_BAD;
    catch_interrupts();
    if (c->html && !page_begin(c->memory, &d, c->html, inputs, &temporary)) {
        if (temporary) output_discard(temporary);
        return EXIT_BAD;
    }
    switch (bench_run(c->memory, &d, &c->bench, &report)) {
    case BENCH_DONE: status = write_all(c, &d, &report, temporary); break;
    case BENCH_STOPPED: status = 128 + interrupted; break;
    case BENCH_FAILED: break;
    }
    if (temporary) output_discard(temporary);
    return status;
}

static void set_defaults(command *c) {
    bench_options *o = &c->bench;
    uint32_t       online = threads_online();
    *o = (bench_options){
        .engine.layer = -1, .prompts = { { 512 }, 1 }, .generations = { { 128 }, 1 }, .depths = { { 0 }, 1 },
        .threads = { { 1, online }, online > 1 ? 2 : 1 }, .stop = &interrupted,
    };
    ggufc_compile_defaults(&o->engine.compile);
    if (isatty(STDERR_FILENO)) o->progress = show_progress;
}

int command_bench(int argc, char **argv) {
    command c = { .memory = arena_new() };
    set_defaults(&c);
    const char    *model = NULL;
    option_table   tables[] = { { rows, &c }, { options_of_model, &c.bench.engine.compile }, { NULL, NULL } };
    option_command line = { .usage = usage, .tables = tables, .operands = &model, .n_operands = 1 };
    int            status = EXIT_USAGE;
    enum option_result result = option_parse(&line, argc, argv);
    if (result == OPTION_RUN && model)
        c.bench.engine.compile.model = engine_parse_name(model, &c.bench.engine.kernels);
    if (result == OPTION_RUN && (!model || !*c.bench.engine.compile.model))
        fprintf(stderr, "ggufc: error: no model given; %.*s\n", (int)strcspn(usage, "\n"), usage);
    else if (result == OPTION_RUN)
        status = run(&c);
    arena_free(c.memory);
    return result == OPTION_DONE ? option_done() : status;
}
