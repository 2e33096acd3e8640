/* What a model is, for programs:
 *
 *     file, version, alignment, bytes
 *     parts     [{ file, bytes, tensors }]
 *     metadata  [{ key, type, value }], in the file's order; of an array { key, type: "array", element,
 *               count, values: the first of them }, of an array of arrays no values
 *     types     [{ type, tensors, values, bytes }], most bytes first
 *     tensors   where asked for: [{ name, type, shape, bytes, part, offset }], offset in that part, counted
 *               from 0
 *     refusal   null, or why it cannot be compiled
 *     warnings  ["…"]
 *     compiled  null, or { architecture, layers, embedding, parameters, types, tokenizer or null,
 *               vocabulary, target, context, trained_context, batch, weight_bytes, arena_bytes, kv_bytes }
 */
#include "inspect_facts.h"

#include "json.h"

static void put_plain(json *j, const char *name, const gguf_kv *kv) {
    switch (kv->type) {
    case GGUF_I8:
    case GGUF_I16:
    case GGUF_I32:
    case GGUF_I64: json_integer(j, name, kv->value.i); break;
    case GGUF_F32:
    case GGUF_F64: json_number(j, name, kv->value.f); break;
    case GGUF_BOOL: json_bool(j, name, kv->value.u != 0); break;
    default: json_count(j, name, kv->value.u);
    }
}

static void put_array(json *j, const gguf_array *array) {
    const uint8_t *cursor = array->data;
    json_text(j, "element", gguf_type_name(array->type));
    json_count(j, "count", array->count);
    if (array->type == GGUF_ARRAY) return;
    json_open_line(j, "values", '[');
    for (uint64_t i = 0; i < array->count && i < INSPECT_LISTED; i++) {
        if (array->type == GGUF_STRING) {
            gguf_string text = gguf_string_next(&cursor);
            json_bytes(j, NULL, text.data, text.size);
            continue;
        }
        gguf_kv element = gguf_array_value(array, i);
        put_plain(j, NULL, &element);
    }
    json_close(j, ']');
}

static void put_metadata(json *j, const gguf_file *f) {
    json_open(j, "metadata", '[');
    for (uint64_t i = 0; i < f->n_kv; i++) {
        const gguf_kv *kv = &f->kv[i];
        json_open_line(j, NULL, '{');
        json_bytes(j, "key", kv->key.data, kv->key.size);
        json_text(j, "type", gguf_type_name(kv->type));
        if (kv->type == GGUF_ARRAY)
            put_array(j, &kv->value.array);
        else if (kv->type == GGUF_STRING)
            json_bytes(j, "value", kv->value.string.data, kv->value.string.size);
        else
            put_plain(j, "value", kv);
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void put_parts(json *j, const gguf_file *f) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < f->n_parts; i++) bytes += f->parts[i].bytes;
    json_count(j, "bytes", bytes);
    json_open(j, "parts", '[');
    for (uint32_t i = 0; i < f->n_parts; i++) {
        json_open_line(j, NULL, '{');
        json_text(j, "file", f->parts[i].path);
        json_count(j, "bytes", f->parts[i].bytes);
        json_count(j, "tensors", inspect_count_tensors(f, &f->parts[i]));
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void put_types(json *j, const inspect_facts *facts) {
    json_open(j, "types", '[');
    for (uint32_t i = 0; i < facts->n_types; i++) {
        const inspect_type *t = &facts->types[i];
        json_open_line(j, NULL, '{');
        json_text(j, "type", t->type->name);
        json_count(j, "tensors", t->n_tensors);
        json_count(j, "values", t->n_values);
        json_count(j, "bytes", t->bytes);
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void put_tensors(json *j, const gguf_file *f) {
    json_open(j, "tensors", '[');
    for (uint64_t i = 0; i < f->n_tensors; i++) {
        const gguf_tensor *t = &f->tensors[i];
        const gguf_part   *part = gguf_find_part(f, t->offset);
        json_open_line(j, NULL, '{');
        json_bytes(j, "name", t->name.data, t->name.size);
        json_text(j, "type", quant_find(t->type)->name);
        json_open_line(j, "shape", '[');
        for (uint32_t k = 0; k < t->n_dims; k++) json_count(j, NULL, t->dims[k]);
        json_close(j, ']');
        json_count(j, "bytes", t->bytes);
        json_count(j, "part", (uint64_t)(part - f->parts));
        json_count(j, "offset", t->offset - part->offset);
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void put_result(json *j, const compilation *c) {
    uint64_t    params = 0;
    const char *types = graph_weight_types(c->memory, c->graph, &params);
    json_open(j, "compiled", '{');
    json_text(j, "architecture", c->graph->arch);
    json_count(j, "layers", c->graph->n_layer);
    json_count(j, "embedding", c->graph->n_embd);
    json_count(j, "parameters", params);
    json_text(j, "types", types);
    json_text(j, "tokenizer", c->has_vocab ? c->vocab.model : NULL);
    json_count(j, "vocabulary", c->graph->n_vocab);
    json_text(j, "target", c->variant->target.name);
    json_count(j, "context", c->variant->plan->n_ctx);
    json_count(j, "trained_context", c->graph->n_ctx_train);
    json_count(j, "batch", c->variant->plan->n_batch);
    json_count(j, "weight_bytes", c->variant->plan->weight_bytes);
    json_count(j, "arena_bytes", c->variant->plan->arena_bytes);
    json_count(j, "kv_bytes", c->variant->plan->kv_bytes);
    json_close(j, '}');
}

void inspect_write_json(const inspect_facts *facts, FILE *out) {
    const gguf_file *f = facts->c->file;
    json             j = json_begin(out);
    json_open(&j, NULL, '{');
    json_text(&j, "file", f->path);
    json_count(&j, "version", f->version);
    json_count(&j, "alignment", f->alignment);
    put_parts(&j, f);
    put_metadata(&j, f);
    put_types(&j, facts);
    if (facts->tensors) put_tensors(&j, f);
    json_text(&j, "refusal", facts->refusal);
    json_open(&j, "warnings", '[');
    for (uint32_t i = 0; i < facts->n_warnings; i++) json_text(&j, NULL, facts->warnings[i]);
    json_close(&j, ']');
    if (facts->refusal)
        json_null(&j, "compiled");
    else
        put_result(&j, facts->c);
    json_close(&j, '}');
}
