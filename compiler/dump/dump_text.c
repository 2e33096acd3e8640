/* A tensor's facts for people. Values have nine digits, which tell any f32 from its neighbours;
 * what is computed from many has six. */
#include "dump_facts.h"

#include "character.h"

#include <inttypes.h>
#include <math.h>

enum { VALUES_A_LINE = 4, INTEGERS_A_LINE = 16, HALVES_A_LINE = 4 };

static bool is_float(enum quant_field_kind kind) {
    return kind <= QUANT_FIELD_UE4M3;
}

/* What drives a terminal must not reach it. */
static void put_name(FILE *out, gguf_string name) {
    const char *at = name.data, *end = at + name.size;
    character   c;
    while (character_take(&at, end, &c)) {
        bool shown = c.valid && !character_drives(&c);
        if (shown) fwrite(c.bytes, 1, c.size, out);
        for (unsigned i = 0; !shown && i < c.size; i++)
            fprintf(out, "\\x%02x", (unsigned char)c.bytes[i]);
    }
}

static void put_number(FILE *out, int width, int digits, double x) {
    if (isfinite(x))
        fprintf(out, "%*.*g", width, digits, x);
    else
        fprintf(out, "%*s", width, isnan(x) ? "NaN" : x < 0 ? "-inf" : "inf");
}

/* ---- the blocks */

/* "0x2c00 = 0.0625" */
static void put_float(FILE *out, enum quant_field_kind kind, uint64_t bits, uint32_t bytes) {
    fprintf(out, "0x%0*" PRIx64 " = ", (int)(2 * bytes), bits);
    put_number(out, 0, kind == QUANT_FIELD_F64 ? 17 : 9, quant_field_number(kind, bits));
}

static int integer_width(enum quant_field_kind kind) {
    switch (kind) {
    case QUANT_FIELD_BIT:
    case QUANT_FIELD_2BITS:
    case QUANT_FIELD_TRIT: return 2;
    case QUANT_FIELD_4BITS:
    case QUANT_FIELD_6BITS_Q3_K:
    case QUANT_FIELD_6BITS_Q4_K: return 3;
    case QUANT_FIELD_I8: return 5;
    case QUANT_FIELD_I64: return 21;
    default: return 12;
    }
}

/* Indices into grids, signs and the like are bits, and written as such. */
static void put_element(FILE *out, const quant_field *f, uint64_t bits) {
    const uint32_t bytes = quant_field_bytes(f) / f->count;
    if (is_float(f->kind))
        put_float(out, f->kind, bits, bytes);
    else if (f->kind == QUANT_FIELD_I64)
        fprintf(out, "%*" PRId64, integer_width(f->kind), (int64_t)bits);
    else if (f->role == QUANT_ROLE_OTHER && f->kind != QUANT_FIELD_I16)
        fprintf(out, " %0*" PRIx64, (int)(2 * bytes), bits);
    else
        fprintf(out, "%*.0f", integer_width(f->kind), quant_field_number(f->kind, bits));
}

/* The line's beginning: what is written, and the position of the first element where there are
   several. */
static void begin_line(FILE *out, const char *name, uint64_t at, bool counted) {
    char position[24] = "";
    if (counted) snprintf(position, sizeof position, "[%" PRIu64 "]", at);
    fprintf(out, "  %-8s%6s  ", at ? "" : name, position);
}

static void put_field(FILE *out, const quant_field *f, const uint8_t *block) {
    const bool     floats = is_float(f->kind);
    const uint32_t a_line = floats ? HALVES_A_LINE : INTEGERS_A_LINE;
    for (uint32_t i = 0; i < f->count; i++) {
        if (i % a_line == 0) begin_line(out, f->name, i, f->count > 1);
        if (floats && i % a_line) fputs(", ", out);
        put_element(out, f, quant_field_bits(f, block, i));
        if ((i + 1) % a_line == 0 || i + 1 == f->count) fputc('\n', out);
    }
}

static void put_values(FILE *out, const dump_facts *facts, const uint8_t *block) {
    float values[256];
    const uint32_t n = facts->type->block_len;
    quant_read(facts->tensor->type, block, n, NULL, values);
    for (uint32_t i = 0; i < n; i++) {
        if (i % VALUES_A_LINE == 0) begin_line(out, "values", i, true);
        put_number(out, 17, 9, (double)values[i]);
        if ((i + 1) % VALUES_A_LINE == 0 || i + 1 == n) fputc('\n', out);
    }
}

static void put_blocks(FILE *out, const dump_facts *facts) {
    for (uint64_t b = facts->block; b < facts->block + facts->count; b++) {
        const uint8_t *block = dump_block(facts, b);
        fprintf(out, "\nrow %" PRIu64 ", block %" PRIu64 ", at offset %" PRIu64 "\n", facts->row, b,
                dump_offset(facts, block));
        for (uint32_t i = 0; i < facts->type->n_fields; i++)
            put_field(out, &facts->type->fields[i], block);
        put_values(out, facts, block);
    }
}

static void put_plain_values(FILE *out, const dump_facts *facts) {
    const quant_field *f = &facts->type->fields[0];
    fprintf(out, "\nrow %" PRIu64 ", from value %" PRIu64 ", at offset %" PRIu64 "\n", facts->row,
            facts->block, dump_offset(facts, dump_block(facts, facts->block)));
    for (uint64_t i = 0; i < facts->count; i++) {
        const uint8_t *at = dump_block(facts, facts->block + i);
        fprintf(out, "  %10" PRIu64 "  ", facts->block + i);
        put_element(out, f, quant_field_bits(f, at, 0));
        fputc('\n', out);
    }
}

/* ---- statistics */

static void put_named(FILE *out, const char *name, double x) {
    fprintf(out, "  %s ", name);
    put_number(out, 0, 6, x);
}

static void put_value_counts(FILE *out, const dump_values *v) {
    fputs("  values   ", out);
    put_named(out, "min", v->min);
    put_named(out, "max", v->max);
    put_named(out, "mean", v->mean);
    put_named(out, "rms", v->rms);
    put_named(out, "std", v->std);
    fprintf(out, "\n             zero %" PRIu64 "  NaN %" PRIu64 "  infinite %" PRIu64 "\n", v->n_zero,
            v->n_nan, v->n_infinite);
}

static void put_scale_counts(FILE *out, const dump_scales *s) {
    fputs("  |scale|  ", out);
    put_named(out, "min", s->min);
    put_named(out, "median", s->median);
    put_named(out, "max", s->max);
    fprintf(out,
            "\n             zero %" PRIu64 "  subnormal %" PRIu64 "  negative %" PRIu64
            "  NaN %" PRIu64 "  infinite %" PRIu64 "  of %" PRIu64 "\n",
            s->n_zero, s->n_subnormal, s->n_negative, s->n_nan, s->n_infinite, s->n);
}

static void put_counts(FILE *out, const dump_facts *facts, const dump_values *v,
                       const dump_scales *s) {
    put_value_counts(out, v);
    if (facts->scale) put_scale_counts(out, s);
}

static void put_statistics(FILE *out, const dump_facts *facts) {
    const uint64_t row = facts->tensor->dims[0];
    fputc('\n', out);
    if (facts->n_rows > 1) {
        fprintf(out, "row %" PRIu64 ", %" PRIu64 " values\n", facts->row, row);
        put_counts(out, facts, &facts->row_values, &facts->row_scales);
    }
    fprintf(out, "the whole tensor, %" PRIu64 " values\n", row * facts->n_rows);
    put_counts(out, facts, &facts->tensor_values, &facts->tensor_scales);
}

/* ---- what is usual */

static void put_quantiles(FILE *out, const dump_usual *u) {
    fputs("  |scale|  ", out);
    for (int i = 0; i < DUMP_QUANTILES; i++)
        fprintf(out, "  %11.1f %%", dump_permille[i] / 10.0);
    fputs("\n  at most  ", out);
    for (int i = 0; i < DUMP_QUANTILES; i++) {
        fputs("  ", out);
        put_number(out, 13, 6, u->quantile[i]);
    }
    fputc('\n', out);
}

static void put_share(FILE *out, const char *what, double size, double share) {
    fprintf(out, "  its %-8s", what);
    put_number(out, 12, 6, size);
    fprintf(out, " is above %.2f %% of them\n", share * 100);
}

static void put_place(FILE *out, const dump_facts *facts, const dump_place *p) {
    fprintf(out, "    row %" PRIu64 ", block %" PRIu64, p->row, p->block);
    if (facts->scale->count > 1) fprintf(out, "[%" PRIu32 "]", p->element);
    fprintf(out, ": %s ", facts->scale->name);
    put_element(out, facts->scale, p->bits);
    fputc('\n', out);
}

static void put_suspicious(FILE *out, const dump_facts *facts) {
    const dump_usual *u = &facts->usual;
    fprintf(out, "  suspicious: %" PRIu64 " in this tensor, %" PRIu64 " in the file (",
            u->n_suspicious_here, u->n_suspicious);
    if (isfinite(u->limit)) {
        fputs("above ", out);
        put_number(out, 0, 6, u->limit);
        fputs(", 16 times what 99.9 % do not exceed, ", out);
    }
    fputs("infinite or no number)\n", out);
    for (uint64_t i = 0; i < u->n_places; i++) put_place(out, facts, &u->places[i]);
    if (u->n_suspicious_here > u->n_places) fputs("    …\n", out);
}

static void put_usual(FILE *out, const dump_facts *facts) {
    const dump_usual  *u = &facts->usual;
    const dump_scales *here = &facts->tensor_scales;
    fprintf(out, "\n%s scales in this file: %" PRIu64 " in %" PRIu64 " tensor%s\n", facts->type->name,
            u->all.n, u->n_tensors, u->n_tensors == 1 ? "" : "s");
    if (here->n_finite) {
        put_quantiles(out, u);
        put_share(out, "least", here->min, u->share_min);
        put_share(out, "median", here->median, u->share_median);
        put_share(out, "largest", here->max, u->share_max);
        fprintf(out,
                "  below the first of these quantiles: %" PRIu64 " of its %" PRIu64
                "; above the last: %" PRIu64 "\n",
                u->n_below, here->n, u->n_above);
    }
    put_suspicious(out, facts);
    if (u->all.n_subnormal)
        fprintf(out,
                "  subnormal: %" PRIu64 " in this tensor, %" PRIu64 " in the file. These are valid "
                "values and must not be flushed to zero.\n",
                here->n_subnormal, u->all.n_subnormal);
}

/* ---- all of it */

static void put_header(FILE *out, const dump_facts *facts) {
    const gguf_tensor *t = facts->tensor;
    put_name(out, t->name);
    fprintf(out, ": %s [", facts->type->name);
    for (uint32_t i = 0; i < t->n_dims; i++) fprintf(out, "%s%" PRIu64, i ? ", " : "", t->dims[i]);
    fprintf(out, "], %" PRIu64 " bytes at offset %" PRIu64, t->bytes, t->offset - dump_part(facts)->offset);
    if (facts->file->n_parts > 1) fprintf(out, " of %s", base_name(dump_part(facts)->path));
    fputc('\n', out);
    fprintf(out, "%" PRIu64 " row%s of %" PRIu64 " bytes", facts->n_rows,
            facts->n_rows == 1 ? "" : "s", facts->row_bytes);
    if (!dump_is_plain(facts))
        fprintf(out, "; %" PRIu64 " blocks of %" PRIu32 " values in %" PRIu32 " bytes",
                facts->n_rows * facts->row_blocks, facts->type->block_len,
                facts->type->block_bytes);
    fputc('\n', out);
}

void dump_write_text(const dump_facts *facts, FILE *out) {
    put_header(out, facts);
    if (dump_is_plain(facts))
        put_plain_values(out, facts);
    else
        put_blocks(out, facts);
    put_statistics(out, facts);
    if (facts->scale) put_usual(out, facts);
}

void dump_write_list_text(const gguf_file *f, FILE *out) {
    uint64_t width = 0;
    for (uint64_t i = 0; i < f->n_tensors; i++)
        if (f->tensors[i].name.size > width && f->tensors[i].name.size <= 64)
            width = f->tensors[i].name.size;
    for (uint64_t i = 0; i < f->n_tensors; i++) {
        const gguf_tensor *t = &f->tensors[i];
        put_name(out, t->name);
        fprintf(out, "%*s  %-8s  [", t->name.size < width ? (int)(width - t->name.size) : 0, "",
                quant_find(t->type)->name);
        for (uint32_t k = 0; k < t->n_dims; k++)
            fprintf(out, "%s%" PRIu64, k ? ", " : "", t->dims[k]);
        fputs("]\n", out);
    }
}
