/* make_model_llama.h - what a Llama of a given shape consists of: its tensors and metadata.
 *
 * Tensors stand in the order in which conversion from a checkpoint leaves them. The scales keep
 * activations near 1 through any number of layers: a matrix's values have the standard deviation
 * 1/sqrt(columns), and those of the two matrices that add to the residual stream are divided by
 * sqrt(2 layers) besides. Tied embeddings are scaled as the output matrix they are, so that logits
 * stay near 1; the first layers then add to a small vector, which norms make good. */
#ifndef MAKE_MODEL_LLAMA_H
#define MAKE_MODEL_LLAMA_H

#include "make_model_file.h"
#include "make_model_vocab.h"
#include "random_blocks.h"

#include <math.h>

typedef struct shape {
    const char *name;
    uint32_t    layers, embd, heads, kv_heads, ff, vocab, ctx;
    uint32_t    head_dim; /* 0: embd / heads, and not told in the metadata */
    float       rope_base;
    bool        tied, rope_freqs, biases;
} shape;

/* What a model is made of besides its shape. */
typedef struct making {
    uint32_t type; /* as in a file */
    bool     mixed;
    uint64_t seed;
} making;

typedef struct tensor {
    char     name[48];
    uint64_t columns, rows; /* rows 0: one dimension */
    uint32_t type;
    float    centre, std;
    bool     rope_factors; /* neither: the table of rope_freqs */
    uint64_t offset;       /* from where data begins */
} tensor;

typedef struct tensor_list {
    tensor  *items;
    uint32_t count, matrices;
} tensor_list;

#define LLAMA_ALIGNMENT   32
#define LLAMA_LAYER_PARTS 16 /* no layer has more tensors */
#define LLAMA_OTHER_PARTS 4

static inline uint32_t llama_head_dim(const shape *s) {
    return s->head_dim ? s->head_dim : s->embd / s->heads;
}

static inline uint64_t tensor_count_values(const tensor *t) {
    return t->columns * (t->rows ? t->rows : 1);
}

/* ---- tensors */

static inline tensor *tensor_add(tensor_list *list, int layer, const char *name) {
    tensor *t = &list->items[list->count++];
    *t = (tensor){.type = VALUE_F32};
    if (layer < 0)
        snprintf(t->name, sizeof t->name, "%s", name);
    else
        snprintf(t->name, sizeof t->name, "blk.%d.%s", layer, name);
    return t;
}

static inline void tensor_add_vector(tensor_list *list, int layer, const char *name, uint64_t count,
                                     float centre) {
    tensor *t = tensor_add(list, layer, name);
    t->columns = count;
    t->centre = centre;
    t->std = 0.1f;
}

/* What a matrix becomes whose rows are no whole blocks: what llama.cpp's quantizer makes of it, and
   F16 where that does not fit either. */
static inline uint32_t tensor_fall_back(uint32_t type, uint64_t columns) {
    static const uint8_t other[QUANT_COUNT] = {
        [QUANT_Q2_0] = QUANT_Q4_0,      [QUANT_Q2_K] = QUANT_Q4_0,      [QUANT_Q3_K] = QUANT_Q4_0,
        [QUANT_TQ1_0] = QUANT_Q4_0,     [QUANT_TQ2_0] = QUANT_Q4_0,     [QUANT_Q4_K] = QUANT_Q5_0,
        [QUANT_Q5_K] = QUANT_Q5_1,      [QUANT_Q6_K] = QUANT_Q8_0,      [QUANT_IQ1_S] = QUANT_IQ4_NL,
        [QUANT_IQ1_M] = QUANT_IQ4_NL,   [QUANT_IQ2_XXS] = QUANT_IQ4_NL, [QUANT_IQ2_XS] = QUANT_IQ4_NL,
        [QUANT_IQ2_S] = QUANT_IQ4_NL,   [QUANT_IQ3_XXS] = QUANT_IQ4_NL, [QUANT_IQ3_S] = QUANT_IQ4_NL,
        [QUANT_IQ4_XS] = QUANT_IQ4_NL,
    };
    if (columns % quant_find(type)->block_len == 0) return type;
    return other[type] && columns % 32 == 0 ? other[type] : (uint32_t)QUANT_F16;
}

static inline void tensor_add_matrix(tensor_list *list, const making *how, int layer,
                                     const char *name, uint64_t columns, uint64_t rows,
                                     double std) {
    static const uint32_t types[] = {VALUE_Q8_0, VALUE_F16, VALUE_BF16, VALUE_F32};
    tensor *t = tensor_add(list, layer, name);
    t->columns = columns;
    t->rows = rows;
    t->std = (float)std;
    t->type = tensor_fall_back(how->mixed ? types[list->matrices % 4] : how->type, columns);
    list->matrices++;
}

static inline void llama_add_layer(tensor_list *list, const shape *s, const making *how, int l) {
    const uint64_t dim = llama_head_dim(s), q = dim * s->heads, kv = dim * s->kv_heads;
    const double   residual = 1 / sqrt(2.0 * s->layers), in = 1 / sqrt(s->embd);
    tensor_add_vector(list, l, "attn_norm.weight", s->embd, 1);
    tensor_add_matrix(list, how, l, "ffn_down.weight", s->ff, s->embd, residual / sqrt(s->ff));
    tensor_add_matrix(list, how, l, "ffn_gate.weight", s->embd, s->ff, in);
    tensor_add_matrix(list, how, l, "ffn_up.weight", s->embd, s->ff, in);
    tensor_add_vector(list, l, "ffn_norm.weight", s->embd, 1);
    tensor_add_matrix(list, how, l, "attn_k.weight", s->embd, kv, in);
    tensor_add_matrix(list, how, l, "attn_output.weight", q, s->embd, residual / sqrt((double)q));
    tensor_add_matrix(list, how, l, "attn_q.weight", s->embd, q, in);
    tensor_add_matrix(list, how, l, "attn_v.weight", s->embd, kv, in);
    if (!s->biases)
        return;
    tensor_add_vector(list, l, "ffn_down.bias", s->embd, 0);
    tensor_add_vector(list, l, "ffn_gate.bias", s->ff, 0);
    tensor_add_vector(list, l, "ffn_up.bias", s->ff, 0);
    tensor_add_vector(list, l, "attn_k.bias", kv, 0);
    tensor_add_vector(list, l, "attn_output.bias", s->embd, 0);
    tensor_add_vector(list, l, "attn_q.bias", q, 0);
    tensor_add_vector(list, l, "attn_v.bias", kv, 0);
}

/* Every tensor with its place; the bytes of all, padding included. False without memory. */
static inline bool llama_list_tensors(tensor_list *list, const shape *s, const making *how,
                                      uint64_t *bytes) {
    *list = (tensor_list){0};
    list->items = calloc((size_t)s->layers * LLAMA_LAYER_PARTS + LLAMA_OTHER_PARTS, sizeof(tensor));
    if (!list->items)
        return false;
    const double out = 1 / sqrt(s->embd);
    if (s->rope_freqs) {
        tensor *t = tensor_add(list, -1, "rope_freqs.weight");
        t->columns = llama_head_dim(s) / 2;
        t->rope_factors = true;
    }
    tensor_add_matrix(list, how, -1, "token_embd.weight", s->embd, s->vocab, s->tied ? out : 1);
    for (uint32_t l = 0; l < s->layers; l++)
        llama_add_layer(list, s, how, (int)l);
    tensor_add_vector(list, -1, "output_norm.weight", s->embd, 1);
    if (!s->tied)
        tensor_add_matrix(list, how, -1, "output.weight", s->embd, s->vocab, out);

    *bytes = 0;
    for (uint32_t i = 0; i < list->count; i++) {
        tensor *t = &list->items[i];
        t->offset = *bytes;
        *bytes += quant_row_bytes(t->type, tensor_count_values(t));
        *bytes = (*bytes + LLAMA_ALIGNMENT - 1) / LLAMA_ALIGNMENT * LLAMA_ALIGNMENT;
    }
    return true;
}

/* The factors of Llama 3.2: slow rotations are slowed 32 times, fast ones left, between blended. */
static inline void llama_fill_rope_factors(float *out, const shape *s) {
    const double   factor = 32, low = 1, high = 4, old_ctx = 8192, pi = 3.14159265358979323846;
    const uint32_t dim = llama_head_dim(s);
    for (uint32_t i = 0; i < dim / 2; i++) {
        double length = 2 * pi * pow(s->rope_base, 2.0 * i / dim);
        double blend = (old_ctx / length - low) / (high - low);
        blend = blend < 0 ? 0 : blend > 1 ? 1 : blend;
        out[i] = (float)(1 / ((1 - blend) / factor + blend));
    }
}

/* ---- metadata */

enum {
    META_U16 = 2,
    META_U32 = 4,
    META_I32 = 5,
    META_F32 = 6,
    META_BOOL = 7,
    META_STRING = 8,
    META_ARRAY = 9
};

typedef struct meta {
    FILE    *stream; /* to memory: the count stands before the pairs */
    uint64_t count;
} meta;

static inline void meta_put(meta *m, const void *data, size_t size) {
    fwrite(data, 1, size, m->stream);
}

static inline void meta_put_text(meta *m, const char *text, uint64_t size) {
    meta_put(m, &size, sizeof size);
    meta_put(m, text, size);
}

static inline void meta_put_key(meta *m, const char *key, uint32_t type) {
    meta_put_text(m, key, strlen(key));
    meta_put(m, &type, sizeof type);
    m->count++;
}

static inline void meta_add_u32(meta *m, const char *key, uint32_t value) {
    meta_put_key(m, key, META_U32);
    meta_put(m, &value, sizeof value);
}

/* What a part of a split model says of itself, as llama.cpp's gguf-split writes it. */
static inline void meta_add_split(meta *m, uint32_t part, uint32_t n_parts, uint32_t n_tensors) {
    const uint16_t no = (uint16_t)part, count = (uint16_t)n_parts;
    meta_put_key(m, "split.no", META_U16);
    meta_put(m, &no, sizeof no);
    meta_put_key(m, "split.tensors.count", META_I32);
    meta_put(m, &n_tensors, sizeof n_tensors);
    meta_put_key(m, "split.count", META_U16);
    meta_put(m, &count, sizeof count);
}

static inline void meta_add_f32(meta *m, const char *key, float value) {
    meta_put_key(m, key, META_F32);
    meta_put(m, &value, sizeof value);
}

static inline void meta_add_bool(meta *m, const char *key, bool value) {
    meta_put_key(m, key, META_BOOL);
    meta_put(m, &(char){value}, 1);
}

static inline void meta_add_string(meta *m, const char *key, const char *value) {
    meta_put_key(m, key, META_STRING);
    meta_put_text(m, value, strlen(value));
}

static inline void meta_begin_array(meta *m, const char *key, uint32_t type, uint64_t count) {
    meta_put_key(m, key, META_ARRAY);
    meta_put(m, &type, sizeof type);
    meta_put(m, &count, sizeof count);
}

static inline void meta_add_vocab(meta *m, const vocab *v) {
    meta_add_string(m, "tokenizer.ggml.model", "llama");
    meta_add_string(m, "tokenizer.ggml.pre", "default");
    meta_begin_array(m, "tokenizer.ggml.tokens", META_STRING, v->count);
    for (uint32_t i = 0; i < v->count; i++)
        meta_put_text(m, v->pieces[i].text, v->pieces[i].size);
    meta_begin_array(m, "tokenizer.ggml.scores", META_F32, v->count);
    for (uint32_t i = 0; i < v->count; i++)
        meta_put(m, &(float){vocab_score(i)}, sizeof(float));
    meta_begin_array(m, "tokenizer.ggml.token_type", META_I32, v->count);
    for (uint32_t i = 0; i < v->count; i++)
        meta_put(m, &(int32_t){vocab_type(i)}, sizeof(int32_t));
    meta_add_u32(m, "tokenizer.ggml.bos_token_id", 1);
    meta_add_u32(m, "tokenizer.ggml.eos_token_id", 2);
    meta_add_u32(m, "tokenizer.ggml.unknown_token_id", 0);
    meta_add_bool(m, "tokenizer.ggml.add_bos_token", true);
    meta_add_bool(m, "tokenizer.ggml.add_eos_token", false);
    meta_add_bool(m, "tokenizer.ggml.add_space_prefix", true);
}

/* general.file_type: what most of the weights are, where llama.cpp has a number for it. */
static inline uint32_t llama_file_type(uint32_t type) {
    static const uint8_t numbers[QUANT_COUNT] = {
        [QUANT_F16] = 1,      [QUANT_Q4_0] = 2,     [QUANT_Q4_1] = 3,   [QUANT_Q8_0] = 7,
        [QUANT_Q5_0] = 8,     [QUANT_Q5_1] = 9,     [QUANT_Q2_K] = 10,  [QUANT_Q3_K] = 11,
        [QUANT_Q4_K] = 14,    [QUANT_Q5_K] = 16,    [QUANT_Q6_K] = 18,  [QUANT_IQ2_XXS] = 19,
        [QUANT_IQ2_XS] = 20,  [QUANT_IQ3_XXS] = 23, [QUANT_IQ1_S] = 24, [QUANT_IQ4_NL] = 25,
        [QUANT_IQ3_S] = 26,   [QUANT_IQ2_S] = 28,   [QUANT_IQ4_XS] = 30, [QUANT_IQ1_M] = 31,
        [QUANT_BF16] = 32,    [QUANT_TQ1_0] = 36,   [QUANT_TQ2_0] = 37, [QUANT_MXFP4] = 38,
        [QUANT_NVFP4] = 39,   [QUANT_Q1_0] = 40,    [QUANT_Q2_0] = 41,
    };
    return numbers[type];
}

static inline void llama_add_metadata(meta *m, const shape *s, const making *how, const vocab *v) {
    const uint32_t dim = llama_head_dim(s);
    meta_add_string(m, "general.architecture", "llama");
    meta_add_string(m, "general.type", "model");
    meta_add_string(m, "general.name", s->name);
    meta_add_string(m, "general.description", "random weights, for tests and measurements");
    meta_add_u32(m, "llama.block_count", s->layers);
    meta_add_u32(m, "llama.context_length", s->ctx);
    meta_add_u32(m, "llama.embedding_length", s->embd);
    meta_add_u32(m, "llama.feed_forward_length", s->ff);
    meta_add_u32(m, "llama.attention.head_count", s->heads);
    meta_add_u32(m, "llama.attention.head_count_kv", s->kv_heads);
    meta_add_f32(m, "llama.rope.freq_base", s->rope_base);
    meta_add_f32(m, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    if (s->head_dim) {
        meta_add_u32(m, "llama.attention.key_length", dim);
        meta_add_u32(m, "llama.attention.value_length", dim);
    }
    meta_add_u32(m, "general.file_type", llama_file_type(how->type));
    meta_add_u32(m, "llama.vocab_size", s->vocab);
    meta_add_u32(m, "llama.rope.dimension_count", dim);
    meta_add_vocab(m, v);
    meta_add_u32(m, "general.quantization_version", 2);
}

#endif
