/* session.h - what the rest of the runtime uses of a session beyond ggufc/runtime.h. */
#ifndef GGUFC_SESSION_H
#define GGUFC_SESSION_H

#include "ggufc/runtime.h"

const ggufc_model *session_model(const ggufc_session *session);

/* What ggufc_session_evaluate would say to these tokens, without evaluating them. */
ggufc_status session_check_tokens(const ggufc_session *session, const int32_t *tokens,
                                  size_t count, ggufc_error *error);

/* The logits after token `index` of the batch that was evaluated last, which was one batch; n_vocab of
   them, valid until the next evaluation and the next other index. NULL where ggufc_session_logits
   would be. */
const float *session_logits_at(ggufc_session *session, uint32_t index);

/* Called after each call of a list, for the `count` tokens from `position` on (one in the head); may
   change what the call left in the arena. Anything but 0 leaves out the rest of this batch. */
typedef int session_after_call(void *context, const ggufc_call *call, uint32_t position,
                               uint32_t count, uint8_t *arena);

/* As ggufc_session_evaluate, but call by call, the head for every token. */
ggufc_status session_evaluate_calls(ggufc_session *session, const int32_t *tokens, size_t count,
                                    session_after_call *after, void *context, ggufc_error *error);

/* The limit that ggufc_session_open would set for this option: 0 stands for the model's. An error
   when the model was compiled for fewer. */
ggufc_status session_resolve_ctx(const ggufc_model *model, uint32_t wanted, uint32_t *n_ctx,
                                 ggufc_error *error);

#endif
