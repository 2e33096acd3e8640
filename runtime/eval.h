/* eval.h - walks a list of calls: all that evaluating a model is, outside its kernels.
 *
 * Freestanding: no libc, no allocation, no threads of its own. With one thread it needs nothing at
 * all, which is how firmware uses it:
 *
 *     eval_calls(&model->decode, &state, &(eval_share){ .n_threads = 1 });
 */
#ifndef GGUFC_EVAL_H
#define GGUFC_EVAL_H

#include <stdbool.h>
#include <stdint.h>

#include "ggufc/model.h"

/* Units begin … end - 1 of a call. */
typedef struct eval_units {
    uint32_t begin, end;
} eval_units;

/* Calls between two barriers that are handed out unit by unit; of more, each thread does its part. */
enum { EVAL_TAKEN_MOST = 8 };

/* A call that is handed out. */
typedef struct eval_work {
    const ggufc_call *call;
    uint64_t          times;     /* it has call->units × times units */
    uint32_t          n_threads;
    uint32_t          number;    /* of such calls since the last barrier; below EVAL_TAKEN_MOST */
} eval_work;

/* What a thread begins with: of N units those from N * thread / n_threads on. */
eval_units eval_part(const eval_work *work, uint32_t thread);

/* Who walks a list, and with whom. Without `take` and `turn`, which are then NULL, every thread does its own part of
   each call: of N units of calls split together, those from N * thread / n_threads on. */
typedef struct eval_share {
    uint32_t thread, n_threads; /* thread < n_threads */

    /* Returns when all threads have called it, and makes what they wrote visible to each. Not
       called, and may be NULL, when n_threads is 1. */
    void (*barrier)(void *team, uint32_t thread);

    /* The units that a thread does next of a call that takes long enough to ask; false: there is nothing left for
       it. Between them, threads are given each unit once. */
    bool (*take)(void *team, uint32_t thread, const eval_work *work, eval_units *units);

    /* Called before a barrier, and at the end of a list, by a thread that has asked since the last one. All threads
       meet before any asks again. */
    void (*turn)(void *team, uint32_t thread);

    void *team;
} eval_share;

/* Does this thread's share of the calls, in order. Every thread of the team must walk the same list
   with the same state. There is no barrier after the last call unless it asks for one: the caller
   joins the team. */
void eval_calls(const ggufc_calls *list, const ggufc_state *state, const eval_share *share);

#endif
