/* arch_eval.c - numbers of the .arch language.
 *
 * Integers are 64-bit and exact: an overflow is an error, and so is a division that leaves a
 * remainder, since half a head is always a mistake. Floats are doubles and finite: what would be an
 * infinity or no number is an error at the operator that made it. The parser has typed the tree, so
 * nothing here asks for a type again. `if`, `and` and `or` look only at what they need.
 */
#include "arch_ast.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

bool arch_eval_error(const arch_env *env, arch_pos pos, const char *format, ...) {
    char text[600];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return diag_error(env->diag, "%s:%u:%u: %s (model %s)", env->arch->path, pos.line, pos.column,
                      text, env->model);
}

const char *arch_scalar_text(arena *a, enum arch_type type, arch_scalar s) {
    char text[64];
    switch (type) {
    case ARCH_INT: return arena_printf(a, "%" PRId64, s.i);
    case ARCH_FLOAT:
        snprintf(text, sizeof text, "%.9g", s.f);
        return arena_printf(a, "%s%s", text, strpbrk(text, ".e") ? "" : ".0");
    case ARCH_BOOL: return s.b ? "true" : "false";
    case ARCH_STRING:
        return arena_printf(a, "\"%.*s\"", s.s.size > 60 ? 60 : (int)s.s.size, s.s.data);
    case ARCH_VALUE: break;
    }
    bug("type %d has no text", (int)type);
}

/* ---- arithmetic */

static bool overflow(const arch_env *env, const arch_node *n) {
    return arch_eval_error(env, n->pos, "the result is out of range");
}

static bool divide(const arch_env *env, const arch_node *n, int64_t a, int64_t b, int64_t *out) {
    if (!b) return arch_eval_error(env, n->pos, "division of %" PRId64 " by zero", a);
    if (a == INT64_MIN && b == -1) return overflow(env, n);
    *out = n->kind == NODE_MOD ? a % b : a / b;
    if (n->kind == NODE_DIV && a % b)
        return arch_eval_error(env, n->pos, "%" PRId64 " / %" PRId64 " is no whole number", a, b);
    return true;
}

static bool eval_ints(const arch_env *env, const arch_node *n, int64_t a, int64_t b, int64_t *out) {
    bool failed;
    switch (n->kind) {
    case NODE_ADD: failed = __builtin_add_overflow(a, b, out); break;
    case NODE_SUB: failed = __builtin_sub_overflow(a, b, out); break;
    case NODE_MUL: failed = __builtin_mul_overflow(a, b, out); break;
    default: return divide(env, n, a, b, out);
    }
    return !failed || overflow(env, n);
}

static bool eval_floats(const arch_env *env, const arch_node *n, double a, double b, double *out) {
    switch (n->kind) {
    case NODE_ADD: *out = a + b; break;
    case NODE_SUB: *out = a - b; break;
    case NODE_MUL: *out = a * b; break;
    default:
        if (b == 0) return arch_eval_error(env, n->pos, "division of %.9g by zero", a);
        *out = a / b;
    }
    return isfinite(*out) || overflow(env, n);
}

bool arch_eval_float(const arch_env *env, const arch_node *n, double *out) {
    arch_scalar s;
    if (!arch_eval(env, n, &s)) return false;
    *out = n->type == ARCH_INT ? (double)s.i : s.f;
    return true;
}

static bool eval_arithmetic(const arch_env *env, const arch_node *n, arch_scalar *out) {
    if (n->type == ARCH_INT) {
        arch_scalar a, b;
        return arch_eval(env, n->a, &a) && arch_eval(env, n->b, &b) &&
               eval_ints(env, n, a.i, b.i, &out->i);
    }
    double a, b;
    return arch_eval_float(env, n->a, &a) && arch_eval_float(env, n->b, &b) &&
           eval_floats(env, n, a, b, &out->f);
}

static bool eval_negate(const arch_env *env, const arch_node *n, arch_scalar *out) {
    arch_scalar a;
    if (!arch_eval(env, n->a, &a)) return false;
    if (n->type == ARCH_INT) return eval_ints(env, &(arch_node){ .kind = NODE_SUB, .pos = n->pos },
                                              0, a.i, &out->i);
    out->f = -a.f;
    return true;
}

static bool eval_sqrt(const arch_env *env, const arch_node *n, arch_scalar *out) {
    double a;
    if (!arch_eval_float(env, n->a, &a)) return false;
    if (a < 0) return arch_eval_error(env, n->pos, "sqrt of %.9g, which is negative", a);
    out->f = sqrt(a);
    return true;
}

/* ---- comparison and logic */

static int compare_strings(gguf_string a, gguf_string b) {
    return a.size == b.size && (!a.size || !memcmp(a.data, b.data, a.size)) ? 0 : 1;
}

/* Below, equal to or above zero as a is to b. */
static bool compare(const arch_env *env, const arch_node *n, int *order) {
    arch_scalar a, b;
    if (!arch_eval(env, n->a, &a) || !arch_eval(env, n->b, &b)) return false;
    if (n->a->type == ARCH_STRING)
        *order = compare_strings(a.s, b.s);
    else if (n->a->type == ARCH_BOOL)
        *order = a.b - b.b;
    else if (n->a->type == ARCH_INT && n->b->type == ARCH_INT)
        *order = (a.i > b.i) - (a.i < b.i);
    else {
        double x = n->a->type == ARCH_INT ? (double)a.i : a.f;
        double y = n->b->type == ARCH_INT ? (double)b.i : b.f;
        *order = (x > y) - (x < y);
    }
    return true;
}

static bool eval_comparison(const arch_env *env, const arch_node *n, arch_scalar *out) {
    int order;
    if (!compare(env, n, &order)) return false;
    switch (n->kind) {
    case NODE_EQ: out->b = order == 0; break;
    case NODE_NE: out->b = order != 0; break;
    case NODE_LT: out->b = order < 0; break;
    case NODE_LE: out->b = order <= 0; break;
    case NODE_GT: out->b = order > 0; break;
    default: out->b = order >= 0; break;
    }
    return true;
}

static bool eval_logic(const arch_env *env, const arch_node *n, arch_scalar *out) {
    if (!arch_eval(env, n->a, out)) return false;
    if (out->b == (n->kind == NODE_OR)) return true;
    return arch_eval(env, n->b, out);
}

static bool eval_if(const arch_env *env, const arch_node *n, arch_scalar *out) {
    arch_scalar condition;
    if (!arch_eval(env, n->c, &condition)) return false;
    const arch_node *chosen = condition.b ? n->a : n->b;
    if (n->type == ARCH_FLOAT) return arch_eval_float(env, chosen, &out->f);
    return arch_eval(env, chosen, out);
}

bool arch_eval(const arch_env *env, const arch_node *n, arch_scalar *out) {
    switch (n->kind) {
    case NODE_LITERAL: *out = n->literal; return true;
    case NODE_NAME: *out = env->slots[n->symbol->id].scalar; return true;
    case NODE_HAS: out->b = env->slots[n->symbol->id].tensor != NULL; return true;
    case NODE_NEGATE: return eval_negate(env, n, out);
    case NODE_NOT:
        if (!arch_eval(env, n->a, out)) return false;
        out->b = !out->b;
        return true;
    case NODE_SQRT: return eval_sqrt(env, n, out);
    case NODE_ADD:
    case NODE_SUB:
    case NODE_MUL:
    case NODE_DIV:
    case NODE_MOD: return eval_arithmetic(env, n, out);
    case NODE_EQ:
    case NODE_NE:
    case NODE_LT:
    case NODE_LE:
    case NODE_GT:
    case NODE_GE: return eval_comparison(env, n, out);
    case NODE_AND:
    case NODE_OR: return eval_logic(env, n, out);
    case NODE_IF: return eval_if(env, n, out);
    case NODE_CALL: break;
    }
    bug("node %d is no number", (int)n->kind);
}
