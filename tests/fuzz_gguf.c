/* A libFuzzer target: any bytes at all are either refused with exactly one message or become a
 * file whose every name, value and byte of data can be read. Linked with libFuzzer by `make fuzz`,
 * which seeds it with the files of tests/tools/broken_gguf.h. */
#include "gguf.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ignore(void *user, enum diag_level level, const char *line) {
    (void)user, (void)level, (void)line;
}

static volatile uint8_t sum;

static void touch(const void *data, uint64_t size) {
    const uint8_t *p = data;
    for (uint64_t i = 0; i < size; i++) sum ^= p[i];
}

static void touch_string(gguf_string s) {
    touch(s.data, s.size);
}

static void touch_array(const gguf_array *array) {
    const uint8_t *cursor = array->data;
    switch (array->type) {
    case GGUF_STRING:
        for (uint64_t i = 0; i < array->count; i++) touch_string(gguf_string_next(&cursor));
        break;
    case GGUF_U32:
    case GGUF_I32:
        for (uint64_t i = 0; i < array->count; i++) sum ^= (uint8_t)gguf_array_u32(array, i);
        break;
    case GGUF_F32:
        for (uint64_t i = 0; i < array->count; i++) sum ^= gguf_array_f32(array, i) > 0;
        break;
    default:
        touch(array->data, array->count); /* no element is smaller than a byte */
        break;
    }
}

/* Every accessor on every key, whatever its type. */
static void touch_kv(const gguf_file *f, diag *d, const gguf_kv *kv, const char *key) {
    uint64_t u;
    double n;
    bool yes;
    gguf_string s;
    gguf_array array;
    touch_string(kv->key);
    gguf_get_u64(f, d, key, &u);
    gguf_get_number(f, d, key, &n);
    gguf_get_bool(f, d, key, &yes);
    if (gguf_get_string(f, d, key, &s) == GGUF_PRESENT) touch_string(s);
    if (kv->type == GGUF_STRING) touch_string(kv->value.string);
    if (kv->type != GGUF_ARRAY) return;
    if (gguf_get_array(f, d, key, kv->value.array.type, &array) == GGUF_PRESENT)
        touch_array(&array);
    touch_array(&kv->value.array);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    arena *a = arena_new();
    diag d = { .sink = ignore };
    gguf_file *f = gguf_parse(a, &d, "fuzzed", data, size);
    if (d.n_errors != (f ? 0 : 1)) abort();
    for (uint64_t i = 0; f && i < f->n_kv; i++)
        touch_kv(f, &d, &f->kv[i], arena_copy_text(a, f->kv[i].key.data, f->kv[i].key.size));
    for (uint64_t i = 0; f && i < f->n_tensors; i++) {
        const gguf_tensor *t = &f->tensors[i];
        touch_string(t->name);
        touch(f->data + t->offset, t->bytes);
        gguf_find_tensor(f, arena_copy_text(a, t->name.data, t->name.size));
        if (t->bytes / quant_row_bytes(t->type, t->dims[0]) != t->dims[1] * t->dims[2] * t->dims[3])
            abort();
    }
    gguf_close(f);
    arena_free(a);
    return 0;
}
