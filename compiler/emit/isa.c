/* Choosing an ISA, and the layout it gives to activations. */
#include "isa.h"

#include "isa_rows.h"

#include <string.h>

const isa *const isa_rows[] = {
    &isa_amx, &isa_avx512_bf16, &isa_avx512_vnni, &isa_avx_vnni, &isa_avx2, &isa_ssse3, &isa_dotprod, &isa_neon,
    &isa_generic, NULL,
};

/* What CPU names imply, as far as the rows above ask. */
#define SSSE3       "+sse3,+ssse3"
#define SSE42       SSSE3 ",+sse4.1,+sse4.2"
#define AVX         SSE42 ",+avx"
#define AVX2        AVX ",+avx2,+fma,+f16c"
#define AVX_VNNI    AVX2 ",+avxvnni"
#define AVX512      AVX2 ",+avx512f,+avx512bw,+avx512vl,+avx512dq"
#define AVX512_VNNI AVX512 ",+avx512vnni"
#define AVX512_BF16 AVX512_VNNI ",+avx512bf16"
#define AMX         AVX512_BF16 ",+avxvnni,+amx-tile,+amx-int8,+amx-bf16"
#define NEON        "+neon"
#define NEON8       "+fp-armv8," NEON
#define DOTPROD     NEON8 ",+dotprod"

typedef struct cpu {
    const char  *name, *features;
    isa_tuning   tuning;
} cpu;

#define FROM_MEMORY (16u << 20)

/* Zen 3, from memory: rows of Q4_0 came with 11 GB/s a core in place of 8, of Q4_K with 9.7 for 7.6, of Q8_0
   with 9.4 for 8; 4 KiB to 64 KiB differed little. From the third-level cache, where models of 12 to 16 MiB
   were, all came half as fast again; packed tiles, too, from 4 and 8 KiB on, and a fifth less from 2. */
#define ZEN3 \
    {.prefetch = {.bytes = 16u << 10, .packed = 16u << 10, .tiles = 8u << 10, .least = 512u << 10}}

/* Emerald Rapids, one core: rows of Q8_0 with 12.5 GB/s in place of 9.5, of Q6_K with 11 for 8.3, of Q4_K, from
   8 KiB on, with 11.8 for 7.4, of F16 and BF16 with 14 for 10; two threads gained a quarter to a half. */
#define SAPPHIRE \
    {.prefetch = {.bytes = 16u << 10, .packed = 8u << 10, .pairs = 16u << 10, .least = FROM_MEMORY}}

/* Intel's cores of the ISAs that have panels, as is published of their ports; not measured. */
#define HALVES_COST {.halves_cost = true}

static const cpu x86_cpus[] = {
    {"x86-64", "", {0}},
    {"core2", SSSE3, {0}},
    {"penryn", SSSE3 ",+sse4.1", {0}},
    {"bonnell", SSSE3, {0}},
    {"x86-64-v2", SSE42, {0}},
    {"nehalem", SSE42, {0}},
    {"westmere", SSE42, {0}},
    {"silvermont", SSE42, {0}},
    {"goldmont", SSE42, {0}},
    {"goldmont-plus", SSE42, {0}},
    {"tremont", SSE42, {0}},
    {"btver1", SSSE3, {0}},
    {"sandybridge", AVX, {0}},
    {"ivybridge", AVX ",+f16c", {0}},
    {"btver2", AVX ",+f16c", {0}},
    {"bdver1", AVX, {0}},
    {"bdver2", AVX ",+fma,+f16c", {0}},
    {"bdver3", AVX ",+fma,+f16c", {0}},
    {"bdver4", AVX2, {0}},
    {"x86-64-v3", AVX2, ZEN3},
    {"haswell", AVX2, HALVES_COST},
    {"broadwell", AVX2, HALVES_COST},
    {"skylake", AVX2, HALVES_COST},
    {"znver1", AVX2, {0}},
    {"znver2", AVX2, {0}},
    {"znver3", AVX2, ZEN3},
    {"alderlake", AVX_VNNI, {0}},
    {"raptorlake", AVX_VNNI, {0}},
    {"meteorlake", AVX_VNNI, {0}},
    {"gracemont", AVX_VNNI, {0}},
    {"arrowlake", AVX_VNNI, {0}},
    {"lunarlake", AVX_VNNI, {0}},
    {"x86-64-v4", AVX512, {0}},
    {"skylake-avx512", AVX512, HALVES_COST},
    {"cascadelake", AVX512_VNNI, {0}},
    {"cooperlake", AVX512_BF16, {0}},
    {"icelake-client", AVX512_VNNI, {0}},
    {"icelake-server", AVX512_VNNI, {0}},
    {"tigerlake", AVX512_VNNI, {0}},
    {"rocketlake", AVX512_VNNI, {0}},
    {"sapphirerapids", AMX, SAPPHIRE},
    {"emeraldrapids", AMX, SAPPHIRE},
    {"graniterapids", AMX, SAPPHIRE},
    /* Zen 4, one core: rows of Q4_0 with 28 GB/s in place of 20, of Q4_K with 23 for 20, of Q6_K with 25 for 21,
       from 8 KiB on; two cores got a thirtieth more from 8 KiB than from 16. Q8_0 with 23 for 23, two cores 28
       for 27, F16 a twentieth and a tenth faster; rows of BF16 lost a tenth. Less than 6 KiB ahead, and into the
       first-level cache, all were slower; but packed tiles, which a short loop goes through, gained a twentieth
       from 2 and 4 KiB and lost from more. */
    {"znver4", AVX512_BF16,
     {.prefetch = {.bytes = 6u << 10, .packed = 8u << 10, .tiles = 2u << 10, .least = FROM_MEMORY}}},
    /* Zen 5, rows of 2048 Q8_0: 32 GB/s in place of 17; 8 KiB to 128 KiB differed little. */
    {"znver5", AVX512_BF16 ",+avxvnni",
     {.prefetch = {.bytes = 16u << 10, .packed = 16u << 10, .pairs = 16u << 10, .least = FROM_MEMORY}}},
};

/* Of 32 bits: what clang takes these to have, where LLVM as Debian builds it takes them to have no vectors. Some A5
   and A9 have none. */
static const cpu arm_cpus[] = {
    {"cortex-a5", NEON, {0}},
    {"cortex-a7", NEON, {0}},
    {"cortex-a8", NEON, {0}},
    {"cortex-a9", NEON, {0}},
    {"cortex-a12", NEON, {0}},
    {"cortex-a15", NEON, {0}},
    {"cortex-a17", NEON, {0}},
};

static const cpu aarch64_cpus[] = {
    {"cortex-a34", NEON8, {0}},
    {"cortex-a35", NEON8, {0}},
    {"cortex-a53", NEON8, {0}},
    {"cortex-a57", NEON8, {0}},
    {"cortex-a72", NEON8, {0}},
    {"cortex-a73", NEON8, {0}},
    {"thunderx2t99", NEON8, {0}},
    {"a64fx", NEON8, {0}},
    {"cortex-a55", DOTPROD, {0}},
    {"cortex-a65", DOTPROD, {0}},
    {"cortex-a75", DOTPROD, {0}},
    {"cortex-a76", DOTPROD, {0}},
    {"cortex-a76ae", DOTPROD, {0}},
    {"cortex-a77", DOTPROD, {0}},
    {"cortex-a78", DOTPROD, {0}},
    {"cortex-a78ae", DOTPROD, {0}},
    {"cortex-a78c", DOTPROD, {0}},
    {"cortex-a510", DOTPROD, {0}},
    {"cortex-a520", DOTPROD, {0}},
    {"cortex-a710", DOTPROD, {0}},
    {"cortex-a715", DOTPROD, {0}},
    {"cortex-a720", DOTPROD, {0}},
    {"cortex-a725", DOTPROD, {0}},
    {"cortex-x1", DOTPROD, {0}},
    {"cortex-x1c", DOTPROD, {0}},
    {"cortex-x2", DOTPROD, {0}},
    {"cortex-x3", DOTPROD, {0}},
    {"cortex-x4", DOTPROD, {0}},
    {"cortex-x925", DOTPROD, {0}},
    {"neoverse-512tvb", DOTPROD, {0}},
    {"neoverse-e1", DOTPROD, {0}},
    {"neoverse-n1", DOTPROD, {0}},
    {"neoverse-n2", DOTPROD, {0}},
    {"neoverse-n3", DOTPROD, {0}},
    {"neoverse-v1", DOTPROD, {0}},
    {"neoverse-v2", DOTPROD, {0}},
    {"neoverse-v3", DOTPROD, {0}},
    {"ampere1", DOTPROD, {0}},
    {"ampere1a", DOTPROD, {0}},
    {"ampere1b", DOTPROD, {0}},
    {"apple-m1", DOTPROD, {0}},
    {"apple-m2", DOTPROD, {0}},
    {"apple-m3", DOTPROD, {0}},
    {"apple-m4", DOTPROD, {0}},
    {"oryon-1", DOTPROD, {0}},
};

/* By what a triple begins with. "generic" is any architecture's. */
static const struct {
    const char *archs[2];
    const cpu  *cpus;
    size_t      n;
} cpus_of[] = {
    {{"x86_64", "i"}, x86_cpus, ARRAY_LEN(x86_cpus)},
    {{"aarch64", NULL}, aarch64_cpus, ARRAY_LEN(aarch64_cpus)},
    {{"arm", "thumb"}, arm_cpus, ARRAY_LEN(arm_cpus)},
};

static bool is_arch(const char *triple, const char *arch) {
    return arch && !strncmp(triple, arch, strlen(arch));
}

static const cpu *find_cpu(const char *triple, const char *name) {
    static const cpu generic = {"generic", "", {0}};
    if (!strcmp(name, generic.name)) return &generic;
    for (size_t i = 0; i < ARRAY_LEN(cpus_of); i++) {
        if (!is_arch(triple, cpus_of[i].archs[0]) && !is_arch(triple, cpus_of[i].archs[1])) continue;
        for (size_t k = 0; k < cpus_of[i].n; k++)
            if (!strcmp(cpus_of[i].cpus[k].name, name)) return &cpus_of[i].cpus[k];
    }
    return NULL;
}

const char *isa_cpu_features(const char *triple, const char *name) {
    const cpu *found = find_cpu(triple, name);
    return found ? found->features : NULL;
}

isa_tuning isa_cpu_tuning(const char *triple, const char *name) {
    const cpu *found = find_cpu(triple, name);
    return found ? found->tuning : (isa_tuning){0};
}

static bool has_feature(const char *features, const char *name, size_t size) {
    bool on = false;
    for (const char *at = features; at && *at; at = *at == ',' ? at + 1 : at) {
        size_t n = strcspn(at, ",");
        if (n == size + 1 && (*at == '+' || *at == '-') && !strncmp(at + 1, name, size))
            on = *at == '+';
        at += n;
    }
    return on;
}

static bool has_all(const char *features, const char *wanted) {
    while (*wanted) {
        size_t n = strcspn(wanted, " ");
        if (!has_feature(features, wanted, n)) return false;
        wanted += n + (wanted[n] == ' ');
    }
    return true;
}

const isa *isa_select(const char *triple, const char *features) {
    const isa *const *row = isa_rows;
    for (; (*row)->arch; row++) {
        size_t n = strlen((*row)->arch);
        if (!strncmp(triple, (*row)->arch, n) && has_all(features, (*row)->features)) break;
    }
    return *row;
}

enum isa_sum isa_sum_of(uint32_t quants) {
    switch (quants) {
    case 16: return ISA_SUM_16;
    case 32: return ISA_SUM_32;
    case 256: return ISA_SUM_BLOCK;
    default: bug("sums of %u activations", quants);
    }
}

/* A matrix unit takes 16 rows at once: an odd number of cache lines apart, they are in as many sets. */
static uint64_t spread_rows(const isa *target, uint64_t bytes) {
    return target->matrix ? round_up(bytes, 64) | 64 : bytes;
}

static activation_layout layout_plain(const isa *target, enum quant_type type, uint64_t n) {
    activation_layout l = {.halves = n * 4};
    bool halves = (type == QUANT_F16 && target->native_f16) || (type == QUANT_BF16 && target->dot_bf16);
    l.tile = halves && type == QUANT_BF16 ? l.halves : 0;
    l.bytes = spread_rows(target, l.halves + (halves ? 2 * n : 0));
    return l;
}

/* Gives `count` numbers of `size` bytes their place. */
static uint64_t put(activation_layout *l, uint64_t count, uint64_t size) {
    uint64_t at = round_up(l->bytes, 64);
    l->bytes = at + count * size;
    return at;
}

activation_layout isa_activation_layout(const isa *target, enum quant_type type, uint64_t n) {
    static const uint32_t quants[ISA_SUM_COUNT] = {16, 32, 256};
    if (type == QUANT_F32 || type == QUANT_F16 || type == QUANT_BF16) return layout_plain(target, type, n);
    if (type != QUANT_Q8_0 && type != QUANT_Q8_1 && type != QUANT_Q8_K) bug("activations of type %d", type);
    activation_layout l = {0};
    bool supers = type == QUANT_Q8_K;
    put(&l, n, 1);
    bool excess = target->unsigned_weights || target->pair_tokens;
    if (excess) l.corrections = put(&l, n / 4, 4);
    for (uint32_t half = 16; half < target->dot_length && half <= (supers ? 32 : 16); half *= 2)
        l.halved[half / 32] = put(&l, round_up(n, 2 * target->dot_length), 1);
    if (excess) l.halved_corrections = put(&l, n / 8, 4);
    l.scales = put(&l, n / quant_find(type)->block_len, 4);
    for (int s = 0; s < ISA_SUM_COUNT; s++) {
        if (s == ISA_SUM_BLOCK && !supers) continue;
        if (excess) l.totals[s] = put(&l, n / quants[s], 4);
        if (s == ISA_SUM_BLOCK) continue;
        if (supers || (type == QUANT_Q8_1 && s == ISA_SUM_32)) l.sums[s] = put(&l, n / quants[s], 4);
        if (supers) l.counts[s] = put(&l, n / quants[s], 2);
    }
    if (target->tile_columns == 2) l.tile = put(&l, n, 2);
    l.bytes = spread_rows(target, l.bytes);
    return l;
}
