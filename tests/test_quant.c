/* That the table of tensor types is what ggml's is: each row's size is the sum of the fields its
 * block has, no id is forgotten, and removed ids are empty. That blocks are read as ggml reads them:
 * as ../shared/golden/quants has it, where that is, and as the fields of the table say, one value at
 * a time; and that each mistake in reading gives the numbers that it would. */
#include "gguf.h"
#include "quant_value.h"

#include <ctype.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define GOLDEN "../shared/golden/quants/quants.gguf"

enum { MAX_LEN = 256, MAX_BYTES = 512 };

/* A block in bits: what each value takes by itself, and what all of them share. */
typedef struct layout {
    const char *name;
    uint32_t id, block_len;
    uint32_t value_bits;  /* a value; those that take no whole number are in shared_bits */
    uint32_t shared_bits; /* a block: its scales, minima, signs, sums, indices */
} layout;

static const layout layouts[] = {
    { "F32", 0, 1, 32, 0 },
    { "F16", 1, 1, 16, 0 },
    { "BF16", 30, 1, 16, 0 },
    { "F64", 28, 1, 64, 0 },
    { "I8", 24, 1, 8, 0 },
    { "I16", 25, 1, 16, 0 },
    { "I32", 26, 1, 32, 0 },
    { "I64", 27, 1, 64, 0 },

    { "Q1_0", 41, 128, 1, 16 },
    { "Q2_0", 42, 64, 2, 16 },
    { "Q4_0", 2, 32, 4, 16 },
    { "Q4_1", 3, 32, 4, 16 + 16 },
    { "Q5_0", 6, 32, 4 + 1, 16 },
    { "Q5_1", 7, 32, 4 + 1, 16 + 16 },
    { "Q8_0", 8, 32, 8, 16 },
    { "Q8_1", 9, 32, 8, 16 + 16 },

    { "Q2_K", 10, 256, 2, 16 + 16 + 16 * (4 + 4) },
    { "Q3_K", 11, 256, 2 + 1, 16 + 16 * 6 },
    { "Q4_K", 12, 256, 4, 16 + 16 + 8 * (6 + 6) },
    { "Q5_K", 13, 256, 4 + 1, 16 + 16 + 8 * (6 + 6) },
    { "Q6_K", 14, 256, 4 + 2, 16 + 16 * 8 },
    { "Q8_K", 15, 256, 8, 32 + 16 * 16 },

    { "IQ1_S", 19, 256, 1, 16 + 8 * 16 },
    { "IQ1_M", 29, 256, 1, 16 * 8 + 8 * 8 },
    { "IQ2_XXS", 16, 256, 2, 16 },
    { "IQ2_XS", 17, 256, 2, 16 + 8 * 8 },
    { "IQ2_S", 22, 256, 2, 16 + 8 * 8 + 8 * 8 },
    { "IQ3_XXS", 18, 256, 3, 16 },
    { "IQ3_S", 21, 256, 2 + 1, 16 + 8 * 8 + 4 * 8 },
    { "IQ4_NL", 20, 32, 4, 16 },
    { "IQ4_XS", 23, 256, 4, 16 + 8 * (4 + 2) },

    { "TQ1_0", 34, 256, 0, 16 + 240 / 5 * 8 + 16 / 4 * 8 }, /* five values a byte, or four */
    { "TQ2_0", 35, 256, 2, 16 },
    { "MXFP4", 39, 32, 4, 8 },
    { "NVFP4", 40, 64, 4, 4 * 8 },
};

static void compare_rows_with_layouts(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(layouts); i++) {
        const layout *l = &layouts[i];
        const quant_info *q = quant_find(l->id);
        if (!q) fail_msg("type %u, %s, has no row", l->id, l->name);
        assert_string_equal(q->name, l->name);
        assert_int_equal(q->block_len, l->block_len);
        uint32_t bits = l->block_len * l->value_bits + l->shared_bits;
        if (bits != q->block_bytes * 8)
            fail_msg("%s: %u bits by its fields, %u by its row", l->name, bits, q->block_bytes * 8);
    }
}

static void find_no_other_rows(void **state) {
    (void)state;
    for (uint32_t id = 0; id < 1000; id++) {
        bool known = false;
        for (size_t i = 0; i < ARRAY_LEN(layouts); i++) known |= layouts[i].id == id;
        if (known != (quant_find(id) != NULL))
            fail_msg("type %u is %s the table", id, known ? "missing in" : "too many in");
    }
    assert_null(quant_find(UINT32_MAX));
    assert_non_null(quant_find(QUANT_COUNT - 1));
}

static void multiply_with_right_activations(void **state) {
    (void)state;
    for (uint32_t id = 0; id < QUANT_COUNT; id++) {
        const quant_info *q = quant_find(id);
        if (!q) continue;
        const quant_info *activation = quant_find(q->activation);
        assert_non_null(activation);
        /* A row of weights must be a whole number of blocks of its activations. */
        if (q->activation != QUANT_F32 || q->compiled)
            assert_int_equal(q->block_len % activation->block_len, 0);
    }
    static const enum quant_type own[] = { QUANT_F32, QUANT_F16, QUANT_BF16, QUANT_Q8_0 };
    for (size_t i = 0; i < ARRAY_LEN(own); i++) {
        assert_true(quant_find(own[i])->compiled);
        assert_int_equal(quant_find(own[i])->activation, own[i]);
    }
    assert_int_equal(quant_find(QUANT_Q4_0)->activation, QUANT_Q8_0);
    assert_int_equal(quant_find(QUANT_Q4_1)->activation, QUANT_Q8_1);
    assert_int_equal(quant_find(QUANT_Q4_K)->activation, QUANT_Q8_K);
}

static void size_rows(void **state) {
    (void)state;
    for (uint32_t id = 0; id < QUANT_COUNT; id++) {
        const quant_info *q = quant_find(id);
        if (!q) continue;
        assert_int_equal(quant_row_bytes(id, 0), 0);
        assert_int_equal(quant_row_bytes(id, q->block_len), q->block_bytes);
        assert_int_equal(quant_row_bytes(id, 7 * q->block_len), 7 * q->block_bytes);
    }
    assert_int_equal(quant_row_bytes(QUANT_Q8_0, 2048), 2176);
    assert_true(quant_row_bytes(QUANT_F32, UINT64_C(1) << 40) == UINT64_C(1) << 42);
}

/* ---- fields */

static void add_up_fields(void **state) {
    (void)state;
    for (uint32_t id = 0; id < QUANT_COUNT; id++) {
        const quant_info *q = quant_find(id);
        if (!q) continue;
        uint32_t bytes = 0, quants = 0;
        for (uint32_t i = 0; i < q->n_fields; i++) {
            const quant_field *f = &q->fields[i];
            assert_int_equal(f->offset, bytes);
            assert_true(f->count > 0 && quant_field_bytes(f) > 0);
            if (f->group) assert_int_equal(quant_field_bytes(f) % f->group, 0);
            bytes += quant_field_bytes(f);
            /* Every value has a share of each field of quants, but for trits. */
            if (f->role != QUANT_ROLE_QUANT) continue;
            if (f->kind == QUANT_FIELD_TRIT)
                quants += f->count;
            else
                assert_int_equal(quants = f->count, q->block_len);
        }
        if (bytes != q->block_bytes) fail_msg("%s: %u bytes of fields", q->name, bytes);
        if (quants) assert_int_equal(quants, q->block_len);
        assert_true(q->block_len == 1 || id == QUANT_IQ1_M || quant_find_scale(id) != NULL);
    }
    assert_null(quant_find_scale(QUANT_F16));
    assert_null(quant_find_scale(QUANT_IQ1_M));
    assert_null(quant_find_scale(QUANT_COUNT));
}

static uint64_t random_state = 1;

static void fill_random(uint8_t *bytes, uint32_t size) {
    for (uint32_t i = 0; i < size; i++) {
        random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407u;
        bytes[i] = (uint8_t)(random_state >> 56);
    }
}

/* Gives a block's f16 scale and minimum these bits, and the same number to an f32 scale. */
static void set_halves(uint32_t type, uint8_t *block, uint16_t bits) {
    const quant_info *q = quant_find(type);
    const float wide = quant_f16_to_f32(bits);
    for (uint32_t i = 0; i < q->n_fields; i++) {
        uint8_t *at = block + q->fields[i].offset;
        if (q->fields[i].kind == QUANT_FIELD_F16) memcpy(at, &bits, 2);
        if (q->fields[i].kind == QUANT_FIELD_F32) memcpy(at, &wide, 4);
        for (int k = 0; type == QUANT_IQ1_M && i == 2 && k < 4; k++) /* above the scales of sub-blocks */
            at[2 * k + 1] = (uint8_t)((at[2 * k + 1] & 15) | (bits >> 4 * k & 15) << 4);
    }
}

static bool is_quantized(uint32_t type) {
    return quant_find(type) && quant_find(type)->block_len > 1;
}

/* Two neighbouring blocks of random bytes; the scales are normal, subnormal and negative. */
static void read_as_fields_say(void **state) {
    (void)state;
    static const uint16_t scales[] = { 0x2d5a, 0x03ff, 0x9234, 0x0001 };
    for (uint32_t t = 0; t < QUANT_COUNT; t++)
        for (size_t k = 0; k < 40 * ARRAY_LEN(scales) && is_quantized(t); k++) {
            const quant_info *q = quant_find(t);
            uint8_t blocks[1 + 2 * MAX_BYTES];
            float   values[2 * MAX_LEN];
            fill_random(blocks, sizeof blocks);
            set_halves(t, blocks + 1, scales[k % 4]);
            set_halves(t, blocks + 1 + q->block_bytes, scales[(k + 1) % 4]);
            quant_read(t, blocks + 1, 2 * q->block_len, NULL, values);
            for (uint32_t i = 0; i < 2 * q->block_len; i++) {
                const uint8_t *b = blocks + 1 + i / q->block_len * q->block_bytes;
                float expected = (float)quant_value(t, b, i % q->block_len);
                if (expected != values[i])
                    fail_msg("%s: value %u is %a, not %a", q->name, i, (double)values[i],
                             (double)expected);
            }
        }
}

/* ---- golden numbers */

static void compare_bits(const char *name, const float *found, const uint8_t *expected,
                         uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, expected + 4 * i, 4);
        if (bits != quant_f32_bits(found[i]))
            fail_msg("%s: value %d is %a, not %a", name, (int)i, (double)found[i],
                     (double)quant_f32_from_bits(bits));
    }
}

/* The file calls Q2_K "q2_K". */
static const gguf_tensor *find_golden(const gguf_file *f, const char *type, const char *suffix) {
    char name[32];
    int  n = snprintf(name, sizeof name, "%s%s", type, suffix);
    for (int i = 0; i < n; i++)
        if (strncmp(name + i, "K", 1) != 0) name[i] = (char)tolower((unsigned char)name[i]);
    return gguf_find_tensor(f, name);
}

static void read_as_llama_cpp_does(void **state) {
    (void)state;
    if (access(GOLDEN, R_OK) != 0) {
        print_message("%s is not there: blocks are not compared with llama.cpp's values\n", GOLDEN);
        skip();
    }
    arena     *memory = arena_new();
    diag       d = { 0 };
    gguf_file *f = gguf_open(memory, &d, GOLDEN);
    unsigned   n_compared = 0;
    assert_non_null(f);
    for (uint32_t t = 0; t < QUANT_COUNT; t++) {
        const quant_info *q = quant_find(t);
        if (!q || t == QUANT_F32) continue;
        const gguf_tensor *as_stored = find_golden(f, q->name, "");
        const gguf_tensor *as_f32 = find_golden(f, q->name, ".f32");
        /* What holds no weights is not there. */
        if (!as_stored && (q->block_len == 1 || t == QUANT_Q8_1 || t == QUANT_Q8_K)) continue;
        if (!as_stored || !as_f32) fail_msg("%s is not in %s", q->name, GOLDEN);
        assert_int_equal(as_stored->type, t);
        uint64_t n = as_f32->bytes / 4;
        float   *values = ARENA_ARRAY(memory, float, n);
        quant_read(t, f->data + as_stored->offset, n, NULL, values);
        compare_bits(q->name, values, f->data + as_f32->offset, n);
        n_compared++;
    }
    assert_int_equal(n_compared, 27);
    gguf_close(f);
    arena_free(memory);
}

/* ---- plain numbers */

/* At an odd address. */
static void expect_values(uint32_t type, const void *stored_values, uint32_t n,
                          const float *expected) {
    uint8_t  bytes[1 + 64];
    float    values[8];
    uint64_t size = quant_row_bytes(type, n);
    assert_true(size < sizeof bytes && n <= ARRAY_LEN(values));
    memcpy(bytes + 1, stored_values, size);
    quant_read(type, bytes + 1, n, NULL, values);
    for (uint32_t i = 0; i < n; i++)
        if (quant_f32_bits(values[i]) != quant_f32_bits(expected[i]))
            fail_msg("%s: %a, expected %a", quant_find(type)->name, (double)values[i],
                     (double)expected[i]);
}

static void read_plain_numbers(void **state) {
    (void)state;
    expect_values(QUANT_F32, (float[]){ 1.5f, -0.0f, INFINITY, 0x1p-149f }, 4,
                  (float[]){ 1.5f, -0.0f, INFINITY, 0x1p-149f });
    expect_values(QUANT_F16, (uint16_t[]){ 0x3c00, 0xc500, 0x0001, 0xfc00, 0x7bff }, 5,
                  (float[]){ 1, -5, 0x1p-24f, -INFINITY, 65504 });
    expect_values(QUANT_BF16, (uint16_t[]){ 0x3f80, 0xc0a0, 0x0001, 0x7f80 }, 4,
                  (float[]){ 1, -5, 0x1p-133f, INFINITY });
    expect_values(QUANT_F64, (double[]){ 1.0 / 3, -1e-60, 1e300 }, 3,
                  (float[]){ 0x1.555556p-2f, -0.0f, INFINITY });
    expect_values(QUANT_I8, (int8_t[]){ -128, -1, 0, 127 }, 4, (float[]){ -128, -1, 0, 127 });
    expect_values(QUANT_I16, (int16_t[]){ -32768, 258 }, 2, (float[]){ -32768, 258 });
    expect_values(QUANT_I32, (int32_t[]){ INT32_MIN, 16777217, -2 }, 3,
                  (float[]){ -0x1p31f, 16777216, -2 });
    /* 2^24 + 1 and a little: through f64 it would be rounded twice, and down. */
    expect_values(QUANT_I64, (int64_t[]){ INT64_MIN, (INT64_C(16777217) << 37) + 1 }, 2,
                  (float[]){ -0x1p63f, 0x1.000002p61f });
}

/* 8 bits: of e4m3, 1, the largest and the smallest, what would be NaN, and a sign that counts not. */
static void read_small_floats(void **state) {
    (void)state;
    static const uint8_t bits[] = { 0x38, 0x7e, 0x01, 0x07, 0x08, 0x7f, 0xb8, 0x00 };
    static const float   expected[] = { 1, 448, 0x1p-9f, 7 * 0x1p-9f, 0x1p-6f, 0, 1, 0 };
    for (size_t i = 0; i < ARRAY_LEN(bits); i++) {
        assert_true(quant_ue4m3_to_f32(bits[i]) == expected[i]);
        assert_true(quant_field_number(QUANT_FIELD_UE4M3, bits[i]) == (double)expected[i]);
    }
    assert_true(quant_field_number(QUANT_FIELD_E8M0, 127) == 1);
    assert_true(quant_field_number(QUANT_FIELD_E8M0, 0) == 0x1p-127);
    assert_true(quant_field_number(QUANT_FIELD_E8M0, 255) == 0x1p128);
}

static double f16_by_hand(uint16_t h) {
    int    exponent = h >> 10 & 31, fraction = h & 1023;
    double size = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
    return h & 0x8000 ? -size : size;
}

static void widen_every_half(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        float f = quant_f16_to_f32((uint16_t)h), b = quant_bf16_to_f32((uint16_t)h);
        assert_int_equal(quant_f32_bits(b), h << 16);
        assert_int_equal(signbit(f) != 0, h >> 15);
        if ((h & 0x7fff) > 0x7c00)
            assert_true(isnan(f) && isnan(quant_f16_to_f32(quant_f32_to_f16(f))));
        else if ((h & 0x7fff) == 0x7c00)
            assert_true(isinf(f));
        else
            assert_true((double)f == f16_by_hand((uint16_t)h));
        if (!isnan(f)) assert_int_equal(quant_f32_to_f16(f), h);
        if (!isnan(b)) assert_int_equal(quant_f32_to_bf16(b), h);
    }
    assert_true(isnan(quant_bf16_to_f32(quant_f32_to_bf16(quant_f32_from_bits(0x7f800001)))));
    assert_int_equal(quant_f32_to_f16(-NAN) & 0x7c00, 0x7c00);
}

/* Between each number and the next greater: the middle goes to the even one, what is beside it to
   the nearer one. The last steps are those to infinity. */
static void round_to_nearest_even(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 0x7c00; h++) {
        float here = quant_f16_to_f32((uint16_t)h);
        float next = h == 0x7bff ? 65536 : quant_f16_to_f32((uint16_t)(h + 1));
        float middle = here + (next - here) / 2;
        assert_int_equal(quant_f32_to_f16(middle), h + (h & 1));
        assert_int_equal(quant_f32_to_f16(-middle), 0x8000 | (h + (h & 1)));
        assert_int_equal(quant_f32_to_f16(nextafterf(middle, 0)), h);
        assert_int_equal(quant_f32_to_f16(nextafterf(middle, INFINITY)), h + 1);
    }
    for (uint32_t h = 0; h < 0x7f80; h++) {
        float middle = quant_f32_from_bits(h << 16 | 0x8000);
        assert_int_equal(quant_f32_to_bf16(middle), h + (h & 1));
        assert_int_equal(quant_f32_to_bf16(-middle), 0x8000 | (h + (h & 1)));
        assert_int_equal(quant_f32_to_bf16(nextafterf(middle, 0)), h);
        assert_int_equal(quant_f32_to_bf16(nextafterf(middle, INFINITY)), h + 1);
    }
    assert_int_equal(quant_f32_to_f16(1e30f), 0x7c00);
    assert_int_equal(quant_f32_to_f16(-1e-30f), 0x8000);
}

/* ---- mistakes */

enum { BF16 = 1, FLUSH = 2, SWAP = 4, ADJACENT = 8 };

static quant_mistake mistake(unsigned flags) {
    return (quant_mistake){ .scale_as_bf16 = flags & BF16, .subnormal_scale_zero = flags & FLUSH,
                            .nibbles_swapped = flags & SWAP, .nibbles_adjacent = flags & ADJACENT };
}

/* The first values of the block, read with these mistakes, to the bit. */
static void expect_read(uint32_t type, const uint8_t *block, unsigned flags, uint32_t n,
                        const float *expected) {
    const quant_mistake how = mistake(flags);
    float values[MAX_LEN];
    quant_read(type, block, quant_find(type)->block_len, &how, values);
    for (uint32_t i = 0; i < n; i++)
        if (quant_f32_bits(values[i]) != quant_f32_bits(expected[i]))
            fail_msg("%s with mistakes %u: value %u is %a, expected %a", quant_find(type)->name,
                     flags, i, (double)values[i], (double)expected[i]);
}

/* The bits 0x2c00 are 2^-4 in f16 and 2^-39 in bf16 (its exponent is 0x58 - 127). */
static void mistake_scales(void **state) {
    (void)state;
    uint8_t q8[34] = { 0x00, 0x2c, 16, (uint8_t)-32, 1 };
    expect_read(QUANT_Q8_0, q8, 0, 4, (float[]){ 1, -2, 0.0625f, 0 });
    expect_read(QUANT_Q8_0, q8, BF16, 4, (float[]){ 0x1p-35f, -0x1p-34f, 0x1p-39f, 0 });
    expect_read(QUANT_Q8_0, q8, FLUSH | SWAP | ADJACENT, 4, (float[]){ 1, -2, 0.0625f, 0 });

    /* The largest negative subnormal, -1023 × 2^-24; in bf16 -255 × 2^-127. */
    memcpy(q8, (uint8_t[]){ 0xff, 0x83 }, 2);
    expect_read(QUANT_Q8_0, q8, 0, 4, (float[]){ -1023 * 0x1p-20f, 1023 * 0x1p-19f,
                                                 -1023 * 0x1p-24f, -0.0f });
    expect_read(QUANT_Q8_0, q8, FLUSH, 4, (float[]){ -0.0f, 0, -0.0f, -0.0f });
    expect_read(QUANT_Q8_0, q8, BF16, 2, (float[]){ -255 * 0x1p-123f, 255 * 0x1p-122f });
    memcpy(q8, (uint8_t[]){ 0x00, 0x04 }, 2); /* 2^-14: the least that is not subnormal */
    expect_read(QUANT_Q8_0, q8, FLUSH, 2, (float[]){ 0x1p-10f, -0x1p-9f });

    /* A minimum is no different: m is 2^-24, d 2. Quants 3, 1, …; value 16 has quant 5. */
    uint8_t q41[20] = { 0x00, 0x40, 0x01, 0x00, 0x53, 0x01 };
    expect_read(QUANT_Q4_1, q41, 0, 2, (float[]){ 6 + 0x1p-24f, 2 + 0x1p-24f });
    expect_read(QUANT_Q4_1, q41, FLUSH, 3, (float[]){ 6, 2, 0 });
    /* 0x4000 is 2 in bf16 too. */
    expect_read(QUANT_Q4_1, q41, BF16, 3, (float[]){ 6, 2, 0x1p-133f });
    expect_read(QUANT_Q4_1, q41, BF16 | FLUSH, 3, (float[]){ 6, 2, 0 });
}

/* d is 1; byte j holds the nibbles j and 15 - j: values j - 8 and, 16 later, 7 - j. */
static void mistake_nibbles(void **state) {
    (void)state;
    uint8_t b[18] = { 0x00, 0x3c };
    float   low[32], high[32], right[32], swapped[32], adjacent[32], both[32];
    for (int j = 0; j < 16; j++) {
        b[2 + j] = (uint8_t)(j | (15 - j) << 4);
        low[j] = (float)(j - 8), high[j] = (float)(7 - j);
        right[j] = low[j], right[16 + j] = high[j];
        swapped[j] = high[j], swapped[16 + j] = low[j];
        adjacent[2 * j] = low[j], adjacent[2 * j + 1] = high[j];
        both[2 * j] = high[j], both[2 * j + 1] = low[j];
    }
    expect_read(QUANT_Q4_0, b, 0, 32, right);
    expect_read(QUANT_Q4_0, b, SWAP, 32, swapped);
    expect_read(QUANT_Q4_0, b, ADJACENT, 32, adjacent);
    expect_read(QUANT_Q4_0, b, SWAP | ADJACENT, 32, both);
    expect_read(QUANT_Q4_0, b, FLUSH, 32, right);
    /* 0x3c00 is 2^-7 in bf16. */
    expect_read(QUANT_Q4_0, b, BF16, 3, (float[]){ -8 * 0x1p-7f, -7 * 0x1p-7f, -6 * 0x1p-7f });

    /* The fifth bit of value 0 is set and stays there. Nibbles 2 and 9. */
    const uint8_t q50[22] = { 0x00, 0x3c, 1, 0, 0, 0, 0x92 };
    expect_read(QUANT_Q5_0, q50, 0, 2, (float[]){ 2, -16 });
    expect_read(QUANT_Q5_0, q50, SWAP, 2, (float[]){ 9, -16 });
    expect_read(QUANT_Q5_0, q50, ADJACENT, 2, (float[]){ 2, 9 - 16 });

    /* Twice 0, 1, 2, -1: 2^(0x80 - 127) is 2; positions 0, 2, 4, 10 in the table of e2m1. */
    const uint8_t fp4[17] = { 0x80, 0x20, 0xa4 };
    expect_read(QUANT_MXFP4, fp4, BF16 | FLUSH, 3, (float[]){ 0, 4, 0 });
    expect_read(QUANT_MXFP4, fp4, ADJACENT, 4, (float[]){ 0, 2, 4, -2 });
}

/* Sub-blocks of 32 with scales 1 and 3 (and no minima): those stay where they are. In Q4_K the high
   nibbles are values 32 … 63. */
static void mistake_nibbles_of_sub_blocks(void **state) {
    (void)state;
    uint8_t b[144] = { 0x00, 0x3c, 0, 0, 1, 3 };
    b[16] = 0x52, b[17] = 0x76;
    float expected[64] = { 2, 6, [32] = 15, 21 };
    expect_read(QUANT_Q4_K, b, 0, 64, expected);
    expect_read(QUANT_Q4_K, b, SWAP, 64, (float[64]){ 5, 7, [32] = 6, 18 });
    expect_read(QUANT_Q4_K, b, ADJACENT, 64, (float[64]){ 2, 5, 6, 7 });
}

/* On random blocks a mistake makes a difference just where it is said to. */
static void apply_mistakes_to_what_has_them(void **state) {
    (void)state;
    for (uint32_t t = 0; t < QUANT_COUNT; t++)
        for (unsigned flags = 0; flags < 16 && quant_find(t); flags++) {
            const quant_mistake how = mistake(flags);
            const quant_info   *q = quant_find(t);
            uint8_t block[MAX_BYTES];
            float   right[MAX_LEN], wrong[MAX_LEN];
            fill_random(block, sizeof block);
            if (is_quantized(t) && t != QUANT_Q8_K) set_halves(t, block, 0x0123);
            quant_read(t, block, q->block_len, NULL, right);
            quant_read(t, block, q->block_len, &how, wrong);
            bool differ = memcmp(right, wrong, q->block_len * sizeof *right) != 0;
            if (differ != quant_mistake_applies(t, &how))
                fail_msg("%s: mistakes %u make %s difference", q->name, flags, differ ? "a" : "no");
        }
    const quant_mistake all = mistake(15);
    assert_false(quant_mistake_applies(QUANT_Q4_0, NULL));
    assert_false(quant_mistake_applies(QUANT_Q8_K, &all));
    assert_false(quant_mistake_applies(QUANT_COUNT, &all));
    assert_true(quant_mistake_applies(QUANT_IQ1_M, &all));
    assert_false(quant_mistake_applies(QUANT_F16, &all));
    assert_true(quant_mistake_applies(QUANT_Q8_0, &all));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compare_rows_with_layouts),
        cmocka_unit_test(find_no_other_rows),
        cmocka_unit_test(multiply_with_right_activations),
        cmocka_unit_test(size_rows),
        cmocka_unit_test(add_up_fields),
        cmocka_unit_test(read_as_fields_say),
        cmocka_unit_test(read_as_llama_cpp_does),
        cmocka_unit_test(read_plain_numbers),
        cmocka_unit_test(read_small_floats),
        cmocka_unit_test(widen_every_half),
        cmocka_unit_test(round_to_nearest_even),
        cmocka_unit_test(mistake_scales),
        cmocka_unit_test(mistake_nibbles),
        cmocka_unit_test(mistake_nibbles_of_sub_blocks),
        cmocka_unit_test(apply_mistakes_to_what_has_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
