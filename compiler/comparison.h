/* comparison.h - what the parts of a comparison share. Private to compare*.c.
 *
 *     compare.c             the sides, the tolerance, the sentences
 *     compare_tokens.c      whose tokens, and why they differ
 *     compare_weights.c     whether two models are of the same weights
 *     compare_hypotheses.c  mistakes tried on the first wrong op
 *     compare_logits.c      what the ops' differences come to
 */
#ifndef GGUFC_COMPARISON_H
#define GGUFC_COMPARISON_H

#include "compare.h"
#include "measure.h"
#include "side.h"

/* A or B as it was given. */
typedef struct compare_input {
    const char         *name;
    const char         *path;
    recording          *recording; /* NULL: a model */
    enum engine_kernels kernels;
    engine             *file;      /* the model's file, graph as arch built it, tokenizer */
    const int32_t      *tokens;
    uint32_t            n_tokens;
} compare_input;

typedef struct comparison {
    arena                 *memory;
    diag                  *d;
    const compare_options *options;
    compare_report        *report;
    compare_input          in[2];
    engine                 files[2], code[2], model; /* owned; those that are not open are zero */
    engine                *base;  /* whose graph and weights are right */
    const graph           *g;
    const int32_t         *tokens;
    uint32_t               n_tokens, n_batch;
    side                   sides[2], reference, interpreted;
} comparison;

void compare_note(comparison *c, const char *format, ...) PRINTF_LIKE(2, 3);

/* Decides what is evaluated: c->tokens, report->tokens and text. False after an error was reported,
   or with report->tokens_differ set. */
bool compare_tokens(comparison *c);

/* The text of a token, or NULL where there is no tokenizer. */
const char *compare_token_text(const comparison *c, int32_t id);

/* How weights of B's file differ from A's, as a note; false where they do not. Both are models. */
bool compare_weights(comparison *c);

/* Fills in the report's hypotheses and verdict for op `at`, of which `suspect` is wrong by itself. */
bool compare_try_hypotheses(comparison *c, side *suspect, uint32_t at);

/* A model of the base's weights by which others are judged; forced by a side unless that is NULL. */
bool compare_open_judge(comparison *c, side *s, enum interp_arithmetic arithmetic, const side *forced_by);

/* The logits of a batch are taken in; the end makes the report's. */
typedef struct compare_logits_sum compare_logits_sum;
compare_logits_sum *compare_logits_begin(comparison *c);
void compare_logits_add(compare_logits_sum *s, uint32_t token, const float *a, const float *b);
void compare_logits_end(compare_logits_sum *s);

#endif
