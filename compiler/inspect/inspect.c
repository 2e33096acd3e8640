#include "inspect_facts.h"

#include <stdlib.h>
#include <string.h>

/* ---- what compiling says */

/* Keeps the lines that are about compiling; the file's own errors are the caller's to hear. */
static void keep_line(void *user, enum diag_level level, const char *line) {
    inspect_facts *facts = user;
    const char    *kept = arena_copy_text(facts->c->memory, line, strlen(line));
    if (level == DIAG_NOTE)
        fprintf(stderr, "ggufc: %s\n", line);
    else if (level == DIAG_ERROR)
        facts->refusal = facts->refusal ? facts->refusal : kept;
    else if (facts->n_warnings < INSPECT_MAX_WARNINGS)
        facts->warnings[facts->n_warnings++] = kept;
}

/* ---- totals */

static void add_tensor(inspect_type *to, const gguf_tensor *t) {
    to->n_tensors++;
    to->n_values += t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3];
    to->bytes += t->bytes;
}

static int compare_types(const void *a, const void *b) {
    const inspect_type *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return strcmp(x->type->name, y->type->name);
}

static void count_types(inspect_facts *facts) {
    const gguf_file *f = facts->c->file;
    inspect_type     all[QUANT_COUNT] = { 0 };
    for (uint64_t i = 0; i < f->n_tensors; i++) {
        const gguf_tensor *t = &f->tensors[i];
        all[t->type].type = quant_find(t->type);
        add_tensor(&all[t->type], t);
        add_tensor(&facts->all, t);
    }
    for (uint32_t i = 0; i < QUANT_COUNT; i++)
        if (all[i].n_tensors) facts->types[facts->n_types++] = all[i];
    qsort(facts->types, facts->n_types, sizeof *facts->types, compare_types);
}

uint64_t inspect_count_tensors(const gguf_file *f, const gguf_part *part) {
    uint64_t n = 0;
    for (uint64_t i = 0; i < f->n_tensors; i++) n += gguf_find_part(f, f->tensors[i].offset) == part;
    return n;
}

/* ---- all of it */

bool inspect_model(const inspect_options *o, diag *d, FILE *out) {
    ggufc_compile_options options = o->compile;
    options.stop_after = GGUFC_STAGE_PLAN;
    options.dump = 0;
    compilation   c = { .options = &options, .memory = arena_new() };
    inspect_facts facts = { .c = &c, .tensors = o->tensors };
    c.messages = (diag){ .sink = keep_line, .user = &facts };
    bool planned = compilation_run(&c);
    if (planned) compilation_read_vocab(&c);
    bool ok = c.file != NULL;
    if (ok) {
        count_types(&facts);
        (o->json ? inspect_write_json : inspect_write_text)(&facts, out);
    } else {
        diag_error(d, "%s", facts.refusal ? facts.refusal : "the model cannot be read");
    }
    compilation_release(&c);
    return ok;
}
