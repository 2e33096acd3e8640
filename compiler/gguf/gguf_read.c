/* Reads a GGUF file in one walk and believes none of it.
 *
 * A reader stands at an offset of the file and only take() moves it: whoever wants bytes says how
 * many and what for, and gets them or a refusal that names the offset, the entry being read and
 * the want. So nothing here can read outside the file, and every truncation has its message.
 *
 * Counts are never used to allocate. The arrays of entries grow as entries are really read, and a
 * count that cannot be true (each entry has a least size) is refused before the first of them.
 *
 * When all descriptions are known, lay_out() places the tensors: their bytes must be inside the
 * file, aligned, and apart from each other, which sorting by offset shows. */
#include "gguf_read.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_NESTING    8
#define MIN_ALIGNMENT  8  /* what ggml's docs/gguf.md demands; every element type needs no more */
#define MIN_KV_BYTES   14 /* key length 8, a byte of key, type 4, a byte of value */
#define MIN_INFO_BYTES 33 /* name length 8, a byte of name, n_dims 4, a dim 8, type 4, offset 8 */
#define QUOTED_BYTES   64

typedef struct reader {
    gguf_file *f;
    arena *a;
    diag *d;
    uint64_t at;
    const char *part; /* what is being read: "header", "metadata entry", "tensor" */
    uint64_t index;
    gguf_string name; /* of the entry; no data before it was read */
} reader;

static const gguf_type_info type_infos[GGUF_TYPE_COUNT] = {
    [GGUF_U8] = { "u8", GGUF_UNSIGNED, 1 },     [GGUF_I8] = { "i8", GGUF_SIGNED, 1 },
    [GGUF_U16] = { "u16", GGUF_UNSIGNED, 2 },   [GGUF_I16] = { "i16", GGUF_SIGNED, 2 },
    [GGUF_U32] = { "u32", GGUF_UNSIGNED, 4 },   [GGUF_I32] = { "i32", GGUF_SIGNED, 4 },
    [GGUF_F32] = { "f32", GGUF_FLOAT, 4 },      [GGUF_BOOL] = { "bool", GGUF_TRUTH, 1 },
    [GGUF_STRING] = { "string", GGUF_TEXT, 8 }, [GGUF_ARRAY] = { "array", GGUF_LIST, 12 },
    [GGUF_U64] = { "u64", GGUF_UNSIGNED, 8 },   [GGUF_I64] = { "i64", GGUF_SIGNED, 8 },
    [GGUF_F64] = { "f64", GGUF_FLOAT, 8 },
};

const gguf_type_info *gguf_type_find(uint32_t type) {
    return type < GGUF_TYPE_COUNT ? &type_infos[type] : NULL;
}

double gguf_load_float(const uint8_t *from, unsigned bytes) {
    uint64_t bits = gguf_load(from, bytes);
    if (bytes == 8) {
        double wide;
        memcpy(&wide, &bits, sizeof wide);
        return wide;
    }
    uint32_t half = (uint32_t)bits;
    float narrow;
    memcpy(&narrow, &half, sizeof narrow);
    return (double)narrow;
}

/* The first n bytes, odd ones escaped; returns where they end. */
static char *escape(char *to, const char *from, uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)from[i];
        if (c >= 0x20 && c < 0x7f) {
            *to++ = (char)c;
            continue;
        }
        *to++ = '\\';
        *to++ = 'x';
        *to++ = "0123456789abcdef"[c >> 4];
        *to++ = "0123456789abcdef"[c & 15];
    }
    *to = 0;
    return to;
}

const char *gguf_escape(arena *a, gguf_string text) {
    char *to = arena_alloc(a, text.size * 4 + 1);
    escape(to, text.data, text.size);
    return to;
}

const char *gguf_quote(arena *a, gguf_string name) {
    uint64_t n = name.size < QUOTED_BYTES ? name.size : QUOTED_BYTES;
    char    *text = arena_alloc(a, n * 4 + 8);
    *text = '\'';
    stpcpy(escape(text + 1, name.data, n), n < name.size ? "…'" : "'");
    return text;
}

/* ---- refusing and taking ---- */

/* "PATH: offset N: ENTRY: …" */
PRINTF_LIKE(3, 4) static bool refuse(reader *r, uint64_t offset, const char *format, ...) {
    char message[512];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);

    const char *entry = r->part;
    if (r->name.data)
        entry = arena_printf(r->a, "%s %s", r->part, gguf_quote(r->a, r->name));
    else if (strcmp(r->part, "header"))
        entry = arena_printf(r->a, "%s %" PRIu64, r->part, r->index);
    return diag_error(r->d, "%s: offset %" PRIu64 ": %s: %s", r->f->path, offset, entry, message);
}

static uint64_t left(const reader *r) {
    return r->f->size - r->at;
}

/* The next `bytes` bytes, or NULL after a refusal. */
static const uint8_t *take(reader *r, uint64_t bytes, const char *what) {
    if (bytes > left(r)) {
        refuse(r, r->at, "%s needs %" PRIu64 " bytes, %" PRIu64 " are left in the file", what,
               bytes, left(r));
        return NULL;
    }
    const uint8_t *taken = r->f->data + r->at;
    r->at += bytes;
    return taken;
}

static bool take_u32(reader *r, const char *what, uint32_t *out) {
    const uint8_t *p = take(r, 4, what);
    if (p) *out = (uint32_t)gguf_load(p, 4);
    return p != NULL;
}

static bool take_u64(reader *r, const char *what, uint64_t *out) {
    const uint8_t *p = take(r, 8, what);
    if (p) *out = gguf_load(p, 8);
    return p != NULL;
}

static bool take_string(reader *r, const char *what, const char *what_length, gguf_string *out) {
    if (!take_u64(r, what_length, &out->size)) return false;
    out->data = (const char *)take(r, out->size, what);
    return out->data != NULL;
}

static bool take_name(reader *r, const char *what, const char *what_length) {
    uint64_t at = r->at;
    gguf_string name;
    if (!take_string(r, what, what_length, &name)) return false;
    if (!name.size) return refuse(r, at, "%s is empty", what);
    r->name = name;
    return true;
}

/* ---- header ---- */

static bool read_magic(reader *r) {
    gguf_string begin = { (const char *)r->f->data, r->f->size < 4 ? r->f->size : 4 };
    if (begin.size < 4 || memcmp(begin.data, "GGUF", 4))
        return diag_error(r->d, "%s: not a GGUF file: begins with %s, expected 'GGUF'", r->f->path,
                          gguf_quote(r->a, begin));
    r->at = 4;
    return true;
}

static bool read_version(reader *r) {
    uint32_t version;
    if (!take_u32(r, "version", &version)) return false;
    if (version && !(version & 0xffff))
        return refuse(r, 4,
                      "this is a big-endian GGUF (version %" PRIu32
                      "); only little-endian files are read",
                      __builtin_bswap32(version));
    if (version != 2 && version != 3)
        return refuse(r, 4, "GGUF version %" PRIu32 ", expected 2 or 3", version);
    r->f->version = version;
    return true;
}

/* Entries are indexed in 32 bits, and none is smaller than `least` bytes. */
static bool take_count(reader *r, const char *what, uint64_t least, uint64_t *out) {
    uint64_t at = r->at;
    if (!take_u64(r, what, out)) return false;
    if (*out > left(r) / least)
        return refuse(
            r, at, "%s is %" PRIu64 ", more than the %" PRIu64 " bytes left in the file can hold",
            what, *out, left(r));
    if (*out > INT32_MAX)
        return refuse(r, at, "%s is %" PRIu64 ", at most %d are supported", what, *out, INT32_MAX);
    return true;
}

static bool read_header(reader *r) {
    return read_magic(r) && read_version(r) &&
           take_count(r, "tensor count", MIN_INFO_BYTES, &r->f->n_tensors) &&
           take_count(r, "metadata count", MIN_KV_BYTES, &r->f->n_kv);
}

/* ---- metadata ---- */

static bool check_bools(reader *r, const uint8_t *values, uint64_t count) {
    for (uint64_t i = 0; i < count; i++)
        if (values[i] > 1)
            return refuse(r, (uint64_t)(values + i - r->f->data), "a bool is %u, expected 0 or 1",
                          values[i]);
    return true;
}

static bool take_value_type(reader *r, const char *what, enum gguf_type *out) {
    uint64_t at = r->at;
    uint32_t type;
    if (!take_u32(r, what, &type)) return false;
    if (!gguf_type_find(type))
        return refuse(r, at, "%s %" PRIu32 " is unknown, expected 0 (u8) to %d (f64)", what, type,
                      GGUF_TYPE_COUNT - 1);
    *out = (enum gguf_type)type;
    return true;
}

static bool take_array(reader *r, int nesting, gguf_array *out);

static bool take_elements(reader *r, int nesting, const gguf_array *array) {
    const gguf_type_info *info = gguf_type_find(array->type);
    for (uint64_t i = 0; i < array->count; i++) {
        gguf_string string;
        gguf_array inner;
        bool ok = info->kind == GGUF_LIST
                      ? take_array(r, nesting + 1, &inner)
                      : take_string(r, "a string of the array", "a string's length", &string);
        if (!ok) return false;
    }
    return true;
}

static bool take_array(reader *r, int nesting, gguf_array *out) {
    uint64_t at = r->at;
    if (nesting > MAX_NESTING)
        return refuse(r, at, "arrays are nested deeper than %d", MAX_NESTING);
    if (!take_value_type(r, "element type", &out->type)) return false;
    uint64_t at_count = r->at;
    if (!take_u64(r, "array count", &out->count)) return false;

    const gguf_type_info *info = gguf_type_find(out->type);
    if (out->count > left(r) / info->bytes)
        return refuse(r, at_count,
                      "an array of %" PRIu64 " %s does not fit in the %" PRIu64
                      " bytes left in the file",
                      out->count, info->name, left(r));
    out->data = r->f->data + r->at;
    if (info->kind == GGUF_LIST || info->kind == GGUF_TEXT) return take_elements(r, nesting, out);
    r->at += out->count * info->bytes;
    return info->kind != GGUF_TRUTH || check_bools(r, out->data, out->count);
}

static int64_t sign_extend(uint64_t value, unsigned bytes) {
    uint64_t sign = (uint64_t)1 << (8 * bytes - 1);
    return (int64_t)((value ^ sign) - sign);
}

void gguf_load_value(gguf_kv *kv, const uint8_t *from) {
    const gguf_type_info *info = gguf_type_find(kv->type);
    uint64_t bits = info->kind == GGUF_FLOAT ? 0 : gguf_load(from, info->bytes);
    if (info->kind == GGUF_FLOAT)
        kv->value.f = gguf_load_float(from, info->bytes);
    else if (info->kind == GGUF_SIGNED)
        kv->value.i = sign_extend(bits, info->bytes);
    else
        kv->value.u = bits;
}

static bool take_value(reader *r, gguf_kv *kv) {
    const gguf_type_info *info = gguf_type_find(kv->type);
    if (info->kind == GGUF_LIST) return take_array(r, 1, &kv->value.array);
    if (info->kind == GGUF_TEXT)
        return take_string(r, "string", "string length", &kv->value.string);

    const uint8_t *p = take(r, info->bytes, "value");
    if (!p) return false;
    gguf_load_value(kv, p);
    return info->kind != GGUF_TRUTH || check_bools(r, p, 1);
}

static bool read_kv(reader *r, gguf_kv *kv) {
    kv->offset = r->at;
    if (!take_name(r, "key", "key length")) return false;
    kv->key = r->name;
    r->part = "key";
    return take_value_type(r, "value type", &kv->type) && take_value(r, kv);
}

static bool read_metadata(reader *r) {
    gguf_kv *kv = NULL;
    uint32_t n = 0, capacity = 0;
    while (n < r->f->n_kv) {
        r->part = "metadata entry";
        r->index = n;
        r->name = (gguf_string){ 0 };
        if (!read_kv(r, arena_push(r->a, (void **)&kv, &n, &capacity, sizeof *kv))) return false;
    }
    r->f->kv = kv;
    return true;
}

/* ---- tensors ---- */

static bool read_dims(reader *r, gguf_tensor *t) {
    uint64_t at = r->at, values = 1;
    if (!take_u32(r, "dimension count", &t->n_dims)) return false;
    if (t->n_dims < 1 || t->n_dims > GGUF_MAX_DIMS)
        return refuse(r, at, "%" PRIu32 " dimensions, expected 1 to %d", t->n_dims, GGUF_MAX_DIMS);
    for (uint32_t i = 0; i < GGUF_MAX_DIMS; i++) {
        t->dims[i] = 1;
        at = r->at;
        if (i < t->n_dims && !take_u64(r, "a dimension", &t->dims[i])) return false;
        if (!t->dims[i]) return refuse(r, at, "dimension %" PRIu32 " is zero", i);
        if (__builtin_mul_overflow(values, t->dims[i], &values) || values > INT64_MAX)
            return refuse(r, at,
                          "dimension %" PRIu32 " is %" PRIu64 ": the number of values overflows", i,
                          t->dims[i]);
    }
    return true;
}

static bool read_tensor_type(reader *r, gguf_tensor *t) {
    uint64_t at = r->at;
    if (!take_u32(r, "tensor type", &t->type)) return false;
    const quant_info *q = quant_find(t->type);
    if (!q) return refuse(r, at, "tensor type %" PRIu32 " is unknown or was removed", t->type);
    if (t->dims[0] % q->block_len)
        return refuse(r, at,
                      "a row of %" PRIu64 " values is no whole number of %s blocks of %" PRIu32,
                      t->dims[0], q->name, q->block_len);
    uint64_t blocks = t->dims[0] / q->block_len * t->dims[1] * t->dims[2] * t->dims[3];
    if (__builtin_mul_overflow(blocks, q->block_bytes, &t->bytes))
        return refuse(r, at, "%" PRIu64 " %s blocks: the size in bytes overflows", blocks, q->name);
    return true;
}

/* The offset stays relative to the data, whose place is not known yet. */
static bool read_tensor(reader *r, gguf_tensor *t) {
    if (!take_name(r, "name", "name length")) return false;
    t->name = r->name;
    if (!read_dims(r, t) || !read_tensor_type(r, t)) return false;
    uint64_t at = r->at;
    if (!take_u64(r, "data offset", &t->offset)) return false;
    if (t->offset % r->f->alignment)
        return refuse(r, at, "data offset %" PRIu64 " is no multiple of the alignment %" PRIu64,
                      t->offset, r->f->alignment);
    return true;
}

static bool read_tensors(reader *r, gguf_tensor **out) {
    gguf_tensor *tensors = NULL;
    uint32_t n = 0, capacity = 0;
    r->f->index_offset = r->at;
    while (n < r->f->n_tensors) {
        r->part = "tensor";
        r->index = n;
        r->name = (gguf_string){ 0 };
        if (!read_tensor(r, arena_push(r->a, (void **)&tensors, &n, &capacity, sizeof *tensors)))
            return false;
    }
    r->f->index_bytes = r->at - r->f->index_offset;
    r->f->tensors = *out = tensors;
    return true;
}

/* ---- where the data is ---- */

static bool read_alignment(reader *r) {
    static const char key[] = "general.alignment";
    r->f->alignment = 32;
    for (uint64_t i = 0; i < r->f->n_kv; i++) {
        const gguf_kv *kv = &r->f->kv[i];
        if (kv->key.size != strlen(key) || memcmp(kv->key.data, key, strlen(key))) continue;
        r->part = "key";
        r->name = kv->key;
        if (kv->type != GGUF_U32)
            return refuse(r, kv->offset, "the type is %s, expected u32", gguf_type_name(kv->type));
        uint64_t n = kv->value.u;
        if (n < MIN_ALIGNMENT || (n & (n - 1)))
            return refuse(r, kv->offset,
                          "an alignment of %" PRIu64 ", expected a power of two from %d", n,
                          MIN_ALIGNMENT);
        r->f->alignment = n;
    }
    return true;
}

static int compare_offsets(const void *a, const void *b) {
    const gguf_tensor *x = *(const gguf_tensor *const *)a, *y = *(const gguf_tensor *const *)b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return x < y ? -1 : x > y;
}

static bool check_overlap(reader *r) {
    uint64_t n = r->f->n_tensors;
    const gguf_tensor **sorted = ARENA_ARRAY(r->a, const gguf_tensor *, n);
    for (uint64_t i = 0; i < n; i++) sorted[i] = &r->f->tensors[i];
    qsort(sorted, n, sizeof *sorted, compare_offsets);
    for (uint64_t i = 1; i < n; i++) {
        const gguf_tensor *before = sorted[i - 1], *t = sorted[i];
        r->name = t->name;
        if (t->offset - before->offset < before->bytes)
            return refuse(r, t->offset,
                          "the data overlaps that of tensor %s (%" PRIu64
                          " bytes from offset %" PRIu64 ")",
                          gguf_quote(r->a, before->name), before->bytes, before->offset);
    }
    return true;
}

/* A file of metadata alone may end without the padding. */
static bool lay_out(reader *r, gguf_tensor *tensors) {
    gguf_file *f = r->f;
    f->data_offset = round_up(r->at, f->alignment);
    if (f->data_offset > f->size) f->data_offset = f->size;
    for (uint64_t i = 0; i < f->n_tensors; i++) {
        gguf_tensor *t = &tensors[i];
        uint64_t there = f->size - f->data_offset;
        r->name = t->name;
        if (t->offset > there || t->bytes > there - t->offset)
            return refuse(r, f->data_offset + t->offset,
                          "%" PRIu64 " bytes of data end beyond the file's %" PRIu64 " bytes",
                          t->bytes, f->size);
        t->offset += f->data_offset;
    }
    return check_overlap(r);
}

bool gguf_read(gguf_file *f, arena *a, diag *d) {
    reader r = { .f = f, .a = a, .d = d, .part = "header" };
    gguf_tensor *tensors;
    return read_header(&r) && read_metadata(&r) && read_alignment(&r) &&
           read_tensors(&r, &tensors) && lay_out(&r, tensors);
}
