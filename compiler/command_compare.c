/* `ggufc compare A B`: which operation is the first wrong one. Exit status: 0 same, 1 different,
 * 2 could not compare. */
#include "command.h"

#include "cli_prompt.h"
#include "compare.h"
#include "engine.h"
#include "options.h"
#include "output.h"
#include "page.h"
#include "recording.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_SAME = 0, EXIT_DIFFERENT = 1, EXIT_FAILED = 2 };

typedef struct command {
    compare_options compare;
    arena      *memory;
    const char *prompt, *prompt_file, *tokens;
    const char *map_file, *map_lines; /* lines given by --map=PATTERN=NAME */
    const char *html;
    bool        json;
} command;

/* ---- options */

static bool read_prompt(void *to, const char *name, const char *text) {
    (void)name;
    ((command *)to)->prompt = text;
    return true;
}

static bool read_file(void *to, const char *name, const char *text) {
    (void)name;
    ((command *)to)->prompt_file = text;
    return true;
}

static bool read_tokens(void *to, const char *name, const char *text) {
    (void)name;
    ((command *)to)->tokens = text;
    return true;
}

static bool read_model(void *to, const char *name, const char *text) {
    (void)name;
    ((command *)to)->compare.model = text;
    return true;
}

/* PATTERN=NAME is a line of a map, anything else a file of them. */
static bool read_map(void *to, const char *name, const char *text) {
    command *c = to;
    (void)name;
    if (strchr(text, '='))
        c->map_lines = arena_printf(c->memory, "%s%s\n", c->map_lines ? c->map_lines : "", text);
    else
        c->map_file = text;
    return true;
}

static bool read_slack(void *to, const char *name, const char *text) {
    return option_read_number(name, text, 1, 1e6, &((command *)to)->compare.slack);
}

static bool read_threads(void *to, const char *name, const char *text) {
    return option_read_u32(name, text, 1, 1024, &((command *)to)->compare.n_threads);
}

static bool read_json(void *to, const char *name, const char *text) {
    (void)name, (void)text;
    ((command *)to)->json = true;
    return true;
}

static bool read_html(void *to, const char *name, const char *text) {
    if (!*text) return option_wrong(name, text, "a file name");
    ((command *)to)->html = text;
    return true;
}

static const option rows[] = {
    { "--prompt", "-p", "TEXT", read_prompt, "the text to evaluate" },
    { "--file", "-f", "FILE", read_file, "read it there" },
    { "--tokens", NULL, "IDS", read_tokens,
      "token ids instead: 1,2,3 (default: those that a side has recorded)" },
    { "--slack", NULL, "X", read_slack, "tolerate X times the distance of the two arithmetics (8)" },
    { "--map", NULL, "FILE|PATTERN=NAME", read_map,
      "which text dump is which activation: 'h_{l}.txt=l_out-{l}'" },
    { "--model", NULL, "MODEL.gguf", read_model, "what two recordings are recordings of" },
    { "--json", NULL, NULL, read_json, "the report as JSON" },
    { "--html", NULL, "FILE", read_html, "and as a page with a plot, in one file" },
    { "--threads", "-t", "N", read_threads, "threads (all processors)" },
    { 0 },
};

static const char usage[] =
    "usage: ggufc compare A B [-p TEXT | -f FILE | --tokens IDS] [options]\n\n"
    "Finds the first operation that two engines do not agree on, whether the error is made there, and by\n"
    "what mistake. A and B are each\n\n"
    "  [KERNELS:]MODEL.gguf     KERNELS: compiled (default), interpreted, or reference (f64)\n"
    "  ACTS.gguf                activations, as ggufc trace writes them\n"
    "  FOLDER                   text dumps, a number a line: layer_3.txt, Qcur-0.txt, … (see --map)\n"
    "  llamacpp-NAME.bin, .txt  logits that llama-debug --save-logits wrote\n\n"
    "Exit status: 0 same, 1 different, 2 could not compare.\n";

/* ---- the text */

static bool read_text(command *c, cli_prompt *in) {
    ggufc_error  error;
    ggufc_status status = GGUFC_OK;
    if ((c->prompt != NULL) + (c->prompt_file != NULL) + (c->tokens != NULL) > 1) {
        fputs("ggufc: error: give only one of -p, -f and --tokens\n", stderr);
        return false;
    }
    if (c->prompt) status = cli_prompt_copy_text(in, c->prompt, &error);
    if (c->prompt_file) status = cli_prompt_read_file(in, c->prompt_file, &error);
    if (c->tokens) status = cli_prompt_parse_tokens(in, c->tokens, &error);
    if (status != GGUFC_OK) {
        fprintf(stderr, "ggufc: error: %s\n", error.text);
        return false;
    }
    c->compare.text = in->text;
    c->compare.text_size = in->text_size;
    c->compare.tokens = in->tokens;
    c->compare.n_tokens = (uint32_t)in->n_tokens;
    return true;
}

static bool read_maps(command *c, diag *d) {
    const char *text = NULL;
    if (c->map_file && !(text = recording_map_read(c->memory, d, c->map_file))) return false;
    if (text || c->map_lines)
        c->compare.map = arena_printf(c->memory, "%s%s", c->map_lines ? c->map_lines : "", text ? text : "");
    return true;
}

/* ---- the report */

static void show_progress(uint32_t done, uint32_t of) {
    fprintf(stderr, done < of ? "\r%u of %u tokens" : "\r\033[K", done, of);
    fflush(stderr);
}

static void show_tried(uint32_t n) {
    fprintf(stderr, n ? "\r%u hypotheses tried" : "\r\033[K", n);
    fflush(stderr);
}

static bool wants_colour(void) {
    const char *term = getenv("TERM"), *no = getenv("NO_COLOR");
    return isatty(STDOUT_FILENO) && !(no && *no) && term && strcmp(term, "dumb") != 0;
}

static bool begin_page(const command *c, diag *d, const char **temporary) {
    enum engine_kernels kernels;
    const compare_options *o = &c->compare;
    const char *inputs[6] = { engine_parse_name(o->a, &kernels), engine_parse_name(o->b, &kernels) };
    const char *others[] = { o->model, c->map_file, c->prompt_file };
    for (size_t i = 0, n = 2; i < ARRAY_LEN(others); i++)
        if (others[i]) inputs[n++] = others[i];
    *temporary = NULL;
    return !c->html || page_begin(c->memory, d, c->html, inputs, temporary);
}

static void put_page(const void *report, FILE *to) {
    report_html(report, to);
}

static int compare(command *c, diag *d, const char *page) {
    compare_report r;
    enum compare_outcome outcome = compare_run(c->memory, d, &c->compare, &r);
    if (outcome == COMPARE_FAILED && !r.tokens_differ) return EXIT_FAILED;
    if (c->json)
        report_json(&r, stdout);
    else
        report_text(&r, stdout, wants_colour());
    if (fflush(stdout) || ferror(stdout)) {
        diag_error(d, "standard output: %s", strerror(errno));
        return EXIT_FAILED;
    }
    if (page && !page_write(d, page, c->html, put_page, &r)) return EXIT_FAILED;
    return outcome == COMPARE_SAME ? EXIT_SAME : outcome == COMPARE_DIFFERENT ? EXIT_DIFFERENT : EXIT_FAILED;
}

static int run(command *c) {
    diag        d = { 0 };
    const char *page = NULL;
    if (isatty(STDERR_FILENO)) {
        c->compare.progress = show_progress;
        c->compare.tried = show_tried;
    }
    bool ok = read_maps(c, &d) && begin_page(c, &d, &page);
    int  status = ok ? compare(c, &d, page) : EXIT_FAILED;
    if (page) output_discard(page);
    return status;
}

int command_compare(int argc, char **argv) {
    command c = { .memory = arena_new() };
    compare_defaults(&c.compare);
    const char   *sides[2] = { NULL };
    option_table  tables[] = { { rows, &c }, { options_of_model, &c.compare.compile }, { NULL, NULL } };
    option_command line = { .usage = usage, .tables = tables, .operands = sides, .n_operands = 2 };
    cli_prompt    in = { 0 };
    int           status = EXIT_FAILED;
    enum option_result result = option_parse(&line, argc, argv);
    if (result == OPTION_RUN && line.n_operands < 2)
        fprintf(stderr, "ggufc: error: two sides are needed; %.*s\n", (int)strcspn(usage, "\n"), usage);
    else if (result == OPTION_RUN) {
        c.compare.a = sides[0];
        c.compare.b = sides[1];
        if (read_text(&c, &in)) status = run(&c);
    }
    cli_prompt_free(&in);
    arena_free(c.memory);
    return result == OPTION_DONE ? option_done() : status;
}
