/* eval.c - the loop at the heart of every executable.
 *
 * A model is a list of calls; a call is a kernel and a number of independent units (rows of a
 * weight, heads, tokens). Each thread walks the whole list and takes a contiguous part of every
 * call's units, computed from its number alone: nobody hands out work, nothing is shared but the
 * barrier. A contiguous part also means that a thread reads its weights as one stream.
 *
 * A thread whose part is empty (more threads than units) skips the kernel but not the barrier.
 */
#include "eval.h"

static uint32_t eval_bound(uint64_t units, uint32_t thread, uint32_t n_threads) {
    return (uint32_t)(units * thread / n_threads);
}

void eval_calls(const ggufc_calls *list, const ggufc_state *state, const eval_share *share) {
    for (uint64_t i = 0; i < list->count; i++) {
        const ggufc_call *call = &list->calls[i];
        uint64_t units = call->units;
        if (call->flags & GGUFC_CALL_PER_TOKEN) units *= state->n_tokens;

        uint32_t begin = eval_bound(units, share->thread, share->n_threads);
        uint32_t end = eval_bound(units, share->thread + 1, share->n_threads);
        if (begin < end) call->kernel(state, call->args, begin, end);

        if ((call->flags & GGUFC_CALL_BARRIER) && share->n_threads > 1)
            share->barrier(share->team, share->thread);
    }
}
