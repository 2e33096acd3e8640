/* `ggufc inspect MODEL.gguf`: what is in a file, and what compiling would make of it. */
#include "command.h"

#include "inspect.h"
#include "option.h"
#include "options.h"
#include "target.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool read_tensors(void *to, const char *name, const char *text) {
    (void)name, (void)text;
    ((inspect_options *)to)->tensors = true;
    return true;
}

static bool read_json(void *to, const char *name, const char *text) {
    (void)name, (void)text;
    ((inspect_options *)to)->json = true;
    return true;
}

static const option rows[] = {
    { "--tensors", NULL, NULL, read_tensors, "list them, too: type, shape, bytes, place" },
    { "--json", NULL, NULL, read_json, "the same as JSON" },
    { 0 },
};

static const char usage[] =
    "usage: ggufc inspect MODEL.gguf [--tensors] [--json] [options]\n\n"
    "Tells what a file is: metadata, tensors by type, parts; and what compiling it with these options\n"
    "would make, and how much memory that takes, or why it cannot be compiled.\n";

/* What is wrong with the options is no fact about the model. */
static bool check_options(const ggufc_compile_options *o, diag *d) {
    target t;
    arena *memory = arena_new();
    bool   ok = target_open(&t, memory, d, o->target, o->cpu, o->features);
    if (ok) target_close(&t);
    if (ok && o->arch && access(o->arch, R_OK)) ok = diag_error(d, "%s: %s", o->arch, strerror(errno));
    arena_free(memory);
    return ok;
}

int command_inspect(int argc, char **argv) {
    inspect_options o = { .tensors = false };
    option_table    tables[] = { { rows, &o }, { options_of_model, &o.compile }, { NULL, NULL } };
    option_command  line = { .usage = usage, .tables = tables, .operands = &o.compile.model, .n_operands = 1 };
    diag            d = { 0 };
    ggufc_compile_defaults(&o.compile);
    switch (option_parse(&line, argc, argv)) {
    case OPTION_DONE: return option_done();
    case OPTION_WRONG: return 2;
    case OPTION_RUN: break;
    }
    if (!o.compile.model) {
        fprintf(stderr, "ggufc: error: no model given; %.*s\n", (int)strcspn(usage, "\n"), usage);
        return 2;
    }
    if (!check_options(&o.compile, &d)) return 1;
    bool ok = inspect_model(&o, &d, stdout);
    if (ok && (fflush(stdout) || ferror(stdout))) ok = diag_error(&d, "standard output: %s", strerror(errno));
    return ok ? 0 : 1;
}
