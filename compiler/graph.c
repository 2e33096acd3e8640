/* What an op is called, what it reads, and what shape comes out: one row each. A new op is a row
 * here, an emitter (emit_elementwise.c) and, where the language is to reach it, a `function` name. */
#include "graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ACTIVATION (1u << VALUE_ACTIVATION)
#define WEIGHT     (1u << VALUE_WEIGHT)
#define TOKENS     (1u << VALUE_TOKENS)
#define CACHE      (1u << VALUE_CACHE)

#define WHY(...) (snprintf(why, GRAPH_WHY_BYTES, __VA_ARGS__), false)
#define U(n)     ((unsigned long long)(n))

uint64_t value_count(const value *v) {
    return v->ne[0] * v->ne[1] * v->ne[2] * v->ne[3];
}

bool graph_is_named(const graph *g, const value *v) {
    return v->kind == VALUE_ACTIVATION && v->id < g->n_named;
}

static void set_shape(op *o, uint64_t ne0, uint64_t ne1) {
    o->out->ne[0] = ne0;
    o->out->ne[1] = ne1;
    o->out->ne[2] = o->out->ne[3] = 1;
}

static bool same_shape(const value *a, const value *b) {
    return !memcmp(a->ne, b->ne, sizeof a->ne);
}

/* ---- shapes */

static bool infer_like_input(op *o, char *why) {
    (void)why;
    memcpy(o->out->ne, o->in[0]->ne, sizeof o->out->ne);
    return true;
}

/* Weights that are added or multiplied one by one are read as plain numbers. */
static bool plain(const value *v, char *why) {
    const quant_info *info = quant_find(v->type);
    if (v->kind != VALUE_WEIGHT || info->block_len == 1) return true;
    return WHY("%s is %s; F32, F16 or BF16 is needed here", v->name, info->name);
}

static bool infer_get_rows(op *o, char *why) {
    if (o->in[0]->ne[2] != 1) return WHY("the table has more than 2 dimensions");
    set_shape(o, o->in[0]->ne[0], 1);
    return true;
}

static bool infer_rms_norm(op *o, char *why) {
    const value *x = o->in[0], *w = o->in[1];
    if (w && value_count(w) != x->ne[0])
        return WHY("the weight has %llu values, rows of x have %llu", U(value_count(w)),
                   U(x->ne[0]));
    if (w && !plain(w, why)) return false;
    return infer_like_input(o, why);
}

static bool matmul_fits(const value *w, const value *x, char *why) {
    if (w->ne[2] != 1) return WHY("the weight has more than 2 dimensions");
    if (w->ne[0] != value_count(x))
        return WHY("the weight has rows of %llu values, x has %llu", U(w->ne[0]),
                   U(value_count(x)));
    return true;
}

static bool infer_matmul(op *o, char *why) {
    if (!matmul_fits(o->in[0], o->in[1], why)) return false;
    set_shape(o, o->in[0]->ne[1], 1);
    return true;
}

static bool infer_glu_matmul(op *o, char *why) {
    if (!matmul_fits(o->in[0], o->in[2], why) || !matmul_fits(o->in[1], o->in[2], why))
        return false;
    if (!same_shape(o->in[0], o->in[1])) return WHY("gate and up differ in shape");
    set_shape(o, o->in[0]->ne[1], 1);
    return true;
}

static bool infer_elementwise(op *o, char *why) {
    if (value_count(o->in[0]) != value_count(o->in[1]))
        return WHY("operands of %llu and %llu values", U(value_count(o->in[0])),
                   U(value_count(o->in[1])));
    if (!plain(o->in[1], why)) return false;
    return infer_like_input(o, why);
}

static bool rope_fits(const op *o, const value *factors, char *why) {
    if (o->params.rope_dims % 2) return WHY("dims is %u, which is odd", o->params.rope_dims);
    if (!factors) return true;
    if (!plain(factors, why)) return false;
    bool     table = factors->kind == VALUE_ACTIVATION;
    if (table && factors->producer->kind != OP_ROPE_TABLE) return WHY("the factors must be a weight");
    uint64_t expected = table ? o->params.rope_dims : o->params.rope_dims / 2;
    if (value_count(factors) == expected) return true;
    return WHY("%llu %s for %u pairs", U(value_count(factors)), table ? "angles" : "factors",
               o->params.rope_dims / 2);
}

static bool infer_rope(op *o, char *why) {
    uint64_t n = value_count(o->in[0]), d = o->params.head_dim;
    if (n % d) return WHY("x has %llu values, no whole number of heads of %llu", U(n), U(d));
    if (o->params.rope_dims > d)
        return WHY("dims is %u, more than a head's %llu", o->params.rope_dims, U(d));
    if (!rope_fits(o, o->in[1], why)) return false;
    set_shape(o, d, n / d);
    return true;
}

static bool infer_rope_table(op *o, char *why) {
    if (!rope_fits(o, o->in[0], why)) return false;
    set_shape(o, o->params.rope_dims, 1);
    return true;
}

static bool infer_kv_store(op *o, char *why) {
    uint64_t n = value_count(o->in[0]), d = o->params.head_dim;
    if (n % d) return WHY("x has %llu values, no whole number of heads of %llu", U(n), U(d));
    set_shape(o, d, n / d);
    return true;
}

static bool infer_attention(op *o, char *why) {
    uint64_t d = o->params.head_dim, q = value_count(o->in[0]), k = value_count(o->in[1]);
    if (value_count(o->in[2]) != k)
        return WHY("k has %llu values, v %llu", U(k), U(value_count(o->in[2])));
    if (q % d || k % d || !k || (q / d) % (k / d))
        return WHY("q has %llu values and k %llu: with heads of %llu the heads of q are no multiple "
                   "of the heads of k", U(q), U(k), U(d));
    set_shape(o, q, 1);
    return true;
}

/* ---- the table */

#define PARAM(text, kind, field, ...) {.name = text, .type = kind, .offset = offsetof(op_params, field), __VA_ARGS__}

static const char *const pairing_words[] = {"adjacent", "halves", NULL};

static const op_param_info rms_norm_params[] = {
    PARAM("eps", PARAM_F32, eps, .required = true),
    {0},
};
static const op_param_info rope_params[] = {
    PARAM("head_dim", PARAM_U32, head_dim, .required = true),
    PARAM("dims", PARAM_U32, rope_dims, .required = true),
    PARAM("base", PARAM_F64, rope_base, .required = true),
    PARAM("scale", PARAM_F64, rope_scale, .fallback = 1),
    PARAM("pairing", PARAM_WORD, rope_pairing, .required = true, .words = pairing_words),
    {0},
};
static const op_param_info rope_table_params[] = {
    PARAM("dims", PARAM_U32, rope_dims, .required = true),
    PARAM("base", PARAM_F64, rope_base, .required = true),
    PARAM("scale", PARAM_F64, rope_scale, .fallback = 1),
    {0},
};
static const op_param_info kv_store_params[] = {
    PARAM("head_dim", PARAM_U32, head_dim, .required = true),
    {0},
};
static const op_param_info attention_params[] = {
    PARAM("head_dim", PARAM_U32, head_dim, .required = true),
    PARAM("scale", PARAM_F32, attn_scale, .required = true),
    {0},
};

const op_info op_infos[OP_KIND_COUNT] = {
    [OP_GET_ROWS] = {"get_rows", "get_rows",
                     {{"table", false, WEIGHT}, {"tokens", false, TOKENS}},
                     NULL, false, infer_get_rows},
    [OP_RMS_NORM] = {"rms_norm", "rms_norm",
                     {{"x", false, ACTIVATION}, {"weight", true, WEIGHT}},
                     rms_norm_params, false, infer_rms_norm},
    [OP_MATMUL] = {"matmul", "matmul",
                   {{"weight", false, WEIGHT}, {"x", false, ACTIVATION}},
                   NULL, false, infer_matmul},
    [OP_ADD] = {"add", "add",
                {{"a", false, ACTIVATION}, {"b", false, ACTIVATION | WEIGHT}},
                NULL, false, infer_elementwise},
    [OP_MUL] = {"mul", "mul",
                {{"a", false, ACTIVATION}, {"b", false, ACTIVATION | WEIGHT}},
                NULL, false, infer_elementwise},
    [OP_ROPE] = {"rope", "rope",
                 {{"x", false, ACTIVATION}, {"factors", true, WEIGHT | ACTIVATION}},
                 rope_params, true, infer_rope},
    [OP_ATTENTION] = {"attention", "attention",
                      {{"q", false, ACTIVATION},
                       {"k", false, ACTIVATION | CACHE},
                       {"v", false, ACTIVATION | CACHE}},
                      attention_params, true, infer_attention},
    [OP_SWIGLU] = {"swiglu", "swiglu",
                   {{"gate", false, ACTIVATION}, {"up", false, ACTIVATION}},
                   NULL, false, infer_elementwise},
    [OP_ROPE_TABLE] = {"rope_table", NULL,
                       {{"factors", true, WEIGHT}},
                       rope_table_params, false, infer_rope_table},
    [OP_KV_STORE] = {"kv_store", NULL, {{"x", false, ACTIVATION}}, kv_store_params, false, infer_kv_store},
    [OP_QUANTIZE] = {"quantize", NULL, {{"x", false, ACTIVATION}}, NULL, false, infer_like_input},
    [OP_GLU_MATMUL] = {"glu_matmul", NULL,
                       {{"gate", false, WEIGHT}, {"up", false, WEIGHT}, {"x", false, ACTIVATION}},
                       NULL, false, infer_glu_matmul},
};

enum op_kind graph_find_function(const char *name) {
    for (int k = 0; k < OP_KIND_COUNT; k++)
        if (op_infos[k].function && !strcmp(op_infos[k].function, name)) return (enum op_kind)k;
    return OP_KIND_COUNT;
}

/* ---- building */

graph *graph_new(arena *a, const gguf_file *file) {
    graph *g = ARENA_NEW(a, graph);
    g->memory = a;
    g->file = file;
    g->tokens = graph_add_value(g, VALUE_TOKENS, "tokens");
    g->tokens->per_token = true;
    return g;
}

value *graph_add_value(graph *g, enum value_kind kind, const char *name) {
    value *v = ARENA_NEW(g->memory, value);
    value **slot = arena_push(g->memory, (void **)&g->values, &g->n_values, &g->cap_values,
                              sizeof *slot);
    *slot = v;
    v->kind = kind;
    v->name = name;
    v->id = g->n_values - 1;
    v->ne[0] = v->ne[1] = v->ne[2] = v->ne[3] = 1;
    return v;
}

value *graph_weight(graph *g, const gguf_tensor *tensor) {
    for (uint32_t i = 0; i < g->n_values; i++)
        if (g->values[i]->tensor == tensor) return g->values[i];
    value *v = graph_add_value(g, VALUE_WEIGHT,
                               arena_copy_text(g->memory, tensor->name.data, tensor->name.size));
    v->tensor = tensor;
    v->type = tensor->type;
    memcpy(v->ne, tensor->dims, sizeof v->ne);
    return v;
}

op *graph_new_op(graph *g, enum op_kind kind, const char *name, int32_t layer, value *const *in,
                 uint32_t n_in, const op_params *params, char *why) {
    op *o = ARENA_NEW(g->memory, op);
    o->kind = kind;
    o->name = name;
    o->layer = layer;
    o->n_in = n_in;
    if (n_in > OP_MAX_INPUTS) bug("%u inputs", n_in);
    for (uint32_t i = 0; i < n_in; i++) o->in[i] = in[i];
    if (params) o->params = *params;
    o->out = graph_add_value(g, kind == OP_KV_STORE ? VALUE_CACHE : VALUE_ACTIVATION, name);
    o->out->type = kind == OP_KV_STORE ? QUANT_F16 : QUANT_F32;
    o->out->per_token = kind != OP_KV_STORE;
    o->out->producer = o;
    if (op_infos[kind].infer(o, why)) return o;
    g->n_values--;
    return NULL;
}

value *graph_add_op(graph *g, enum op_kind kind, const char *name, int32_t layer, value *const *in,
                    uint32_t n_in, const op_params *params, char *why) {
    op *o = graph_new_op(g, kind, name, layer, in, n_in, params, why);
    if (!o) return NULL;
    op **slot = arena_push(g->memory, (void **)&g->ops, &g->n_ops, &g->cap_ops, sizeof *slot);
    *slot = o;
    return o->out;
}

uint32_t graph_op_weights(const op *o) {
    return o->kind == OP_GLU_MATMUL ? 2 : o->kind == OP_MATMUL ? 1 : 0;
}

uint32_t graph_op_outputs(const op *o, value *outputs[OP_MAX_OUTPUTS]) {
    value *all[OP_MAX_OUTPUTS] = {
        o->fused.product, o->fused.up,    o->fused.sum, o->fused.drop_out ? NULL : o->out,
        o->fused.cache,   o->fused.quantized,
    };
    uint32_t n = 0;
    for (int i = 0; i < OP_MAX_OUTPUTS; i++)
        if (all[i]) outputs[n++] = all[i];
    return n;
}

const char *graph_weight_types(arena *a, const graph *g, uint64_t *params) {
    uint64_t    by_type[QUANT_COUNT] = {0};
    const char *text = "";
    for (uint32_t i = 0; i < g->n_values; i++) {
        if (g->values[i]->kind != VALUE_WEIGHT) continue;
        by_type[g->values[i]->type] += g->values[i]->tensor->bytes;
        *params += value_count(g->values[i]);
    }
    for (;;) {
        uint32_t most = 0;
        for (uint32_t t = 1; t < QUANT_COUNT; t++)
            if (by_type[t] > by_type[most]) most = t;
        if (!by_type[most]) return text;
        text = arena_printf(a, "%s%s%s", text, *text ? " " : "", quant_find(most)->name);
        by_type[most] = 0;
    }
}

/* ---- printing */

const char *graph_shape_text(arena *a, const value *v) {
    int n = 4;
    while (n > 1 && v->ne[n - 1] == 1) n--;
    const quant_info *type = quant_find(v->type);
    char *text = arena_printf(a, "%s [%llu", type ? type->name : "?", U(v->ne[0]));
    for (int i = 1; i < n; i++) text = arena_printf(a, "%s, %llu", text, U(v->ne[i]));
    return arena_printf(a, "%s%s]", text, v->per_token ? ", T" : "");
}

/* The shortest of six digits or all that reads back as the same number. */
static const char *number_text(arena *a, double x, bool single) {
    const char *text = arena_printf(a, "%g", x);
    double      back = strtod(text, NULL);
    if (single ? (float)back == (float)x : back == x) return text;
    return arena_printf(a, single ? "%.9g" : "%.17g", x);
}

static const char *param_text(arena *a, const op_param_info *p, const void *at) {
    switch (p->type) {
    case PARAM_F32: return number_text(a, (double)*(const float *)at, true);
    case PARAM_F64: return number_text(a, *(const double *)at, false);
    case PARAM_U32: return arena_printf(a, "%u", *(const uint32_t *)at);
    case PARAM_WORD: return p->words[*(const int *)at];
    }
    bug("parameter %s has no type", p->name);
}

const char *graph_params_text(arena *a, const op *o, const char *before, const char *equals) {
    const char          *text = "";
    const op_param_info *p = op_infos[o->kind].params;
    for (; p && p->name; p++)
        text = arena_printf(a, "%s%s%s%s%s", text, before, p->name, equals,
                            param_text(a, p, (const char *)&o->params + p->offset));
    return text;
}

static void print_fused(const op *o, FILE *f) {
    const struct {
        const char  *name;
        const value *v;
    } parts[] = {
        {"bias", o->fused.bias},   {"residual", o->fused.residual},   {"rope", o->fused.rope},
        {"cache", o->fused.cache}, {"quantized", o->fused.quantized},
        {"product", o->fused.product}, {"up", o->fused.up},           {"sum", o->fused.sum},
    };
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        if (parts[i].v) fprintf(f, " +%s %s", parts[i].name, parts[i].v->name);
    if (o->fused.drop_out) fputs(" -out", f);
}

void graph_print(const graph *g, void *stream) {
    FILE *f = stream;
    arena *scratch = arena_new();
    for (uint32_t i = 0; i < g->n_ops; i++) {
        const op *o = g->ops[i];
        fprintf(f, "%s: %s = %s(", o->out->name, graph_shape_text(scratch, o->out),
                op_infos[o->kind].name);
        for (uint32_t k = 0; k < o->n_in; k++)
            if (o->in[k]) fprintf(f, "%s%s", k ? ", " : "", o->in[k]->name);
        fputs(")", f);
        const char *params = graph_params_text(scratch, o, ", ", "=");
        if (*params) fprintf(f, " {%s}", params + 2);
        print_fused(o, f);
        if (o->head) fputs(" head", f);
        fputs("\n", f);
    }
    arena_free(scratch);
}
