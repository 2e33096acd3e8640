#include "mixture.h"

#include "gguf_read.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

/* ---- names */

const mixture *mixture_find(const char *name) {
    char         *end;
    unsigned long number = strtoul(name, &end, 10);
    bool          is_number = *name >= '0' && *name <= '9' && !*end;
    for (const mixture *m = mixtures; m->name; m++) {
        if (!strcasecmp(m->name, name) || (m->alias && !strcasecmp(m->alias, name))) return m;
        if (is_number && m->file_type == number) return m;
    }
    return NULL;
}

uint32_t mixture_find_type(const char *name) {
    for (uint32_t i = 0; i < QUANT_COUNT; i++) {
        const quant_info *info = quant_find(i);
        if (info && !strcasecmp(info->name, name)) return i;
    }
    return QUANT_COUNT;
}

static bool contains(gguf_string name, const char *part) {
    return memmem(name.data, name.size, part, strlen(part)) != NULL;
}

static bool is_name(gguf_string name, const char *text) {
    return name.size == strlen(text) && !memcmp(name.data, text, name.size);
}

/* ---- roles: the first row whose text is in a name (or is the name) decides. */

static const struct {
    const char       *text;
    bool              whole;
    enum mixture_role role;
} role_rows[] = {
    { "output.weight", true, ROLE_OUTPUT },
    { "token_embd.weight", true, ROLE_TOKEN_EMBD },
    { "per_layer_token_embd.weight", true, ROLE_TOKEN_EMBD },
    { "attn_qkv.weight", false, ROLE_ATTN_V },
    { "attn_kv_b.weight", false, ROLE_ATTN_V },
    { "attn_v.weight", false, ROLE_ATTN_V },
    { "attn_k.weight", false, ROLE_ATTN_K },
    { "attn_q.weight", false, ROLE_ATTN_Q },
    { "attn_output.weight", false, ROLE_ATTN_OUTPUT },
    { "ffn_up", false, ROLE_FFN_UP },
    { "ffn_gate", false, ROLE_FFN_GATE },
    { "ffn_down", false, ROLE_FFN_DOWN },
};

static const char *const role_names[ROLE_COUNT] = {
    [ROLE_OTHER] = "other",         [ROLE_OUTPUT] = "output", [ROLE_TOKEN_EMBD] = "token_embd",
    [ROLE_ATTN_Q] = "attn_q",       [ROLE_ATTN_K] = "attn_k", [ROLE_ATTN_V] = "attn_v",
    [ROLE_ATTN_OUTPUT] = "attn_output", [ROLE_FFN_UP] = "ffn_up", [ROLE_FFN_GATE] = "ffn_gate",
    [ROLE_FFN_DOWN] = "ffn_down",
};

enum mixture_role mixture_role(gguf_string name) {
    for (size_t i = 0; i < ARRAY_LEN(role_rows); i++)
        if (role_rows[i].whole ? is_name(name, role_rows[i].text) : contains(name, role_rows[i].text))
            return role_rows[i].role;
    return ROLE_OTHER;
}

const char *mixture_role_name(enum mixture_role role) {
    return role_names[role];
}

/* ---- the model */

static const gguf_kv *find_key(const gguf_file *f, gguf_string architecture, const char *key) {
    char name[256];
    snprintf(name, sizeof name, "%.*s.%s", (int)architecture.size, architecture.data, key);
    return gguf_find_kv(f, name);
}

/* An integer, or the first of a list with one for each layer; `absent` where there is none. */
static uint64_t read_count(const gguf_file *f, gguf_string architecture, const char *key, uint64_t absent) {
    const gguf_kv *kv = find_key(f, architecture, key);
    if (!kv) return absent;
    if (kv->type == GGUF_ARRAY) {
        const gguf_array *a = &kv->value.array;
        return a->count && (a->type == GGUF_U32 || a->type == GGUF_I32) ? gguf_array_u32(a, 0) : absent;
    }
    enum gguf_kind kind = gguf_type_find((uint32_t)kv->type)->kind;
    return kind == GGUF_UNSIGNED || (kind == GGUF_SIGNED && kv->value.i >= 0) ? kv->value.u : absent;
}

/* Models known to be of 70 billion parameters by their layers. */
static const struct {
    const char *architecture;
    uint64_t    n_layers;
    bool        only_gqa;
} large_models[] = {
    { "llama", 80, true }, { "qwen2", 80, false }, { "deci", 80, false },
    { "olmo", 80, false }, { "jais2", 68, false },
};

static bool is_large(const mixture_state *s) {
    for (size_t i = 0; i < ARRAY_LEN(large_models); i++)
        if (is_name(s->architecture, large_models[i].architecture) && s->n_layers == large_models[i].n_layers)
            return !large_models[i].only_gqa || s->n_gqa != 1;
    return false;
}

mixture_state mixture_begin(const mixture *mix, const gguf_file *f, bool has_importance) {
    mixture_state  s = { .mix = mix, .has_importance = has_importance };
    const gguf_kv *kv = gguf_find_kv(f, "general.architecture");
    if (kv && kv->type == GGUF_STRING && kv->value.string.size < 128) s.architecture = kv->value.string;
    uint64_t n_heads = read_count(f, s.architecture, "attention.head_count", 0);
    uint64_t n_kv = read_count(f, s.architecture, "attention.head_count_kv", n_heads);
    s.n_layers = read_count(f, s.architecture, "block_count", 0);
    s.n_experts = read_count(f, s.architecture, "expert_count", 0);
    s.n_gqa = n_kv ? n_heads / n_kv : 0;
    s.is_70b = is_large(&s);
    for (uint64_t i = 0; i < f->n_tensors; i++) {
        enum mixture_role role = mixture_role(f->tensors[i].name);
        if (role == ROLE_OUTPUT) s.has_output = true;
        if (role == ROLE_ATTN_V) s.n_attn_v++;
    }
    return s;
}

/* ---- order */

/* The number in "blk.N.", or -1. */
static int64_t layer_of(gguf_string name) {
    int64_t layer = 0;
    if (name.size < 6 || memcmp(name.data, "blk.", 4)) return -1;
    for (uint64_t i = 4; i < name.size && i < 14; i++) {
        char c = name.data[i];
        if (c < '0' || c > '9') return i > 4 && c == '.' ? layer : -1;
        layer = layer * 10 + c - '0';
    }
    return -1;
}

int mixture_compare(gguf_string a, gguf_string b) {
    int64_t la = layer_of(a), lb = layer_of(b);
    if (la != lb) return la < lb ? -1 : 1;
    int order = memcmp(a.data, b.data, a.size < b.size ? a.size : b.size);
    return order ? order : a.size < b.size ? -1 : a.size > b.size;
}

/* ---- what stays as it is: tensors with such a part in their name. */

static const char *const kept_parts[] = {
    "_norm.weight",
    "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight",                 /* routers of experts */
    "altup", "laurel", "per_layer_model_proj",                        /* small */
    "ssm_conv1d", "shortconv.conv.weight",                            /* convolutions over time */
    "indexer.k_proj.weight", "indexer.q_proj.weight",                 /* MiniMax */
    "time_mix_first.weight", "time_mix_w0.weight", "time_mix_w1.weight", "time_mix_w2.weight", /* RWKV */
    "time_mix_v0.weight", "time_mix_v1.weight", "time_mix_v2.weight", "time_mix_a0.weight",
    "time_mix_a1.weight", "time_mix_a2.weight", "time_mix_g1.weight", "time_mix_g2.weight",
    "time_mix_decay_w1.weight", "time_mix_decay_w2.weight", "time_mix_lerp_fused.weight",
    "attn_rel_b.weight",                                              /* T5's positions */
    ".position_embd", "sam.pos_embd", "sam.neck.", "sam.net_",        /* of images */
    ".rel_pos", ".patch_embd", ".patch_merger",
    "a.rvq.codebook", "mm.a.code_embd",                               /* of sound */
};

bool mixture_quantizes(const gguf_tensor *t) {
    static const char end[] = "weight";
    size_t n = sizeof end - 1;
    if (t->dims[1] == 1 && t->dims[2] == 1 && t->dims[3] == 1) return false;
    if (t->name.size < n || memcmp(t->name.data + t->name.size - n, end, n)) return false;
    if (is_name(t->name, "position_embd.weight") || is_name(t->name, "token_types.weight")) return false;
    for (size_t i = 0; i < ARRAY_LEN(kept_parts); i++)
        if (contains(t->name, kept_parts[i])) return false;
    return true;
}

/* ---- choosing */

bool mixture_has_word(const char *list, const char *word) {
    size_t n = strlen(word);
    for (const char *at = list; *at;) {
        size_t size = strcspn(at, " ");
        if (size == n && !strncasecmp(at, word, n)) return true;
        at += size + strspn(at + size, " ");
    }
    return false;
}

static bool holds(const char *name, size_t size, const mixture_question *q) {
    for (const mixture_condition *c = mixture_conditions; c->name; c++)
        if (strlen(c->name) == size && !strncmp(c->name, name, size)) return c->holds(q);
    bug("a rule of mixtures asks for '%.*s'", (int)size, name);
}

static bool all_hold(const char *when, const mixture_question *q) {
    while (*when) {
        size_t size = strcspn(when, " ");
        if (!holds(when, size, q)) return false;
        when += size + strspn(when + size, " ");
    }
    return true;
}

static const mixture_rule *find_rule(enum mixture_role role, const mixture_question *q) {
    for (const mixture_rule *r = mixture_rules; r->mixtures; r++)
        if ((*r->mixtures == '*' || mixture_has_word(r->mixtures, q->state->mix->name)) &&
            (*r->roles == '*' || mixture_has_word(r->roles, role_names[role])) && all_hold(r->when, q))
            return r;
    bug("no rule of mixtures for role '%s'", role_names[role]);
}

static bool is_low(const mixture *mix) {
    return mixture_has_word("IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ2_M", mix->name);
}

/* Which tensor of its role this is. Where there are experts, a layer may have several of a
   feed-forward role, or none: the layer counts, but for the lowest mixtures, as in llama.cpp. */
static mixture_question make_question(const mixture_state *s, const gguf_tensor *t, enum mixture_role role) {
    mixture_question q = { .state = s, .tensor = t, .at = s->n_seen[role], .of = s->n_layers };
    int64_t layer = layer_of(t->name);
    bool    is_ffn = role == ROLE_FFN_UP || role == ROLE_FFN_GATE || role == ROLE_FFN_DOWN;
    if (is_ffn && s->n_experts > 1 && layer >= 0 && !is_low(s->mix)) q.at = (uint64_t)layer;
    if (role == ROLE_ATTN_V) q.of = s->n_attn_v;
    return q;
}

uint32_t mixture_choose(mixture_state *s, const gguf_tensor *t) {
    enum mixture_role role = mixture_role(t->name);
    if (quant_find(s->mix->base)->block_len == 1) return s->mix->base;
    if (role == ROLE_TOKEN_EMBD && !s->has_output) role = ROLE_OUTPUT;
    mixture_question    q = make_question(s, t, role);
    const mixture_rule *rule = find_rule(role, &q);
    uint32_t quant = rule->quant == QUANT_COUNT ? s->mix->base : rule->quant;
    if (role == ROLE_ATTN_V && s->is_70b && !is_low(s->mix) && (quant == QUANT_Q3_K || quant == QUANT_Q4_K))
        quant = QUANT_Q5_K;
    s->n_seen[role]++;
    return quant;
}

/* ---- fallbacks */

static const struct {
    uint8_t from, to;
} fallbacks[] = {
    { QUANT_IQ1_S, QUANT_IQ4_NL },  { QUANT_IQ1_M, QUANT_IQ4_NL },   { QUANT_IQ2_XXS, QUANT_IQ4_NL },
    { QUANT_IQ2_XS, QUANT_IQ4_NL }, { QUANT_IQ2_S, QUANT_IQ4_NL },   { QUANT_IQ3_XXS, QUANT_IQ4_NL },
    { QUANT_IQ3_S, QUANT_IQ4_NL },  { QUANT_IQ4_XS, QUANT_IQ4_NL },  { QUANT_Q1_0, QUANT_Q4_0 },
    { QUANT_Q2_0, QUANT_Q4_0 },     { QUANT_Q2_K, QUANT_Q4_0 },      { QUANT_Q3_K, QUANT_Q4_0 },
    { QUANT_TQ1_0, QUANT_Q4_0 },    { QUANT_TQ2_0, QUANT_Q4_0 },     { QUANT_NVFP4, QUANT_Q4_0 },
    { QUANT_Q4_K, QUANT_Q5_0 },     { QUANT_Q5_K, QUANT_Q5_1 },      { QUANT_Q6_K, QUANT_Q8_0 },
};

static bool divides(uint32_t quant, uint64_t row) {
    return row % quant_find(quant)->block_len == 0;
}

uint32_t mixture_fallback(uint32_t quant, uint64_t row) {
    if (divides(quant, row)) return quant;
    for (size_t i = 0; i < ARRAY_LEN(fallbacks); i++)
        if (fallbacks[i].from == quant && divides(fallbacks[i].to, row)) return fallbacks[i].to;
    return QUANT_F16;
}

/* ---- importance */

bool mixture_needs_importance(const mixture *mix, gguf_string name, uint32_t quant) {
    enum mixture_role role = mixture_role(name);
    if (role == ROLE_TOKEN_EMBD || role == ROLE_OUTPUT) return false;
    switch (quant) {
    case QUANT_IQ1_S:
    case QUANT_IQ1_M:
    case QUANT_IQ2_XXS:
    case QUANT_IQ2_XS:
    case QUANT_IQ2_S:
    case QUANT_IQ3_XXS: return true;
    case QUANT_Q2_K: return !strcmp(mix->name, "Q2_K_S");
    default: return false;
    }
}
