/* make_model_values.h - the weights' numbers: where they come from and how they are stored.
 *
 * Value `i` of a tensor is a pure function of (seed, tensor name, i): splitmix64's finaliser over a
 * counter. So it does not matter in which order or in what pieces a tensor is written, and files of
 * the same seed in F32, F16, BF16 and Q8_0 hold the same model.
 *
 *     key   = mix(seed + mix(fnv1a(name)))
 *     x     = mix(key + (i + 1) * 0x9e3779b97f4a7c15)          64 random bits
 *     sum   = the four 16-bit quarters of x, added, less the mean
 *     value = centre + std / (65536 / sqrt(3)) * sum            f32, rounded after * and after +
 *
 * A sum of four uniforms is near enough to a Gaussian (it ends at 3.46 standard deviations) and
 * costs a nanosecond. Every step is exact or rounds once, so all machines make the same file.
 *
 * Conversions are written here rather than taken from the compiler: files made with one
 * implementation and read with another test both. */
#ifndef MAKE_MODEL_VALUES_H
#define MAKE_MODEL_VALUES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "GGUF is written as memory holds it");

/* Ids of types in a file, those of ggml. */
enum value_type { VALUE_F32 = 0, VALUE_F16 = 1, VALUE_Q8_0 = 8, VALUE_BF16 = 30 };

#define Q8_0_LEN   32 /* values a block */
#define Q8_0_BYTES 34 /* an f16 scale, then 32 signed bytes */

/* ---- random numbers */

static inline uint64_t random_mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static inline uint64_t random_at(uint64_t key, uint64_t i) {
    return random_mix(key + (i + 1) * 0x9e3779b97f4a7c15u);
}

static inline uint64_t random_key(uint64_t seed, const char *name) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *name; name++)
        hash = (hash ^ (uint8_t)*name) * 0x100000001b3u;
    return random_mix(seed + random_mix(hash));
}

/* Values first .. first + count of the tensor with this key. */
static inline void random_fill(float *out, size_t count, uint64_t key, uint64_t first,
                               float centre, float std) {
    const float scale = std / 37837.227f; /* 65536 / sqrt(3) */
    for (size_t i = 0; i < count; i++) {
        uint64_t x = random_at(key, first + i);
        int32_t  sum = (int32_t)((x & 0xffff) + ((x >> 16) & 0xffff) + ((x >> 32) & 0xffff) +
                                (x >> 48)) - 131070;
        float    spread = scale * (float)sum; /* a statement of its own: never fused with the + */
        out[i] = centre + spread;
    }
}

/* ---- storage, always rounding to nearest, ties to even */

static inline uint32_t value_bits(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static inline uint16_t value_to_f16(float f) {
    uint32_t bits = value_bits(f), sign = (bits >> 16) & 0x8000, size = bits & 0x7fffffff;
    if (size > 0x7f800000)
        return (uint16_t)(sign | 0x7e00); /* not a number */
    if (size >= 0x47800000)
        return (uint16_t)(sign | 0x7c00); /* 2^16 and above */
    if (size < 0x38800000) {
        /* Below 2^-14 the result is a multiple of 2^-24, which is the last place of numbers in
           [0.5, 1): the addition rounds, and leaves the subnormal in the low bits. */
        float small;
        memcpy(&small, &size, sizeof small);
        return (uint16_t)(sign | (value_bits(small + 0.5f) - 0x3f000000));
    }
    uint32_t odd = (size >> 13) & 1;
    return (uint16_t)(sign | ((size - 0x38000000 + 0xfff + odd) >> 13));
}

static inline uint16_t value_to_bf16(float f) {
    uint32_t bits = value_bits(f);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)((bits >> 16) | 0x40);
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/* To the nearest integer, halves away from zero, as roundf; |f| is small. */
static inline int value_round(float f) {
    int   whole = (int)f;
    float rest = f - (float)whole;
    return whole + (rest >= 0.5f) - (rest <= -0.5f);
}

/* A block as ggml's reference quantizer makes it: quants from the unrounded scale. */
static inline void value_to_q8_0(uint8_t *out, const float *in) {
    float largest = 0;
    for (int i = 0; i < Q8_0_LEN; i++) {
        float size = in[i] < 0 ? -in[i] : in[i];
        largest = size > largest ? size : largest;
    }
    float    d = largest / 127, inverse = d != 0 ? 1 / d : 0;
    uint16_t stored = value_to_f16(d);
    memcpy(out, &stored, sizeof stored);
    for (int i = 0; i < Q8_0_LEN; i++)
        out[2 + i] = (uint8_t)(int8_t)value_round(in[i] * inverse);
}

/* Whether value_store knows the type; the others are random blocks, random_blocks.h. */
static inline bool value_has(uint32_t type) {
    return type == VALUE_F32 || type == VALUE_F16 || type == VALUE_BF16 || type == VALUE_Q8_0;
}

/* `count` values, whole blocks, as a type of VALUE_…. */
static inline void value_store(uint8_t *out, uint32_t type, const float *in, size_t count) {
    switch (type) {
    case VALUE_F32: memcpy(out, in, count * sizeof *in); break;
    case VALUE_F16:
    case VALUE_BF16:
        for (size_t i = 0; i < count; i++) {
            uint16_t half = type == VALUE_F16 ? value_to_f16(in[i]) : value_to_bf16(in[i]);
            memcpy(out + 2 * i, &half, 2);
        }
        break;
    case VALUE_Q8_0:
        for (size_t i = 0; i < count; i += Q8_0_LEN, out += Q8_0_BYTES)
            value_to_q8_0(out, in + i);
        break;
    }
}

#endif
