/* `ggufc dump MODEL.gguf [TENSOR]`: what a file holds, as it is stored. */
#include "command.h"

#include "dump.h"
#include "option.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static bool read_place(const char *name, const char *text, int64_t *out) {
    uint32_t n;
    if (!option_read_u32(name, text, 0, INT32_MAX, &n)) return false;
    *out = n;
    return true;
}

static bool read_row(void *to, const char *name, const char *text) {
    return read_place(name, text, &((dump_options *)to)->row);
}

static bool read_block(void *to, const char *name, const char *text) {
    return read_place(name, text, &((dump_options *)to)->block);
}

static bool read_count(void *to, const char *name, const char *text) {
    return read_place(name, text, &((dump_options *)to)->count);
}

static bool read_json(void *to, const char *name, const char *text) {
    (void)name, (void)text;
    ((dump_options *)to)->json = true;
    return true;
}

static const option rows[] = {
    { "--row", NULL, "N", read_row, "the row to show, from 0 (default: the first)" },
    { "--block", NULL, "N", read_block, "the first of its blocks to show" },
    { "--count", NULL, "N", read_count, "how many (of plain numbers: how many values)" },
    { "--json", NULL, NULL, read_json, "the same as JSON" },
    { 0 },
};

static const char usage[] =
    "usage: ggufc dump MODEL.gguf [TENSOR] [--row=N] [--block=N] [--count=N]\n\n"
    "Shows a tensor as it is stored: blocks field by field, values, statistics, and how its scales lie\n"
    "among those of the file. Without a tensor, lists them all.\n";

int command_dump(int argc, char **argv) {
    dump_options   o = { .row = -1, .block = -1, .count = -1 };
    const char    *operands[2] = { NULL };
    option_table   tables[] = { { rows, &o }, { NULL, NULL } };
    option_command line = { .usage = usage, .tables = tables, .operands = operands, .n_operands = 2 };
    diag           d = { 0 };
    switch (option_parse(&line, argc, argv)) {
    case OPTION_DONE: return option_done();
    case OPTION_WRONG: return 2;
    case OPTION_RUN: break;
    }
    o.model = operands[0];
    o.tensor = operands[1];
    if (!o.model) {
        fprintf(stderr, "ggufc: error: no model given; %.*s\n", (int)strcspn(usage, "\n"), usage);
        return 2;
    }
    if (!o.tensor && (o.row >= 0 || o.block >= 0 || o.count >= 0)) {
        fputs("ggufc: error: --row, --block and --count are about a tensor, and none is named\n", stderr);
        return 2;
    }
    bool ok = o.tensor ? dump_tensor(&o, &d, stdout) : dump_list(&o, &d, stdout);
    if (ok && (fflush(stdout) || ferror(stdout))) ok = diag_error(&d, "standard output: %s", strerror(errno));
    return ok ? 0 : 1;
}
