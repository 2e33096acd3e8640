/* arch_parse.c - statements of the .arch language; specified in templates/arch/README.md.
 *
 * One statement a line. The first is `arch NAME`; then, in any order that defines before it reads,
 * param, let, check, tensor and the lines that make the graph's first values; then `layers`, whose
 * lines are built once a layer, and `output`. Names are resolved here, in the order of the text,
 * which is the order of execution: a name is read after it was given. The first error ends parsing:
 * those that would follow are mostly its consequences.
 */
#include "arch_parse.h"

#include <string.h>

/* ---- names */

arch_symbol *arch_find_symbol(const arch *t, const char *name, size_t size) {
    for (uint32_t i = 0; i < t->n_symbols; i++)
        if (strlen(t->symbols[i]->name) == size && !memcmp(t->symbols[i]->name, name, size))
            return t->symbols[i];
    return NULL;
}

static arch_symbol *symbol_new(arch_parser *p, enum arch_symbol_kind kind, enum arch_type type,
                               const char *name, size_t size, arch_pos pos) {
    arch *t = p->out;
    arch_symbol **slot = arena_push(p->memory, (void **)&t->symbols, &t->n_symbols,
                                    &t->cap_symbols, sizeof *slot);
    *slot = ARENA_NEW(p->memory, arch_symbol);
    **slot = (arch_symbol){ .name = arena_copy_text(p->memory, name, size), .kind = kind,
                            .type = type, .id = t->n_symbols - 1, .pos = pos };
    return *slot;
}

static bool check_new_name(arch_parser *p, const arch_token *name) {
    const arch_symbol *s = arch_find_symbol(p->out, name->text, name->size);
    if (!s) return true;
    if (!s->pos.line)
        return arch_parse_error(p, name->pos, "'%s' has a meaning in the language", s->name);
    return arch_parse_error(p, name->pos, "'%s' is named already, on line %u", s->name,
                            s->pos.line);
}

static bool expect_name(arch_parser *p, arch_token *name) {
    *name = p->token;
    if (name->kind != TOKEN_NAME)
        return arch_parse_error(p, name->pos, "expected a name, found %s", arch_lex_found(p));
    if (arch_is_reserved(name->text, name->size))
        return arch_parse_error(p, name->pos, "'%.*s' is a word of the language, not a name",
                                (int)name->size, name->text);
    return true;
}

/* The next token, to be a name given here for the first time. */
static bool expect_new_name(arch_parser *p, arch_token *name) {
    return expect_name(p, name) && check_new_name(p, name);
}

static arch_symbol *symbol_of(arch_parser *p, enum arch_symbol_kind kind, enum arch_type type,
                              const arch_token *name) {
    return symbol_new(p, kind, type, name->text, name->size, name->pos);
}

static arch_statement *statement_new(arch_parser *p, enum arch_statement_kind kind, arch_pos pos) {
    arch_block *block = &p->out->blocks[p->section];
    arch_statement **slot = arena_push(p->memory, (void **)&block->items, &block->count,
                                       &block->capacity, sizeof *slot);
    *slot = ARENA_NEW(p->memory, arch_statement);
    **slot = (arch_statement){ .kind = kind, .pos = pos };
    return *slot;
}

static bool only_at_top(arch_parser *p, const char *what) {
    if (p->section == SECTION_TOP) return true;
    return arch_parse_error(p, p->token.pos, "'%s' belongs before 'layers'", what);
}

/* ---- param, let, check */

static bool skip_empty_lines(arch_parser *p) {
    while (p->token.kind == TOKEN_NEWLINE)
        if (!arch_lex_next(p)) return false;
    return true;
}

static bool is_name_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static bool parse_key(arch_parser *p, arch_statement *s) {
    bool ok = p->token.kind == TOKEN_WORD;
    for (size_t i = 0; ok && i < p->token.size; i++)
        ok = is_name_char(p->token.text[i]) || p->token.text[i] == '.' || p->token.text[i] == '-';
    if (!ok)
        return arch_parse_error(p, p->token.pos, "expected a metadata key, found %s",
                                arch_lex_found(p));
    s->text = arena_printf(p->memory, "%s.%.*s", p->out->name, (int)p->token.size, p->token.text);
    return arch_lex_next(p);
}

static const struct {
    const char          *name;
    enum arch_param_type param;
    enum arch_type       type;
} param_types[] = {
    { "count", PARAM_TYPE_COUNT, ARCH_INT },       { "int", PARAM_TYPE_INT, ARCH_INT },
    { "float", PARAM_TYPE_FLOAT, ARCH_FLOAT },     { "bool", PARAM_TYPE_BOOL, ARCH_BOOL },
    { "string", PARAM_TYPE_STRING, ARCH_STRING },
};

static bool parse_param_type(arch_parser *p, arch_statement *s, enum arch_type *type) {
    *type = ARCH_INT;
    s->param = PARAM_TYPE_COUNT;
    if (p->token.kind != TOKEN_NAME) return true;
    for (size_t i = 0; i < ARRAY_LEN(param_types); i++) {
        if (!arch_lex_is(p, param_types[i].name)) continue;
        *type = param_types[i].type;
        s->param = param_types[i].param;
        return arch_lex_next(p);
    }
    return arch_parse_error(p, p->token.pos,
                            "expected a type (count, int, float, bool, string), found %s",
                            arch_lex_found(p));
}

static bool parse_param(arch_parser *p) {
    arch_token name;
    enum arch_type type;
    if (!only_at_top(p, "param") || !arch_lex_next(p) || !expect_new_name(p, &name)) return false;
    arch_statement *s = statement_new(p, STATEMENT_PARAM, name.pos);
    if (!arch_lex_word(p) || !parse_key(p, s) || !parse_param_type(p, s, &type)) return false;
    if (arch_lex_is(p, "=")) {
        if (!arch_lex_next(p)) return false;
        s->expr = arch_parse_typed(p, type, "the default");
        if (!s->expr) return false;
    }
    s->symbol = symbol_of(p, SYMBOL_PARAM, type, &name);
    return true;
}

static bool parse_let(arch_parser *p) {
    arch_token name;
    if (!arch_lex_next(p) || !expect_new_name(p, &name)) return false;
    arch_statement *s = statement_new(p, STATEMENT_LET, name.pos);
    if (!arch_lex_next(p) || !arch_lex_expect(p, "=")) return false;
    s->expr = arch_parse_expr(p);
    if (!s->expr) return false;
    if (s->expr->type == ARCH_VALUE)
        return arch_parse_error(p, s->expr->pos,
                                "'let' is for numbers; a value of the graph is named without it");
    arch_symbol *symbol = symbol_of(p, SYMBOL_LET, s->expr->type, &name);
    symbol->per_layer = p->section == SECTION_LAYERS;
    s->symbol = symbol;
    return true;
}

/* Each {NAME} of a check's message must be a number, string or bool known here. */
static bool check_message(arch_parser *p, arch_pos pos, const char *message) {
    for (const char *open = message; (open = strchr(open, '{')); open++) {
        const char *close = strchr(open, '}');
        if (!close) return arch_parse_error(p, pos, "the message has a '{' without '}'");
        size_t size = (size_t)(close - open) - 1;
        const arch_symbol *s = arch_find_symbol(p->out, open + 1, size);
        int shown = size > 60 ? 60 : (int)size;
        if (!s)
            return arch_parse_error(p, pos, "the message names '%.*s', which is unknown%s", shown,
                                    open + 1, arch_suggest(p, open + 1, size));
        if (s->type == ARCH_VALUE || (s->per_layer && !p->in_layer))
            return arch_parse_error(p, pos, "the message names '%s', which is no number here",
                                    s->name);
    }
    return true;
}

static bool parse_check(arch_parser *p) {
    arch_statement *s = statement_new(p, STATEMENT_CHECK, p->token.pos);
    if (!arch_lex_next(p)) return false;
    s->expr = arch_parse_typed(p, ARCH_BOOL, "'check'");
    if (!s->expr || !arch_lex_expect(p, ":") || !skip_empty_lines(p)) return false;
    if (p->token.kind != TOKEN_STRING)
        return arch_parse_error(p, p->token.pos, "expected the message as a string, found %s",
                                arch_lex_found(p));
    s->text = p->token.literal.s.data;
    return check_message(p, p->token.pos, s->text) && arch_lex_next(p);
}

/* ---- tensor */

static bool set_layer_variable(arch_parser *p, arch_pos pos, const char *name, size_t size) {
    const arch_symbol *layer = p->out->layer;
    if (!layer) {
        arch_token token = { .kind = TOKEN_NAME, .pos = pos, .text = name, .size = size };
        if (!check_new_name(p, &token)) return false;
        arch_symbol *s = symbol_of(p, SYMBOL_LAYER, ARCH_INT, &token);
        s->per_layer = true;
        p->out->layer = s;
        return true;
    }
    if (strlen(layer->name) == size && !memcmp(layer->name, name, size)) return true;
    return arch_parse_error(p, pos, "the layer's number is called '%s', found '%.*s'", layer->name,
                            size > 60 ? 60 : (int)size, name);
}

static bool is_name(const char *text, size_t size) {
    for (size_t i = 0; i < size; i++)
        if (!is_name_char(text[i])) return false;
    return size > 0 && (*text < '0' || *text > '9') && !arch_is_reserved(text, size);
}

/* The word "blk.{l}.attn_q.weight": what stands before and after the layer's number. */
static bool parse_pattern(arch_parser *p, arch_tensor *tensor) {
    arch_token word = p->token;
    if (word.kind != TOKEN_WORD)
        return arch_parse_error(p, word.pos, "expected a tensor's name, found %s",
                                arch_lex_found(p));
    const char *end = word.text + word.size;
    const char *open = memchr(word.text, '{', word.size);
    const char *close = open ? memchr(open, '}', (size_t)(end - open)) : NULL;
    size_t before = (size_t)((open ? open : end) - word.text);
    tensor->before = arena_copy_text(p->memory, word.text, before);
    if (!open) return arch_lex_next(p);
    arch_pos pos = { word.pos.line, word.pos.column + (uint32_t)(open - word.text) };
    if (!close || !is_name(open + 1, (size_t)(close - open) - 1) ||
        memchr(close, '{', (size_t)(end - close)))
        return arch_parse_error(p, pos, "expected one '{NAME}' in the tensor's name");
    tensor->after = arena_copy_text(p->memory, close + 1, (size_t)(end - close) - 1);
    pos.column++;
    return set_layer_variable(p, pos, open + 1, (size_t)(close - open) - 1) && arch_lex_next(p);
}

static bool parse_dim(arch_parser *p, arch_tensor *tensor) {
    if (tensor->n_dims == GGUF_MAX_DIMS)
        return arch_parse_error(p, p->token.pos, "a tensor has at most %d dimensions",
                                GGUF_MAX_DIMS);
    arch_dim *dim = &tensor->dims[tensor->n_dims++];
    if (!arch_lex_is(p, "let")) {
        dim->expr = arch_parse_typed(p, ARCH_INT, "a dimension");
        return dim->expr != NULL;
    }
    arch_token name;
    if (tensor->after)
        return arch_parse_error(p, p->token.pos, "'let' cannot name a dimension that may differ "
                                                 "from layer to layer");
    if (!arch_lex_next(p) || !expect_new_name(p, &name)) return false;
    dim->let = symbol_of(p, SYMBOL_LET, ARCH_INT, &name);
    return arch_lex_next(p);
}

static bool parse_shape(arch_parser *p, arch_tensor *tensor) {
    if (!arch_lex_expect(p, "[")) return false;
    p->in_layer = tensor->after != NULL;
    bool ok = parse_dim(p, tensor);
    while (ok && arch_lex_is(p, ",")) ok = arch_lex_next(p) && parse_dim(p, tensor);
    p->in_layer = false;
    if (!ok || arch_lex_is(p, "]")) return ok && arch_lex_next(p);
    return arch_parse_error(p, p->token.pos, "expected ',' or ']', found %s", arch_lex_found(p));
}

static bool parse_fallback(arch_parser *p, arch_tensor *tensor) {
    if (!arch_lex_next(p)) return false;
    arch_token name = p->token;
    const arch_symbol *s = name.kind == TOKEN_NAME
                               ? arch_find_symbol(p->out, name.text, name.size) : NULL;
    if (!s || s->kind != SYMBOL_TENSOR)
        return arch_parse_error(p, name.pos, "expected a tensor's name after 'or', found %s",
                                arch_lex_found(p));
    if (s->per_layer && !tensor->after)
        return arch_parse_error(p, name.pos, "'%s' is known only in the layers", s->name);
    tensor->fallback = s;
    return arch_lex_next(p);
}

static bool lets_dimension(const arch_tensor *tensor) {
    for (uint32_t i = 0; i < tensor->n_dims; i++)
        if (tensor->dims[i].let) return true;
    return false;
}

static bool parse_tensor_flags(arch_parser *p, arch_tensor *tensor) {
    for (;;) {
        arch_pos pos = p->token.pos;
        bool absent_ok = arch_lex_is(p, "optional") || arch_lex_is(p, "or");
        if (absent_ok && lets_dimension(tensor))
            return arch_parse_error(p, pos, "a tensor that may be absent cannot name a dimension");
        if (arch_lex_is(p, "optional") && !tensor->optional)
            tensor->optional = true;
        else if (arch_lex_is(p, "f32") && !tensor->f32)
            tensor->f32 = true;
        else if (arch_lex_is(p, "or") && !tensor->fallback) {
            if (!parse_fallback(p, tensor)) return false;
            continue;
        } else
            return true;
        if (!arch_lex_next(p)) return false;
    }
}

static bool parse_tensor(arch_parser *p) {
    arch_token name;
    if (!only_at_top(p, "tensor") || !arch_lex_next(p) || !expect_new_name(p, &name)) return false;
    arch_tensor *tensor = ARENA_NEW(p->memory, arch_tensor);
    arch_statement *s = statement_new(p, STATEMENT_TENSOR, name.pos);
    if (!arch_lex_word(p) || !parse_pattern(p, tensor) || !parse_shape(p, tensor) ||
        !parse_tensor_flags(p, tensor) || !check_new_name(p, &name))
        return false;
    arch_symbol *symbol = symbol_of(p, SYMBOL_TENSOR, ARCH_VALUE, &name);
    symbol->per_layer = tensor->after != NULL;
    s->symbol = symbol;
    s->tensor = tensor;
    return true;
}

/* ---- values */

/* False where the expression can only be another name of what exists. */
static bool makes_op(const arch_node *n) {
    if (n->kind == NODE_IF) return makes_op(n->a) || makes_op(n->b);
    return n->kind != NODE_NAME;
}

/* An activation's name stands in dumps: it must not come twice. */
static bool note_made(arch_parser *p, arch_symbol *symbol, arch_pos pos) {
    bool *made = p->section == SECTION_LAYERS ? &symbol->made_per_layer : &symbol->made_once;
    if (*made)
        return arch_parse_error(p, pos, "'%s' names an activation already: another name is needed",
                                symbol->name);
    *made = true;
    return true;
}

static bool parse_value(arch_parser *p) {
    arch_token name;
    if (!expect_name(p, &name)) return false;
    arch_symbol *symbol = arch_find_symbol(p->out, name.text, name.size);
    if (!arch_lex_next(p)) return false;
    if (!arch_lex_is(p, "="))
        return arch_parse_error(p, name.pos, "expected a statement or '%.*s = …'",
                                name.size > 60 ? 60 : (int)name.size, name.text);
    bool again = symbol && symbol->kind == SYMBOL_VALUE && symbol->pos.line;
    if (!again && !check_new_name(p, &name)) return false;
    if (!arch_lex_next(p)) return false;
    arch_statement *s = statement_new(p, STATEMENT_VALUE, name.pos);
    s->expr = arch_parse_expr(p);
    if (!s->expr) return false;
    if (s->expr->type != ARCH_VALUE)
        return arch_parse_error(p, s->expr->pos, "'%.*s' is to be a value of the graph, found %s: "
                                                 "numbers are named by 'let'",
                                name.size > 60 ? 60 : (int)name.size, name.text,
                                arch_type_text(s->expr->type));
    if (!again) symbol = symbol_of(p, SYMBOL_VALUE, ARCH_VALUE, &name);
    s->symbol = symbol;
    return !makes_op(s->expr) || note_made(p, symbol, name.pos);
}

/* ---- sections */

static bool parse_layers(arch_parser *p) {
    arch_pos pos = p->token.pos;
    if (p->section != SECTION_TOP)
        return arch_parse_error(p, pos, "'layers' comes once, before 'output'");
    if (!arch_lex_next(p)) return false;
    arch_token name = p->token;
    if (name.kind != TOKEN_NAME || !is_name(name.text, name.size))
        return arch_parse_error(p, name.pos, "expected a name for the layer's number, found %s",
                                arch_lex_found(p));
    if (!set_layer_variable(p, name.pos, name.text, name.size) || !arch_lex_next(p) ||
        !arch_lex_expect(p, "<"))
        return false;
    p->out->n_layer = arch_parse_typed(p, ARCH_INT, "the number of layers");
    p->section = SECTION_LAYERS;
    p->in_layer = true;
    return p->out->n_layer != NULL;
}

static bool parse_output(arch_parser *p) {
    if (p->section != SECTION_LAYERS)
        return arch_parse_error(p, p->token.pos, "'output' comes once, after 'layers'");
    p->out->output_pos = p->token.pos;
    p->section = SECTION_OUTPUT;
    p->in_layer = false;
    return arch_lex_next(p);
}

static bool parse_statement(arch_parser *p) {
    static const struct {
        const char *word;
        bool (*parse)(arch_parser *p);
    } statements[] = {
        { "param", parse_param },   { "let", parse_let },       { "check", parse_check },
        { "tensor", parse_tensor }, { "layers", parse_layers }, { "output", parse_output },
    };
    for (size_t i = 0; i < ARRAY_LEN(statements); i++)
        if (arch_lex_is(p, statements[i].word)) return statements[i].parse(p);
    if (p->token.kind == TOKEN_NAME) return parse_value(p);
    return arch_parse_error(p, p->token.pos, "expected a statement, found %s", arch_lex_found(p));
}

static bool parse_line_end(arch_parser *p) {
    if (p->token.kind == TOKEN_END) return true;
    if (p->token.kind == TOKEN_NEWLINE) return arch_lex_next(p);
    return arch_parse_error(p, p->token.pos, "expected the end of the line, found %s",
                            arch_lex_found(p));
}

/* ---- the file */

static bool parse_head(arch_parser *p) {
    if (!arch_lex_next(p) || !skip_empty_lines(p)) return false;
    if (!arch_lex_is(p, "arch"))
        return arch_parse_error(p, p->token.pos, "expected 'arch NAME' first, found %s",
                                arch_lex_found(p));
    if (!arch_lex_word(p)) return false;
    bool ok = p->token.kind == TOKEN_WORD;
    for (size_t i = 0; ok && i < p->token.size; i++)
        ok = is_name_char(p->token.text[i]) || p->token.text[i] == '.' || p->token.text[i] == '-';
    if (!ok)
        return arch_parse_error(p, p->token.pos, "expected the architecture's name, found %s",
                                arch_lex_found(p));
    p->out->name = arena_copy_text(p->memory, p->token.text, p->token.size);
    return arch_lex_next(p) && parse_line_end(p);
}

/* A number every file has to name. */
static const arch_symbol *require_number(arch_parser *p, const char *name, const char *meaning) {
    const arch_symbol *s = arch_find_symbol(p->out, name, strlen(name));
    if (s && s->type == ARCH_INT && !s->per_layer) return s;
    arch_parse_error(p, p->token.pos, "the file does not name '%s', an integer: %s", name, meaning);
    return NULL;
}

static bool parse_tail(arch_parser *p) {
    arch *t = p->out;
    const arch_block *output = &t->blocks[SECTION_OUTPUT];
    if (p->section != SECTION_OUTPUT)
        return arch_parse_error(p, p->token.pos, "the file has no '%s'",
                                p->section == SECTION_TOP ? "layers" : "output");
    if (!output->count || output->items[output->count - 1]->kind != STATEMENT_VALUE)
        return arch_parse_error(p, p->token.pos, "the last statement of 'output' has to name the "
                                                 "logits");
    t->n_embd = require_number(p, "n_embd", "the values of a token's embedding");
    t->n_ctx_train = t->n_embd ? require_number(p, "n_ctx_train", "the positions it was trained on")
                               : NULL;
    return t->n_ctx_train != NULL;
}

static bool parse_file(arch_parser *p) {
    if (!parse_head(p)) return false;
    while (skip_empty_lines(p) && p->token.kind != TOKEN_END && p->token.kind != TOKEN_BAD)
        if (!parse_statement(p) || !parse_line_end(p)) return false;
    return p->token.kind == TOKEN_END && parse_tail(p);
}

arch *arch_parse(arena *a, diag *d, const char *path, const char *text, size_t size) {
    arch *t = ARENA_NEW(a, arch);
    t->path = path;
    if (size > ARCH_MAX_TEXT) {
        diag_error(d, "%s: %zu bytes of text, at most %d are taken", path, size, ARCH_MAX_TEXT);
        return NULL;
    }
    arch_parser p = { .memory = a, .diag = d, .out = t, .at = text, .end = text + size,
                      .line_start = text, .line = 1 };
    t->tokens = symbol_new(&p, SYMBOL_VALUE, ARCH_VALUE, "tokens", 6, (arch_pos){ 0 });
    return parse_file(&p) ? t : NULL;
}
