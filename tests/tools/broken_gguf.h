/* broken_gguf.h - every way a GGUF can be wrong, by name.
 *
 * One small valid file is made in memory and the place of each of its fields kept. A row of the
 * table spoils it: edits of fields, a cut at a field, arrays nested deeper. With each row stands
 * the offset the refusal must name and a part of its message, so that a row cannot pass by being
 * refused for another reason. A new way to be wrong is a new row.
 *
 * The valid file, each place named after what stands there:
 *
 *     header   GGUF 3, 2 tensors, 6 pairs
 *     ARCH     general.architecture = "llama"        WORDS   demo.words  = ["once", "upon", ""]
 *     ALIGN    general.alignment    = 32             COUNTS  demo.count  = [1, 2, 3]
 *     FLAG     demo.flag            = true           NESTED  demo.nested = [[1, 0]]
 *     A        a.weight Q8_0 [32, 2], 68 bytes at 0
 *     B        b.weight F32  [4, 3],  48 bytes at 96, the last of the file
 */
#ifndef TESTS_BROKEN_GGUF_H
#define TESTS_BROKEN_GGUF_H

#include "gguf_bytes.h"

enum place {
    AT_NONE,
    AT_MAGIC,
    AT_VERSION,
    AT_N_TENSORS,
    AT_N_KV,
    AT_ARCH, /* of a pair: the key's length; then the type; then the value */
    AT_ARCH_TYPE,
    AT_ARCH_VALUE,
    AT_ALIGN,
    AT_ALIGN_TYPE,
    AT_ALIGN_VALUE,
    AT_FLAG,
    AT_FLAG_TYPE,
    AT_FLAG_VALUE,
    AT_WORDS,
    AT_WORDS_TYPE,
    AT_WORDS_VALUE, /* of an array: the element type; then the count; then the elements */
    AT_WORDS_COUNT,
    AT_WORDS_ITEMS,
    AT_COUNTS,
    AT_COUNTS_TYPE,
    AT_COUNTS_VALUE,
    AT_COUNTS_COUNT,
    AT_COUNTS_ITEMS,
    AT_NESTED,
    AT_NESTED_TYPE,
    AT_NESTED_VALUE,
    AT_NESTED_COUNT,
    AT_NESTED_ITEMS,
    AT_NESTED_INNER, /* the innermost array: element type, count, elements */
    AT_A,            /* of a tensor: the name's length */
    AT_A_N_DIMS,
    AT_A_DIMS,
    AT_A_TYPE,
    AT_A_OFFSET,
    AT_B,
    AT_B_N_DIMS,
    AT_B_DIMS,
    AT_B_TYPE,
    AT_B_OFFSET,
    AT_PADDING,
    AT_A_DATA,
    AT_B_DATA,
    AT_END,
    PLACE_COUNT
};

typedef struct places {
    size_t of[PLACE_COUNT];
} places;

typedef struct spot {
    enum place place;
    int delta; /* in bytes */
} spot;

typedef struct edit {
    spot at;
    unsigned width; /* bytes of `value` */
    uint64_t value;
} edit;

typedef struct broken_gguf {
    const char *name;
    edit edits[2];
    spot text_at; /* where `text` is written; AT_NONE for nowhere */
    const char *text;
    spot cut;            /* what is left of the file; AT_NONE for all */
    unsigned nesting;    /* of demo.nested, where not 2 */
    spot offset;         /* what the message names; AT_NONE where it names no offset */
    const char *message; /* a part of it */
} broken_gguf;

#define BIT(n) (UINT64_C(1) << (n))

static const broken_gguf broken_ggufs[] = {
    /* What is no GGUF of ours. */
    { .name = "empty", .cut = { AT_MAGIC, 0 }, .message = "the file is empty" },
    { .name = "cut-in-magic",
      .cut = { AT_MAGIC, 3 },
      .message = "not a GGUF file: begins with 'GGU'" },
    { .name = "not-gguf",
      .text_at = { AT_MAGIC, 0 },
      .text = "\177ELF",
      .message = "not a GGUF file: begins with '\\x7fELF', expected 'GGUF'" },
    { .name = "big-endian",
      .edits = { { { AT_VERSION, 0 }, 4, 0x03000000 } },
      .offset = { AT_VERSION, 0 },
      .message = "this is a big-endian GGUF (version 3)" },
    { .name = "version-0",
      .edits = { { { AT_VERSION, 0 }, 4, 0 } },
      .offset = { AT_VERSION, 0 },
      .message = "GGUF version 0, expected 2 or 3" },
    { .name = "version-1",
      .edits = { { { AT_VERSION, 0 }, 4, 1 } },
      .offset = { AT_VERSION, 0 },
      .message = "GGUF version 1, expected 2 or 3" },
    { .name = "version-4",
      .edits = { { { AT_VERSION, 0 }, 4, 4 } },
      .offset = { AT_VERSION, 0 },
      .message = "GGUF version 4, expected 2 or 3" },

    /* Cut off in each field. */
    { .name = "cut-in-version",
      .cut = { AT_VERSION, 3 },
      .offset = { AT_VERSION, 0 },
      .message = "header: version needs 4 bytes, 3 are left" },
    { .name = "cut-in-tensor-count",
      .cut = { AT_N_TENSORS, 0 },
      .offset = { AT_N_TENSORS, 0 },
      .message = "header: tensor count needs 8 bytes, 0 are left" },
    { .name = "cut-in-metadata-count",
      .edits = { { { AT_N_TENSORS, 0 }, 8, 0 } },
      .cut = { AT_N_KV, 7 },
      .offset = { AT_N_KV, 0 },
      .message = "header: metadata count needs 8 bytes, 7 are left" },
    { .name = "cut-in-key-length",
      .cut = { AT_NESTED, 7 },
      .edits = { { { AT_N_TENSORS, 0 }, 8, 0 } },
      .offset = { AT_NESTED, 0 },
      .message = "metadata entry 5: key length needs 8 bytes, 7 are left" },
    { .name = "cut-in-key",
      .cut = { AT_NESTED_TYPE, -1 },
      .offset = { AT_NESTED, 8 },
      .message = "metadata entry 5: key needs 11 bytes, 10 are left" },
    { .name = "cut-in-value-type",
      .cut = { AT_NESTED_TYPE, 3 },
      .offset = { AT_NESTED_TYPE, 0 },
      .message = "key 'demo.nested': value type needs 4 bytes, 3 are left" },
    { .name = "cut-in-number",
      .edits = { { { AT_N_KV, 0 }, 8, 2 }, { { AT_N_TENSORS, 0 }, 8, 0 } },
      .cut = { AT_ALIGN_VALUE, 3 },
      .offset = { AT_ALIGN_VALUE, 0 },
      .message = "key 'general.alignment': value needs 4 bytes, 3 are left" },
    { .name = "cut-in-bool",
      .edits = { { { AT_N_KV, 0 }, 8, 3 }, { { AT_N_TENSORS, 0 }, 8, 0 } },
      .cut = { AT_FLAG_VALUE, 0 },
      .offset = { AT_FLAG_VALUE, 0 },
      .message = "key 'demo.flag': value needs 1 bytes, 0 are left" },
    { .name = "cut-in-string-length",
      .edits = { { { AT_N_KV, 0 }, 8, 1 }, { { AT_N_TENSORS, 0 }, 8, 0 } },
      .cut = { AT_ARCH_VALUE, 1 },
      .offset = { AT_ARCH_VALUE, 0 },
      .message = "key 'general.architecture': string length needs 8 bytes, 1 are left" },
    { .name = "cut-in-string",
      .edits = { { { AT_N_KV, 0 }, 8, 1 }, { { AT_N_TENSORS, 0 }, 8, 0 } },
      .cut = { AT_ALIGN, -1 },
      .offset = { AT_ARCH_VALUE, 8 },
      .message = "key 'general.architecture': string needs 5 bytes, 4 are left" },
    { .name = "cut-in-element-type",
      .edits = { { { AT_N_TENSORS, 0 }, 8, 0 } },
      .cut = { AT_COUNTS_VALUE, 2 },
      .offset = { AT_COUNTS_VALUE, 0 },
      .message = "key 'demo.count': element type needs 4 bytes, 2 are left" },
    { .name = "cut-in-array-count",
      .edits = { { { AT_N_TENSORS, 0 }, 8, 0 } },
      .cut = { AT_COUNTS_COUNT, 2 },
      .offset = { AT_COUNTS_COUNT, 0 },
      .message = "key 'demo.count': array count needs 8 bytes, 2 are left" },
    { .name = "cut-in-array",
      .cut = { AT_NESTED, -1 },
      .offset = { AT_COUNTS_COUNT, 0 },
      .message = "key 'demo.count': an array of 3 u32 does not fit in the 11 bytes left" },
    { .name = "cut-in-strings",
      .cut = { AT_COUNTS, -1 },
      .offset = { AT_COUNTS, -8 },
      .message = "key 'demo.words': a string's length needs 8 bytes, 7 are left" },
    { .name = "cut-in-nested-array",
      .cut = { AT_A, -1 },
      .offset = { AT_NESTED_INNER, 4 },
      .message = "key 'demo.nested': an array of 2 u8 does not fit in the 1 bytes left" },
    { .name = "cut-after-metadata",
      .cut = { AT_A, 0 },
      .offset = { AT_A, 0 },
      .message = "tensor 0: name length needs 8 bytes, 0 are left" },
    { .name = "cut-in-tensor-name",
      .cut = { AT_B_N_DIMS, -1 },
      .offset = { AT_B, 8 },
      .message = "tensor 1: name needs 8 bytes, 7 are left" },
    { .name = "cut-in-dimension-count",
      .cut = { AT_B_N_DIMS, 1 },
      .offset = { AT_B_N_DIMS, 0 },
      .message = "tensor 'b.weight': dimension count needs 4 bytes, 1 are left" },
    { .name = "cut-in-dimensions",
      .cut = { AT_B_TYPE, -1 },
      .offset = { AT_B_DIMS, 8 },
      .message = "tensor 'b.weight': a dimension needs 8 bytes, 7 are left" },
    { .name = "cut-in-tensor-type",
      .cut = { AT_B_TYPE, 3 },
      .offset = { AT_B_TYPE, 0 },
      .message = "tensor 'b.weight': tensor type needs 4 bytes, 3 are left" },
    { .name = "cut-in-data-offset",
      .cut = { AT_PADDING, -1 },
      .offset = { AT_B_OFFSET, 0 },
      .message = "tensor 'b.weight': data offset needs 8 bytes, 7 are left" },
    { .name = "cut-before-padding",
      .cut = { AT_PADDING, 0 },
      .message = "tensor 'a.weight': 68 bytes of data end beyond the file's" },
    { .name = "cut-before-data",
      .cut = { AT_A_DATA, 0 },
      .offset = { AT_A_DATA, 0 },
      .message = "tensor 'a.weight': 68 bytes of data end beyond the file's" },
    { .name = "cut-in-data",
      .cut = { AT_A_DATA, 67 },
      .offset = { AT_A_DATA, 0 },
      .message = "tensor 'a.weight': 68 bytes of data end beyond the file's" },
    { .name = "cut-at-last-byte",
      .cut = { AT_END, -1 },
      .offset = { AT_B_DATA, 0 },
      .message = "tensor 'b.weight': 48 bytes of data end beyond the file's" },

    /* Counts and lengths that are lies, or wrap where multiplied or added carelessly. */
    { .name = "tensor-count-2-60",
      .edits = { { { AT_N_TENSORS, 0 }, 8, BIT(60) } },
      .offset = { AT_N_TENSORS, 0 },
      .message = "header: tensor count is 1152921504606846976, more than the" },
    { .name = "tensor-count-2-63",
      .edits = { { { AT_N_TENSORS, 0 }, 8, BIT(63) } },
      .offset = { AT_N_TENSORS, 0 },
      .message = "header: tensor count is 9223372036854775808, more than the" },
    { .name = "tensor-count-max",
      .edits = { { { AT_N_TENSORS, 0 }, 8, UINT64_MAX } },
      .offset = { AT_N_TENSORS, 0 },
      .message = "header: tensor count is 18446744073709551615, more than the" },
    { .name = "tensor-count-wraps",
      .edits = { { { AT_N_TENSORS, 0 }, 8, UINT64_MAX / 33 + 1 } },
      .offset = { AT_N_TENSORS, 0 },
      .message = "header: tensor count is 558992244657865201, more than the" },
    { .name = "one-tensor-too-many",
      .edits = { { { AT_N_TENSORS, 0 }, 8, 3 } },
      .offset = { AT_PADDING, 0 },
      .message = "tensor 2: name is empty" },
    { .name = "one-tensor-too-few",
      .edits = { { { AT_N_TENSORS, 0 }, 8, 1 }, { { AT_A_OFFSET, 0 }, 8, 160 } },
      .message = "tensor 'a.weight': 68 bytes of data end beyond the file's" },
    { .name = "metadata-count-2-60",
      .edits = { { { AT_N_KV, 0 }, 8, BIT(60) } },
      .offset = { AT_N_KV, 0 },
      .message = "header: metadata count is 1152921504606846976, more than the" },
    { .name = "metadata-count-2-63",
      .edits = { { { AT_N_KV, 0 }, 8, BIT(63) } },
      .offset = { AT_N_KV, 0 },
      .message = "header: metadata count is 9223372036854775808, more than the" },
    { .name = "metadata-count-max",
      .edits = { { { AT_N_KV, 0 }, 8, UINT64_MAX } },
      .offset = { AT_N_KV, 0 },
      .message = "header: metadata count is 18446744073709551615, more than the" },
    { .name = "metadata-count-wraps",
      .edits = { { { AT_N_KV, 0 }, 8, UINT64_MAX / 14 + 1 } },
      .offset = { AT_N_KV, 0 },
      .message = "header: metadata count is 1317624576693539402, more than the" },
    { .name = "one-pair-too-many", /* tensor 0 read as a pair of type 2, u16 */
      .edits = { { { AT_N_KV, 0 }, 8, 7 } },
      .offset = { AT_A_DIMS, 10 },
      .message = "tensor 0: name needs 562949953421312 bytes" },
    { .name = "key-length-max",
      .edits = { { { AT_ALIGN, 0 }, 8, UINT64_MAX } },
      .offset = { AT_ALIGN, 8 },
      .message = "metadata entry 1: key needs 18446744073709551615 bytes" },
    { .name = "key-length-2-63",
      .edits = { { { AT_ALIGN, 0 }, 8, BIT(63) } },
      .offset = { AT_ALIGN, 8 },
      .message = "metadata entry 1: key needs 9223372036854775808 bytes" },
    { .name = "string-length-max",
      .edits = { { { AT_ARCH_VALUE, 0 }, 8, UINT64_MAX } },
      .offset = { AT_ARCH_VALUE, 8 },
      .message = "key 'general.architecture': string needs 18446744073709551615 bytes" },
    { .name = "string-length-wraps", /* the end would come to stand before the beginning */
      .edits = { { { AT_ARCH_VALUE, 0 }, 8, UINT64_MAX - 7 } },
      .offset = { AT_ARCH_VALUE, 8 },
      .message = "key 'general.architecture': string needs 18446744073709551608 bytes" },
    { .name = "element-string-length-max",
      .edits = { { { AT_WORDS_ITEMS, 0 }, 8, UINT64_MAX } },
      .offset = { AT_WORDS_ITEMS, 8 },
      .message = "key 'demo.words': a string of the array needs 18446744073709551615 bytes" },
    { .name = "array-count-max",
      .edits = { { { AT_COUNTS_COUNT, 0 }, 8, UINT64_MAX } },
      .offset = { AT_COUNTS_COUNT, 0 },
      .message = "key 'demo.count': an array of 18446744073709551615 u32 does not fit" },
    { .name = "array-count-wraps", /* 4 bytes each: 2^64 + 4 */
      .edits = { { { AT_COUNTS_COUNT, 0 }, 8, BIT(62) + 1 } },
      .offset = { AT_COUNTS_COUNT, 0 },
      .message = "key 'demo.count': an array of 4611686018427387905 u32 does not fit" },
    { .name = "string-count-max",
      .edits = { { { AT_WORDS_COUNT, 0 }, 8, UINT64_MAX } },
      .offset = { AT_WORDS_COUNT, 0 },
      .message = "key 'demo.words': an array of 18446744073709551615 string does not fit" },
    { .name = "string-count-wraps",
      .edits = { { { AT_WORDS_COUNT, 0 }, 8, BIT(61) } },
      .offset = { AT_WORDS_COUNT, 0 },
      .message = "key 'demo.words': an array of 2305843009213693952 string does not fit" },
    { .name = "nested-count-max",
      .edits = { { { AT_NESTED_COUNT, 0 }, 8, UINT64_MAX } },
      .offset = { AT_NESTED_COUNT, 0 },
      .message = "key 'demo.nested': an array of 18446744073709551615 array does not fit" },
    { .name = "tensor-name-length-max",
      .edits = { { { AT_B, 0 }, 8, UINT64_MAX } },
      .offset = { AT_B, 8 },
      .message = "tensor 1: name needs 18446744073709551615 bytes" },

    /* Names. */
    { .name = "empty-key",
      .edits = { { { AT_FLAG, 0 }, 8, 0 } },
      .offset = { AT_FLAG, 0 },
      .message = "metadata entry 2: key is empty" },
    { .name = "empty-tensor-name",
      .edits = { { { AT_B, 0 }, 8, 0 } },
      .offset = { AT_B, 0 },
      .message = "tensor 1: name is empty" },
    { .name = "duplicate-key",
      .text_at = { AT_COUNTS, 8 },
      .text = "demo.words",
      .offset = { AT_COUNTS, 0 },
      .message = "key 'demo.words' stands twice, first at offset " },
    { .name = "duplicate-tensor",
      .text_at = { AT_B, 8 },
      .text = "a.weight",
      .message = "tensor 'a.weight' stands twice, as number 0 and 1" },
    { .name = "odd-key", /* what a terminal would obey, and what is no UTF-8 */
      .edits = { { { AT_FLAG_TYPE, 0 }, 4, 13 } },
      .text_at = { AT_FLAG, 8 },
      .text = "\x1b[2J\xff",
      .offset = { AT_FLAG_TYPE, 0 },
      .message = "key '\\x1b[2J\\xffflag': value type 13 is unknown" },

    /* Values. */
    { .name = "value-type-13",
      .edits = { { { AT_FLAG_TYPE, 0 }, 4, 13 } },
      .offset = { AT_FLAG_TYPE, 0 },
      .message = "key 'demo.flag': value type 13 is unknown, expected 0 (u8) to 12 (f64)" },
    { .name = "value-type-max",
      .edits = { { { AT_FLAG_TYPE, 0 }, 4, UINT32_MAX } },
      .offset = { AT_FLAG_TYPE, 0 },
      .message = "key 'demo.flag': value type 4294967295 is unknown" },
    { .name = "element-type-13",
      .edits = { { { AT_COUNTS_VALUE, 0 }, 4, 13 } },
      .offset = { AT_COUNTS_VALUE, 0 },
      .message = "key 'demo.count': element type 13 is unknown, expected 0 (u8) to 12 (f64)" },
    { .name = "nested-element-type-max",
      .edits = { { { AT_NESTED_INNER, 0 }, 4, UINT32_MAX } },
      .offset = { AT_NESTED_INNER, 0 },
      .message = "key 'demo.nested': element type 4294967295 is unknown" },
    { .name = "nested-too-deep",
      .nesting = 9,
      .offset = { AT_NESTED_INNER, 0 },
      .message = "key 'demo.nested': arrays are nested deeper than 8" },
    { .name = "nested-far-too-deep",
      .nesting = 100000,
      .message = "key 'demo.nested': arrays are nested deeper than 8" },
    { .name = "bool-2",
      .edits = { { { AT_FLAG_VALUE, 0 }, 1, 2 } },
      .offset = { AT_FLAG_VALUE, 0 },
      .message = "key 'demo.flag': a bool is 2, expected 0 or 1" },
    { .name = "bool-255-in-array",
      .edits = { { { AT_NESTED_INNER, 0 }, 4, GGUF_BOOL }, { { AT_NESTED_INNER, 13 }, 1, 255 } },
      .offset = { AT_NESTED_INNER, 13 },
      .message = "key 'demo.nested': a bool is 255, expected 0 or 1" },

    /* The alignment. */
    { .name = "alignment-0",
      .edits = { { { AT_ALIGN_VALUE, 0 }, 4, 0 } },
      .offset = { AT_ALIGN, 0 },
      .message = "key 'general.alignment': an alignment of 0, expected a power of two from 8" },
    { .name = "alignment-3",
      .edits = { { { AT_ALIGN_VALUE, 0 }, 4, 3 } },
      .offset = { AT_ALIGN, 0 },
      .message = "key 'general.alignment': an alignment of 3, expected a power of two from 8" },
    { .name = "alignment-4",
      .edits = { { { AT_ALIGN_VALUE, 0 }, 4, 4 } },
      .offset = { AT_ALIGN, 0 },
      .message = "key 'general.alignment': an alignment of 4, expected a power of two from 8" },
    { .name = "alignment-max",
      .edits = { { { AT_ALIGN_VALUE, 0 }, 4, UINT32_MAX } },
      .offset = { AT_ALIGN, 0 },
      .message = "key 'general.alignment': an alignment of 4294967295, expected a power of two" },
    { .name = "alignment-huge", /* a power of two, but no data is there */
      .edits = { { { AT_ALIGN_VALUE, 0 }, 4, BIT(31) }, { { AT_B_OFFSET, 0 }, 8, BIT(31) } },
      .offset = { AT_END, 0 },
      .message = "tensor 'a.weight': 68 bytes of data end beyond the file's" },
    { .name = "alignment-i32",
      .edits = { { { AT_ALIGN_TYPE, 0 }, 4, GGUF_I32 } },
      .offset = { AT_ALIGN, 0 },
      .message = "key 'general.alignment': the type is i32, expected u32" },
    { .name = "alignment-f32",
      .edits = { { { AT_ALIGN_TYPE, 0 }, 4, GGUF_F32 } },
      .offset = { AT_ALIGN, 0 },
      .message = "key 'general.alignment': the type is f32, expected u32" },

    /* Shapes and types of tensors. */
    { .name = "dimensions-0",
      .edits = { { { AT_A_N_DIMS, 0 }, 4, 0 } },
      .offset = { AT_A_N_DIMS, 0 },
      .message = "tensor 'a.weight': 0 dimensions, expected 1 to 4" },
    { .name = "dimensions-5",
      .edits = { { { AT_A_N_DIMS, 0 }, 4, 5 } },
      .offset = { AT_A_N_DIMS, 0 },
      .message = "tensor 'a.weight': 5 dimensions, expected 1 to 4" },
    { .name = "dimensions-max",
      .edits = { { { AT_A_N_DIMS, 0 }, 4, UINT32_MAX } },
      .offset = { AT_A_N_DIMS, 0 },
      .message = "tensor 'a.weight': 4294967295 dimensions, expected 1 to 4" },
    { .name = "dimension-zero",
      .edits = { { { AT_A_DIMS, 8 }, 8, 0 } },
      .offset = { AT_A_DIMS, 8 },
      .message = "tensor 'a.weight': dimension 1 is zero" },
    { .name = "dimension-2-63",
      .edits = { { { AT_A_DIMS, 0 }, 8, BIT(63) } },
      .offset = { AT_A_DIMS, 0 },
      .message = "tensor 'a.weight': dimension 0 is 9223372036854775808: the number of values" },
    { .name = "dimensions-wrap-to-0",
      .edits = { { { AT_A_DIMS, 0 }, 8, BIT(32) }, { { AT_A_DIMS, 8 }, 8, BIT(32) } },
      .offset = { AT_A_DIMS, 8 },
      .message = "tensor 'a.weight': dimension 1 is 4294967296: the number of values overflows" },
    { .name = "bytes-wrap", /* 2^62 values of 4 bytes */
      .edits = { { { AT_B_DIMS, 0 }, 8, BIT(62) }, { { AT_B_DIMS, 8 }, 8, 1 } },
      .offset = { AT_B_TYPE, 0 },
      .message = "tensor 'b.weight': 4611686018427387904 F32 blocks: the size in bytes overflows" },
    { .name = "bytes-huge",
      .edits = { { { AT_B_DIMS, 0 }, 8, BIT(61) }, { { AT_B_DIMS, 8 }, 8, 1 } },
      .offset = { AT_B_DATA, 0 },
      .message = "tensor 'b.weight': 9223372036854775808 bytes of data end beyond the file's" },
    { .name = "bytes-and-offset-wrap", /* 2^64 - 4 bytes from 96 on */
      .edits = { { { AT_B_DIMS, 0 }, 8, BIT(62) - 1 }, { { AT_B_DIMS, 8 }, 8, 1 } },
      .offset = { AT_B_DATA, 0 },
      .message = "tensor 'b.weight': 18446744073709551612 bytes of data end beyond the file's" },
    { .name = "row-not-blocks",
      .edits = { { { AT_A_DIMS, 0 }, 8, 33 } },
      .offset = { AT_A_TYPE, 0 },
      .message = "tensor 'a.weight': a row of 33 values is no whole number of Q8_0 blocks of 32" },
    { .name = "row-not-blocks-but-tensor-is", /* 16 × 4: two blocks in all, half of one a row */
      .edits = { { { AT_A_DIMS, 0 }, 8, 16 }, { { AT_A_DIMS, 8 }, 8, 4 } },
      .offset = { AT_A_TYPE, 0 },
      .message = "tensor 'a.weight': a row of 16 values is no whole number of Q8_0 blocks of 32" },
    { .name = "tensor-type-removed", /* Q4_2 */
      .edits = { { { AT_A_TYPE, 0 }, 4, 4 } },
      .offset = { AT_A_TYPE, 0 },
      .message = "tensor 'a.weight': tensor type 4 is unknown or was removed" },
    { .name = "tensor-type-removed-33", /* Q4_0_8_8 */
      .edits = { { { AT_A_TYPE, 0 }, 4, 33 } },
      .offset = { AT_A_TYPE, 0 },
      .message = "tensor 'a.weight': tensor type 33 is unknown or was removed" },
    { .name = "tensor-type-next",
      .edits = { { { AT_A_TYPE, 0 }, 4, QUANT_COUNT } },
      .offset = { AT_A_TYPE, 0 },
      .message = "tensor 'a.weight': tensor type 43 is unknown or was removed" },
    { .name = "tensor-type-max",
      .edits = { { { AT_A_TYPE, 0 }, 4, UINT32_MAX } },
      .offset = { AT_A_TYPE, 0 },
      .message = "tensor 'a.weight': tensor type 4294967295 is unknown or was removed" },

    /* Where the data is. */
    { .name = "offset-misaligned",
      .edits = { { { AT_B_OFFSET, 0 }, 8, 80 } },
      .offset = { AT_B_OFFSET, 0 },
      .message = "tensor 'b.weight': data offset 80 is no multiple of the alignment 32" },
    { .name = "offset-misaligned-after-64",
      .edits = { { { AT_ALIGN_VALUE, 0 }, 4, 64 } },
      .offset = { AT_B_OFFSET, 0 },
      .message = "tensor 'b.weight': data offset 96 is no multiple of the alignment 64" },
    { .name = "offset-beyond-file",
      .edits = { { { AT_B_OFFSET, 0 }, 8, 128 } },
      .offset = { AT_B_DATA, 32 },
      .message = "tensor 'b.weight': 48 bytes of data end beyond the file's" },
    { .name = "offset-2-63",
      .edits = { { { AT_B_OFFSET, 0 }, 8, BIT(63) } },
      .message = "tensor 'b.weight': 48 bytes of data end beyond the file's" },
    { .name = "offset-wraps", /* the end would come to stand inside the file */
      .edits = { { { AT_B_OFFSET, 0 }, 8, UINT64_MAX - 31 } },
      .message = "tensor 'b.weight': 48 bytes of data end beyond the file's" },
    { .name = "overlap",
      .edits = { { { AT_B_OFFSET, 0 }, 8, 64 } },
      .offset = { AT_A_DATA, 64 },
      .message = "tensor 'b.weight': the data overlaps that of tensor 'a.weight' (68 bytes" },
    { .name = "overlap-same-offset",
      .edits = { { { AT_B_OFFSET, 0 }, 8, 0 } },
      .offset = { AT_A_DATA, 0 },
      .message = "tensor 'b.weight': the data overlaps that of tensor 'a.weight' (68 bytes" },
    { .name = "overlap-in-other-order",
      .edits = { { { AT_A_OFFSET, 0 }, 8, 64 }, { { AT_B_OFFSET, 0 }, 8, 32 } },
      .offset = { AT_A_DATA, 64 },
      .message = "tensor 'a.weight': the data overlaps that of tensor 'b.weight' (48 bytes" },
};

/* ---- the valid file ---- */

static inline void broken_put_key(bytes *b, places *p, enum place at, const char *key,
                                  enum gguf_type type) {
    p->of[at] = b->size;
    bytes_put_key(b, key, type);
    p->of[at + 1] = b->size - 4;
    p->of[at + 2] = b->size;
}

static inline void broken_put_array(bytes *b, places *p, enum place at, enum gguf_type element,
                                    uint64_t count) {
    p->of[at] = b->size;
    bytes_put_array(b, element, count);
    p->of[at + 1] = b->size - 8;
    p->of[at + 2] = b->size;
}

static inline void broken_put_metadata(bytes *b, places *p, unsigned nesting) {
    broken_put_key(b, p, AT_ARCH, "general.architecture", GGUF_STRING);
    bytes_put_string(b, "llama");
    broken_put_key(b, p, AT_ALIGN, "general.alignment", GGUF_U32);
    bytes_put_u32(b, 32);
    broken_put_key(b, p, AT_FLAG, "demo.flag", GGUF_BOOL);
    bytes_put_number(b, 1, 1);
    broken_put_key(b, p, AT_WORDS, "demo.words", GGUF_ARRAY);
    broken_put_array(b, p, AT_WORDS_VALUE, GGUF_STRING, 3);
    bytes_put_string(b, "once");
    bytes_put_string(b, "upon");
    bytes_put_string(b, "");
    broken_put_key(b, p, AT_COUNTS, "demo.count", GGUF_ARRAY);
    broken_put_array(b, p, AT_COUNTS_VALUE, GGUF_U32, 3);
    for (uint32_t i = 1; i <= 3; i++) bytes_put_u32(b, i);
    broken_put_key(b, p, AT_NESTED, "demo.nested", GGUF_ARRAY);
    broken_put_array(b, p, AT_NESTED_VALUE, GGUF_ARRAY, 1);
    for (unsigned i = 2; i < nesting; i++) bytes_put_array(b, GGUF_ARRAY, 1);
    p->of[AT_NESTED_INNER] = b->size;
    bytes_put_array(b, GGUF_U8, 2);
    bytes_put(b, "\1", 2);
}

static inline void broken_put_tensor(bytes *b, places *p, enum place at, const char *name,
                                     uint64_t columns, uint64_t rows, uint32_t type,
                                     uint64_t offset) {
    p->of[at] = b->size;
    bytes_put_tensor(b, name, 2, (uint64_t[]){ columns, rows }, type, offset);
    p->of[at + 1] = b->size - 32;
    p->of[at + 2] = b->size - 28;
    p->of[at + 3] = b->size - 12;
    p->of[at + 4] = b->size - 8;
}

static inline places broken_make_valid(bytes *b, unsigned nesting) {
    places p = { { 0 } };
    bytes_put_header(b, 3, 2, 6);
    p.of[AT_VERSION] = 4;
    p.of[AT_N_TENSORS] = 8;
    p.of[AT_N_KV] = 16;
    broken_put_metadata(b, &p, nesting);
    broken_put_tensor(b, &p, AT_A, "a.weight", 32, 2, QUANT_Q8_0, 0);
    broken_put_tensor(b, &p, AT_B, "b.weight", 4, 3, QUANT_F32, 96);
    p.of[AT_PADDING] = b->size;
    bytes_pad(b, 32);
    p.of[AT_A_DATA] = b->size;
    p.of[AT_B_DATA] = b->size + 96;
    bytes_put_zeros(b, 96 + 48);
    p.of[AT_END] = b->size;
    return p;
}

/* ---- breaking it ---- */

static inline size_t broken_find(const places *p, spot at) {
    return p->of[at.place] + (size_t)at.delta;
}

/* Puts the broken file into the empty `b`; returns where the fields of the valid one were. */
static inline places broken_make(bytes *b, const broken_gguf *row) {
    places p = broken_make_valid(b, row->nesting ? row->nesting : 2);
    for (const edit *e = row->edits; e < row->edits + ARRAY_LEN(row->edits); e++) {
        if (e->at.place != AT_NONE) bytes_set(b, broken_find(&p, e->at), e->width, e->value);
    }
    if (row->text) memcpy(b->data + broken_find(&p, row->text_at), row->text, strlen(row->text));
    if (row->cut.place != AT_NONE) b->size = broken_find(&p, row->cut);
    return p;
}

#endif
