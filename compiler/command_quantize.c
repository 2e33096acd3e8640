/* `ggufc quantize IN.gguf OUT.gguf TYPE`: a model's weights in smaller types. */
#include "command.h"

#include "option.h"
#include "quantize.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct line {
    quantize_options quantize;
    arena           *memory;
    bool             bad_input; /* what is wrong is in a file, not on the line */
} line;

/* ---- options */

static bool read_type(const char *name, const char *text, uint32_t *out) {
    *out = mixture_find_type(text);
    return *out != QUANT_COUNT || option_wrong(name, text, "a type of tensors, as q8_0");
}

static bool read_output_type(void *to, const char *name, const char *text) {
    return read_type(name, text, &((line *)to)->quantize.output_quant);
}

static bool read_embedding_type(void *to, const char *name, const char *text) {
    return read_type(name, text, &((line *)to)->quantize.embedding_quant);
}

static bool read_tensor_type(void *to, const char *name, const char *text) {
    line       *l = to;
    const char *expected = tensor_pattern_add(l->memory, &l->quantize.patterns, text);
    return !expected || option_wrong(name, text, expected);
}

static bool add_part(line *l, quantize_list *list, const char *name, const char *text) {
    if (!*text) return option_wrong(name, text, "part of a tensor's name");
    const char **item = arena_push(l->memory, (void **)&list->items, &list->n, &list->room, sizeof *item);
    *item = text;
    return true;
}

static bool bad_file(line *l, const char *path, const char *why) {
    fprintf(stderr, "ggufc: error: %s: %s\n", path, why);
    l->bad_input = true;
    return false;
}

/* False where the file ends, or after `size` was set to `room`: the word is longer, or no text. */
static bool read_word(FILE *f, char *word, size_t room, size_t *size) {
    int c = getc(f);
    while (isspace(c)) c = getc(f);
    for (*size = 0; c != EOF && !isspace(c); c = getc(f)) {
        if (!c || *size + 1 == room) return *size = room, false;
        word[(*size)++] = (char)c;
    }
    word[*size] = 0;
    return *size > 0;
}

/* Words as --tensor-type takes. */
static bool read_tensor_types(void *to, const char *name, const char *text) {
    line  *l = to;
    char   word[4096];
    size_t size = 0;
    if (!*text) return option_wrong(name, text, "a file name");
    FILE *f = fopen(text, "r");
    bool  ok = true;
    if (!f) return bad_file(l, text, strerror(errno));
    while (ok && read_word(f, word, sizeof word, &size))
        ok = read_tensor_type(l, name, arena_copy_text(l->memory, word, size));
    if (!ok) l->bad_input = true;
    if (ok && size == sizeof word) ok = bad_file(l, text, "a word is no text, or longer than 4095 bytes");
    if (ok && ferror(f)) ok = bad_file(l, text, strerror(errno));
    fclose(f);
    add_part(l, &l->quantize.pattern_files, name, text);
    return ok;
}

static bool read_imatrix(void *to, const char *name, const char *text) {
    if (!*text) return option_wrong(name, text, "a file name");
    ((line *)to)->quantize.imatrix = text;
    return true;
}

static bool read_include(void *to, const char *name, const char *text) {
    return add_part(to, &((line *)to)->quantize.include, name, text);
}

static bool read_exclude(void *to, const char *name, const char *text) {
    return add_part(to, &((line *)to)->quantize.exclude, name, text);
}

static bool read_override(void *to, const char *name, const char *text) {
    line              *l = to;
    quantize_options  *o = &l->quantize;
    quantize_override *entry;
    entry = arena_push(l->memory, (void **)&o->overrides, &o->n_overrides, &o->overrides_room, sizeof *entry);
    const char *expected = quantize_read_override(l->memory, text, entry);
    return !expected || option_wrong(name, text, expected);
}

static bool read_threads(void *to, const char *name, const char *text) {
    return option_read_u32(name, text, 0, 1024, &((line *)to)->quantize.n_threads);
}

#define READ_FLAG(field)                                                         \
    static bool read_##field(void *to, const char *name, const char *text) {     \
        (void)name, (void)text;                                                  \
        return ((line *)to)->quantize.field = true;                              \
    }
READ_FLAG(leave_output)
READ_FLAG(allow_requantize)
READ_FLAG(pure)
READ_FLAG(dry_run)
READ_FLAG(verbose)

static bool read_keep_split(void *to, const char *name, const char *text) {
    (void)to, (void)text;
    fprintf(stderr, "ggufc: error: %s: the result is always one file\n", name);
    return false;
}

static const option rows[] = {
    { "--tensor-type", NULL, "NAME=TYPE", read_tensor_type, "tensors whose names match, as attn_v=q6_k" },
    { "--tensor-type-file", NULL, "FILE", read_tensor_types, "many of these, with blanks or lines between" },
    { "--token-embedding-type", NULL, "TYPE", read_embedding_type, "the token embeddings" },
    { "--output-tensor-type", NULL, "TYPE", read_output_type, "the output matrix" },
    { "--leave-output-tensor", NULL, NULL, read_leave_output, "keep the output matrix as it is" },
    { "--pure", NULL, NULL, read_pure, "one type for all matrices, whatever the mixture says" },
    { "--imatrix", NULL, "FILE", read_imatrix, "how much each column matters, a GGUF of llama-imatrix" },
    { "--include-weights", NULL, "NAME", read_include, "use it for tensors whose name holds NAME" },
    { "--exclude-weights", NULL, "NAME", read_exclude, "do not use it for those" },
    { "--allow-requantize", NULL, NULL, read_allow_requantize, "also weights that are quantized already" },
    { "--override-kv", NULL, "KEY=TYPE:VALUE", read_override, "metadata; TYPE: int, float, bool or str" },
    { "--dry-run", NULL, NULL, read_dry_run, "show what would become of each tensor, write nothing" },
    { "--threads", "-t", "N", read_threads, "how many threads (all processors)" },
    { "--verbose", "-v", NULL, read_verbose, "a line for each tensor: sizes, error" },
    { "--keep-split", NULL, NULL, read_keep_split, NULL },
    { 0 },
};

static const char usage_line[] = "usage: ggufc quantize [options] IN.gguf OUT.gguf TYPE [THREADS]\n";

static const char usage_text[] =
    "\nWrites IN, whose weights are F32, F16 or BF16, again with its matrices in TYPE. Names are those of\n"
    "llama.cpp, and so are the types that a mixture as Q4_K_M has for each tensor.\n\nTYPE:";

/* The names of mixtures, in lines. */
static const char *make_usage(arena *a) {
    const char *text = arena_printf(a, "%s%s", usage_line, usage_text);
    size_t      column = strlen("TYPE:");
    for (const mixture *m = mixtures; m->name; m++) {
        bool wraps = column + strlen(m->name) + 1 > 100;
        text = arena_printf(a, "%s%s%s", text, wraps ? "\n      " : " ", m->name);
        column = (wraps ? 6 : column + 1) + strlen(m->name);
    }
    return arena_printf(a, "%s\n", text);
}

/* ---- the line as a whole */

static bool wrong(const char *what) {
    fprintf(stderr, "ggufc: error: %s; %.*s\n", what, (int)strcspn(usage_line, "\n"), usage_line);
    return false;
}

/* IN OUT TYPE [THREADS]; a dry run needs no OUT. */
static bool take_operands(line *l, const char *const *operands, int n) {
    quantize_options *o = &l->quantize;
    bool is_type = n > 1 && mixture_find(operands[1]), has_no_output = o->dry_run && is_type;
    int  at = has_no_output ? 1 : 2;
    if (is_type && !o->dry_run) return wrong("no output given: what would be one is a type");
    if (n == 0) return wrong("no model given");
    if (n <= at) return wrong(n == 1 ? "no output and no type given" : "no type given");
    o->input = operands[0];
    o->output = has_no_output ? NULL : operands[1];
    o->mix = mixture_find(operands[at]);
    if (!o->mix) return option_wrong("TYPE", operands[at], "one that --help lists");
    if (n > at + 2) return wrong("too many words");
    if (!*o->input || (o->output && !*o->output)) return wrong("a file's name is empty");
    if (o->include.n && o->exclude.n)
        return wrong("--include-weights and --exclude-weights exclude each other");
    if ((o->include.n || o->exclude.n) && !o->imatrix)
        return wrong("--include-weights and --exclude-weights are about an --imatrix, and there is none");
    return n == at + 1 || read_threads(l, "THREADS", operands[at + 1]);
}

static int quantize(line *l, int argc, char **argv) {
    const char    *operands[4] = { NULL };
    option_table   tables[] = { { rows, l }, { NULL, NULL } };
    option_command command = { .usage = make_usage(l->memory), .tables = tables, .operands = operands,
                               .n_operands = ARRAY_LEN(operands) };
    diag           d = { 0 };
    switch (option_parse(&command, argc, argv)) {
    case OPTION_DONE: return option_done();
    case OPTION_WRONG: return l->bad_input ? 1 : 2;
    case OPTION_RUN: break;
    }
    if (!take_operands(l, operands, command.n_operands)) return 2;
    return quantize_file(&l->quantize, &d) ? 0 : 1;
}

int command_quantize(int argc, char **argv) {
    line l = { .memory = arena_new() };
    l.quantize.output_quant = l.quantize.embedding_quant = QUANT_COUNT;
    int  status = quantize(&l, argc, argv);
    tensor_patterns_free(&l.quantize.patterns);
    arena_free(l.memory);
    return status;
}
