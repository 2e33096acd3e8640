/* A tensor's facts for machines. One object:
 *
 *     file, tensor { name, type, shape, bytes, offset, rows, row_bytes, blocks, block_values,
 *                    block_bytes }
 *     row, block, count                    what was chosen
 *     shown    an array of blocks { block, offset, fields { NAME: [numbers as stored] },
 *              values }; of plain types of values { value, offset, bits, number }
 *     scale    { field, kind }
 *     statistics { row { values, scales }, tensor { values, scales } }
 *     usual    { tensors, scales, quantiles [{ share, scale }], limit, suspicious, below, above,
 *                share_min, share_median, share_max, suspicious_here,
 *                places [{ row, block, element, bits, scale }] }
 *
 * with the meanings of dump_facts.h. `scale`, `scales` and `usual` are null where nothing is told of
 * scales, a number where it is not finite. A field of scales is { bits: ["0x2c00"], numbers: [0.0625] },
 * any other an array; of two fields of one name (TQ1_0) the elements follow each other. */
#include "dump_facts.h"
#include "json.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static void put_bits(json *j, const char *name, uint64_t bits, uint32_t bytes) {
    char text[24];
    snprintf(text, sizeof text, "0x%0*" PRIx64, (int)(2 * bytes), bits);
    json_text(j, name, text);
}

static void put_stored(json *j, const char *name, enum quant_field_kind kind, uint64_t bits) {
    if (kind == QUANT_FIELD_I64)
        json_integer(j, name, (int64_t)bits);
    else
        json_number(j, name, quant_field_number(kind, bits));
}

static void put_shape(json *j, const gguf_tensor *t) {
    json_open(j, "shape", '[');
    for (uint32_t i = 0; i < t->n_dims; i++) json_count(j, NULL, t->dims[i]);
    json_close(j, ']');
}

static void put_description(json *j, const gguf_file *f, const gguf_tensor *t) {
    const gguf_part *part = gguf_find_part(f, t->offset);
    json_bytes(j, "name", t->name.data, t->name.size);
    json_text(j, "type", quant_find(t->type)->name);
    put_shape(j, t);
    json_count(j, "bytes", t->bytes);
    json_count(j, "offset", t->offset - part->offset);
    if (f->n_parts > 1) json_text(j, "part", part->path);
}

/* ---- blocks */

static void put_numbers(json *j, const quant_field *f, const uint8_t *block) {
    for (uint32_t i = 0; i < f->count; i++)
        put_stored(j, NULL, f->kind, quant_field_bits(f, block, i));
}

static void put_scales(json *j, const quant_field *f, const uint8_t *block) {
    json_open(j, f->name, '{');
    json_open(j, "bits", '[');
    for (uint32_t i = 0; i < f->count; i++)
        put_bits(j, NULL, quant_field_bits(f, block, i), quant_field_bytes(f) / f->count);
    json_close(j, ']');
    json_open(j, "numbers", '[');
    put_numbers(j, f, block);
    json_close(j, ']');
    json_close(j, '}');
}

static void put_fields(json *j, const quant_info *q, const uint8_t *block) {
    json_open(j, "fields", '{');
    for (uint32_t i = 0; i < q->n_fields; i++) {
        const quant_field *f = &q->fields[i];
        if (f->kind <= QUANT_FIELD_UE4M3) {
            put_scales(j, f, block);
            continue;
        }
        json_open(j, f->name, '[');
        put_numbers(j, f, block);
        while (i + 1 < q->n_fields && !strcmp(q->fields[i + 1].name, f->name))
            put_numbers(j, &q->fields[++i], block);
        json_close(j, ']');
    }
    json_close(j, '}');
}

static void put_values(json *j, const dump_facts *facts, const uint8_t *block) {
    float values[256];
    quant_read(facts->tensor->type, block, facts->type->block_len, NULL, values);
    json_open(j, "values", '[');
    for (uint32_t i = 0; i < facts->type->block_len; i++) json_number(j, NULL, (double)values[i]);
    json_close(j, ']');
}

static void put_block(json *j, const dump_facts *facts, uint64_t b) {
    const uint8_t *block = dump_block(facts, b);
    json_open(j, NULL, '{');
    json_count(j, "block", b);
    json_count(j, "offset", dump_offset(facts, block));
    put_fields(j, facts->type, block);
    put_values(j, facts, block);
    json_close(j, '}');
}

static void put_plain_value(json *j, const dump_facts *facts, uint64_t i) {
    const quant_field *f = &facts->type->fields[0];
    const uint8_t     *at = dump_block(facts, i);
    const uint64_t     bits = quant_field_bits(f, at, 0);
    json_open(j, NULL, '{');
    json_count(j, "value", i);
    json_count(j, "offset", dump_offset(facts, at));
    put_bits(j, "bits", bits, quant_field_bytes(f));
    put_stored(j, "number", f->kind, bits);
    json_close(j, '}');
}

static void put_shown(json *j, const dump_facts *facts) {
    json_open(j, "shown", '[');
    for (uint64_t i = facts->block; i < facts->block + facts->count; i++)
        if (dump_is_plain(facts))
            put_plain_value(j, facts, i);
        else
            put_block(j, facts, i);
    json_close(j, ']');
}

/* ---- statistics */

static void put_value_counts(json *j, const dump_values *v) {
    json_open(j, "values", '{');
    json_count(j, "n", v->n);
    json_number(j, "min", v->min);
    json_number(j, "max", v->max);
    json_number(j, "mean", v->mean);
    json_number(j, "rms", v->rms);
    json_number(j, "std", v->std);
    json_count(j, "zero", v->n_zero);
    json_count(j, "nan", v->n_nan);
    json_count(j, "infinite", v->n_infinite);
    json_close(j, '}');
}

static void put_scale_counts(json *j, const dump_facts *facts, const dump_scales *s) {
    if (!facts->scale) {
        json_null(j, "scales");
        return;
    }
    json_open(j, "scales", '{');
    json_count(j, "n", s->n);
    json_number(j, "min", s->min);
    json_number(j, "median", s->median);
    json_number(j, "max", s->max);
    json_count(j, "zero", s->n_zero);
    json_count(j, "subnormal", s->n_subnormal);
    json_count(j, "negative", s->n_negative);
    json_count(j, "nan", s->n_nan);
    json_count(j, "infinite", s->n_infinite);
    json_close(j, '}');
}

static void put_counts(json *j, const char *name, const dump_facts *facts, const dump_values *v,
                       const dump_scales *s) {
    json_open(j, name, '{');
    put_value_counts(j, v);
    put_scale_counts(j, facts, s);
    json_close(j, '}');
}

static void put_place(json *j, const dump_facts *facts, const dump_place *p) {
    const quant_field *f = facts->scale;
    json_open(j, NULL, '{');
    json_count(j, "row", p->row);
    json_count(j, "block", p->block);
    json_count(j, "element", p->element);
    put_bits(j, "bits", p->bits, quant_field_bytes(f) / f->count);
    json_number(j, "scale", quant_field_number(f->kind, p->bits));
    json_close(j, '}');
}

static void put_quantiles(json *j, const dump_usual *u) {
    json_open(j, "quantiles", '[');
    for (int i = 0; i < DUMP_QUANTILES; i++) {
        json_open(j, NULL, '{');
        json_number(j, "share", dump_permille[i] / 1000.0);
        json_number(j, "scale", u->quantile[i]);
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void put_usual(json *j, const dump_facts *facts) {
    const dump_usual *u = &facts->usual;
    if (!facts->scale) {
        json_null(j, "usual");
        return;
    }
    json_open(j, "usual", '{');
    json_count(j, "tensors", u->n_tensors);
    put_scale_counts(j, facts, &u->all);
    put_quantiles(j, u);
    json_number(j, "limit", u->limit);
    json_count(j, "suspicious", u->n_suspicious);
    json_number(j, "share_min", u->share_min);
    json_number(j, "share_median", u->share_median);
    json_number(j, "share_max", u->share_max);
    json_count(j, "below", u->n_below);
    json_count(j, "above", u->n_above);
    json_count(j, "suspicious_here", u->n_suspicious_here);
    json_open(j, "places", '[');
    for (uint64_t i = 0; i < u->n_places; i++) put_place(j, facts, &u->places[i]);
    json_close(j, ']');
    json_close(j, '}');
}

/* ---- all of it */

static void put_tensor(json *j, const dump_facts *facts) {
    json_open(j, "tensor", '{');
    put_description(j, facts->file, facts->tensor);
    json_count(j, "rows", facts->n_rows);
    json_count(j, "row_bytes", facts->row_bytes);
    json_count(j, "blocks", facts->n_rows * facts->row_blocks);
    json_count(j, "block_values", facts->type->block_len);
    json_count(j, "block_bytes", facts->type->block_bytes);
    json_close(j, '}');
}

static void put_scale(json *j, const quant_field *f) {
    if (!f) {
        json_null(j, "scale");
        return;
    }
    json_open(j, "scale", '{');
    json_text(j, "field", f->name);
    json_text(j, "kind", quant_field_kind_name(f->kind));
    json_close(j, '}');
}

void dump_write_json(const dump_facts *facts, FILE *out) {
    json j = json_begin(out);
    json_open(&j, NULL, '{');
    json_text(&j, "file", facts->file->path);
    put_tensor(&j, facts);
    json_count(&j, "row", facts->row);
    json_count(&j, "block", facts->block);
    json_count(&j, "count", facts->count);
    put_shown(&j, facts);
    put_scale(&j, facts->scale);
    json_open(&j, "statistics", '{');
    put_counts(&j, "row", facts, &facts->row_values, &facts->row_scales);
    put_counts(&j, "tensor", facts, &facts->tensor_values, &facts->tensor_scales);
    json_close(&j, '}');
    put_usual(&j, facts);
    json_close(&j, '}');
}

void dump_write_list_json(const gguf_file *f, FILE *out) {
    json j = json_begin(out);
    json_open(&j, NULL, '{');
    json_text(&j, "file", f->path);
    json_open(&j, "tensors", '[');
    for (uint64_t i = 0; i < f->n_tensors; i++) {
        json_open(&j, NULL, '{');
        put_description(&j, f, &f->tensors[i]);
        json_close(&j, '}');
    }
    json_close(&j, ']');
    json_close(&j, '}');
}
