/* ggufc/model.h - the ABI between generated code and the runtime.
 *
 * A compiled model is one constant, `ggufc_compiled` (or the name given with --symbol): what it needs
 * to know of its weights file, its tokenizer as tables, the sizes of its memory, and four lists of
 * calls. Evaluating a list means: every thread walks it from the start, does its share of each
 * call's units, or all of them, and waits for the others where a call says so. That is all the runtime knows of the
 * model's mathematics; it is freestanding C and so are the kernels.
 *
 *     body of n tokens   n == 1 ? decode : prefill      leaves hidden states in the arena
 *     head of one token  head, for state.out_token      leaves n_vocab logits at logits_offset
 *     … of a few         heads, for state.n_tokens      leaves those of token out_token + i
 *                        from state.out_token on        i · logits_stride bytes behind them
 */
#ifndef GGUFC_MODEL_H
#define GGUFC_MODEL_H

#include <stdint.h>

#define GGUFC_ABI 7

/* Parts of a split model stand in memory at multiples of so many bytes, so that huge pages of a file
   can be huge pages in memory. */
#define GGUFC_PART_ALIGNMENT (2 << 20)

/* Bytes of weights from which on huge pages are asked for: fewer are read from a cache in any case. */
#define GGUFC_HUGE_LEAST (64 << 20)

/* In a batch of at most so many tokens each has the logits, to the bit, that it has when all are
   evaluated one by one. Larger ones may be summed in another order. */
#define GGUFC_BATCH_EXACT 7

/* What a kernel sees. `weights` is where the (first) GGUF file starts in memory; `arena` and `kv` are
   aligned to 64 bytes. Tokens stand at positions pos … pos + n_tokens - 1. */
typedef struct ggufc_state {
    const uint8_t *weights;
    uint8_t       *arena;
    uint8_t       *kv;
    const int32_t *tokens;    /* n_tokens ids, each in 0 … n_vocab - 1 */
    uint32_t       n_tokens;  /* 1 … n_batch; for heads, 1 … GGUFC_BATCH_EXACT */
    uint32_t       pos;       /* pos + n_tokens <= n_ctx */
    uint32_t       out_token; /* the (first) token of this batch whose logits the head computes */
    uint32_t       thread;    /* whose state this is: eval_calls (runtime/eval.h) sets it */
} ggufc_state;

/* Computes units begin … end - 1 of a call. `args` are byte offsets of its operands. Units are
   independent of one another, and how they are split over threads does not change any result: where two make
   the same rows (plan.h), they write the same values. */
typedef void ggufc_kernel(const ggufc_state *state, const uint64_t *args, uint32_t begin,
                          uint32_t end);

enum {
    GGUFC_CALL_PER_TOKEN = 1, /* the call has units × n_tokens units, all of a token first */
    GGUFC_CALL_BARRIER = 2,   /* wait for all threads after this call */
    GGUFC_CALL_EACH = 4       /* every thread computes all units, to rows thread % n_batch of the results; what threads
                                 of one row write is the same */
};

typedef struct ggufc_call {
    ggufc_kernel   *kernel;
    const uint64_t *args;
    uint32_t        units;
    uint32_t        flags;
    uint32_t        before, after; /* units of the calls beside it that are split over threads together with it */
    uint64_t        work; /* of these and its own units together for one token, in multiply-adds: a guess of how long
                             they take; 0: threads keep to their parts */
} ggufc_call;

typedef struct ggufc_calls {
    const ggufc_call *calls;
    uint64_t          count;
} ggufc_calls;

enum { GGUFC_VOCAB_SPM = 1 }; /* SentencePiece: merges by score, byte fallback */

/* Token types, as tokenizer.ggml.token_type has them (0 for any other), and what may be or'ed. */
enum {
    GGUFC_TOKEN_NORMAL = 1,
    GGUFC_TOKEN_UNKNOWN = 2,
    GGUFC_TOKEN_CONTROL = 3,
    GGUFC_TOKEN_USER_DEFINED = 4,
    GGUFC_TOKEN_UNUSED = 5,
    GGUFC_TOKEN_BYTE = 6,
    GGUFC_TOKEN_TYPE = 15,  /* mask of the above */
    GGUFC_TOKEN_ENDS = 16,  /* generation ends at this token */
    GGUFC_TOKEN_STRIPS = 32 /* found in a text, it swallows the white space behind it */
};

/* The tokenizer. Token i's text (UTF-8, "▁" for a space as stored) is text[offsets[i]] …
   text[offsets[i + 1] - 1]. An id of -1 means that there is none. */
typedef struct ggufc_vocab {
    uint32_t        kind; /* GGUFC_VOCAB_* */
    uint32_t        n_tokens;
    const char     *text;
    const uint32_t *offsets; /* n_tokens + 1 */
    const float    *scores;
    const uint8_t  *types;       /* GGUFC_TOKEN_*, or'ed */
    const int32_t  *byte_tokens; /* 256: the token of each byte */
    const uint32_t *slots;       /* id + 1, 0 for empty; see ggufc_vocab_hash */
    const int32_t  *special;     /* control, unknown and user-defined, longest text first */
    uint32_t        slot_mask;   /* number of slots - 1, a power of two less one */
    uint32_t        n_special;
    int32_t         bos, eos, eot, unk;
    uint8_t         add_bos, add_eos, add_space_prefix, pad;
} ggufc_vocab;

/* FNV-1a. A text is looked up from slot (hash & slot_mask) onwards, wrapping, to the first empty
   slot; of two tokens with one text the first has the slot. */
static inline uint32_t ggufc_vocab_hash(const char *text, uint32_t size) {
    uint32_t h = 2166136261u;
    for (uint32_t i = 0; i < size; i++) h = (h ^ (uint8_t)text[i]) * 16777619u;
    return h;
}

/* The token of exactly this text, or -1. */
static inline int32_t ggufc_vocab_find(const ggufc_vocab *v, const char *text, uint32_t size) {
    uint32_t slot = ggufc_vocab_hash(text, size) & v->slot_mask;
    for (; v->slots[slot]; slot = (slot + 1) & v->slot_mask) {
        uint32_t id = v->slots[slot] - 1, i = 0;
        if (v->offsets[id + 1] - v->offsets[id] != size) continue;
        while (i < size && v->text[v->offsets[id] + i] == text[i]) i++;
        if (i == size) return (int32_t)id;
    }
    return -1;
}

/* FNV-1a over 64 bits; `h` is GGUFC_HASH_BASIS, or the hash of the bytes before these. */
#define GGUFC_HASH_BASIS UINT64_C(14695981039346656037)

static inline uint64_t ggufc_hash(uint64_t h, const uint8_t *data, uint64_t size) {
    for (uint64_t i = 0; i < size; i++) h = (h ^ data[i]) * 1099511628211u;
    return h;
}

/* The hash in ggufc_model.index_hash: of the index_bytes bytes at index_offset of the GGUF file, that
   is its description of every tensor. */
static inline uint64_t ggufc_index_hash(const uint8_t *data, uint64_t size) {
    return ggufc_hash(GGUFC_HASH_BASIS, data, size);
}

/* A file of a split model. Parts follow one another in memory, each in pages of its own; what is
   between them is zeros. */
typedef struct ggufc_part {
    uint64_t offset; /* in memory, from where the first part starts: a multiple of GGUFC_PART_ALIGNMENT */
    uint64_t bytes;
    uint64_t index_offset, index_bytes, index_hash; /* in the file, as those of ggufc_model */
} ggufc_part;

/* A named value that a model compiled with --trace keeps: f32, in the arena from the end of the call
   that made it until the next. Values of a token are contiguous, ne[0] first; unused ne are 1. */
typedef struct ggufc_activation {
    const char *name;   /* "Qcur-0" */
    uint64_t    offset; /* in the arena, of the first token's values */
    uint64_t    stride; /* bytes from one token's values to the next; the head's have one token */
    uint64_t    ne[3];
    uint32_t    head; /* made by the head: of the token state.out_token */
    uint32_t    pad;
} ggufc_activation;

typedef struct ggufc_model {
    uint32_t    abi; /* GGUFC_ABI */
    uint32_t    n_vocab;
    uint32_t    n_ctx;       /* positions in the key-value cache */
    uint32_t    n_ctx_train; /* what the model was trained for */
    uint32_t    n_batch;     /* most tokens in one call */
    uint32_t    n_layer, n_embd, n_params_m; /* n_params_m: parameters in millions, rounded */
    const char *name;        /* general.name, or the file's */
    const char *arch;        /* general.architecture */
    const char *types;       /* types of the weights: "Q8_0 F32" */
    const char *target;      /* what the code was compiled for: "x86_64 avx512-vnni" */
    const char *compiler;    /* "ggufc 0.1.0" */
    const char *path;        /* absolute path of the (first) GGUF file at compile time */
    uint64_t    arena_bytes, kv_bytes, weight_bytes;
    uint64_t    logits_offset; /* in the arena: n_vocab f32 */
    uint64_t    logits_stride; /* bytes from one token's logits to the next, of heads */
    uint64_t    file_bytes; /* of all parts together */
    uint64_t    index_offset, index_bytes, index_hash; /* of the only file; see parts */
    const ggufc_part *parts; /* of a split model, the first first; NULL: it is one file */
    uint64_t    n_parts;     /* 0: one file */
    ggufc_calls decode, prefill, head;
    ggufc_calls heads; /* no calls: logits are computed one by one, by head */
    const ggufc_vocab *vocab; /* NULL: no tokenizer that is supported */
    const uint8_t *embedded;  /* the file's bytes, or its parts as in memory, aligned to 64; NULL: mapped */
    const ggufc_activation *activations; /* in order of execution; NULL without --trace */
    uint64_t n_activations;
    const struct ggufc_model *next; /* compiled for several CPUs, best first: the same model for a lesser one; NULL: the
                                       last. What differs is the target, places in memory, and the calls */
} ggufc_model;

#endif
