/* Choosing an ISA, and the layout it gives to activations. */
#include "isa.h"

#include "isa_rows.h"

#include <string.h>

const isa *const isa_rows[] = {
    &isa_avx512_vnni, &isa_avx_vnni, &isa_avx2, &isa_generic, NULL,
};

/* What CPU names imply, as far as the rows above ask. */
#define AVX2        "+sse3,+ssse3,+sse4.1,+sse4.2,+avx,+avx2,+fma,+f16c"
#define AVX_VNNI    AVX2 ",+avxvnni"
#define AVX512      AVX2 ",+avx512f,+avx512bw,+avx512vl,+avx512dq"
#define AVX512_VNNI AVX512 ",+avx512vnni"

static const struct {
    const char *name, *features;
} cpus[] = {
    {"generic", ""},
    {"x86-64", ""},
    {"x86-64-v2", ""},
    {"nehalem", ""},
    {"sandybridge", ""},
    {"ivybridge", "+f16c"},
    {"x86-64-v3", AVX2},
    {"haswell", AVX2},
    {"broadwell", AVX2},
    {"skylake", AVX2},
    {"znver1", AVX2},
    {"znver2", AVX2},
    {"znver3", AVX2},
    {"alderlake", AVX_VNNI},
    {"raptorlake", AVX_VNNI},
    {"meteorlake", AVX_VNNI},
    {"gracemont", AVX_VNNI},
    {"arrowlake", AVX_VNNI},
    {"lunarlake", AVX_VNNI},
    {"x86-64-v4", AVX512},
    {"skylake-avx512", AVX512},
    {"cascadelake", AVX512_VNNI},
    {"cooperlake", AVX512_VNNI},
    {"icelake-client", AVX512_VNNI},
    {"icelake-server", AVX512_VNNI},
    {"tigerlake", AVX512_VNNI},
    {"rocketlake", AVX512_VNNI},
    {"sapphirerapids", AVX512_VNNI ",+avxvnni"},
    {"emeraldrapids", AVX512_VNNI ",+avxvnni"},
    {"graniterapids", AVX512_VNNI ",+avxvnni"},
    {"znver4", AVX512_VNNI},
    {"znver5", AVX512_VNNI ",+avxvnni"},
};

const char *isa_cpu_features(const char *cpu) {
    for (size_t i = 0; i < ARRAY_LEN(cpus); i++)
        if (!strcmp(cpus[i].name, cpu)) return cpus[i].features;
    return NULL;
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

activation_layout isa_activation_layout(const isa *target, enum quant_type type, uint64_t n) {
    activation_layout l = {0};
    if (type == QUANT_F32 || type == QUANT_F16 || type == QUANT_BF16) {
        l.bytes = n * sizeof(float);
        return l;
    }
    if (type != QUANT_Q8_0) bug("activations of type %d", type);
    l.corrections = n;
    l.scales = l.corrections + (target->unsigned_weights ? n : 0);
    l.totals = l.scales + n / 8;
    l.bytes = l.totals + (target->dot_rows ? n / 8 : 0);
    return l;
}
