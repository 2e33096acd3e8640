/* report_fixture.h - comparisons made up for tests of what is written of them (report_*.c). */
#ifndef GGUFC_TESTS_REPORT_FIXTURE_H
#define GGUFC_TESTS_REPORT_FIXTURE_H

#include "compare.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* The ops of a layer, in order of execution. */
static const struct {
    const char *name, *kind, *shape;
    double      noise; /* root of NMSE where nothing is wrong */
} fixture_layer[] = {
    { "attn_norm-%u", "rms_norm", "[256]", 3e-4 },
    { "Qcur-%u", "matmul", "[256]", 5e-4 },
    { "Qcur-%u.rope", "rope", "[32, 8]", 5e-4 },
    { "Vcur-%u", "matmul", "[128]", 7e-4 },
    { "Kcur-%u", "matmul", "[128]", 5e-4 },
    { "Kcur-%u.rope", "rope", "[32, 4]", 5e-4 },
    { "kqv_out-%u", "attention", "[256]", 9e-4 },
    { "attn_out-%u", "matmul", "[256]", 1.1e-3 },
    { "ffn_inp-%u", "add", "[256]", 4e-4 },
    { "ffn_norm-%u", "rms_norm", "[256]", 5e-4 },
    { "ffn_gate-%u", "matmul", "[512]", 6e-4 },
    { "ffn_up-%u", "matmul", "[512]", 7e-4 },
    { "ffn_swiglu-%u", "swiglu", "[512]", 1.2e-3 },
    { "ffn_out-%u", "matmul", "[256]", 1.6e-3 },
    { "l_out-%u", "add", "[256]", 6e-4 },
};

static inline compare_distance fixture_distance(double nmse, uint64_t n, uint32_t seed) {
    double most = 4 * sqrt(nmse);
    return (compare_distance){
        .n_values = n, .n_tokens = 12,
        .match = nmse < 1e-4 ? 1 : nmse < 1e-2 ? 0.998 : 0.1234,
        .mean = sqrt(nmse) / 1.3, .most = most,
        .most_index = seed * 37 % 256, .most_token = seed % 12,
        .most_a = 1.25, .most_b = 1.25 + most,
        .nmse = nmse, .cosine = 1 - nmse / 2,
    };
}

static inline compare_op fixture_op(const char *name, const char *kind, const char *shape,
                                    int32_t layer, double noise, uint32_t seed) {
    double   grown = noise * (1 + 0.15 * (layer < 0 ? 0 : layer));
    double   wobble = 1 + 0.4 * sin(seed * 12.9898);
    uint64_t n = 12 * 256;
    return (compare_op){
        .name = name, .kind = kind, .shape = shape, .layer = layer,
        .between = fixture_distance(grown * grown * wobble, n, seed),
        .tolerance = 10 * grown * grown,
        .alone = fixture_distance(4e-14 * wobble, n, seed + 1),
        .alone_tolerance = strcmp(kind, "matmul") ? 1e-12 : 2e-7,
    };
}

static inline void fixture_ops(arena *a, compare_report *r, uint32_t n_layers) {
    uint32_t n = 0;
    r->n_ops = 3 + n_layers * (uint32_t)ARRAY_LEN(fixture_layer);
    r->ops = ARENA_ARRAY(a, compare_op, r->n_ops);
    r->ops[n] = fixture_op("embd", "get_rows", "[256]", -1, 1e-9, n);
    r->ops[n].between = fixture_distance(0, 12 * 256, 0);
    n++;
    for (uint32_t l = 0; l < n_layers; l++)
        for (size_t i = 0; i < ARRAY_LEN(fixture_layer); i++, n++) {
            char name[32];
            const char *hyphen = strchr(fixture_layer[i].name, '%');
            snprintf(name, sizeof name, "%.*s%u%s", (int)(hyphen - fixture_layer[i].name),
                     fixture_layer[i].name, l, hyphen + 2);
            r->ops[n] = fixture_op(arena_copy_text(a, name, strlen(name)), fixture_layer[i].kind,
                                   fixture_layer[i].shape, (int32_t)l, fixture_layer[i].noise, n);
        }
    r->ops[n] = fixture_op("result_norm", "rms_norm", "[256]", -1, 1e-3, n);
    n++;
    r->ops[n] = fixture_op("result_output", "matmul", "[1024]", -1, 1.2e-3, n);
}

static const int32_t fixture_tokens[] = { 1, 403, 407, 261, 378, 31, 417, 263, 261, 901, 512, 31 };

static const compare_logits fixture_logits = {
    .n_tokens = 12, .same_best = 11, .top_overlap = 0.95, .divergence = 1.2345e-5,
    .divergence_most = 6.5e-5, .n_predicted = 11, .perplexity_a = 3.21012, .perplexity_b = 3.21055,
    .best_a = { 417, 263, 301, 12, 999 }, .best_b = { 417, 301, 263, 12, 77 },
    .best_logit_a = { 14.25, 11.5, 11.25, 8.125, 7.5 },
    .best_logit_b = { 14.2, 11.4, 11.3, 8.1, 7.6 },
    .best_text_a = { " there", " a", " was", " little", "\n" },
    .best_text_b = { " there", " was", " a", " little", " said" },
};

/* Two sides that compute the same. */
static inline compare_report fixture_same(arena *a, uint32_t n_layers) {
    compare_report r = {
        .name_a = "interpreted:storyteller-q8_0.gguf", .what_a = "model, interpreted",
        .name_b = "storyteller-q8_0.gguf", .what_b = "model, compiled for x86_64 avx512-vnni",
        .model = "storyteller-q8_0.gguf", .version = "ggufc 0.1.0", .slack = 4,
        .suspect = "B", .tokens = fixture_tokens, .n_tokens = ARRAY_LEN(fixture_tokens),
        .text = "Once upon a time, there was a clever girl", .first = -1,
        .sentence = "No op is beyond its tolerance.",
        .logits = fixture_logits, .outcome = COMPARE_SAME,
    };
    fixture_ops(a, &r, n_layers);
    return r;
}

static compare_hypothesis fixture_hypotheses[] = {
    { "blk.1.attn_v.weight is read transposed", 1.9732, false },
    { "the scale of a block is read as bf16", 0.87211, false },
    { "quants are read as unsigned", 4.21e-13, true },
    { "scales of neighbouring blocks are swapped", 1.0313, false },
};

/* B is wrong from Vcur-1 on, and again in each later layer. */
static inline compare_report fixture_different(arena *a, uint32_t n_layers) {
    static const char *notes[] = { "B has only the last token of 2 ops" };
    compare_report r = fixture_same(a, n_layers);
    r.name_b = "dumps/";
    r.what_b = "text dumps";
    r.notes = notes;
    r.n_notes = ARRAY_LEN(notes);
    for (uint32_t i = 0; i < r.n_ops; i++) {
        compare_op *o = &r.ops[i];
        bool        made = !strncmp(o->name, "Vcur-", 5) && o->layer >= 1;
        if (r.first < 0 && made) r.first = (int32_t)i;
        bool reached = r.first >= 0 && !(o->layer == 1 && !strncmp(o->name, "Kcur", 4));
        if (reached) {
            double nmse = 0.04 + 0.02 * sin(i * 0.7) + 0.002 * (i - (uint32_t)r.first);
            o->between = fixture_distance(nmse, 3072, i);
        }
        o->beyond = reached;
        if (made) o->alone = fixture_distance(0.03, 3072, i);
        o->alone_beyond = made;
        if (!strncmp(o->name, "ffn_swiglu", 10)) o->between.n_values = o->alone.n_values = 0;
        if (!o->between.n_values) o->beyond = false;
    }
    r.sentence = "Vcur-1 (matmul, [128]) is the first op beyond its tolerance: NMSE 0.0389, "
                 "where 5.6e-6 is what two right engines differ by; largest at value 73 of token 7.";
    r.origin = "The error is made there: its inputs are within tolerance, and computed from B's own "
               "inputs it differs by NMSE 0.03.";
    r.hypotheses = fixture_hypotheses;
    r.n_hypotheses = ARRAY_LEN(fixture_hypotheses);
    r.verdict = "Vcur-1: matches when the quants of blk.1.attn_v.weight are read as unsigned.";
    r.logits.same_best = 2;
    r.logits.top_overlap = 0.2;
    r.logits.divergence = 2.75;
    r.logits.divergence_most = 7.5;
    r.logits.perplexity_b = 411.75;
    r.outcome = COMPARE_DIFFERENT;
    return r;
}

/* B's weights are coarser than A's. */
static inline compare_report fixture_cost(arena *a, uint32_t n_layers) {
    compare_report r = fixture_same(a, n_layers);
    r.name_a = "storyteller-f32.gguf";
    r.name_b = "storyteller-q4_0.gguf";
    r.cost = true;
    for (uint32_t i = 0; i < r.n_ops; i++) {
        compare_op *o = &r.ops[i];
        o->tolerance = o->alone_tolerance = 0;
        o->between.nmse *= 3e3;
        o->alone.nmse *= strcmp(o->kind, "matmul") ? 1 : 4e10;
    }
    r.sentence = "The weights differ: what B's cost is told, not whether they are right.";
    return r;
}

static inline compare_report fixture_tokens_differ(arena *a) {
    compare_report r = fixture_same(a, 1);
    r.tokens_differ = "The tokens differ at position 3:\nA: 261 378 31\nB: 262 378 31";
    r.sentence = NULL;
    r.n_ops = 0;
    r.logits.n_tokens = 0;
    r.outcome = COMPARE_FAILED;
    return r;
}

#endif
