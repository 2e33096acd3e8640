/* gguf.h - reading GGUF: map, validate, index; the parts of a split model as one.
 *
 * Layout (little-endian), as specified in ggml's docs/gguf.md:
 *
 *     "GGUF"  u32 version  u64 n_tensors  u64 n_kv          version 2 or 3
 *     n_kv     × { string key, u32 value type, value }
 *     n_tensors × { string name, u32 n_dims, u64 dims[n_dims], u32 type, u64 offset }
 *     padding to general.alignment (32 unless set)
 *     tensor data; a tensor's offset counts from here and is a multiple of the alignment
 *
 *     string: u64 length, bytes.   array: u32 element type, u64 count, elements.
 *
 * Promise: after gguf_open or gguf_parse returned a file, every length, count, offset, type and
 * name in it has been checked against the file's size and against each other, so that no later
 * stage can read outside it: no accessor below needs checking but for absence and type. What is
 * refused, each with its own message naming the offset, key or tensor: a file that is not GGUF,
 * big-endian, version 1 or above 3; truncation anywhere; counts and lengths beyond the file; keys
 * and tensor names twice or empty; unknown value types; arrays nested deeper than 8; a bool that is
 * neither 0 nor 1; an alignment that is no u32 or no power of two from 8; tensors of no or more
 * than 4 dimensions, of a zero dimension, of an unknown type, of a row that is no whole number of
 * blocks, of a size that overflows (more than 2^63 - 1 values or 2^64 - 1 bytes); data out of
 * the file, misaligned or overlapping. Memory used is proportional to what the file really holds:
 * a count is believed only after the bytes it needs were seen to be there.
 *
 * A model that was split (llama.cpp's gguf-split) is files NAME-00001-of-00003.gguf, … of which each is
 * a GGUF with an index of its own; keys split.no (from 0), split.count and split.tensors.count say what
 * it is a part of, and the first has all other metadata. Given any of them, gguf_open reads all, and
 * the result looks as if they were one file: parts stand in memory one after another, each at a
 * multiple of GGUFC_PART_ALIGNMENT, what is between them reads as zeros, and offsets count from the
 * first's start. Refused besides what is above, each by the name of its part: a missing part; a name
 * that does not end in -00001-of-00003.gguf, or says another number or count than the keys; a part
 * of another number, of another count or of a model of another number of tensors; a tensor that two
 * parts have; more or fewer tensors than split.tensors.count. Metadata of later parts is not looked at.
 */
#ifndef GGUFC_GGUF_H
#define GGUFC_GGUF_H

#include "base.h"
#include "diag.h"
#include "quant.h"

#define GGUF_MAX_DIMS 4

enum gguf_type {
    GGUF_U8 = 0,
    GGUF_I8 = 1,
    GGUF_U16 = 2,
    GGUF_I16 = 3,
    GGUF_U32 = 4,
    GGUF_I32 = 5,
    GGUF_F32 = 6,
    GGUF_BOOL = 7,
    GGUF_STRING = 8,
    GGUF_ARRAY = 9,
    GGUF_U64 = 10,
    GGUF_I64 = 11,
    GGUF_F64 = 12,
    GGUF_TYPE_COUNT
};

/* Bytes in the map: not NUL-terminated, may hold any byte. */
typedef struct gguf_string {
    const char *data;
    uint64_t    size;
} gguf_string;

typedef struct gguf_array {
    enum gguf_type type; /* of the elements */
    uint64_t       count;
    const uint8_t *data; /* the elements as stored, unaligned */
} gguf_array;

typedef struct gguf_kv {
    gguf_string    key;
    enum gguf_type type;
    uint64_t       offset; /* of the key's length field in the file */
    union {
        uint64_t    u; /* U8 … U64, BOOL */
        int64_t     i; /* I8 … I64 */
        double      f; /* F32, F64 */
        gguf_string string;
        gguf_array  array;
    } value;
} gguf_kv;

typedef struct gguf_tensor {
    gguf_string name;
    uint32_t    n_dims;
    uint64_t    dims[GGUF_MAX_DIMS]; /* dims[0] is contiguous; 1 beyond n_dims */
    uint32_t    type;                /* has a row in quant.h */
    uint64_t    offset;              /* of the data, from the start of the (first) file */
    uint64_t    bytes;
} gguf_tensor;

/* A file of the model; offsets count from gguf_file.data. */
typedef struct gguf_part {
    const char *path;
    uint64_t    offset, bytes;             /* where the file stands */
    uint64_t    index_offset, index_bytes; /* where its tensor descriptions stand */
} gguf_part;

typedef struct gguf_file {
    const char        *path; /* of the first part */
    const uint8_t     *data; /* the whole file, or all parts */
    uint64_t           size; /* up to the end of the last part */
    uint32_t           version;
    uint64_t           alignment; /* the least of all parts' */
    uint64_t           n_kv, n_tensors;
    const gguf_kv     *kv;      /* in the file's order */
    const gguf_tensor *tensors; /* in the file's order, part after part */
    const gguf_part   *parts;   /* one, where the model was not split */
    uint32_t           n_parts;

    uint64_t index_offset, index_bytes; /* where the (first) file's tensor descriptions stand */
    uint64_t data_offset;               /* where its tensor data begins */

    /* Private: lookup tables (open addressing; position + 1, 0 for empty) and the map. */
    const uint32_t *kv_slots, *tensor_slots;
    uint32_t        kv_mask, tensor_mask;
    void           *map;
} gguf_file;

/* Maps and reads the file at `path`, and the others where it is one part of several. The result lives
   in `a` but for the map: gguf_close releases that. NULL after an error was reported. */
gguf_file *gguf_open(arena *a, diag *d, const char *path);

/* The same for `size` bytes in memory, which must outlive the result; `path` is for messages. A part
   of a split model is read alone. */
gguf_file *gguf_parse(arena *a, diag *d, const char *path, const void *data, uint64_t size);

void gguf_close(gguf_file *f); /* NULL is allowed */

const char *gguf_type_name(enum gguf_type type); /* "u32", "string", … */

/* `name` between quotes, fit for a message: cut where it is long, odd bytes escaped. */
const char *gguf_quote(arena *a, gguf_string name);

/* All of it, odd bytes escaped. */
const char *gguf_escape(arena *a, gguf_string text);

/* NULL where the file has none of that name. */
const gguf_kv     *gguf_find_kv(const gguf_file *f, const char *key);
const gguf_tensor *gguf_find_tensor(const gguf_file *f, const char *name);

/* The part that has the byte at `offset` < size. */
const gguf_part *gguf_find_part(const gguf_file *f, uint64_t offset);

/* The hash (ggufc_index_hash) of the tensor descriptions of all parts, one after another. */
uint64_t gguf_hash_index(const gguf_file *f);

/* Typed access to metadata. GGUF_ABSENT leaves *out alone; GGUF_MISTYPED has reported the key, its
   type and what was expected. Integers of any width and sign are taken where the value fits; a
   number is any integer or float; a bool must be one. */
enum gguf_found { GGUF_ABSENT, GGUF_PRESENT, GGUF_MISTYPED };

enum gguf_found gguf_get_u64(const gguf_file *f, diag *d, const char *key, uint64_t *out);
enum gguf_found gguf_get_number(const gguf_file *f, diag *d, const char *key, double *out);
enum gguf_found gguf_get_bool(const gguf_file *f, diag *d, const char *key, bool *out);
enum gguf_found gguf_get_string(const gguf_file *f, diag *d, const char *key, gguf_string *out);
enum gguf_found gguf_get_array(const gguf_file *f, diag *d, const char *key, enum gguf_type element,
                               gguf_array *out);

/* Element `i` < count of an array of that element type. For strings iterate with gguf_string_next
   instead: `cursor` starts as array.data and is moved past the string. */
uint32_t    gguf_array_u32(const gguf_array *array, uint64_t i); /* U32, I32 */
float       gguf_array_f32(const gguf_array *array, uint64_t i); /* F32 */
gguf_kv     gguf_array_value(const gguf_array *array, uint64_t i); /* numbers, bools: type and value are set */
gguf_string gguf_string_next(const uint8_t **cursor);

#endif
