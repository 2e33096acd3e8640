/* graph.h - ops over values with fixed shapes.
 *
 * A graph is a list of ops in order of execution. Each op reads values and defines one. Shapes are
 * known; only T, the number of tokens in a call, is not: a value with `per_token` holds T of what
 * its shape says. Shapes are ggml's: ne[0] is contiguous.
 *
 * The same graph goes through every pass. As arch built it, ops are those of the .arch language;
 * the passes add the ones that have no `function` below and fill the `fused` part of an op. What is
 * legal when is the table `op_infos`, and pass_check holds every graph against it.
 */
#ifndef GGUFC_GRAPH_H
#define GGUFC_GRAPH_H

#include "base.h"
#include "gguf.h"

#define OP_MAX_INPUTS  6
#define OP_MAX_OUTPUTS 6

enum value_kind {
    VALUE_WEIGHT,     /* a tensor of the file */
    VALUE_TOKENS,     /* the T token ids of the call */
    VALUE_ACTIVATION, /* made by an op, lives in the arena */
    VALUE_CACHE,      /* keys or values of one layer for every position, F16 */
};

typedef struct op op;

typedef struct value {
    enum value_kind kind;
    const char     *name; /* llama.cpp's: "Qcur-0"; a weight's: the tensor's */
    uint32_t        id;   /* position in graph.values */
    uint32_t        type; /* of a weight: the file's; else QUANT_F32, or what OP_QUANTIZE made */
    uint64_t        ne[4];
    bool            per_token;

    const gguf_tensor *tensor;   /* VALUE_WEIGHT */
    op                *producer; /* VALUE_ACTIVATION, VALUE_CACHE */

    /* Set by pass_plan, in bytes: where it is (a weight: in the file; an activation: in the arena;
       a cache: in the key-value memory) and from one token's part to the next. A packed weight is in
       tiles for matrix products, at packed_offset, and as stored only where something else reads it. */
    uint64_t offset, stride, packed_offset;
    bool     each; /* made by a plan_call of which that is so */
    uint32_t packed_rows;    /* of a unit */
    bool     packed, copied; /* the packed file has it in tiles, as stored */
} value;

enum op_kind {
    /* of the .arch language; shapes as [ne0, ne1] */
    OP_GET_ROWS,  /* (table [n, rows], tokens) → [n]: the token's row, dequantized */
    OP_RMS_NORM,  /* (x [n, …], weight [n]?) → x's shape: x / sqrt(mean(x²) + eps) · weight, along ne0 */
    OP_MATMUL,    /* (weight [k, m], x [k]) → [m] */
    OP_ADD,       /* (a, b) → a's shape; b has a's shape, per token or a weight */
    OP_MUL,       /* likewise */
    OP_ROPE,      /* (x [head_dim · heads], factors [dims / 2]?) → [head_dim, heads]: rotates the first
                     dims of each head by the token's position: pair i by pos · scale · base^(-2i/dims)
                     / factors[i] (Su et al. 2021) */
    OP_ATTENTION, /* (q [head_dim, heads], k [head_dim, kv heads], v [head_dim · kv heads])
                     → [head_dim · heads]: causal softmax(scale · q·k) · v; head h reads kv head
                     h / (heads / kv heads) */
    OP_SWIGLU,    /* (gate, up) → gate / (1 + exp(-gate)) · up */

    /* made by passes */
    OP_ROPE_TABLE, /* (factors?) → [dims]: cosines of the dims / 2 pairs, then their sines */
    OP_KV_STORE,   /* (x) → cache */
    OP_QUANTIZE,   /* (x) → x in value.type, in the layout of the ISA */
    OP_GLU_MATMUL, /* (gate weight, up weight, x) → swiglu(gate·x, up·x) */
    OP_KIND_COUNT
};

/* How the two members of a rotated pair are stored: (2i, 2i + 1), or (i, i + dims / 2). */
enum rope_pairing { ROPE_ADJACENT, ROPE_HALVES };

typedef struct op_params {
    float             eps;
    uint32_t          head_dim;
    uint32_t          rope_dims;
    double            rope_base, rope_scale;
    enum rope_pairing rope_pairing;
    float             attn_scale;
} op_params;

struct op {
    enum op_kind kind;
    const char  *name; /* of the value it was made for; stays when fusion makes another its output */
    int32_t      layer; /* -1 outside the layers */
    value       *in[OP_MAX_INPUTS]; /* NULL where an optional one is absent */
    uint32_t     n_in;
    value       *out;
    op_params    params;
    bool         head; /* belongs to the head: computed for one token, not for the batch */

    /* What pass_fuse moved into this op; done in this order after its own result, on a group of
       rows at a time. */
    struct {
        value       *bias;      /* += bias, a weight */
        value       *residual;  /* += residual */
        value       *rope;      /* rotated, by this OP_ROPE_TABLE's value and params */
        value       *cache;     /* stored there, as F16 */
        value       *quantized; /* stored there, as its type */
        bool         drop_out;  /* `out` itself is read by nobody: not stored */

        /* Where a trace is kept: what the ops that were joined made in between. */
        value       *product;   /* weight · x; the gate's of OP_GLU_MATMUL */
        value       *up;        /* the other product of OP_GLU_MATMUL */
        value       *sum;       /* after the bias */
    } fused;
};

/* How a function of the .arch language is called: inputs first, in this order, then parameters;
   any may be given as NAME=…. */
enum param_type {
    PARAM_F32,  /* float, > 0 */
    PARAM_F64,  /* double, > 0 */
    PARAM_U32,  /* uint32_t, > 0 */
    PARAM_WORD, /* an int, the word's position in `words` */
};

typedef struct op_param_info {
    const char     *name;
    enum param_type type;
    size_t          offset;   /* in op_params */
    bool            required;
    double          fallback; /* where not required; for a word its position */
    const char *const *words; /* PARAM_WORD; ends with NULL */
} op_param_info;

typedef struct op_input_info {
    const char *name;
    bool        optional;
    uint32_t    kinds; /* bit set of 1 << value_kind */
} op_input_info;

typedef struct op_info {
    const char          *name;     /* in dumps: "rms_norm" */
    const char          *function; /* in the .arch language; NULL: only passes make it */
    op_input_info        inputs[OP_MAX_INPUTS];     /* ends with a NULL name */
    const op_param_info *params;                    /* NULL or ends with a NULL name */

    bool positional; /* reads the tokens' positions: not for the head, which is one token's */

    /* Checks the shapes of op.in and sets those of op.out. False with a sentence in `why` (at most
       GRAPH_WHY_BYTES) such as "weight has 2048 columns, x has 4096". */
    bool (*infer)(op *o, char *why);
} op_info;

#define GRAPH_WHY_BYTES 256

extern const op_info op_infos[OP_KIND_COUNT];

typedef struct graph {
    arena *memory;

    op     **ops;
    uint32_t n_ops, cap_ops;
    value  **values;
    uint32_t n_values, cap_values;

    value *tokens;
    value *output;     /* [n_vocab]: the logits */
    value *head_input; /* the value of which the head takes one token; activations past it are the
                          head's */

    /* Facts of the model that are more than one op's. */
    const gguf_file *file;
    const char      *arch;
    uint64_t         n_vocab, n_embd, n_layer, n_ctx_train;

    uint32_t n_named; /* values made by arch, the first of `values`: those after are the passes' */
} graph;

graph *graph_new(arena *a, const gguf_file *file);

/* The value of a tensor; the same value each time. */
value *graph_weight(graph *g, const gguf_tensor *tensor);

/* A new value of one element, for passes. */
value *graph_add_value(graph *g, enum value_kind kind, const char *name);

/* Appends an op with its output, an F32 activation of the inferred shape called `name`. `in` may
   hold NULL for optional inputs. NULL with a sentence in `why` when the inputs do not fit. */
value *graph_add_op(graph *g, enum op_kind kind, const char *name, int32_t layer,
                    value *const *in, uint32_t n_in, const op_params *params, char *why);

/* The same without appending it to g->ops: a pass places it. */
op *graph_new_op(graph *g, enum op_kind kind, const char *name, int32_t layer, value *const *in,
                 uint32_t n_in, const op_params *params, char *why);

/* How many weights a matrix product has, its first inputs; 0: it is none. */
uint32_t graph_op_weights(const op *o);

/* The values that o stores, its own and those that fusion gave it; returns how many. */
uint32_t graph_op_outputs(const op *o, value *outputs[OP_MAX_OUTPUTS]);

/* OP_KIND_COUNT where the language has no such function. */
enum op_kind graph_find_function(const char *name);

/* Prints one op a line, `out: type [shape] = op(inputs) {params} +fused`, to a stdio stream. */
void graph_print(const graph *g, void *stream);

/* "f32 [256, T]" */
const char *graph_shape_text(arena *a, const value *v);

/* The op's parameters, exactly: BEFORE name EQUALS value, one after another. */
const char *graph_params_text(arena *a, const op *o, const char *before, const char *equals);

/* Product of ne. */
uint64_t value_count(const value *v);

/* The types of the weights, most bytes first: "Q8_0 F32". Adds the number of values to *params. */
const char *graph_weight_types(arena *a, const graph *g, uint64_t *params);

/* Whether v is an activation of the .arch language: one that bears a name people know. */
bool graph_is_named(const graph *g, const value *v);

#endif
