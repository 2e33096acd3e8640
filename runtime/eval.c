/* eval.c - the loop at the heart of every executable.
 *
 * A model is a list of calls; a call is a kernel and a number of independent units (rows of a
 * weight, heads, tokens). Each thread walks the whole list and takes a contiguous part of every
 * call's units, computed from its number alone: nobody hands out work, nothing is shared but the
 * barrier. A contiguous part also means that a thread reads its weights as one stream. Calls that follow one
 * another without a barrier may be split as if they were one: of two of a unit each, two threads do one each.
 *
 * What takes less time than waiting for another thread, as a norm of one token, each thread does for itself.
 *
 * A thread whose part is empty (more threads than units) skips the kernel but not the barrier.
 */
#include "eval.h"

#include <stdbool.h>

static uint32_t eval_bound(uint64_t units, uint32_t thread, uint32_t n_threads) {
    return (uint32_t)(units * thread / n_threads);
}

/* How many of a call's units come before thread `thread`'s. */
static uint32_t eval_units_before(const ggufc_call *call, uint64_t times, uint32_t thread, uint32_t n_threads) {
    uint64_t before = call->before * times, units = call->units * times;
    uint64_t bound = eval_bound(before + units + call->after * times, thread, n_threads);
    if (bound <= before) return 0;
    return bound - before < units ? (uint32_t)(bound - before) : (uint32_t)units;
}

void eval_calls(const ggufc_calls *list, const ggufc_state *state, const eval_share *share) {
    const ggufc_state own = {
        .weights = state->weights, .arena = state->arena, .kv = state->kv, .tokens = state->tokens,
        .n_tokens = state->n_tokens, .pos = state->pos, .out_token = state->out_token, .thread = share->thread,
    };
    for (uint64_t i = 0; i < list->count; i++) {
        const ggufc_call *call = &list->calls[i];
        bool each = call->flags & GGUFC_CALL_EACH;
        uint64_t times = call->flags & GGUFC_CALL_PER_TOKEN ? state->n_tokens : 1;
        uint32_t begin = eval_units_before(call, times, each ? 0 : share->thread, share->n_threads);
        uint32_t end = eval_units_before(call, times, each ? share->n_threads : share->thread + 1, share->n_threads);
        if (begin < end) call->kernel(&own, call->args, begin, end);

        if ((call->flags & GGUFC_CALL_BARRIER) && share->n_threads > 1)
            share->barrier(share->team, share->thread);
    }
}
