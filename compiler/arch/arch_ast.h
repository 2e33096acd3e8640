/* arch_ast.h - what an .arch file was parsed to. Internal to arch_*.c.
 *
 * A tree is made by arch_parse.c and only read afterwards, so that one parsed file can build many
 * graphs. It is fully typed: every node knows its type and every name its symbol, hence what is
 * left to fail when a model's graph is built is arithmetic (division by zero, overflow) and the
 * model. The tree is bounded: ARCH_MAX_TEXT bytes of text, ARCH_MAX_HEIGHT levels, so that walking
 * it recursively is safe.
 */
#ifndef GGUFC_ARCH_AST_H
#define GGUFC_ARCH_AST_H

#include "arch.h"

#define ARCH_MAX_TEXT   65536 /* bytes */
#define ARCH_MAX_HEIGHT 100   /* levels of an expression */
#define ARCH_MAX_LAYERS 1024
#define ARCH_MAX_OPS    32768 /* of a graph */
#define ARCH_MAX_PARAMS 16    /* of a function */
#define ARCH_MAX_COUNT  INT32_MAX /* of what metadata counts: dimensions, heads, … */

typedef struct arch_pos {
    uint32_t line, column; /* from 1; columns are bytes */
} arch_pos;

enum arch_type { ARCH_INT, ARCH_FLOAT, ARCH_BOOL, ARCH_STRING, ARCH_VALUE };

typedef union arch_scalar {
    int64_t     i; /* ARCH_INT */
    double      f; /* ARCH_FLOAT: finite */
    bool        b;
    gguf_string s;
} arch_scalar;

/* ---- names */

enum arch_symbol_kind { SYMBOL_PARAM, SYMBOL_LET, SYMBOL_LAYER, SYMBOL_TENSOR, SYMBOL_VALUE };

typedef struct arch_symbol {
    const char           *name;
    enum arch_symbol_kind kind;
    enum arch_type        type;
    uint32_t              id;        /* position in arch.symbols */
    bool                  per_layer; /* known only inside a layer */
    bool made_once, made_per_layer; /* names an activation outside, in the layers */
    arch_pos              pos; /* {0, 0}: known to the language */
} arch_symbol;

/* ---- expressions */

enum arch_node_kind {
    NODE_LITERAL,
    NODE_NAME,
    NODE_HAS, /* the tensor is there */
    NODE_NEGATE,
    NODE_NOT,
    NODE_SQRT,
    NODE_ADD, /* of numbers or of values */
    NODE_MUL, /* likewise */
    NODE_SUB,
    NODE_DIV,
    NODE_MOD,
    NODE_EQ,
    NODE_NE,
    NODE_LT,
    NODE_LE,
    NODE_GT,
    NODE_GE,
    NODE_AND,
    NODE_OR,
    NODE_IF, /* a if c else b */
    NODE_CALL,
};

typedef struct arch_node arch_node;

typedef struct arch_call {
    enum op_kind     op;
    const arch_node *inputs[OP_MAX_INPUTS];   /* NULL where not given */
    const arch_node *params[ARCH_MAX_PARAMS]; /* likewise; a word is a literal int */
} arch_call;

struct arch_node {
    enum arch_node_kind kind;
    enum arch_type      type;
    arch_pos            pos;
    uint32_t            height;
    const arch_node    *a, *b, *c;
    arch_scalar         literal;
    const arch_symbol  *symbol; /* NODE_NAME, NODE_HAS */
    arch_call          *call;
};

/* ---- statements */

enum arch_section { SECTION_TOP, SECTION_LAYERS, SECTION_OUTPUT, SECTION_COUNT };

enum arch_statement_kind {
    STATEMENT_PARAM,
    STATEMENT_LET,
    STATEMENT_CHECK,
    STATEMENT_TENSOR,
    STATEMENT_VALUE,
};

enum arch_param_type { PARAM_TYPE_COUNT, PARAM_TYPE_INT, PARAM_TYPE_FLOAT, PARAM_TYPE_BOOL,
                       PARAM_TYPE_STRING };

/* One dimension of a tensor: an expression, or a name that takes what the file has. */
typedef struct arch_dim {
    const arch_node   *expr;
    const arch_symbol *let;
} arch_dim;

typedef struct arch_tensor {
    const char        *before, *after; /* of the layer's number; after is NULL outside the layers */
    arch_dim           dims[GGUF_MAX_DIMS];
    uint32_t           n_dims;
    bool               optional, f32;
    const arch_symbol *fallback; /* stands in when the tensor is absent */
} arch_tensor;

typedef struct arch_statement {
    enum arch_statement_kind kind;
    arch_pos                 pos;
    const arch_symbol       *symbol; /* but for check */
    const arch_node         *expr;   /* a param's may be NULL: required */
    const char              *text;   /* a param's full key, a check's message */
    enum arch_param_type     param;
    const arch_tensor       *tensor;
} arch_statement;

typedef struct arch_block {
    arch_statement **items;
    uint32_t         count, capacity;
} arch_block;

struct arch {
    const char        *path, *name;
    arch_block         blocks[SECTION_COUNT];
    arch_symbol      **symbols;
    uint32_t           n_symbols, cap_symbols;
    const arch_symbol *tokens, *n_embd, *n_ctx_train; /* what every file has */
    const arch_symbol *layer;                         /* the layers' variable */
    const arch_node   *n_layer;
    arch_pos           output_pos;
};

/* NULL where the file has no such name. */
arch_symbol *arch_find_symbol(const arch *t, const char *name, size_t size);

/* ---- evaluation of numbers (arch_eval.c) */

/* What names stand for while a graph is built, by symbol id. */
typedef struct arch_slot {
    arch_scalar        scalar;
    const gguf_tensor *tensor; /* SYMBOL_TENSOR: NULL if absent */
    value             *value;  /* SYMBOL_VALUE */
} arch_slot;

typedef struct arch_env {
    diag       *diag;
    const arch *arch;
    const char *model; /* path, for messages */
    arch_slot  *slots;
} arch_env;

/* The value of an expression that is no ARCH_VALUE. False after an error was reported. */
bool arch_eval(const arch_env *env, const arch_node *n, arch_scalar *out);

/* The same for a number of either type, as a float. */
bool arch_eval_float(const arch_env *env, const arch_node *n, double *out);

/* Reports an error of evaluation at a place in the text; returns false. */
bool arch_eval_error(const arch_env *env, arch_pos pos, const char *format, ...)
    PRINTF_LIKE(3, 4);

/* "32", "10000.0", "true", "\"yarn\"" */
const char *arch_scalar_text(arena *a, enum arch_type type, arch_scalar s);

/* Resolves params and tensors against a model (arch_model.c); each sets its symbol's slot. */
bool arch_read_param(const arch_env *env, const arch_statement *s, const gguf_file *file);
bool arch_read_tensor(const arch_env *env, arena *a, const arch_statement *s,
                      const gguf_file *file, uint64_t layer);

#endif
