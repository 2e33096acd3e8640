/* fake_model.h - a compiled model written by hand, for tests of the runtime.
 *
 * Its arithmetic is small but depends on everything the runtime must get right: a token's hidden
 * state is a sum over every position up to its own, read from the key-value memory, which a call
 * before it filled (a barrier between them); a logit depends on the weights file.
 *
 *     kv[p]      = weights[token at p] + 1
 *     hidden[i]  = sum over p <= pos + i of kv[p] * (p + 1)
 *     logits[v]  = (hidden[out_token] * (v + 7) + weights[v]) % 1009
 */
#ifndef GGUFC_TESTS_FAKE_MODEL_H
#define GGUFC_TESTS_FAKE_MODEL_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ggufc/model.h"

enum {
    FAKE_VOCAB = 50,
    FAKE_CTX = 64,
    FAKE_BATCH = 8,
    FAKE_FILE_BYTES = 200,
    FAKE_INDEX_OFFSET = 80,
    FAKE_INDEX_BYTES = 100,
    FAKE_LOGITS_OFFSET = 256,
    FAKE_LOGITS_STRIDE = 256
};

static inline uint8_t fake_weight(uint32_t i) {
    return (uint8_t)(i * 37 + 11);
}

static void fake_store(const ggufc_state *s, const uint64_t *args, uint32_t begin, uint32_t end) {
    uint32_t *kv = (uint32_t *)(void *)(s->kv + args[0]);
    for (uint32_t i = begin; i < end; i++) kv[s->pos + i] = s->weights[s->tokens[i]] + 1u;
}

static void fake_sum(const ggufc_state *s, const uint64_t *args, uint32_t begin, uint32_t end) {
    const uint32_t *kv = (const uint32_t *)(const void *)(s->kv + args[0]);
    uint32_t *hidden = (uint32_t *)(void *)s->arena;
    for (uint32_t i = begin; i < end; i++) {
        hidden[i] = 0;
        for (uint32_t p = 0; p <= s->pos + i; p++) hidden[i] += kv[p] * (p + 1);
    }
}

static void fake_logits(const ggufc_state *s, uint64_t offset, uint32_t token, uint32_t begin,
                        uint32_t end) {
    uint32_t hidden = ((const uint32_t *)(const void *)s->arena)[token];
    float *logits = (float *)(void *)(s->arena + offset);
    for (uint32_t v = begin; v < end; v++)
        logits[v] = (float)((hidden * (v + 7) + s->weights[v]) % 1009);
}

static void fake_head(const ggufc_state *s, const uint64_t *args, uint32_t begin, uint32_t end) {
    fake_logits(s, args[0], s->out_token, begin, end);
}

static void fake_heads(const ggufc_state *s, const uint64_t *args, uint32_t begin, uint32_t end) {
    for (uint32_t i = 0; i < s->n_tokens; i++)
        fake_logits(s, args[0] + i * FAKE_LOGITS_STRIDE, s->out_token + i, begin, end);
}

static const uint64_t fake_kv_args[] = { 64 };
static const uint64_t fake_head_args[] = { FAKE_LOGITS_OFFSET };
static const ggufc_call fake_body[] = {
    { fake_store, fake_kv_args, 1, GGUFC_CALL_PER_TOKEN | GGUFC_CALL_BARRIER, 0, 0, 1 << 30 },
    { fake_sum, fake_kv_args, 1, GGUFC_CALL_PER_TOKEN, 0, 0, 1 << 30 },
};
static const ggufc_call fake_head_calls[] = { { fake_head, fake_head_args, FAKE_VOCAB, 0, 0, 0, 1 << 30 } };
static const ggufc_call fake_heads_calls[] = { { fake_heads, fake_head_args, FAKE_VOCAB, 0, 0, 0, 0 } };

static inline void fake_file_bytes(uint8_t *bytes) {
    for (uint32_t i = 0; i < FAKE_FILE_BYTES; i++) bytes[i] = fake_weight(i);
}

/* The model whose weights are at `path`, which fake_write_weights made. */
static inline ggufc_model fake_model(const char *path) {
    uint8_t bytes[FAKE_FILE_BYTES];
    fake_file_bytes(bytes);
    return (ggufc_model){
        .abi = GGUFC_ABI,
        .n_vocab = FAKE_VOCAB,
        .n_ctx = FAKE_CTX,
        .n_ctx_train = FAKE_CTX,
        .n_batch = FAKE_BATCH,
        .name = "fake",
        .arch = "fake",
        .types = "U8",
        .target = "c",
        .compiler = "by hand",
        .path = path,
        .arena_bytes = FAKE_LOGITS_OFFSET + GGUFC_BATCH_EXACT * FAKE_LOGITS_STRIDE,
        .kv_bytes = 64 + FAKE_CTX * sizeof(uint32_t),
        .weight_bytes = FAKE_FILE_BYTES,
        .logits_offset = FAKE_LOGITS_OFFSET,
        .logits_stride = FAKE_LOGITS_STRIDE,
        .file_bytes = FAKE_FILE_BYTES,
        .index_offset = FAKE_INDEX_OFFSET,
        .index_bytes = FAKE_INDEX_BYTES,
        .index_hash = ggufc_index_hash(bytes + FAKE_INDEX_OFFSET, FAKE_INDEX_BYTES),
        .decode = { fake_body, 2 },
        .prefill = { fake_body, 2 },
        .head = { fake_head_calls, 1 },
        .heads = { fake_heads_calls, 1 },
    };
}

static inline void fake_write(const char *path, const uint8_t *bytes, size_t size) {
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, size, f) != size || fclose(f) != 0) abort();
}

static inline void fake_write_weights(const char *path) {
    uint8_t bytes[FAKE_FILE_BYTES];
    fake_file_bytes(bytes);
    fake_write(path, bytes, sizeof bytes);
}

/* What the logits after tokens[0 … n - 1] must be. */
static inline void fake_expect(const int32_t *tokens, uint32_t n, float *logits) {
    uint32_t hidden = 0;
    for (uint32_t p = 0; p < n; p++)
        hidden += (fake_weight((uint32_t)tokens[p]) + 1u) * (p + 1);
    for (uint32_t v = 0; v < FAKE_VOCAB; v++)
        logits[v] = (float)((hidden * (v + 7) + fake_weight(v)) % 1009);
}

#endif
