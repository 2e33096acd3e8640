/* arch_model.c - what an .arch file asks of a model: metadata and tensors.
 *
 * Each statement fills its symbol's slot or reports what the model lacks, naming its file, the key
 * or tensor, what was found and what was expected; the place in the .arch file stands behind, for
 * who writes one. Nothing is read of a tensor's data.
 *
 * A place to grow: metadata that differs by layer. Files may give an array where a number is usual
 * (attention.head_count_kv); it is taken where all elements are equal and refused otherwise.
 */
#include "arch_ast.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- metadata */

static bool bad_key(const arch_env *env, const arch_statement *s, const char *found,
                    const char *expected) {
    return diag_error(env->diag, "%s: key '%s' is %s, expected %s", env->model, s->text, found,
                      expected);
}

static bool set_int(const arch_env *env, const arch_statement *s, bool fits, int64_t n,
                    arch_scalar *out) {
    char found[32];
    int64_t least = s->param == PARAM_TYPE_COUNT;
    out->i = n;
    if (fits && n >= least && n <= ARCH_MAX_COUNT) return true;
    snprintf(found, sizeof found, fits ? "%" PRId64 : "out of range", n);
    return bad_key(env, s, found, least ? "1 to 2147483647" : "0 to 2147483647");
}

static bool set_float(const arch_env *env, const arch_statement *s, double f, arch_scalar *out) {
    out->f = f;
    return isfinite(f) || bad_key(env, s, "infinite or no number", "a finite number");
}

static bool is_number_array(const gguf_array *array) {
    return array->type == GGUF_U32 || array->type == GGUF_I32 || array->type == GGUF_F32;
}

static double element_number(const gguf_array *array, uint64_t i) {
    if (array->type == GGUF_F32) return gguf_array_f32(array, i);
    uint32_t n = gguf_array_u32(array, i);
    return array->type == GGUF_I32 ? (double)(int32_t)n : (double)n;
}

/* An array of equal numbers is that number. */
static bool read_array(const arch_env *env, const arch_statement *s, const gguf_array *array,
                       arch_scalar *out) {
    if (!array->count) return bad_key(env, s, "an empty array", "a number");
    if (s->symbol->type == ARCH_INT && array->type == GGUF_F32)
        return bad_key(env, s, "an array of f32", "an integer");
    if (!is_number_array(array)) {
        char found[48];
        snprintf(found, sizeof found, "an array of %s", gguf_type_name(array->type));
        return bad_key(env, s, found, "a number, or an array of u32, i32 or f32");
    }
    double first = element_number(array, 0);
    if (!isfinite(first)) return set_float(env, s, first, out);
    for (uint64_t i = 1; i < array->count; i++) {
        double other = element_number(array, i);
        if (other != first)
            return diag_error(env->diag, "%s: key '%s' differs from layer to layer (%.9g at first, "
                              "%.9g in layer %" PRIu64 "): only one number for all is supported",
                              env->model, s->text, first, other, i);
    }
    if (s->symbol->type == ARCH_FLOAT) return set_float(env, s, first, out);
    return set_int(env, s, true, (int64_t)first, out);
}

static bool read_scalar(const arch_env *env, const arch_statement *s, const gguf_file *file,
                        arch_scalar *out) {
    uint64_t n;
    double f;
    switch (s->param) {
    case PARAM_TYPE_COUNT:
    case PARAM_TYPE_INT:
        return gguf_get_u64(file, env->diag, s->text, &n) == GGUF_PRESENT &&
               set_int(env, s, n <= INT64_MAX, (int64_t)n, out);
    case PARAM_TYPE_FLOAT:
        return gguf_get_number(file, env->diag, s->text, &f) == GGUF_PRESENT &&
               set_float(env, s, f, out);
    case PARAM_TYPE_BOOL:
        return gguf_get_bool(file, env->diag, s->text, &out->b) == GGUF_PRESENT;
    case PARAM_TYPE_STRING:
        return gguf_get_string(file, env->diag, s->text, &out->s) == GGUF_PRESENT;
    }
    return false;
}

static bool read_default(const arch_env *env, const arch_statement *s, arch_scalar *out) {
    if (!s->expr)
        return diag_error(env->diag, "%s: key '%s' is missing (%s:%u:%u needs it)", env->model,
                          s->text, env->arch->path, s->pos.line, s->pos.column);
    if (s->symbol->type == ARCH_FLOAT) return arch_eval_float(env, s->expr, &out->f);
    return arch_eval(env, s->expr, out);
}

bool arch_read_param(const arch_env *env, const arch_statement *s, const gguf_file *file) {
    arch_scalar *out = &env->slots[s->symbol->id].scalar;
    const gguf_kv *kv = gguf_find_kv(file, s->text);
    if (!kv) return read_default(env, s, out);
    bool number = s->symbol->type == ARCH_INT || s->symbol->type == ARCH_FLOAT;
    if (number && kv->type == GGUF_ARRAY) return read_array(env, s, &kv->value.array, out);
    return read_scalar(env, s, file, out);
}

/* ---- tensors */

typedef struct shape {
    uint64_t ne[GGUF_MAX_DIMS]; /* 0: any */
    uint32_t n;
} shape;

static bool eval_shape(const arch_env *env, const arch_statement *s, shape *out) {
    *out = (shape){ { 1, 1, 1, 1 }, s->tensor->n_dims };
    for (uint32_t i = 0; i < out->n; i++) {
        const arch_dim *dim = &s->tensor->dims[i];
        arch_scalar n = { .i = 0 };
        if (dim->expr && !arch_eval(env, dim->expr, &n)) return false;
        if (dim->expr && (n.i < 1 || n.i > ARCH_MAX_COUNT))
            return arch_eval_error(env, dim->expr->pos, "dimension %u of '%s' is %" PRId64
                                   ", expected 1 to %d", i, s->symbol->name, n.i, ARCH_MAX_COUNT);
        out->ne[i] = (uint64_t)n.i;
    }
    return true;
}

/* "[256, any]" */
static const char *shape_text(arena *a, const uint64_t *ne, uint32_t n) {
    const char *text = "";
    for (uint32_t i = 0; i < n; i++)
        text = ne[i] ? arena_printf(a, "%s%s%" PRIu64, text, i ? ", " : "", ne[i])
                     : arena_printf(a, "%s%sany", text, i ? ", " : "");
    return arena_printf(a, "[%s]", text);
}

static bool check_shape(const arch_env *env, arena *a, const arch_statement *s,
                        const gguf_tensor *tensor, const shape *want) {
    bool same = true;
    for (int i = 0; i < GGUF_MAX_DIMS; i++)
        same = same && (!want->ne[i] ? tensor->dims[i] <= ARCH_MAX_COUNT
                                     : tensor->dims[i] == want->ne[i]);
    if (same) return true;
    return diag_error(env->diag, "%s: tensor '%.*s' is %s, expected %s (%s:%u:%u)", env->model,
                      (int)tensor->name.size, tensor->name.data,
                      shape_text(a, tensor->dims, tensor->n_dims),
                      shape_text(a, want->ne, want->n), env->arch->path, s->pos.line,
                      s->pos.column);
}

static bool check_type(const arch_env *env, const arch_statement *s,
                       const gguf_tensor *tensor) {
    const quant_info *info = quant_find(tensor->type);
    if (!info) bug("tensor of type %u", tensor->type);
    if (s->tensor->f32 && tensor->type != QUANT_F32)
        return diag_error(env->diag, "%s: tensor '%.*s' has type %s, expected F32 (%s:%u:%u)",
                          env->model, (int)tensor->name.size, tensor->name.data, info->name,
                          env->arch->path, s->pos.line, s->pos.column);
    return true;
}

static bool missing_tensor(const arch_env *env, arena *a, const arch_statement *s,
                           const char *name, const shape *want) {
    return diag_error(env->diag, "%s: tensor '%s' is missing, expected %s (%s:%u:%u)", env->model,
                      name, shape_text(a, want->ne, want->n), env->arch->path, s->pos.line,
                      s->pos.column);
}

bool arch_read_tensor(const arch_env *env, arena *a, const arch_statement *s,
                      const gguf_file *file, uint64_t layer) {
    const arch_tensor *t = s->tensor;
    shape want;
    if (!eval_shape(env, s, &want)) return false;
    const char *name = t->after ? arena_printf(a, "%s%" PRIu64 "%s", t->before, layer, t->after)
                                : t->before;
    const gguf_tensor *tensor = gguf_find_tensor(file, name);
    if (!tensor && t->fallback) tensor = env->slots[t->fallback->id].tensor;
    env->slots[s->symbol->id].tensor = tensor;
    if (!tensor) return t->optional || missing_tensor(env, a, s, name, &want);
    if (!check_shape(env, a, s, tensor, &want) || !check_type(env, s, tensor)) return false;
    for (uint32_t i = 0; i < t->n_dims; i++)
        if (t->dims[i].let) env->slots[t->dims[i].let->id].scalar.i = (int64_t)tensor->dims[i];
    return true;
}
