/* A GGUF file as the rest of the compiler sees it: found by name, read by type.
 *
 * gguf_open.c maps files, gguf_read.c walks the bytes; what is left is here. Names are looked up in two
 * open-addressing tables, at most half full, whose slots hold a position plus one: 0 is an empty slot
 * and ends a probe. A name met a second time while a table is filled is a refusal, so an accessor's
 * answer is the only one the file can give.
 *
 * Typed accessors are lenient where files in the wild are (an integer may have any width) and
 * strict where a guess could be wrong: a value of another kind is reported, never converted. */
#include "gguf.h"
#include "gguf_read.h"

#include <inttypes.h>
#include <string.h>

/* ---- lookup tables ---- */

static uint32_t hash_name(gguf_string name) {
    uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    for (uint64_t i = 0; i < name.size; i++)
        h = (h ^ (unsigned char)name.data[i]) * UINT64_C(0x100000001b3);
    return (uint32_t)(h ^ h >> 32);
}

static bool same_name(gguf_string a, gguf_string b) {
    return a.size == b.size && !memcmp(a.data, b.data, a.size);
}

static gguf_string as_name(const char *text) {
    return (gguf_string){ text, strlen(text) };
}

static uint32_t *make_slots(arena *a, uint64_t count, uint32_t *mask) {
    uint64_t n = 4;
    while (n < count * 2) n *= 2;
    *mask = (uint32_t)(n - 1);
    return ARENA_ARRAY(a, uint32_t, n);
}

/* The slot of the key, or the empty one where it would go. */
static uint32_t probe_kv(const gguf_file *f, gguf_string key) {
    uint32_t slot = hash_name(key) & f->kv_mask;
    while (f->kv_slots[slot] && !same_name(f->kv[f->kv_slots[slot] - 1].key, key))
        slot = (slot + 1) & f->kv_mask;
    return slot;
}

static uint32_t probe_tensor(const gguf_file *f, gguf_string name) {
    uint32_t slot = hash_name(name) & f->tensor_mask;
    while (f->tensor_slots[slot] && !same_name(f->tensors[f->tensor_slots[slot] - 1].name, name))
        slot = (slot + 1) & f->tensor_mask;
    return slot;
}

static bool index_kv(gguf_file *f, arena *a, diag *d) {
    uint32_t *slots = make_slots(a, f->n_kv, &f->kv_mask);
    f->kv_slots = slots;
    for (uint32_t i = 0; i < f->n_kv; i++) {
        uint32_t slot = probe_kv(f, f->kv[i].key);
        if (slots[slot])
            return diag_error(
                d, "%s: offset %" PRIu64 ": key %s stands twice, first at offset %" PRIu64, f->path,
                f->kv[i].offset, gguf_quote(a, f->kv[i].key), f->kv[slots[slot] - 1].offset);
        slots[slot] = i + 1;
    }
    return true;
}

static bool refuse_twin(const gguf_file *f, arena *a, diag *d, uint32_t first, uint32_t second) {
    const gguf_tensor *t = &f->tensors[second];
    const char        *name = gguf_quote(a, t->name);
    if (f->n_parts == 1)
        return diag_error(d, "%s: tensor %s stands twice, as number %" PRIu32 " and %" PRIu32, f->path,
                          name, first, second);
    return diag_error(d, "%s: tensor %s stands twice: it is in %s too", gguf_find_part(f, t->offset)->path,
                      name, gguf_find_part(f, f->tensors[first].offset)->path);
}

bool gguf_index_tensors(gguf_file *f, arena *a, diag *d) {
    uint32_t *slots = make_slots(a, f->n_tensors, &f->tensor_mask);
    f->tensor_slots = slots;
    for (uint32_t i = 0; i < f->n_tensors; i++) {
        uint32_t slot = probe_tensor(f, f->tensors[i].name);
        if (slots[slot]) return refuse_twin(f, a, d, slots[slot] - 1, i);
        slots[slot] = i + 1;
    }
    return true;
}

/* ---- parsing ---- */

gguf_file *gguf_parse(arena *a, diag *d, const char *path, const void *data, uint64_t size) {
    gguf_file *f = ARENA_NEW(a, gguf_file);
    f->path = arena_copy_text(a, path, strlen(path));
    f->data = data;
    f->size = size;
    if (!size) {
        diag_error(d, "%s: the file is empty, expected a GGUF", path);
        return NULL;
    }
    if (!gguf_read(f, a, d)) return NULL;
    gguf_part *whole = ARENA_NEW(a, gguf_part);
    *whole = (gguf_part){ f->path, 0, size, f->index_offset, f->index_bytes };
    f->parts = whole;
    f->n_parts = 1;
    return index_kv(f, a, d) && gguf_index_tensors(f, a, d) ? f : NULL;
}

/* ---- finding ---- */

const char *gguf_type_name(enum gguf_type type) {
    const gguf_type_info *info = gguf_type_find((uint32_t)type);
    return info ? info->name : "unknown";
}

const gguf_kv *gguf_find_kv(const gguf_file *f, const char *key) {
    uint32_t at = f->kv_slots[probe_kv(f, as_name(key))];
    return at ? &f->kv[at - 1] : NULL;
}

const gguf_tensor *gguf_find_tensor(const gguf_file *f, const char *name) {
    uint32_t at = f->tensor_slots[probe_tensor(f, as_name(name))];
    return at ? &f->tensors[at - 1] : NULL;
}

const gguf_part *gguf_find_part(const gguf_file *f, uint64_t offset) {
    uint32_t first = 0, end = f->n_parts;
    while (end - first > 1) {
        uint32_t middle = first + (end - first) / 2;
        *(f->parts[middle].offset <= offset ? &first : &end) = middle;
    }
    return &f->parts[first];
}

/* ---- typed metadata ---- */

static enum gguf_found mistyped(const gguf_file *f, diag *d, const char *key, const gguf_kv *kv,
                                const char *expected) {
    const bool array = kv->type == GGUF_ARRAY;
    const char *type = gguf_type_name(array ? kv->value.array.type : kv->type);
    diag_error(d, "%s: offset %" PRIu64 ": key '%s': the type is %s%s, expected %s", f->path,
               kv->offset, key, array ? "array of " : "", type, expected);
    return GGUF_MISTYPED;
}

static enum gguf_kind kind_of(const gguf_kv *kv) {
    return gguf_type_find((uint32_t)kv->type)->kind;
}

enum gguf_found gguf_get_u64(const gguf_file *f, diag *d, const char *key, uint64_t *out) {
    const gguf_kv *kv = gguf_find_kv(f, key);
    if (!kv) return GGUF_ABSENT;
    enum gguf_kind kind = kind_of(kv);
    if (kind != GGUF_UNSIGNED && kind != GGUF_SIGNED) return mistyped(f, d, key, kv, "an integer");
    if (kind == GGUF_SIGNED && kv->value.i < 0) {
        diag_error(d,
                   "%s: offset %" PRIu64 ": key '%s': the value is %" PRId64
                   ", expected an integer of 0 or more",
                   f->path, kv->offset, key, kv->value.i);
        return GGUF_MISTYPED;
    }
    *out = kind == GGUF_SIGNED ? (uint64_t)kv->value.i : kv->value.u;
    return GGUF_PRESENT;
}

enum gguf_found gguf_get_number(const gguf_file *f, diag *d, const char *key, double *out) {
    const gguf_kv *kv = gguf_find_kv(f, key);
    if (!kv) return GGUF_ABSENT;
    switch (kind_of(kv)) {
    case GGUF_UNSIGNED:
        *out = (double)kv->value.u;
        return GGUF_PRESENT;
    case GGUF_SIGNED:
        *out = (double)kv->value.i;
        return GGUF_PRESENT;
    case GGUF_FLOAT:
        *out = kv->value.f;
        return GGUF_PRESENT;
    default:
        return mistyped(f, d, key, kv, "a number");
    }
}

enum gguf_found gguf_get_bool(const gguf_file *f, diag *d, const char *key, bool *out) {
    const gguf_kv *kv = gguf_find_kv(f, key);
    if (!kv) return GGUF_ABSENT;
    if (kv->type != GGUF_BOOL) return mistyped(f, d, key, kv, "bool");
    *out = kv->value.u != 0;
    return GGUF_PRESENT;
}

enum gguf_found gguf_get_string(const gguf_file *f, diag *d, const char *key, gguf_string *out) {
    const gguf_kv *kv = gguf_find_kv(f, key);
    if (!kv) return GGUF_ABSENT;
    if (kv->type != GGUF_STRING) return mistyped(f, d, key, kv, "string");
    *out = kv->value.string;
    return GGUF_PRESENT;
}

enum gguf_found gguf_get_array(const gguf_file *f, diag *d, const char *key, enum gguf_type element,
                               gguf_array *out) {
    const gguf_kv *kv = gguf_find_kv(f, key);
    if (!kv) return GGUF_ABSENT;
    if (kv->type != GGUF_ARRAY || kv->value.array.type != element) {
        char expected[32] = "array of ";
        strcat(expected, gguf_type_name(element));
        return mistyped(f, d, key, kv, expected);
    }
    *out = kv->value.array;
    return GGUF_PRESENT;
}

uint32_t gguf_array_u32(const gguf_array *array, uint64_t i) {
    return (uint32_t)gguf_load(array->data + i * 4, 4);
}

float gguf_array_f32(const gguf_array *array, uint64_t i) {
    return (float)gguf_load_float(array->data + i * 4, 4);
}

gguf_kv gguf_array_value(const gguf_array *array, uint64_t i) {
    gguf_kv kv = { .type = array->type };
    gguf_load_value(&kv, array->data + i * gguf_type_find((uint32_t)array->type)->bytes);
    return kv;
}

gguf_string gguf_string_next(const uint8_t **cursor) {
    gguf_string string = { (const char *)*cursor + 8, gguf_load(*cursor, 8) };
    *cursor += 8 + string.size;
    return string;
}
