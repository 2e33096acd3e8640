/* lookup.h - what a text itself says of how it goes on: as where it last stood like this.
 *
 * A lookup is told every token of a text. Whenever the last LOOKUP_LEAST … LOOKUP_MOST of them were
 * there before, it has a match: what came then is its guess of what comes now, a draft. Whether its
 * guesses are right it sees at each token, drafted or not, and remembers it by the match's length:
 *
 *     chance(L)    that the next token of a match of L tokens is right; moves with every guess
 *     expected(k)  1 + chance(L) + chance(L) chance(L + 1) + … , k products: tokens that a batch of
 *                  one token and k drafted ones is expected to bring
 *     cost(n)      what evaluating a batch of n tokens took, as measured
 *
 * A draft has the length k that makes expected(k) / cost(k + 1) largest, and is made only if that is
 * better than one token at a time by more than noise. Unmeasured costs are taken for low, so that
 * they are measured once, behind a match of some length. What drafts lost is kept account of: what a
 * wrong one would lose, times the chance that it is wrong, may not exceed what is left of one token's
 * time, a hundredth of the time spent, and what drafts saved of late. So a text that does not repeat
 * itself costs next to nothing, and where a batch costs as much as its tokens, nothing is drafted.
 *
 * All memory is taken at the start, about 40 bytes for a token; a token takes constant time.
 */
#ifndef GGUFC_LOOKUP_H
#define GGUFC_LOOKUP_H

#include <stdbool.h>
#include <stdint.h>

#include "ggufc/model.h"

enum {
    LOOKUP_LEAST = 2,                        /* tokens that make a match */
    LOOKUP_MOST = 4,                         /* … and that are searched for at once */
    LOOKUP_LONGEST = 32,                     /* a longer match counts as one of this length */
    LOOKUP_MAX_DRAFT = GGUFC_BATCH_EXACT - 1 /* one token of a batch is no guess */
};

typedef struct lookup_options {
    uint32_t capacity;  /* most tokens of the text */
    uint32_t max_draft; /* 0 … LOOKUP_MAX_DRAFT */
    bool     always;    /* draft max_draft tokens wherever there is a match, whatever it costs */
} lookup_options;

/* The text's last `length` tokens also stand before tokens[next]; 0: no match. */
typedef struct lookup_match {
    uint32_t next, length;
} lookup_match;

typedef struct lookup lookup;

lookup *lookup_new(const lookup_options *options); /* NULL without memory */
void    lookup_free(lookup *l);                    /* NULL is allowed */

/* Appends a token to the text; one beyond its capacity is ignored. */
void lookup_push(lookup *l, int32_t token);

/* Of the most tokens up to LOOKUP_MOST the latest place where they stood before; or the match of
   the token before, where that went on and is now longer than the latest place's. */
lookup_match lookup_current(const lookup *l);

/* Fills `draft` with what is worth evaluating behind the last token, at most `limit` tokens and at
   most max_draft; returns how many. */
uint32_t lookup_draft(lookup *l, int32_t *draft, uint32_t limit);

/* How many of the next `limit` tokens, which were drafted, are so likely right that their logits are
   better computed along with those of the last token than alone, when they turn out to be. All of
   them where drafts are made always. */
uint32_t lookup_count_likely(lookup *l, uint32_t limit);

/* A batch of 1 … GGUFC_BATCH_EXACT tokens took so long; to be told of every one. */
void lookup_note_cost(lookup *l, uint32_t n_batch, uint64_t ns);

/* What became of a batch with a draft: so many of its tokens, from the first on, were right. */
void lookup_note_result(lookup *l, uint32_t n_right, uint64_t ns);

#endif
