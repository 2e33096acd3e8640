/* session.h - what the rest of the runtime uses of a session beyond ggufc/runtime.h. */
#ifndef GGUFC_SESSION_H
#define GGUFC_SESSION_H

#include <stdbool.h>

#include "ggufc/runtime.h"

/* What ggufc_session_evaluate would say to these tokens, without evaluating them. */
ggufc_status session_check_tokens(const ggufc_session *session, const int32_t *tokens,
                                  size_t count, ggufc_error *error);

/* The logits after token `index` of the batch that was evaluated last, which was one batch; n_vocab of
   them, valid until the next evaluation and the next index whose logits are computed. NULL where
   ggufc_session_logits would be. */
const float *session_logits_at(ggufc_session *session, uint32_t index);

/* Computes the logits after tokens first … first + count - 1 of that batch, at most GGUFC_BATCH_EXACT,
   in one pass over the head's weights: session_logits_at then has them all. Nothing is done where it
   has those of `first` already. False, and nothing is done, where the model computes them one by one,
   or no batch is there. */
bool session_compute_logits(ggufc_session *session, uint32_t first, uint32_t count);

/* Called after each call of a list, for the `count` tokens from `position` on (one in the head); may
   change what the call left in the arena, of what each thread makes for itself thread 0's. Anything but 0
   leaves out the rest of this batch. */
typedef int session_after_call(void *context, const ggufc_call *call, uint32_t position,
                               uint32_t count, uint8_t *arena);

/* As ggufc_session_evaluate, but call by call, the head for every token. */
ggufc_status session_evaluate_calls(ggufc_session *session, const int32_t *tokens, size_t count,
                                    session_after_call *after, void *context, ggufc_error *error);

/* Evaluates `count` tokens, at most a batch, and the logits of the last, as ggufc_session_evaluate and
   ggufc_session_logits would, and measures each call: ns[i] is how long call i took from the end of
   the one before until all threads had done their part, for which they wait after each call. The calls
   of the head follow those of the body. */
ggufc_status session_time_calls(ggufc_session *session, const int32_t *tokens, uint32_t count,
                                uint64_t *ns, ggufc_error *error);

/* Goes to a position as if the tokens before it had been evaluated; what attention reads of those that
   were not is zeros, or what was there. For measuring: it takes as long. */
ggufc_status session_skip(ggufc_session *session, uint32_t n_past, ggufc_error *error);

/* The limit that ggufc_session_open would set for this option: 0 stands for the model's. An error
   when the model was compiled for fewer. */
ggufc_status session_resolve_ctx(const ggufc_model *model, uint32_t wanted, uint32_t *n_ctx,
                                 ggufc_error *error);

#endif
