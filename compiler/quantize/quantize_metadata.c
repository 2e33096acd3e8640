/* The metadata of OUT: IN's entries as they stand there, then what is set anew. */
#include "quantize_job.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_ALIGNMENT    32
#define QUANTIZATION_VERSION 2 /* of block layouts, as llama.cpp counts them */

/* ---- overrides */

static bool read_value(arena *a, const char *kind, const char *text, quantize_override *out) {
    char *end;
    errno = 0;
    if (!strcmp(kind, "int")) {
        unsigned long long n = strtoull(text, &end, 10);
        out->kind = GGUF_U32;
        out->number = (uint32_t)n;
        return *text >= '0' && *text <= '9' && !*end && !errno && n <= UINT32_MAX;
    }
    if (!strcmp(kind, "float")) {
        out->kind = GGUF_F32;
        out->real = strtof(text, &end);
        return *text && !*end && isfinite(out->real);
    }
    if (!strcmp(kind, "bool")) {
        out->kind = GGUF_BOOL;
        out->truth = !strcmp(text, "true");
        return out->truth || !strcmp(text, "false");
    }
    out->kind = GGUF_STRING;
    out->text = arena_copy_text(a, text, strlen(text));
    return !strcmp(kind, "str");
}

const char *quantize_read_override(arena *a, const char *text, quantize_override *out) {
    static const char form[] = "KEY=TYPE:VALUE with TYPE int, float, bool or str and a value of it";
    const char *equal = strchr(text, '='), *colon = equal ? strchr(equal, ':') : NULL;
    if (!colon || equal == text) return form;
    out->key = arena_copy_text(a, text, (size_t)(equal - text));
    if (!strcmp(out->key, "general.alignment")) return "possible: the alignment is kept";
    if (!strncmp(out->key, "split.", 6)) return "possible: the result is one file";
    const char *kind = arena_copy_text(a, equal + 1, (size_t)(colon - equal - 1));
    return read_value(a, kind, colon + 1, out) ? NULL : form;
}

/* ---- which keys are set anew */

typedef struct new_keys {
    quantize_override *items;
    uint32_t           n, room;
} new_keys;

static void set(arena *a, new_keys *keys, quantize_override entry) {
    for (uint32_t i = 0; i < keys->n; i++) /* the last that is said of a key counts, and stands last */
        if (!strcmp(keys->items[i].key, entry.key)) {
            memmove(keys->items + i, keys->items + i + 1, (keys->n - i - 1) * sizeof entry);
            keys->n--;
            break;
        }
    quantize_override *item = arena_push(a, (void **)&keys->items, &keys->n, &keys->room, sizeof *item);
    *item = entry;
}

static void set_number(arena *a, new_keys *keys, const char *key, uint64_t n) {
    set(a, keys, (quantize_override){ .key = key, .kind = GGUF_U32, .number = (uint32_t)n });
}

static void set_importance(arena *a, new_keys *keys, const imatrix *m) {
    set(a, keys, (quantize_override){ .key = "quantize.imatrix.file", .kind = GGUF_STRING, .text = m->path });
    if (m->dataset.data)
        set(a, keys, (quantize_override){ .key = "quantize.imatrix.dataset", .kind = GGUF_STRING,
                                          .text = m->dataset.data });
    set_number(a, keys, "quantize.imatrix.entries_count", m->n_entries);
    if (m->n_chunks) set_number(a, keys, "quantize.imatrix.chunks_count", m->n_chunks);
}

static new_keys choose_keys(quantize_job *job) {
    quantize_options *o = job->options;
    new_keys keys = { 0 };
    if (o->mix->base != QUANT_COUNT) {
        set_number(job->memory, &keys, "general.quantization_version", QUANTIZATION_VERSION);
        set_number(job->memory, &keys, "general.file_type", o->mix->file_type);
    }
    for (uint32_t i = 0; i < o->n_overrides; i++) set(job->memory, &keys, o->overrides[i]);
    if (job->importance) set_importance(job->memory, &keys, job->importance);
    return keys;
}

/* ---- writing */

static bool is_key(gguf_string key, const char *name) {
    return key.size == strlen(name) && !memcmp(key.data, name, key.size);
}

static bool is_left_out(const new_keys *keys, gguf_string key) {
    static const char *const of_parts[] = { "split.no", "split.count", "split.tensors.count" };
    for (size_t i = 0; i < ARRAY_LEN(of_parts); i++)
        if (is_key(key, of_parts[i])) return true;
    for (uint32_t i = 0; i < keys->n; i++)
        if (is_key(key, keys->items[i].key)) return true;
    return false;
}

static void put_old(gguf_header *h, const gguf_file *f, uint64_t i) {
    uint64_t begin = f->kv[i].offset, end = i + 1 < f->n_kv ? f->kv[i + 1].offset : f->index_offset;
    gguf_header_put_entry(h, f->data + begin, end - begin);
}

static void put_new(gguf_header *h, const quantize_override *entry) {
    switch (entry->kind) {
    case GGUF_U32: gguf_header_put_u32(h, entry->key, entry->number); break;
    case GGUF_F32: gguf_header_put_f32(h, entry->key, entry->real); break;
    case GGUF_BOOL: gguf_header_put_bool(h, entry->key, entry->truth); break;
    case GGUF_STRING: gguf_header_put_text(h, entry->key, entry->text, strlen(entry->text)); break;
    default: bug("an override of %s", gguf_type_name(entry->kind));
    }
}

/* As the key says, which is kept; the reader has checked it. */
static uint64_t choose_alignment(const quantize_job *job) {
    uint64_t n = DEFAULT_ALIGNMENT;
    gguf_get_u64(job->file, job->messages, "general.alignment", &n);
    return n;
}

bool quantize_make_header(quantize_job *job) {
    gguf_header     *h = &job->header;
    const gguf_file *f = job->file;
    new_keys         keys = choose_keys(job);
    gguf_header_begin(h, choose_alignment(job));
    for (uint64_t i = 0; i < f->n_kv; i++)
        if (!is_left_out(&keys, f->kv[i].key)) put_old(h, f, i);
    for (uint32_t i = 0; i < keys.n; i++) put_new(h, &keys.items[i]);
    for (uint64_t i = 0; i < job->n_tensors; i++) {
        quantize_tensor *t = &job->tensors[i];
        t->offset = gguf_header_put_tensor(h, t->in->name.data, t->in->name.size, t->in->n_dims, t->in->dims,
                                           t->quant, t->bytes);
    }
    if (!gguf_header_end(h)) return diag_error(job->messages, "out of memory");
    for (uint64_t i = 0; i < job->n_tensors; i++) job->tensors[i].offset += h->size;
    job->bytes = h->size + h->data_bytes;
    return true;
}
