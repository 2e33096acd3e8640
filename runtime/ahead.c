/* ahead.c - see ahead.h. */
#include "ahead.h"

#include <stdbool.h>

#include "clock.h"
#include "generate.h"
#include "session.h"

ahead ahead_begin(ggufc_session *session, lookup *guess) {
    return (ahead){
        .session = session, .guess = guess, .n_past = ggufc_session_n_past(session)
    };
}

/* The last batch is over: what of it was not read was wrong. */
static void finish_batch(ahead *a) {
    if (a->n_batch > 1) lookup_note_result(a->guess, a->n_read, a->batch_ns);
    if (a->n_read < a->n_batch) ggufc_session_truncate(a->session, a->n_past, NULL);
    a->n_batch = a->n_read = 0;
}

static uint32_t draft_tokens(ahead *a, uint64_t limit) {
    uint32_t room = ggufc_session_n_ctx(a->session) - a->n_past;
    uint32_t batch = ggufc_session_model(a->session)->n_batch;
    if (!a->guess || room == 0) return 0;
    if (limit > room - 1) limit = room - 1;
    if (limit > batch - 1) limit = batch - 1;
    if (limit > LOOKUP_MAX_DRAFT) limit = LOOKUP_MAX_DRAFT;
    return lookup_draft(a->guess, a->batch + 1, (uint32_t)limit);
}

static ggufc_status read_batch(ahead *a, int32_t id, uint64_t limit, ggufc_error *error) {
    uint32_t drafted = draft_tokens(a, limit);
    a->batch[0] = id;
    uint64_t start = clock_ns();
    ggufc_status status = ggufc_session_evaluate(a->session, a->batch, drafted + 1, error);
    if (status != GGUFC_OK) return status;
    a->batch_ns = clock_ns() - start;
    a->n_batch = drafted + 1;
    a->n_passes++;
    a->n_drafted += drafted;
    if (a->guess) lookup_note_cost(a->guess, a->n_batch, a->batch_ns);
    return GGUFC_OK;
}

ggufc_status ahead_read(ahead *a, int32_t id, uint64_t limit, ggufc_error *error) {
    ggufc_status status = GGUFC_OK;
    bool drafted = a->n_read < a->n_batch && a->batch[a->n_read] == id;
    if (a->guess) lookup_push(a->guess, id);
    if (drafted) {
        a->n_accepted++;
    } else {
        finish_batch(a);
        status = read_batch(a, id, limit, error);
    }
    if (status != GGUFC_OK) return status;
    a->n_read++;
    a->n_past++;
    return GGUFC_OK;
}

const float *ahead_logits(ahead *a) {
    if (a->n_read == 0) return ggufc_session_logits(a->session);
    uint32_t left = a->n_batch - a->n_read, at = a->n_read - 1;
    if (left) session_compute_logits(a->session, at, 1 + lookup_count_likely(a->guess, left));
    return session_logits_at(a->session, at);
}

uint32_t ahead_n_past(const ahead *a) {
    return a->n_past;
}

void ahead_end(ahead *a) {
    finish_batch(a);
}
