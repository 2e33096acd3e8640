/* compare.h - which operation is the first wrong one, and wrong how.
 *
 * Two sides, A and B, each a model with one of three kernels or a recording (recording.h). The suspect
 * is a recording rather than generated code, that rather than an interpreted model, of equals B. Where
 * nothing of its own is wrong, the other is looked at in the same way. What is told, in this order:
 *
 *     tokens       the ids must be equal, else nothing below is done
 *     ops          every activation that both have, in order of execution: how far B is from A
 *     first        the first op beyond its tolerance
 *     alone        that op computed from the suspect's own inputs: inherited errors are told from new
 *     hypotheses   the mistakes that engines make, tried on that op and those inputs
 *     logits       top tokens, divergence, perplexity
 *
 * Distance. NMSE of an op is the mean over tokens of Σ(b - a)² / Σa², so that one token of large
 * values (the first often is) does not hide the others; `worst` is that of one token, so that the
 * others do not hide it. Both are compared with tolerances.
 *
 * Tolerance. The distance of `reference` from `interpreted` arithmetic on the same tokens says how
 * much quantized activations and f32 sums change an op's result: that is its noise, to which comes
 * what was lost where a text dump has few digits, or an engine computes with f16 or bf16. Two right
 * engines differ by about that. The root of NMSE may be slack times that of the noise, or slack times
 * 2^-24 (the rounding of a result to f32) where that is more; `worst` likewise, by the token of the
 * most noise. A value matches when it differs by at most slack times the noise (root mean square) of
 * its token's row, or slack ulps of its own.
 *
 * Alone. The graph is evaluated op by op; whatever the suspect has takes the place of what was
 * computed, after it was compared. So an op is computed from the suspect's inputs where it has them,
 * and from what the nearest ancestors that it has imply where not. Done in both arithmetics, and for
 * a rounded recording once more with inputs changed by as much as they were rounded, the distances
 * give the tolerance, and the suspect is judged by the nearer arithmetic. This finds an error far
 * smaller than the noise that has gathered before it.
 *
 * Cost. Where A and B are models whose weights differ, there is no right one: tolerances and
 * hypotheses are left out, and `alone` is what B's weights cost, an op at a time.
 *
 * Evaluation is a batch of tokens at a time on all sides at once, so that memory does not grow with
 * the text, and what is told does not depend on its size; the weights are mapped once.
 */
#ifndef GGUFC_COMPARE_H
#define GGUFC_COMPARE_H

#include "base.h"
#include "diag.h"
#include "ggufc/compiler.h"

enum { COMPARE_TOP = 5 };

/* How far values b are from values a. */
typedef struct compare_distance {
    uint64_t n_values; /* compared; 0: nothing is said below */
    uint32_t n_tokens;
    double   match;    /* share of values that match */
    double   mean, most;            /* |b - a| */
    uint64_t most_index;            /* where it is largest: within a token's row … */
    uint32_t most_token;            /* … of this token */
    double   most_a, most_b;
    double   nmse, cosine;
    double   worst;       /* NMSE of the token that is furthest off … */
    uint32_t worst_token; /* … which is this one */
    uint64_t n_strange; /* values that are infinite or no number on one side only */
} compare_distance;

/* What is tolerated; zeros in a comparison of costs. */
typedef struct compare_tolerance {
    double nmse, worst;
} compare_tolerance;

typedef struct compare_op {
    const char      *name;  /* "Qcur-0" */
    const char      *kind;  /* "matmul" */
    const char      *shape; /* of a token: "[256]", "[32, 8]" */
    int32_t          layer; /* -1 outside the layers */
    compare_distance between;       /* B against A */
    double           tolerance;     /* of nmse; 0 in a comparison of costs */
    double           worst_tolerance;
    bool             beyond;
    compare_distance alone;         /* the suspect against what its inputs imply */
    double           alone_tolerance;
    double           alone_worst_tolerance;
    bool             alone_beyond;
} compare_op;

typedef struct compare_hypothesis {
    const char *what;  /* "attn_q.weight is read transposed" */
    double      nmse;  /* the suspect against the op computed so */
    bool        matches;
} compare_hypothesis;

typedef struct compare_logits {
    uint32_t n_tokens; /* 0: one side has no logits */
    uint32_t same_best;        /* tokens whose most likely successor is the same */
    double   top_overlap;      /* of the COMPARE_TOP most likely, the mean share that both have */
    double   divergence;       /* KL(A‖B) in nats, mean over tokens */
    double   divergence_most;
    uint32_t n_predicted;      /* tokens whose successor is in the text; 0: perplexity is not told */
    double   perplexity_a, perplexity_b;
    /* after the last token, most likely first */
    int32_t  best_a[COMPARE_TOP], best_b[COMPARE_TOP]; /* -1 beyond a smaller vocabulary */
    double   best_logit_a[COMPARE_TOP], best_logit_b[COMPARE_TOP];
    const char *best_text_a[COMPARE_TOP], *best_text_b[COMPARE_TOP]; /* NULL without tokenizer */
} compare_logits;

/* A comparison of costs is COMPARE_DIFFERENT. */
enum compare_outcome { COMPARE_SAME, COMPARE_DIFFERENT, COMPARE_FAILED };

typedef struct compare_report {
    const char *name_a, *name_b; /* as given: "interpreted:model.gguf" */
    const char *what_a, *what_b; /* "model, compiled for x86_64 avx512-vnni", "text dumps" */
    const char *model;           /* the file whose graph and weights tell what is right */
    const char *version;         /* "ggufc 0.1.0" */
    double      slack;
    bool        cost;            /* weights differ */
    const char *suspect;         /* "A" or "B": from whose inputs `alone` is computed */

    /* Tokens. Equal: n_tokens of them, and tokens_differ is NULL. Else it says how, in lines. */
    const int32_t *tokens;
    uint32_t       n_tokens;
    const char    *text; /* what they stand for; NULL without tokenizer */
    const char    *tokens_differ;

    const char **notes; /* what a reader must know: "B has only the last token", … */
    uint32_t     n_notes;

    compare_op *ops;
    uint32_t    n_ops;
    int32_t     first;    /* of ops; -1: none is beyond tolerance */
    const char *sentence; /* one: the first op beyond tolerance, or that there is none */
    const char *origin;   /* one: whether the error is made there or inherited; NULL: nothing to say */

    compare_hypothesis *hypotheses;
    uint32_t            n_hypotheses;
    const char         *verdict; /* "Qcur-0: matches when …", the nearest; NULL: no hypothesis matches */

    compare_logits logits;
    enum compare_outcome outcome; /* the exit status: 0 same, 1 different, 2 could not compare */
} compare_report;

/* ---- comparing */

typedef struct compare_options {
    const char *a, *b;  /* [KERNELS:]MODEL.gguf, or a recording */
    const char *model;  /* where both are recordings: what they are recordings of */
    const char *map;    /* of text dumps, see recording.h; or NULL */
    const char *text;   /* to be tokenized; NULL: none was given */
    size_t      text_size;
    const int32_t *tokens; /* ids; NULL: none were given */
    uint32_t    n_tokens;
    double      slack;
    uint32_t    n_threads; /* 0: all processors */
    ggufc_compile_options compile; /* for sides that are compiled; arch and batch for all */
    void (*progress)(uint32_t done, uint32_t of); /* tokens; NULL: nobody wants to know */
    void (*tried)(uint32_t n); /* hypotheses so far; 0: that was the last; NULL likewise */
} compare_options;

void compare_defaults(compare_options *o);

/* Fills *r, which lives in `a`, and returns its outcome: COMPARE_FAILED after an error was reported
   (nothing to evaluate, sides that have no activation in common, files that cannot be read) or when
   the tokens differ. */
enum compare_outcome compare_run(arena *a, diag *d, const compare_options *o, compare_report *r);

/* ---- writing it down (report_*.c) */

/* For people: the table and the sentences in the order above. `stream` is a FILE. */
void report_text(const compare_report *r, void *stream, bool colour);

/* For machines: one JSON object, everything of the report, numbers that are not finite as null. */
void report_json(const compare_report *r, void *stream);

/* A page that needs no other file and no network, with the error by layer as a plot. */
void report_html(const compare_report *r, void *stream);

#endif
