/* comparison.h - what the parts of a comparison share. Private to compare*.c.
 *
 *     compare.c             the sides, their evaluation, what is judged wrong
 *     compare_tokens.c      whose tokens
 *     compare_tokens_why.c  why two lists of them differ
 *     compare_weights.c     whether two models are of the same weights
 *     compare_segment.c     what an op was computed from
 *     compare_hypotheses.c  mistakes tried on the first wrong op
 *     compare_fit.c         mistakes whose numbers are in no table
 *     compare_logits.c      what the ops' differences come to
 *     compare_sentences.c   what is said of it
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

/* The side that `report->suspect` names. */
side *compare_suspect(comparison *c);

/* ---- tokens */

/* Decides what is evaluated: c->tokens, report->tokens and text. False after an error was reported,
   or with report->tokens_differ set. */
bool compare_tokens(comparison *c);

/* The text of a token, or NULL where there is no tokenizer. */
const char *compare_token_text(const comparison *c, int32_t id);

const ggufc_vocab *compare_vocab(const engine *file); /* NULL where there is none */

typedef struct compare_ids {
    int32_t *data;
    uint32_t n;
} compare_ids;

/* `flags` as tokenizer_encode takes them. No ids where the text is too long. */
compare_ids compare_encode(arena *a, const ggufc_vocab *v, const char *text, size_t size, unsigned flags);

/* What tokens stand for; `flags` as tokenizer_piece takes them. */
const char *compare_decode(arena *a, const ggufc_vocab *v, const int32_t *tokens, uint32_t n, unsigned flags);

bool compare_same_ids(const int32_t *a, uint32_t n_a, const int32_t *b, uint32_t n_b);

/* How the tokens of A and B differ, and the likely cause, in lines. `text` is what they are to stand
   for, or NULL. */
const char *compare_tokens_why(const comparison *c, const char *text, size_t size);

/* ---- ops */

/* How weights of B's file differ from A's, as a note; false where they do not. Both are models. */
bool compare_weights(comparison *c);

/* What must be computed to have op `at` for those tokens of which the suspect has it, from what else
   the suspect has. */
typedef struct compare_segment {
    enum interp_role *roles;      /* by op */
    bool             *suspicious; /* by op: computed, and by no op after it shown to be right */
    uint32_t          n_computed, n_given, n_suspicious;
    const char       *last_given; /* the last in order of execution; NULL: none */
} compare_segment;

compare_segment compare_find_segment(comparison *c, uint32_t at);

/* The same where a value that the suspect has of some tokens counts as had of all: what the graph makes
   of it takes the place of the others. */
compare_segment compare_find_filled_segment(comparison *c, uint32_t at);

/* A faithful model of the base's weights, forced by the suspect. It lives in `a`. */
bool compare_open_filler(comparison *c, arena *a, side *s);

/* Whether that is the op alone. */
bool compare_has_inputs(comparison *c, uint32_t at);

/* Fills in the report's hypotheses and verdict for op `at`, of which the suspect is wrong by itself.
   False after an error was reported. */
bool compare_try_hypotheses(comparison *c, uint32_t at);

/* A mistake that makes of op `at` what the suspect has, if it is of a kind that has a number, which is
   rounded to so many digits. False where there is none, or its inputs are not there. */
bool compare_fit(comparison *c, uint32_t at, int digits, mistake *m);

double compare_round(double x, int digits); /* to so many significant ones */

/* How many ops both sides have. */
uint32_t compare_count_ops(const compare_report *r);

/* Notes of what was not compared; the report's sentence and origin. */
void compare_tell(comparison *c);

/* ---- logits: those of a token are taken in; the end makes the report's */

typedef struct compare_logits_sum compare_logits_sum;
compare_logits_sum *compare_logits_begin(comparison *c);
void compare_logits_add(compare_logits_sum *s, uint32_t token, const float *a, const float *b);
void compare_logits_end(compare_logits_sum *s);

#endif
