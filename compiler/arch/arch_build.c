/* arch_build.c - a parsed .arch file and a model to a graph.
 *
 * Statements are carried out in the order of the text: the top once, the layers' once a layer, the
 * output's once. What a name stands for is in its slot. A tensor that is absent makes a term of a
 * sum or product vanish (is_absent says which), and what calls a function on it with it; so an
 * expression is asked first whether it is there, and only then are its ops made. The op whose value
 * a statement names bears the statement's name, the ones inside it that name with the op's behind:
 * "Qcur-0", "Qcur-0.matmul".
 */
#include "arch_ast.h"

#include <float.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef struct builder {
    arch_env          env;
    arena            *memory;
    const gguf_file  *file;
    graph            *graph;
    enum arch_section section;
    int32_t           layer;      /* -1 outside the layers */
    uint32_t          head_begin; /* values from here on were made by the output section */
    bool             *used;       /* by position in file->tensors */

    const arch_statement *statement;           /* being carried out */
    uint32_t              made[OP_KIND_COUNT]; /* ops, by it */
} builder;

/* ---- names */

/* "Qcur" in layer 0 is "Qcur-0", "Qcur.rope" is "Qcur-0.rope": llama.cpp's names. */
static const char *activation_name(const builder *b, const char *name) {
    if (b->layer < 0) return name;
    size_t stem = strcspn(name, ".");
    return arena_printf(b->memory, "%.*s-%d%s", (int)stem, name, b->layer, name + stem);
}

/* The name of an op inside the statement's expression: no other statement's. */
static const char *inner_name(builder *b, enum op_kind kind) {
    uint32_t n = ++b->made[kind];
    char *name = arena_printf(b->memory, "%s.%s", b->statement->symbol->name, op_infos[kind].name);
    if (n > 1)
        name = arena_printf(b->memory, "%s.%u", name, n);
    else if (arch_find_symbol(b->env.arch, name, strlen(name)))
        name = arena_printf(b->memory, "%s.1", name);
    return activation_name(b, name);
}

/* ---- absence */

static bool is_absent(builder *b, const arch_node *n, bool *absent);

static bool is_call_absent(builder *b, const arch_node *n, bool *absent) {
    const op_info *info = &op_infos[n->call->op];
    *absent = false;
    for (int i = 0; i < OP_MAX_INPUTS && !*absent; i++)
        if (n->call->inputs[i] && !info->inputs[i].optional &&
            !is_absent(b, n->call->inputs[i], absent))
            return false;
    return true;
}

/* Sets *absent if nothing of the expression is left without the tensors the model lacks. */
static bool is_absent(builder *b, const arch_node *n, bool *absent) {
    arch_scalar condition;
    bool other;
    switch (n->kind) {
    case NODE_NAME:
        *absent = n->symbol->kind == SYMBOL_TENSOR && !b->env.slots[n->symbol->id].tensor;
        return true;
    case NODE_ADD:
    case NODE_MUL:
        if (!is_absent(b, n->a, absent) || !is_absent(b, n->b, &other)) return false;
        *absent = *absent && other;
        return true;
    case NODE_IF:
        return arch_eval(&b->env, n->c, &condition) &&
               is_absent(b, condition.b ? n->a : n->b, absent);
    case NODE_CALL: return is_call_absent(b, n, absent);
    default: bug("node %d makes no value", (int)n->kind);
    }
}

/* ---- ops */

static bool set_param(builder *b, const arch_call *call, uint32_t i, op_params *params) {
    const op_param_info *info = &op_infos[call->op].params[i];
    const arch_node *n = call->params[i];
    char *to = (char *)params + info->offset;
    double f = info->fallback;
    if (n && info->type == PARAM_WORD) f = (double)n->literal.i;
    if (n && info->type != PARAM_WORD && !arch_eval_float(&b->env, n, &f)) return false;
    float narrow = f > FLT_MAX ? 0 : (float)f;
    bool fits = info->type == PARAM_F32 ? narrow > 0
                : info->type == PARAM_U32 ? f >= 1 && f <= UINT32_MAX
                                          : info->type == PARAM_WORD || f > 0;
    if (n && !fits)
        return arch_eval_error(&b->env, n->pos, "%s of %s is %.9g, which is %s",
                               info->name, op_infos[call->op].function, f,
                               f > 0 ? "out of range" : "not above zero");
    switch (info->type) {
    case PARAM_F32: *(float *)to = narrow; break;
    case PARAM_F64: *(double *)to = f; break;
    case PARAM_U32: *(uint32_t *)to = (uint32_t)f; break;
    case PARAM_WORD: *(int *)to = (int)f; break;
    }
    return true;
}

static bool check_kinds(const builder *b, const arch_node *n, enum op_kind kind, value *const *in) {
    static const char *const kinds[] = {
        [VALUE_WEIGHT] = "a tensor of the model", [VALUE_TOKENS] = "the tokens",
        [VALUE_ACTIVATION] = "an activation", [VALUE_CACHE] = "a cache",
    };
    for (int i = 0; i < OP_MAX_INPUTS; i++) {
        const op_input_info *info = &op_infos[kind].inputs[i];
        if (in[i] && !(info->kinds >> in[i]->kind & 1))
            return arch_eval_error(&b->env, n->pos, "%s of %s cannot be %s ('%s')", info->name,
                                   op_infos[kind].name, kinds[in[i]->kind], in[i]->name);
    }
    return true;
}

static value *add_op(builder *b, const arch_node *n, enum op_kind kind, value *const *in,
                     const op_params *params) {
    char why[GRAPH_WHY_BYTES] = "";
    uint32_t n_in = 0;
    while (n_in < OP_MAX_INPUTS && op_infos[kind].inputs[n_in].name) n_in++;
    if (!check_kinds(b, n, kind, in)) return NULL;
    if (op_infos[kind].positional && b->section == SECTION_OUTPUT) {
        arch_eval_error(&b->env, n->pos, "%s cannot stand in the output: it is made for one token, "
                        "whose position it does not know", op_infos[kind].name);
        return NULL;
    }
    if (b->graph->n_ops >= ARCH_MAX_OPS) {
        arch_eval_error(&b->env, n->pos, "the graph has more than %d ops", ARCH_MAX_OPS);
        return NULL;
    }
    const char *name = inner_name(b, kind);
    value *v = graph_add_op(b->graph, kind, name, b->layer, in, n_in, params, why);
    if (!v)
        arch_eval_error(&b->env, n->pos, "%s for '%s': %s", op_infos[kind].name,
                        activation_name(b, b->statement->symbol->name), why);
    else
        v->producer->head = b->section == SECTION_OUTPUT;
    return v;
}

/* ---- expressions */

static bool eval_value(builder *b, const arch_node *n, value **out);

/* A tensor, or what a statement named. The output reads one value made before it. */
static bool eval_name(builder *b, const arch_node *n, value **out) {
    const arch_slot *slot = &b->env.slots[n->symbol->id];
    if (n->symbol->kind == SYMBOL_TENSOR) {
        if (slot->tensor) b->used[slot->tensor - b->file->tensors] = true;
        *out = slot->tensor ? graph_weight(b->graph, slot->tensor) : NULL;
        return true;
    }
    value *v = *out = slot->value;
    if (b->section != SECTION_OUTPUT || v->kind == VALUE_WEIGHT || v->id >= b->head_begin)
        return true;
    if (!b->graph->head_input && v->kind == VALUE_ACTIVATION) b->graph->head_input = v;
    if (v == b->graph->head_input) return true;
    return arch_eval_error(&b->env, n->pos, "'output' can read one value that was made before it, "
                           "and '%s' is not it", v->name);
}

static bool eval_sum(builder *b, const arch_node *n, value **out) {
    bool absent_a, absent_b;
    if (!is_absent(b, n->a, &absent_a) || !is_absent(b, n->b, &absent_b)) return false;
    if (absent_a || absent_b) return eval_value(b, absent_a ? n->b : n->a, out);
    value *in[OP_MAX_INPUTS] = { NULL };
    if (!eval_value(b, n->a, &in[0]) || !eval_value(b, n->b, &in[1])) return false;
    if (in[0]->kind == VALUE_WEIGHT) { /* both ops commute, and take a tensor as the second */
        value *first = in[0];
        in[0] = in[1];
        in[1] = first;
    }
    *out = add_op(b, n, n->kind == NODE_ADD ? OP_ADD : OP_MUL, in, NULL);
    return *out != NULL;
}

/* An input that may be left out is, when its tensor is absent. */
static bool eval_call(builder *b, const arch_node *n, value **out) {
    const op_info *info = &op_infos[n->call->op];
    value *in[OP_MAX_INPUTS] = { NULL };
    op_params params = { 0 };
    bool absent;
    for (int i = 0; i < OP_MAX_INPUTS; i++) {
        const arch_node *input = n->call->inputs[i];
        if (!input) continue;
        if (!is_absent(b, input, &absent)) return false;
        if (!absent && !eval_value(b, input, &in[i])) return false;
    }
    for (uint32_t i = 0; info->params && info->params[i].name; i++)
        if (!set_param(b, n->call, i, &params)) return false;
    *out = add_op(b, n, n->call->op, in, &params);
    return *out != NULL;
}

/* The value of an expression that is not absent. */
static bool eval_value(builder *b, const arch_node *n, value **out) {
    arch_scalar condition;
    switch (n->kind) {
    case NODE_NAME: return eval_name(b, n, out);
    case NODE_ADD:
    case NODE_MUL: return eval_sum(b, n, out);
    case NODE_CALL: return eval_call(b, n, out);
    case NODE_IF:
        return arch_eval(&b->env, n->c, &condition) &&
               eval_value(b, condition.b ? n->a : n->b, out);
    default: bug("node %d makes no value", (int)n->kind);
    }
}

/* ---- statements */

/* The message with {NAME} replaced by what NAME is. */
static const char *fill_message(const builder *b, const char *message) {
    const char *text = "";
    for (const char *open; (open = strchr(message, '{'));) {
        const char *close = strchr(open, '}');
        const arch_symbol *s = arch_find_symbol(b->env.arch, open + 1, (size_t)(close - open) - 1);
        text = arena_printf(b->memory, "%s%.*s%s", text, (int)(open - message), message,
                            arch_scalar_text(b->memory, s->type, b->env.slots[s->id].scalar));
        message = close + 1;
    }
    return arena_printf(b->memory, "%s%s", text, message);
}

static bool do_check(builder *b, const arch_statement *s) {
    arch_scalar holds;
    if (!arch_eval(&b->env, s->expr, &holds)) return false;
    return holds.b || diag_error(b->env.diag, "%s: %s", b->env.model, fill_message(b, s->text));
}

/* A value made here bears the statement's name; one that was there is meant by it from now on. */
static bool do_value(builder *b, const arch_statement *s) {
    bool absent;
    uint32_t first_new = b->graph->n_values;
    value **slot = &b->env.slots[s->symbol->id].value, *v;
    b->statement = s;
    memset(b->made, 0, sizeof b->made);
    if (!is_absent(b, s->expr, &absent)) return false;
    if (absent)
        return arch_eval_error(&b->env, s->pos, "nothing is left of '%s' without the tensors the "
                               "model lacks", s->symbol->name);
    if (!eval_value(b, s->expr, &v)) return false;
    if (v->id >= first_new && v->kind == VALUE_ACTIVATION)
        v->name = v->producer->name = activation_name(b, s->symbol->name);
    *slot = v;
    return true;
}

static bool do_statement(builder *b, const arch_statement *s) {
    switch (s->kind) {
    case STATEMENT_PARAM: return arch_read_param(&b->env, s, b->file);
    case STATEMENT_LET: return arch_eval(&b->env, s->expr, &b->env.slots[s->symbol->id].scalar);
    case STATEMENT_CHECK: return do_check(b, s);
    case STATEMENT_TENSOR:
        return s->symbol->per_layer || arch_read_tensor(&b->env, b->memory, s, b->file, 0);
    case STATEMENT_VALUE: return do_value(b, s);
    }
    return false;
}

static bool do_block(builder *b, enum arch_section section) {
    const arch_block *block = &b->env.arch->blocks[section];
    b->section = section;
    for (uint32_t i = 0; i < block->count; i++)
        if (!do_statement(b, block->items[i])) return false;
    return true;
}

static bool do_layers(builder *b) {
    const arch *t = b->env.arch;
    const arch_block *top = &t->blocks[SECTION_TOP];
    arch_scalar n;
    if (!arch_eval(&b->env, t->n_layer, &n)) return false;
    if (n.i < 1 || n.i > ARCH_MAX_LAYERS)
        return arch_eval_error(&b->env, t->n_layer->pos, "%" PRId64 " layers, expected 1 to %d",
                               n.i, ARCH_MAX_LAYERS);
    b->graph->n_layer = (uint64_t)n.i;
    for (b->layer = 0; b->layer < n.i; b->layer++) {
        b->env.slots[t->layer->id].scalar.i = b->layer;
        for (uint32_t i = 0; i < top->count; i++)
            if (top->items[i]->kind == STATEMENT_TENSOR && top->items[i]->symbol->per_layer &&
                !arch_read_tensor(&b->env, b->memory, top->items[i], b->file,
                                  (uint64_t)b->layer))
                return false;
        if (!do_block(b, SECTION_LAYERS)) return false;
    }
    b->layer = -1;
    return true;
}

/* ---- the model */

static bool do_output(builder *b) {
    const arch *t = b->env.arch;
    const arch_block *block = &t->blocks[SECTION_OUTPUT];
    b->head_begin = b->graph->n_values;
    if (!do_block(b, SECTION_OUTPUT)) return false;
    value *out = b->env.slots[block->items[block->count - 1]->symbol->id].value;
    if (!b->graph->head_input)
        return arch_eval_error(&b->env, t->output_pos, "'output' reads no value made before it");
    if (out->kind != VALUE_ACTIVATION || out->id < b->head_begin ||
        value_count(out) != out->ne[0])
        return arch_eval_error(&b->env, t->output_pos, "the last value of 'output', '%s', is no "
                               "vector of logits that it made", out->name);
    b->graph->output = out;
    b->graph->n_vocab = out->ne[0];
    return true;
}

static bool read_fact(const builder *b, const arch_symbol *s, uint64_t *out) {
    int64_t n = b->env.slots[s->id].scalar.i;
    if (n < 1) return arch_eval_error(&b->env, s->pos, "%s is %" PRId64, s->name, n);
    *out = (uint64_t)n;
    return true;
}

#define UNUSED_SHOWN 3

static void warn_unused(const builder *b) {
    const char *names = "";
    uint64_t n = 0;
    for (uint64_t i = 0; i < b->file->n_tensors; i++) {
        if (b->used[i]) continue;
        gguf_string name = b->file->tensors[i].name;
        if (n++ < UNUSED_SHOWN)
            names = arena_printf(b->memory, "%s%s'%.*s'", names, *names ? ", " : "",
                                 name.size > 64 ? 64 : (int)name.size, name.data);
    }
    if (n)
        diag_warning(b->env.diag, "%s: %" PRIu64 " tensor%s not used by architecture '%s': %s%s",
                     b->env.model, n, n == 1 ? " is" : "s are", b->env.arch->name, names,
                     n > UNUSED_SHOWN ? ", …" : "");
}

static bool check_architecture(const builder *b) {
    gguf_string name;
    const arch *t = b->env.arch;
    switch (gguf_get_string(b->file, b->env.diag, "general.architecture", &name)) {
    case GGUF_MISTYPED: return false;
    case GGUF_ABSENT:
        return diag_error(b->env.diag, "%s: key 'general.architecture' is missing", b->env.model);
    case GGUF_PRESENT: break;
    }
    if (name.size == strlen(t->name) && !memcmp(name.data, t->name, name.size)) return true;
    return diag_error(b->env.diag, "%s: general.architecture is '%.*s', and %s describes '%s'",
                      b->env.model, name.size > 60 ? 60 : (int)name.size, name.data, t->path,
                      t->name);
}

graph *arch_build(arena *a, diag *d, const arch *t, const gguf_file *file) {
    builder b = {
        .env = { d, t, file->path, ARENA_ARRAY(a, arch_slot, t->n_symbols) },
        .memory = a, .file = file, .graph = graph_new(a, file), .layer = -1,
        .used = ARENA_ARRAY(a, bool, file->n_tensors),
    };
    b.graph->arch = t->name;
    b.env.slots[t->tokens->id].value = b.graph->tokens;
    if (!check_architecture(&b) || !do_block(&b, SECTION_TOP) ||
        !read_fact(&b, t->n_embd, &b.graph->n_embd) ||
        !read_fact(&b, t->n_ctx_train, &b.graph->n_ctx_train) || !do_layers(&b) || !do_output(&b))
        return NULL;
    warn_unused(&b);
    b.graph->n_named = b.graph->n_values;
    return b.graph;
}
