/* mixture.h - which type each tensor of a model gets: what TYPE means in `ggufc quantize IN OUT TYPE`.
 *
 * A mixture has llama.cpp's name, number and choices (llama-quant.cpp, September 2026): most tensors
 * get its base type, some a better one, by their role, their layer and what kind of model it is. The
 * names and the rules are tables (mixture_rules.c). Two things are our own: Q1_0, Q2_0, NVFP4 and
 * MXFP4 keep the embedding and the output matrix in Q8_0, as models published in these types do; and
 * NVFP4 and Q1_0 have a fallback for rows that are no whole number of blocks.
 *
 * Some rules count the tensors of a role met so far. So tensors are asked for once each, in the
 * order of mixture_compare, which is also the order llama.cpp writes them in. */
#ifndef GGUFC_MIXTURE_H
#define GGUFC_MIXTURE_H

#include "gguf.h"

typedef struct mixture {
    const char *name;      /* "Q4_K_M" */
    const char *alias;     /* "Q4_K", or NULL */
    uint32_t    file_type; /* the value of general.file_type */
    uint32_t    base;      /* enum quant_type */
} mixture;

#define MIXTURE_COPY "COPY" /* the name of the one that changes no tensor */

extern const mixture mixtures[]; /* the last has a NULL name */

/* By name or alias in any case, or by general.file_type as a number; NULL where there is none. */
const mixture *mixture_find(const char *name);

/* A type by its name in any case, as "q6_K"; QUANT_COUNT where there is none. */
uint32_t mixture_find_type(const char *name);

/* What a tensor is for, by its name. */
enum mixture_role {
    ROLE_OTHER,
    ROLE_OUTPUT, /* the output matrix, and the embedding of a model that has no other */
    ROLE_TOKEN_EMBD,
    ROLE_ATTN_Q,
    ROLE_ATTN_K,
    ROLE_ATTN_V, /* also K, Q and V in one, and MLA's K and V */
    ROLE_ATTN_OUTPUT,
    ROLE_FFN_UP,
    ROLE_FFN_GATE,
    ROLE_FFN_DOWN,
    ROLE_COUNT
};

enum mixture_role mixture_role(gguf_string name);
const char       *mixture_role_name(enum mixture_role role); /* as in the rules: "attn_v" */

/* What rules ask of the model, and how far it has come. */
typedef struct mixture_state {
    const mixture *mix;
    gguf_string    architecture;
    uint64_t       n_layers, n_experts;
    uint64_t       n_gqa;          /* heads that share a key-value head */
    bool           is_70b;         /* its attn_v is small beside the others, and gets more bits */
    bool           has_output;     /* false: the embedding is the output matrix as well */
    bool           has_importance; /* an importance matrix is there */
    uint64_t       n_seen[ROLE_COUNT], n_attn_v;
} mixture_state;

/* `f` need not be a model that can be compiled: what a file does not say counts as absent. */
mixture_state mixture_begin(const mixture *mix, const gguf_file *f, bool has_importance);

/* The order of tensors: those of no layer, then layer by layer, by name within. */
int mixture_compare(gguf_string a, gguf_string b);

/* Whether the tensor is one that is quantized at all: a matrix named …weight that is neither a
   norm nor a router nor one of those too small or too delicate. */
bool mixture_quantizes(const gguf_tensor *t);

/* Its type by the mixture's rules. */
uint32_t mixture_choose(mixture_state *s, const gguf_tensor *t);

/* What takes the place of a type whose blocks do not divide rows of so many values: itself where
   they do, else a type of blocks of 32, else F16. */
uint32_t mixture_fallback(uint32_t quant, uint64_t row);

/* Whether llama.cpp refuses this tensor in this type without an importance matrix. */
bool mixture_needs_importance(const mixture *mix, gguf_string name, uint32_t quant);

/* ---- the rules, for mixture.c and tests. Of the rows whose mixtures, roles and conditions all
   hold, the first decides. */

typedef struct mixture_rule {
    const char *mixtures; /* names with blanks between; "*": all */
    const char *roles;    /* likewise */
    const char *when;     /* conditions that must all hold, with blanks between; "": always */
    uint32_t    quant;    /* QUANT_COUNT: the base type */
} mixture_rule;

extern const mixture_rule mixture_rules[]; /* the last has NULL mixtures */

typedef struct mixture_question {
    const mixture_state *state;
    const gguf_tensor   *tensor;
    uint64_t             at, of; /* which of the tensors of its role it is */
} mixture_question;

typedef struct mixture_condition {
    const char *name;
    bool (*holds)(const mixture_question *q);
} mixture_condition;

extern const mixture_condition mixture_conditions[]; /* the last has a NULL name */

/* Whether `word` is one of the words of `list`, in any case. */
bool mixture_has_word(const char *list, const char *word);

#endif
