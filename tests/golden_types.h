/* golden_types.h - the demo model in every type, beside what llama.cpp computed with it, in ../shared. */
#ifndef GGUFC_TESTS_GOLDEN_TYPES_H
#define GGUFC_TESTS_GOLDEN_TYPES_H

#include "base.h"

#include <stdio.h>
#include <unistd.h>

#define GOLDEN_SHARED "../shared/"

/* The most likely token must be golden's where its margin is as large, and the NMSE of all logits be at most
   `logits`: golden/README.md. Golden caches are F32 and ours is F16, which alone makes 1.5e-5 of Q8_0 and
   more where activations are rounded more coarsely. */
typedef struct golden_type {
    const char *model, *activations;
    double      logits, margin;
} golden_type;

static const golden_type golden_types[] = {
    {"f32", "f32", 2e-8, 0.1}, {"f16", "f16", 1e-7, 0.1}, {"bf16", "bf16", 3e-6, 0.1},
    {"q8_0", "q8_0", 5e-5, 0.1}, {"q8_0", "q8_0.f16-kv", 5e-5, 0.1},
    {"q4_0", "q4_0", 1e-4, 0.1}, {"q4_1", "q4_1", 1e-4, 0.1}, {"q5_0", "q5_0", 1e-4, 0.1},
    {"q5_1", "q5_1", 1e-4, 0.1}, {"q4_k_m", "q4_k_m", 1e-4, 0.1}, {"q5_k_m", "q5_k_m", 1e-4, 0.1},
    {"q6_k", "q6_k", 1e-4, 0.1}, {"iq4_nl", "iq4_nl", 1e-4, 0.1}, {"iq4_xs", "iq4_xs", 1e-4, 0.1},
    {"mxfp4", "mxfp4", 1e-4, 0.1}, {"nvfp4", "nvfp4", 1e-4, 0.1},

    /* below 4 bits */
    {"q2_k", "q2_k", 1e-3, 0.3}, {"q3_k_m", "q3_k_m", 1e-3, 0.3}, {"tq1_0", "tq1_0", 1e-3, 0.3},
    {"tq2_0", "tq2_0", 1e-3, 0.3}, {"q1_0", "q1_0", 1e-3, 0.3}, {"q2_0", "q2_0", 1e-3, 0.3},
    {"iq1_s", "iq1_s", 1e-3, 0.3}, {"iq1_m", "iq1_m", 1e-3, 0.3}, {"iq2_xxs", "iq2_xxs", 1e-3, 0.3},
    {"iq2_xs", "iq2_xs", 1e-3, 0.3}, {"iq2_s", "iq2_s", 1e-3, 0.3}, {"iq3_xxs", "iq3_xxs", 1e-3, 0.3},
    {"iq3_s", "iq3_s", 1e-3, 0.3},
};

/* Paths of both; the same memory each time. */
static inline const char *golden_model_path(const golden_type *type) {
    static char path[256];
    snprintf(path, sizeof path, GOLDEN_SHARED "demo-model/storyteller-%s.gguf", type->model);
    return path;
}

static inline const char *golden_activations_path(const golden_type *type) {
    static char path[256];
    snprintf(path, sizeof path, GOLDEN_SHARED "golden/storyteller-%s.gguf", type->activations);
    return path;
}

static inline bool golden_is_here(const golden_type *type) {
    return !access(golden_model_path(type), R_OK) && !access(golden_activations_path(type), R_OK);
}

#endif
