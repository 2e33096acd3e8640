/* arch_expr.c - expressions of the .arch language, by recursive descent.
 *
 * Loosest first:
 *
 *     a if c else b     or     and     not     == != < <= > >=     + -     * / %     -a
 *     literals, names, has NAME, sqrt(a), FUNCTION(inputs, params), (a)
 *
 * Every node gets its type when it is made, so a template is known to be well-typed before any
 * model is seen. '+' and '*' are arithmetic between numbers and ops between values; the rest is for
 * numbers only. Functions are the rows of op_infos (graph.h), nothing is known of them here.
 */
#include "arch_parse.h"

#include <stdio.h>
#include <string.h>

typedef struct binary_operator {
    const char         *text;
    enum arch_node_kind kind;
} binary_operator;

static const binary_operator comparisons[] = {
    { "==", NODE_EQ }, { "!=", NODE_NE }, { "<", NODE_LT }, { "<=", NODE_LE },
    { ">", NODE_GT },  { ">=", NODE_GE }, { 0 },
};
static const binary_operator sums[] = { { "+", NODE_ADD }, { "-", NODE_SUB }, { 0 } };
static const binary_operator products[] = {
    { "*", NODE_MUL }, { "/", NODE_DIV }, { "%", NODE_MOD }, { 0 }
};

static const char *const reserved[] = {
    "arch", "param", "let",  "check", "tensor", "layers", "output", "optional", "f32",
    "if",   "else",  "or",   "and",   "not",    "has",    "true",   "false",    "sqrt",
};

bool arch_is_reserved(const char *text, size_t size) {
    for (size_t i = 0; i < ARRAY_LEN(reserved); i++)
        if (strlen(reserved[i]) == size && !memcmp(reserved[i], text, size)) return true;
    return false;
}

bool arch_is_number(enum arch_type type) {
    return type == ARCH_INT || type == ARCH_FLOAT;
}

const char *arch_type_text(enum arch_type type) {
    static const char *const texts[] = {
        [ARCH_INT] = "an integer", [ARCH_FLOAT] = "a float", [ARCH_BOOL] = "a bool",
        [ARCH_STRING] = "a string", [ARCH_VALUE] = "a value of the graph",
    };
    return texts[type];
}

/* ---- suggestions */

#define SUGGEST_MAX 32

/* Edits (insert, delete, replace) from one text to the other; texts shorter than SUGGEST_MAX. */
static unsigned edit_distance(const char *a, size_t na, const char *b, size_t nb) {
    unsigned row[SUGGEST_MAX + 1];
    for (size_t j = 0; j <= nb; j++) row[j] = (unsigned)j;
    for (size_t i = 1; i <= na; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= nb; j++) {
            unsigned replaced = diagonal + (a[i - 1] != b[j - 1]);
            unsigned moved = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            diagonal = row[j];
            row[j] = replaced < moved ? replaced : moved;
        }
    }
    return row[nb];
}

static void suggest_nearer(const char *name, const char *text, size_t size, const char **best,
                           unsigned *distance) {
    size_t n = strlen(name);
    if (n >= SUGGEST_MAX) return;
    unsigned d = edit_distance(name, n, text, size);
    if (d >= *distance) return;
    *best = name;
    *distance = d;
}

const char *arch_suggest(arch_parser *p, const char *text, size_t size) {
    if (size >= SUGGEST_MAX) return "";
    const char *best = NULL;
    unsigned distance = size < 3 ? 2 : size < 7 ? 3 : 4; /* must be below */
    for (uint32_t i = 0; i < p->out->n_symbols; i++)
        suggest_nearer(p->out->symbols[i]->name, text, size, &best, &distance);
    for (int k = 0; k < OP_KIND_COUNT; k++)
        if (op_infos[k].function)
            suggest_nearer(op_infos[k].function, text, size, &best, &distance);
    return best ? arena_printf(p->memory, " (did you mean '%s'?)", best) : "";
}

/* ---- nodes */

static uint32_t height_of(const arch_node *n) {
    return n ? n->height : 0;
}

static bool check_height(arch_parser *p, arch_pos pos, uint32_t height) {
    if (height <= ARCH_MAX_HEIGHT) return true;
    return arch_parse_error(p, pos, "the expression has more than %d levels", ARCH_MAX_HEIGHT);
}

static arch_node *node_new(arch_parser *p, enum arch_node_kind kind, enum arch_type type,
                           arch_pos pos, const arch_node *a, const arch_node *b,
                           const arch_node *c) {
    arch_node *n = ARENA_NEW(p->memory, arch_node);
    *n = (arch_node){ .kind = kind, .type = type, .pos = pos, .a = a, .b = b, .c = c };
    n->height = height_of(a) > height_of(b) ? height_of(a) : height_of(b);
    if (height_of(c) > n->height) n->height = height_of(c);
    n->height++;
    return check_height(p, pos, n->height) ? n : NULL;
}

static arch_node *literal_new(arch_parser *p, enum arch_type type, arch_scalar literal) {
    arch_node *n = node_new(p, NODE_LITERAL, type, p->token.pos, NULL, NULL, NULL);
    n->literal = literal;
    return arch_lex_next(p) ? n : NULL;
}

static bool require(arch_parser *p, const arch_node *n, bool fits, const char *what,
                    const char *wanted) {
    if (fits) return true;
    return arch_parse_error(p, n->pos, "%s needs %s, found %s", what, wanted,
                            arch_type_text(n->type));
}

static arch_node *unary_new(arch_parser *p, enum arch_node_kind kind, enum arch_type type,
                            arch_pos pos, const arch_node *a) {
    return node_new(p, kind, type, pos, a, NULL, NULL);
}

static arch_node *arithmetic_new(arch_parser *p, enum arch_node_kind kind, const char *text,
                                 arch_pos pos, const arch_node *a, const arch_node *b) {
    enum arch_type type = a->type == ARCH_FLOAT || b->type == ARCH_FLOAT ? ARCH_FLOAT : ARCH_INT;
    bool for_values = kind == NODE_ADD || kind == NODE_MUL;
    if (for_values && a->type == ARCH_VALUE && b->type == ARCH_VALUE)
        type = ARCH_VALUE;
    else if (!arch_is_number(a->type) || !arch_is_number(b->type)) {
        arch_parse_error(p, pos, "'%s' needs two numbers%s, found %s and %s", text,
                         for_values ? " or two values of the graph" : "",
                         arch_type_text(a->type), arch_type_text(b->type));
        return NULL;
    }
    if (kind == NODE_MOD && type == ARCH_FLOAT) {
        arch_parse_error(p, pos, "'%%' needs two integers");
        return NULL;
    }
    return node_new(p, kind, type, pos, a, b, NULL);
}

static arch_node *comparison_new(arch_parser *p, enum arch_node_kind kind, const char *text,
                                 arch_pos pos, const arch_node *a, const arch_node *b) {
    bool numbers = arch_is_number(a->type) && arch_is_number(b->type);
    bool equality = (kind == NODE_EQ || kind == NODE_NE) && a->type == b->type &&
                    a->type != ARCH_VALUE;
    if (numbers || equality) return node_new(p, kind, ARCH_BOOL, pos, a, b, NULL);
    arch_parse_error(p, pos, "'%s' cannot compare %s with %s", text, arch_type_text(a->type),
                     arch_type_text(b->type));
    return NULL;
}

/* ---- calls */

/* The parameter's argument: a word of its list, or a number. */
static const arch_node *parse_param(arch_parser *p, const op_param_info *info) {
    if (info->type != PARAM_WORD)
        return arch_parse_typed(p, info->type == PARAM_U32 ? ARCH_INT : ARCH_FLOAT, info->name);
    const char *known = "";
    for (int i = 0; info->words[i]; i++) {
        if (p->token.kind == TOKEN_NAME && arch_lex_is(p, info->words[i]))
            return literal_new(p, ARCH_INT, (arch_scalar){ .i = i });
        known = arena_printf(p->memory, "%s%s'%s'", known, i ? " or " : "", info->words[i]);
    }
    arch_parse_error(p, p->token.pos, "%s is %s, found %s", info->name, known, arch_lex_found(p));
    return NULL;
}

static uint32_t count_inputs(const op_info *info) {
    uint32_t n = 0;
    while (n < OP_MAX_INPUTS && info->inputs[n].name) n++;
    return n;
}

static uint32_t count_params(const op_info *info) {
    uint32_t n = 0;
    while (info->params && info->params[n].name) n++;
    if (n > ARCH_MAX_PARAMS) bug("%s has %u parameters", info->name, n);
    return n;
}

/* Arguments are counted through: the inputs, then the parameters. */
static const char *argument_name(const op_info *info, uint32_t at) {
    uint32_t n_inputs = count_inputs(info);
    return at < n_inputs ? info->inputs[at].name : info->params[at - n_inputs].name;
}

static bool find_argument(arch_parser *p, const op_info *info, const arch_token *name,
                          uint32_t *at) {
    uint32_t n_inputs = count_inputs(info), n = n_inputs + count_params(info);
    const char *known = "";
    for (uint32_t i = 0; i < n; i++) {
        const char *argument = argument_name(info, i);
        if (strlen(argument) == name->size && !memcmp(argument, name->text, name->size)) {
            *at = i;
            return true;
        }
        known = arena_printf(p->memory, "%s%s%s", known, i ? ", " : "", argument);
    }
    return arch_parse_error(p, name->pos, "%s has no argument '%.*s', only: %s", info->function,
                            name->size > 60 ? 60 : (int)name->size, name->text, known);
}

/* NAME= before an argument; leaves `at` alone where there is none. */
static bool parse_argument_name(arch_parser *p, const op_info *info, uint32_t *at) {
    if (p->token.kind != TOKEN_NAME) return true;
    const char *next = p->at;
    while (next < p->end && (*next == ' ' || *next == '\t')) next++;
    if (p->end - next < 2 || next[0] != '=' || next[1] == '=') return true;
    arch_token name = p->token;
    return find_argument(p, info, &name, at) && arch_lex_next(p) && arch_lex_expect(p, "=");
}

static bool parse_argument(arch_parser *p, const op_info *info, arch_node *n, uint32_t *position) {
    uint32_t n_inputs = count_inputs(info), n_params = count_params(info);
    uint32_t at = *position;
    arch_pos pos = p->token.pos;
    if (!parse_argument_name(p, info, &at)) return false;
    if (at >= n_inputs + n_params)
        return arch_parse_error(p, pos, "%s takes %u arguments", info->function,
                                n_inputs + n_params);
    const arch_node **slot = at < n_inputs ? &n->call->inputs[at] : &n->call->params[at - n_inputs];
    const char *name = argument_name(info, at);
    if (*slot) return arch_parse_error(p, pos, "%s of %s is given twice", name, info->function);
    *slot = at < n_inputs ? arch_parse_typed(p, ARCH_VALUE, name)
                          : parse_param(p, &info->params[at - n_inputs]);
    if (!*slot) return false;
    if ((*slot)->height >= n->height) n->height = (*slot)->height + 1;
    *position = at + 1;
    return check_height(p, pos, n->height);
}

static bool check_required(arch_parser *p, const op_info *info, const arch_node *n) {
    for (uint32_t i = 0; i < count_inputs(info); i++)
        if (!info->inputs[i].optional && !n->call->inputs[i])
            return arch_parse_error(p, n->pos, "%s needs its argument '%s'", info->function,
                                    info->inputs[i].name);
    for (uint32_t i = 0; i < count_params(info); i++)
        if (info->params[i].required && !n->call->params[i])
            return arch_parse_error(p, n->pos, "%s needs its argument '%s'", info->function,
                                    info->params[i].name);
    return true;
}

static arch_node *parse_call(arch_parser *p, const arch_token *name) {
    char *text = arena_copy_text(p->memory, name->text, name->size);
    enum op_kind kind = graph_find_function(text);
    if (kind == OP_KIND_COUNT) {
        arch_parse_error(p, name->pos, "no function is called '%.60s'%s", text,
                         arch_suggest(p, name->text, name->size));
        return NULL;
    }
    const op_info *info = &op_infos[kind];
    arch_node *n = node_new(p, NODE_CALL, ARCH_VALUE, name->pos, NULL, NULL, NULL);
    n->call = ARENA_NEW(p->memory, arch_call);
    n->call->op = kind;
    arch_pos open = p->token.pos;
    if (!arch_lex_expect(p, "(")) return NULL;
    for (uint32_t position = 0; !arch_lex_is(p, ")");) {
        if (!parse_argument(p, info, n, &position)) return NULL;
        if (arch_lex_is(p, ")")) break;
        if (!arch_lex_is(p, ",")) {
            arch_parse_error(p, p->token.pos, "expected ',' or the ')' of %u:%u, found %s",
                             open.line, open.column, arch_lex_found(p));
            return NULL;
        }
        if (!arch_lex_next(p)) return NULL;
    }
    return arch_lex_next(p) && check_required(p, info, n) ? n : NULL;
}

/* ---- primaries */

static const arch_symbol *find_visible(arch_parser *p, const arch_token *name) {
    int shown = name->size > 60 ? 60 : (int)name->size;
    const arch_symbol *s = arch_find_symbol(p->out, name->text, name->size);
    if (!s)
        arch_parse_error(p, name->pos, "nothing is called '%.*s'%s", shown, name->text,
                         arch_suggest(p, name->text, name->size));
    else if (s->per_layer && !p->in_layer)
        arch_parse_error(p, name->pos, "'%s' is known only in the layers", s->name);
    else
        return s;
    return NULL;
}

static arch_node *parse_name(arch_parser *p) {
    arch_token name = p->token;
    if (!arch_lex_next(p)) return NULL;
    if (arch_lex_is(p, "(")) return parse_call(p, &name);
    const arch_symbol *s = find_visible(p, &name);
    if (!s) return NULL;
    arch_node *n = node_new(p, NODE_NAME, s->type, name.pos, NULL, NULL, NULL);
    n->symbol = s;
    return n;
}

static arch_node *parse_has(arch_parser *p) {
    if (!arch_lex_next(p)) return NULL;
    arch_token name = p->token;
    const arch_symbol *s = name.kind == TOKEN_NAME ? find_visible(p, &name) : NULL;
    if (name.kind != TOKEN_NAME || (s && s->kind != SYMBOL_TENSOR)) {
        arch_parse_error(p, name.pos, "'has' needs a tensor's name, found %s", arch_lex_found(p));
        return NULL;
    }
    if (!s || !arch_lex_next(p)) return NULL;
    arch_node *n = node_new(p, NODE_HAS, ARCH_BOOL, name.pos, NULL, NULL, NULL);
    n->symbol = s;
    return n;
}

static arch_node *parse_parentheses(arch_parser *p) {
    arch_pos open = p->token.pos;
    if (!arch_lex_expect(p, "(")) return NULL;
    arch_node *n = arch_parse_expr(p);
    if (!n) return NULL;
    if (arch_lex_is(p, ")")) return arch_lex_next(p) ? n : NULL;
    arch_parse_error(p, p->token.pos, "expected the ')' of %u:%u, found %s", open.line, open.column,
                     arch_lex_found(p));
    return NULL;
}

static arch_node *parse_sqrt(arch_parser *p) {
    arch_pos pos = p->token.pos;
    if (!arch_lex_next(p)) return NULL;
    const arch_node *a = parse_parentheses(p);
    if (!a || !require(p, a, arch_is_number(a->type), "sqrt", "a number")) return NULL;
    return unary_new(p, NODE_SQRT, ARCH_FLOAT, pos, a);
}

static arch_node *parse_primary(arch_parser *p) {
    if (p->token.kind == TOKEN_INT) return literal_new(p, ARCH_INT, p->token.literal);
    if (p->token.kind == TOKEN_FLOAT) return literal_new(p, ARCH_FLOAT, p->token.literal);
    if (p->token.kind == TOKEN_STRING) return literal_new(p, ARCH_STRING, p->token.literal);
    if (arch_lex_is(p, "true")) return literal_new(p, ARCH_BOOL, (arch_scalar){ .b = true });
    if (arch_lex_is(p, "false")) return literal_new(p, ARCH_BOOL, (arch_scalar){ .b = false });
    if (arch_lex_is(p, "has")) return parse_has(p);
    if (arch_lex_is(p, "sqrt")) return parse_sqrt(p);
    if (arch_lex_is(p, "(")) return parse_parentheses(p);
    if (p->token.kind == TOKEN_NAME && !arch_is_reserved(p->token.text, p->token.size))
        return parse_name(p);
    arch_parse_error(p, p->token.pos, "expected an expression, found %s", arch_lex_found(p));
    return NULL;
}

/* ---- operators */

static bool enter(arch_parser *p) {
    return check_height(p, p->token.pos, ++p->depth);
}

static arch_node *parse_unary(arch_parser *p) {
    if (!arch_lex_is(p, "-")) return parse_primary(p);
    arch_pos pos = p->token.pos;
    if (!enter(p) || !arch_lex_next(p)) return NULL;
    const arch_node *a = parse_unary(p);
    p->depth--;
    if (!a || !require(p, a, arch_is_number(a->type), "'-'", "a number")) return NULL;
    return unary_new(p, NODE_NEGATE, a->type, pos, a);
}

static const binary_operator *find_operator(const arch_parser *p, const binary_operator *among) {
    for (; among->text; among++)
        if (arch_lex_is(p, among->text)) return among;
    return NULL;
}

static arch_node *parse_arithmetic(arch_parser *p, bool is_sum) {
    arch_node *a = is_sum ? parse_arithmetic(p, false) : parse_unary(p);
    const binary_operator *o;
    while (a && (o = find_operator(p, is_sum ? sums : products))) {
        arch_pos pos = p->token.pos;
        if (!arch_lex_next(p)) return NULL;
        const arch_node *b = is_sum ? parse_arithmetic(p, false) : parse_unary(p);
        if (!b) return NULL;
        a = arithmetic_new(p, o->kind, o->text, pos, a, b);
    }
    return a;
}

static arch_node *parse_comparison(arch_parser *p) {
    arch_node *a = parse_arithmetic(p, true);
    const binary_operator *o = a ? find_operator(p, comparisons) : NULL;
    if (!o) return a;
    arch_pos pos = p->token.pos;
    if (!arch_lex_next(p)) return NULL;
    const arch_node *b = parse_arithmetic(p, true);
    return b ? comparison_new(p, o->kind, o->text, pos, a, b) : NULL;
}

static arch_node *parse_not(arch_parser *p) {
    if (!arch_lex_is(p, "not")) return parse_comparison(p);
    arch_pos pos = p->token.pos;
    if (!enter(p) || !arch_lex_next(p)) return NULL;
    const arch_node *a = parse_not(p);
    p->depth--;
    if (!a || !require(p, a, a->type == ARCH_BOOL, "'not'", "a bool")) return NULL;
    return unary_new(p, NODE_NOT, ARCH_BOOL, pos, a);
}

static arch_node *parse_logic(arch_parser *p, const char *word) {
    bool is_or = *word == 'o';
    arch_node *a = is_or ? parse_logic(p, "and") : parse_not(p);
    while (a && arch_lex_is(p, word)) {
        arch_pos pos = p->token.pos;
        if (!arch_lex_next(p)) return NULL;
        const arch_node *b = is_or ? parse_logic(p, "and") : parse_not(p);
        if (!b || !require(p, a, a->type == ARCH_BOOL, word, "a bool") ||
            !require(p, b, b->type == ARCH_BOOL, word, "a bool"))
            return NULL;
        a = node_new(p, is_or ? NODE_OR : NODE_AND, ARCH_BOOL, pos, a, b, NULL);
    }
    return a;
}

static arch_node *parse_conditional(arch_parser *p) {
    arch_node *a = parse_logic(p, "or");
    if (!a || !arch_lex_is(p, "if")) return a;
    arch_pos pos = p->token.pos;
    if (!arch_lex_next(p)) return NULL;
    const arch_node *c = parse_logic(p, "or");
    if (!c || !require(p, c, c->type == ARCH_BOOL, "'if'", "a bool")) return NULL;
    if (!arch_lex_expect(p, "else")) return NULL;
    const arch_node *b = arch_parse_expr(p);
    if (!b) return NULL;
    enum arch_type type = a->type;
    if (a->type != b->type && arch_is_number(a->type) && arch_is_number(b->type))
        type = ARCH_FLOAT;
    else if (!require(p, b, a->type == b->type, "'else'", arch_type_text(a->type)))
        return NULL;
    return node_new(p, NODE_IF, type, pos, a, b, c);
}

arch_node *arch_parse_expr(arch_parser *p) {
    if (!enter(p)) return NULL;
    arch_node *n = parse_conditional(p);
    p->depth--;
    return n;
}

arch_node *arch_parse_typed(arch_parser *p, enum arch_type want, const char *what) {
    arch_node *n = arch_parse_expr(p);
    if (!n) return NULL;
    bool fits = n->type == want || (want == ARCH_FLOAT && n->type == ARCH_INT);
    return require(p, n, fits, what, arch_type_text(want)) ? n : NULL;
}
