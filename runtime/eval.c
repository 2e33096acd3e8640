/* eval.c - the loop at the heart of every executable.
 *
 * A model is a list of calls; a call is a kernel and a number of independent units (rows of a
 * weight, heads, tokens). Each thread walks the whole list and has a contiguous part of every
 * call's units, computed from its number alone, so that it reads its weights as one stream. Calls that follow one
 * another without a barrier may be split as if they were one: of two of a unit each, two threads do one each.
 *
 * Of a call that takes long a thread does its part bit by bit, and then what others have not begun of theirs
 * (steal.h): processors differ in speed, and other programs want them too. What takes less time than waiting for
 * another thread, as a norm of one token, each thread does for itself.
 *
 * A thread whose part is empty (more threads than units) skips the kernel, or does units of others, but comes to the
 * barrier.
 */
#include "eval.h"

/* A thread's share, in multiply-adds, from which calls are handed out: some microseconds. Fewer tokens than that many
   wait for weights, and take as long. */
#define TAKEN_LEAST  (256u << 10)
#define TOKENS_LEAST 8

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

eval_units eval_part(const eval_work *work, uint32_t thread) {
    uint64_t units = work->call->units * work->times;
    return (eval_units){ eval_bound(units, thread, work->n_threads), eval_bound(units, thread + 1, work->n_threads) };
}

static void eval_by_bits(const eval_work *work, const ggufc_state *state, const eval_share *share) {
    const ggufc_call *call = work->call;
    eval_units units;
    while (share->take(share->team, share->thread, work, &units))
        call->kernel(state, call->args, units.begin, units.end);
}

void eval_calls(const ggufc_calls *list, const ggufc_state *state, const eval_share *share) {
    const ggufc_state own = {
        .weights = state->weights, .arena = state->arena, .kv = state->kv, .tokens = state->tokens,
        .n_tokens = state->n_tokens, .pos = state->pos, .out_token = state->out_token, .thread = share->thread,
    };
    uint32_t thread = share->thread, n_threads = share->n_threads, n_taken = 0;
    uint32_t tokens = state->n_tokens > TOKENS_LEAST ? state->n_tokens : TOKENS_LEAST;
    uint64_t least = share->take && n_threads > 1 ? (uint64_t)TAKEN_LEAST * n_threads : UINT64_MAX;
    for (uint64_t i = 0; i < list->count; i++) {
        const ggufc_call *call = &list->calls[i];
        bool each = call->flags & GGUFC_CALL_EACH;
        uint64_t times = call->flags & GGUFC_CALL_PER_TOKEN ? state->n_tokens : 1;
        if (!each && call->work * tokens >= least && n_taken < EVAL_TAKEN_MOST) {
            eval_by_bits(&(eval_work){ call, times, n_threads, n_taken++ }, &own, share);
        } else {
            uint32_t begin = eval_units_before(call, times, each ? 0 : thread, n_threads);
            uint32_t end = eval_units_before(call, times, each ? n_threads : thread + 1, n_threads);
            if (begin < end) call->kernel(&own, call->args, begin, end);
        }
        if (!(call->flags & GGUFC_CALL_BARRIER) || n_threads == 1) continue;
        if (n_taken) share->turn(share->team, thread);
        n_taken = 0;
        share->barrier(share->team, thread);
    }
    if (n_taken) share->turn(share->team, thread);
}
