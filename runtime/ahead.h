/* ahead.h - reads tokens into a session, one by one as they are chosen, and evaluates what a lookup
 * drafts along with them: one pass over the weights for several tokens.
 *
 * Nothing but time shows: the logits after a token are those that it has when it is evaluated alone,
 * to the bit, and what was drafted wrongly is taken back when another token is read.
 */
#ifndef GGUFC_AHEAD_H
#define GGUFC_AHEAD_H

#include "ggufc/runtime.h"
#include "lookup.h"

typedef struct ahead {
    ggufc_session *session;
    lookup        *guess; /* told of what is read; NULL: nothing is drafted */
    uint32_t       n_past;
    uint32_t       n_batch, n_read; /* the last batch, and how many of it have been read */
    uint64_t       batch_ns;
    int32_t        batch[GGUFC_BATCH_EXACT];
    uint64_t       n_passes, n_drafted, n_accepted;
} ahead;

/* For a session that has read its prompt, which `guess` was told. It and `guess` are the caller's. */
ahead ahead_begin(ggufc_session *session, lookup *guess);

/* Appends a token to the context, evaluated by now; at most `limit` tokens are expected after it.
   Errors are those of ggufc_session_evaluate. */
ggufc_status ahead_read(ahead *a, int32_t id, uint64_t limit, ggufc_error *error);

/* The logits after the last token read, valid until the next is; see ggufc_session_logits. */
const float *ahead_logits(ahead *a);

uint32_t ahead_n_past(const ahead *a); /* tokens read */

/* Takes back what was evaluated and not read. */
void ahead_end(ahead *a);

#endif
