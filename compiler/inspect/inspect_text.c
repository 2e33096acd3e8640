/* What a model is, for people. Text of the file is shown with what drives a terminal escaped. */
#include "inspect_facts.h"

#include "character.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_COLUMNS = 72, KEY_COLUMNS = 40 };

/* At most so many columns of it, or all where that is 0; returns how many it took. */
static unsigned put_string(FILE *out, gguf_string text, unsigned most) {
    const char *at = text.data, *end = at + text.size;
    character   c;
    unsigned    columns = 0;
    while (character_take(&at, end, &c)) {
        char     shown[CHARACTER_SHOWN];
        unsigned width = character_show(shown, &c);
        if (most && columns + width > most) {
            fputs("…", out);
            return columns + 1;
        }
        fputs(shown, out);
        columns += width;
    }
    return columns;
}

static void put_bytes(FILE *out, uint64_t bytes) {
    static const char *const units[] = { "KiB", "MiB", "GiB", "TiB" };
    double                   n = (double)bytes / 1024;
    size_t                   unit = 0;
    fprintf(out, "%" PRIu64 " byte%s", bytes, bytes == 1 ? "" : "s");
    if (bytes < 1024) return;
    for (; n >= 1024 && unit + 1 < ARRAY_LEN(units); unit++) n /= 1024;
    fprintf(out, " (%.1f %s)", n, units[unit]);
}

static void put_key(FILE *out, const char *key) {
    fprintf(out, "  %-14s ", key);
}

static void put_count(FILE *out, uint64_t n, const char *of) {
    fprintf(out, "%" PRIu64 " %s%s", n, of, n == 1 ? "" : "s");
}

/* ---- the file */

static void put_file(FILE *out, const gguf_file *f) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < f->n_parts; i++) bytes += f->parts[i].bytes;
    fprintf(out, "%s: GGUF version %" PRIu32 ", ", f->path, f->version);
    if (f->n_parts > 1) fprintf(out, "%" PRIu32 " parts, ", f->n_parts);
    put_bytes(out, bytes);
    fputc('\n', out);
    for (uint32_t i = 0; f->n_parts > 1 && i < f->n_parts; i++) {
        fprintf(out, "  %s: ", base_name(f->parts[i].path));
        put_count(out, inspect_count_tensors(f, &f->parts[i]), "tensor");
        fputs(", ", out);
        put_bytes(out, f->parts[i].bytes);
        fputc('\n', out);
    }
}

/* ---- metadata */

/* As few digits as are read back as the same number. */
static void put_float(FILE *out, double x, bool narrow) {
    char text[40];
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (narrow ? strtof(text, NULL) == (float)x : strtod(text, NULL) == x) break;
    }
    fputs(text, out);
}

static void put_plain(FILE *out, const gguf_kv *kv) {
    switch (kv->type) {
    case GGUF_I8:
    case GGUF_I16:
    case GGUF_I32:
    case GGUF_I64: fprintf(out, "%" PRId64, kv->value.i); break;
    case GGUF_F32:
    case GGUF_F64: put_float(out, kv->value.f, kv->type == GGUF_F32); break;
    case GGUF_BOOL: fputs(kv->value.u ? "true" : "false", out); break;
    default: fprintf(out, "%" PRIu64, kv->value.u);
    }
}

static void put_array(FILE *out, const gguf_array *array) {
    const uint8_t *cursor = array->data;
    if (array->type == GGUF_ARRAY) return;
    for (uint64_t i = 0; i < array->count && i < INSPECT_SHOWN; i++) {
        fputs(i ? ", " : "", out);
        if (array->type == GGUF_STRING) {
            fputc('"', out);
            put_string(out, gguf_string_next(&cursor), MOST_COLUMNS / INSPECT_SHOWN);
            fputc('"', out);
            continue;
        }
        gguf_kv element = gguf_array_value(array, i);
        put_plain(out, &element);
    }
    if (array->count > INSPECT_SHOWN) fputs(", …", out);
}

static void put_pair(FILE *out, const gguf_kv *kv) {
    fputs("  ", out);
    unsigned columns = put_string(out, kv->key, 0);
    fprintf(out, "%*s ", columns < KEY_COLUMNS ? (int)(KEY_COLUMNS - columns) : 0, "");
    if (kv->type == GGUF_ARRAY) {
        fprintf(out, "%" PRIu64 " × %s  ", kv->value.array.count, gguf_type_name(kv->value.array.type));
        put_array(out, &kv->value.array);
    } else {
        fprintf(out, "%-6s  ", gguf_type_name(kv->type));
        if (kv->type == GGUF_STRING)
            put_string(out, kv->value.string, MOST_COLUMNS);
        else
            put_plain(out, kv);
    }
    fputc('\n', out);
}

/* ---- tensors */

static void put_total(FILE *out, const char *name, const inspect_type *t) {
    fprintf(out, "  %-8s ", name);
    put_count(out, t->n_tensors, "tensor");
    fputs(", ", out);
    put_count(out, t->n_values, "value");
    fputs(", ", out);
    put_bytes(out, t->bytes);
    fprintf(out, ", %.2f bits a value\n", t->n_values ? 8 * (double)t->bytes / (double)t->n_values : 0.0);
}

static void put_tensor(FILE *out, const gguf_file *f, const gguf_tensor *t) {
    const gguf_part *part = gguf_find_part(f, t->offset);
    fputs("  ", out);
    unsigned columns = put_string(out, t->name, 0);
    fprintf(out, "%*s %-8s [", columns < KEY_COLUMNS ? (int)(KEY_COLUMNS - columns) : 0, "",
            quant_find(t->type)->name);
    for (uint32_t i = 0; i < t->n_dims; i++) fprintf(out, "%s%" PRIu64, i ? ", " : "", t->dims[i]);
    fprintf(out, "]  %" PRIu64 " bytes at %" PRIu64, t->bytes, t->offset - part->offset);
    if (f->n_parts > 1) fprintf(out, " of part %d", (int)(part - f->parts) + 1);
    fputc('\n', out);
}

static void put_tensors(FILE *out, const inspect_facts *facts) {
    const gguf_file *f = facts->c->file;
    fputs("\ntensors\n", out);
    for (uint32_t i = 0; i < facts->n_types; i++) put_total(out, facts->types[i].type->name, &facts->types[i]);
    if (facts->n_types != 1) put_total(out, "all", &facts->all);
    if (facts->tensors) fputc('\n', out);
    for (uint64_t i = 0; facts->tensors && i < f->n_tensors; i++) put_tensor(out, f, &f->tensors[i]);
}

/* ---- compiling */

static void put_memory(FILE *out, const char *key, uint64_t bytes) {
    put_key(out, key);
    put_bytes(out, bytes);
    fputc('\n', out);
}

static void put_result(FILE *out, const compilation *c) {
    uint64_t params = 0;
    put_key(out, "architecture");
    fprintf(out, "%s, ", c->graph->arch);
    put_count(out, c->graph->n_layer, "layer");
    fprintf(out, ", %" PRIu64 " wide\n", (uint64_t)c->graph->n_embd);
    put_key(out, "weights");
    fprintf(out, "%s, ", graph_weight_types(c->memory, c->graph, &params));
    put_bytes(out, c->variant->plan->weight_bytes);
    fprintf(out, "; %.1f million parameters\n", 1e-6 * (double)params);
    put_key(out, "tokenizer");
    if (c->has_vocab)
        fprintf(out, "%s, %" PRIu32 " tokens\n", c->vocab.model, c->vocab.vocab.n_tokens);
    else
        fputs("none that is supported: the executable takes --tokens\n", out);
    put_key(out, "target");
    fprintf(out, "%s\n", c->variant->target.name);
    put_key(out, "context");
    fprintf(out, "%" PRIu32 " tokens (trained for %" PRIu64 "), batches of %" PRIu32 "\n", c->variant->plan->n_ctx,
            (uint64_t)c->graph->n_ctx_train, c->variant->plan->n_batch);
    put_memory(out, "arena", c->variant->plan->arena_bytes);
    put_memory(out, "kv cache", c->variant->plan->kv_bytes);
}

void inspect_write_text(const inspect_facts *facts, FILE *out) {
    const gguf_file *f = facts->c->file;
    put_file(out, f);
    fputs("\nmetadata\n", out);
    for (uint64_t i = 0; i < f->n_kv; i++) put_pair(out, &f->kv[i]);
    put_tensors(out, facts);
    fputs(facts->refusal ? "\ncannot be compiled\n" : "\ncompiled\n", out);
    if (facts->refusal)
        fprintf(out, "  %s\n", facts->refusal);
    else
        put_result(out, facts->c);
    for (uint32_t i = 0; i < facts->n_warnings; i++) fprintf(out, "  note: %s\n", facts->warnings[i]);
}
