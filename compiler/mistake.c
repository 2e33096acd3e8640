/* The rows, when each can matter, and how it is told. */
#include "mistake.h"

#include <string.h>

#define MATMUL    (1u << OP_MATMUL)
#define EMBEDDING (1u << OP_GET_ROWS)
#define WEIGHTS   (MATMUL | EMBEDDING)
#define NORM      (1u << OP_RMS_NORM)
#define ROPE      (1u << OP_ROPE)
#define ATTENTION (1u << OP_ATTENTION)
#define SWIGLU    (1u << OP_SWIGLU)
#define ADD       (1u << OP_ADD)

/* Siblings: as many rows as a layer has other weights of one shape at most (q, k, v, o of a model
   whose heads all have keys of their own). */
const mistake mistakes[] = {
    { "transposed", "{weight} is read transposed", MATMUL, .transposed = true },
    { "embedding-transposed", "{weight} is read transposed", EMBEDDING, .transposed = true },
    { "sibling-1", "{sibling} is read in place of {weight}", MATMUL, .sibling = 1 },
    { "sibling-2", "{sibling} is read in place of {weight}", MATMUL, .sibling = 2 },
    { "sibling-3", "{sibling} is read in place of {weight}", MATMUL, .sibling = 3 },
    { "scale-bf16", "block scales of {weight} are read as bf16", WEIGHTS,
      .reading.scale_as_bf16 = true },
    { "scale-subnormal", "subnormal block scales of {weight} are read as zero", WEIGHTS,
      .reading.subnormal_scale_zero = true },
    { "nibbles-swapped", "the high nibble of a byte of {weight} is taken first", WEIGHTS,
      .reading.nibbles_swapped = true },
    { "nibbles-adjacent", "the nibbles of a byte of {weight} are taken for neighbours", WEIGHTS,
      .reading.nibbles_adjacent = true },
    { "nibbles-adjacent-swapped",
      "the nibbles of a byte of {weight} are taken for neighbours, the high one first", WEIGHTS,
      .reading = { .nibbles_adjacent = true, .nibbles_swapped = true } },

    { "norm-weight", "{norm} is not multiplied in", NORM, .no_norm_weight = true },
    { "norm-weight-plus-1", "{norm} + 1 is multiplied in", NORM, .norm_weight_plus_one = true },
    { "eps-0", "eps is 0 instead of {eps}", NORM, .other_eps = true, .eps = 0 },
    { "eps-1e-12", "eps is 1e-12 instead of {eps}", NORM, .other_eps = true, .eps = 1e-12f },
    { "eps-1e-8", "eps is 1e-08 instead of {eps}", NORM, .other_eps = true, .eps = 1e-8f },
    { "eps-1e-6", "eps is 1e-06 instead of {eps}", NORM, .other_eps = true, .eps = 1e-6f },
    { "eps-1e-5", "eps is 1e-05 instead of {eps}", NORM, .other_eps = true, .eps = 1e-5f },
    { "eps-1e-3", "eps is 0.001 instead of {eps}", NORM, .other_eps = true, .eps = 1e-3f },

    { "rope-pairing", "{pairing}", ROPE, .other_pairing = true },
    { "rope-base-10000", "the rope base is 10000 instead of {base}", ROPE, .rope_base = 1e4 },
    { "rope-base-500000", "the rope base is 500000 instead of {base}", ROPE, .rope_base = 5e5 },
    { "rope-base-1000000", "the rope base is 1000000 instead of {base}", ROPE, .rope_base = 1e6 },
    { "rope-factors", "the rope frequency factors ({factors}) are ignored", ROPE,
      .no_rope_factors = true },
    { "rope-scale", "positions are not scaled by {scale}", ROPE, .no_rope_scale = true },
    { "rope-missing", "nothing is rotated", ROPE, .no_rotation = true },
    { "rope-from-1", "positions are counted from 1", ROPE, .first_position = 1 },

    { "heads-modulo", "query head h reads kv head h % {kv} instead of h / {group}", ATTENTION,
      .heads_by_modulo = true },
    { "attn-scale", "scores are not scaled by {attn_scale}", ATTENTION, .no_attn_scale = true },
    { "mask-later", "a token sees the one after it too", ATTENTION, .mask_shift = 1 },
    { "mask-earlier", "a token does not see itself", ATTENTION, .mask_shift = -1 },

    { "gate-up", "gate and up are exchanged", SWIGLU, .exchanged = true },
    { "first-operand", "{a} is not added", ADD, .left_out = MISTAKE_FIRST_OPERAND },
    { "second-operand", "{b} is not added", ADD, .left_out = MISTAKE_SECOND_OPERAND },
    { 0 },
};

const mistake *mistake_find(const char *name) {
    for (const mistake *m = mistakes; m->name; m++)
        if (!strcmp(m->name, name)) return m;
    return NULL;
}

/* "attn_q.weight" of "blk.3.attn_q.weight". */
static const char *short_name(const value *v) {
    const char *name = v->name;
    if (strncmp(name, "blk.", 4)) return name;
    name += 4 + strspn(name + 4, "0123456789");
    return *name == '.' ? name + 1 : v->name;
}

static bool same_layer(const value *a, const value *b) {
    size_t n = (size_t)(short_name(a) - a->name);
    return n && n == (size_t)(short_name(b) - b->name) && !memcmp(a->name, b->name, n);
}

const value *mistake_sibling(const graph *g, const op *o, uint32_t n) {
    const value *own = o->in[0];
    for (uint32_t i = 0; i < g->n_values; i++) {
        const value *v = g->values[i];
        if (v->kind != VALUE_WEIGHT || v == own || memcmp(v->ne, own->ne, sizeof v->ne)) continue;
        if (same_layer(own, v) && --n == 0) return v;
    }
    return NULL;
}

static uint32_t n_kv_heads(const op *o) {
    return (uint32_t)(value_count(o->in[1]) / o->params.head_dim);
}

static uint32_t heads_a_kv_head(const op *o) {
    return (uint32_t)(value_count(o->in[0]) / value_count(o->in[1]));
}

bool mistake_applies(const mistake *m, const graph *g, const op *o) {
    const op_params *p = &o->params;
    static const quant_mistake none;
    if (!(m->ops >> o->kind & 1)) return false;
    if (m->sibling) return mistake_sibling(g, o, m->sibling) != NULL;
    if (memcmp(&m->reading, &none, sizeof none)) return quant_mistake_applies(o->in[0]->type, &m->reading);
    if (m->no_norm_weight || m->norm_weight_plus_one) return o->in[1] != NULL;
    if (m->other_eps) return m->eps < p->eps || m->eps > p->eps;
    if ((m->rope_base > 0 || m->other_pairing) && p->rope_dims < 4) return false; /* one pair */
    if (m->rope_base > 0) return m->rope_base < p->rope_base || m->rope_base > p->rope_base;
    if (m->no_rope_factors) return o->n_in > 1 && o->in[1];
    if (m->no_rope_scale) return p->rope_scale < 1 || p->rope_scale > 1;
    if (m->heads_by_modulo) return n_kv_heads(o) > 1 && heads_a_kv_head(o) > 1;
    if (m->no_attn_scale) return p->attn_scale < 1 || p->attn_scale > 1;
    if (m->left_out) return o->in[1]->kind == VALUE_ACTIVATION;
    return true;
}

/* ---- telling */

/* A word of a row, and what it stands for; one without `many` is the same for all ops. */
typedef const char *word_reader(arena *a, const mistake *m, const graph *g, const op *o);

static const char *weight_word(arena *a, const mistake *m, const graph *g, const op *o) {
    (void)a, (void)m, (void)g;
    return short_name(o->in[0]);
}

static const char *second_word(arena *a, const mistake *m, const graph *g, const op *o) {
    (void)a, (void)m, (void)g;
    return short_name(o->in[1]);
}

static const char *first_operand_word(arena *a, const mistake *m, const graph *g, const op *o) {
    (void)a, (void)m, (void)g;
    return o->in[0]->name;
}

static const char *sibling_word(arena *a, const mistake *m, const graph *g, const op *o) {
    (void)a;
    return short_name(mistake_sibling(g, o, m->sibling));
}

static const char *pairing_word(arena *a, const mistake *m, const graph *g, const op *o) {
    uint32_t half = o->params.rope_dims / 2;
    (void)m, (void)g;
    if (o->params.rope_pairing == ROPE_ADJACENT)
        return arena_printf(a, "half-split pairs (i, i + %u) are rotated instead of interleaved ones", half);
    return "interleaved pairs (2i, 2i + 1) are rotated instead of half-split ones";
}

static const char *base_word(arena *a, const mistake *m, const graph *g, const op *o) {
    (void)m, (void)g;
    return arena_printf(a, "%g", o->params.rope_base);
}

static const char *scale_word(arena *a, const mistake *m, const graph *g, const op *o) {
    (void)m, (void)g;
    return arena_printf(a, "%g", o->params.rope_scale);
}

static const char *eps_word(arena *a, const mistake *m, const graph *g, const op *o) {
    (void)m, (void)g;
    return arena_printf(a, "%g", (double)o->params.eps);
}

static const char *attn_scale_word(arena *a, const mistake *m, const graph *g, const op *o) {
    (void)m, (void)g;
    return arena_printf(a, "%g", (double)o->params.attn_scale);
}

static const char *kv_word(arena *a, const mistake *m, const graph *g, const op *o) {
    (void)m, (void)g;
    return arena_printf(a, "%u", n_kv_heads(o));
}

static const char *group_word(arena *a, const mistake *m, const graph *g, const op *o) {
    (void)m, (void)g;
    return arena_printf(a, "%u", heads_a_kv_head(o));
}

static const struct {
    const char  *word;
    word_reader *read;
    const char  *many;
} words[] = {
    { "weight", weight_word, "every weight" },
    { "norm", second_word, "every norm's weight" },
    { "factors", second_word, NULL },
    { "a", first_operand_word, "the first operand of every sum" },
    { "b", second_word, "the second operand of every sum" },
    { "sibling", sibling_word, "another weight" },
    { "pairing", pairing_word, NULL },
    { "base", base_word, NULL },
    { "scale", scale_word, NULL },
    { "eps", eps_word, NULL },
    { "attn_scale", attn_scale_word, NULL },
    { "kv", kv_word, NULL },
    { "group", group_word, NULL },
};

static const char *word_text(arena *a, const char *word, size_t size, const mistake *m, const graph *g,
                             const op *o, bool many) {
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (strlen(words[i].word) == size && !memcmp(words[i].word, word, size))
            return many && words[i].many ? words[i].many : words[i].read(a, m, g, o);
    bug("mistake %s: {%.*s}", m->name, (int)size, word);
}

static const char *fill(arena *a, const mistake *m, const graph *g, const op *o, bool many) {
    const char *text = "", *from = m->what;
    for (const char *open; (open = strchr(from, '{'));) {
        size_t size = strcspn(open + 1, "}");
        text = arena_printf(a, "%s%.*s%s", text, (int)(open - from), from,
                            word_text(a, open + 1, size, m, g, o, many));
        from = open + size + 2;
    }
    return arena_printf(a, "%s%s", text, from);
}

const char *mistake_text(arena *a, const mistake *m, const graph *g, const op *o) {
    return fill(a, m, g, o, false);
}

const char *mistake_text_of_many(arena *a, const mistake *m, const graph *g, const op *o) {
    return fill(a, m, g, o, true);
}
