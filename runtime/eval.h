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

/* A call for a batch, and who does it. */
typedef struct eval_work {
    const ggufc_call *call;
    uint64_t          times;     /* it has call->units × times units */
    uint32_t          n_threads;
    uint32_t          number;    /* of calls since the last barrier for which `take` was asked; below EVAL_TAKEN_MOST */
} eval_work;

enum { EVAL_TAKEN_MOST = 8 };

/* A thread's own part of the units: of N units of calls split together, those from N * thread / n_threads on. */
eval_units eval_part(const eval_work *work, uint32_t thread);

/* Who walks a list, and with whom. */
typedef struct eval_share {
    uint32_t thread, n_threads; /* thread < n_threads */

    /* Returns when all threads have called it, and makes what they wrote visible to each. Not
       called, and may be NULL, when n_threads is 1. */
    void (*barrier)(void *team, uint32_t thread);

    /* The units that a thread does next of a call that takes long enough to ask; false: there is nothing left for
       it. Between them, threads are given each unit once. NULL, with `turn`: every thread does its own part, as it
       does of shorter calls. */
    bool (*take)(void *team, uint32_t thread, const eval_work *work, eval_units *units);

    /* Where it has asked, a thread is through with calls: a barrier is next. */
    void (*turn)(void *team, uint32_t thread);

    void *team;
} eval_share;

/* Does this thread's share of the calls, in order. Every thread of the team must walk the same list
   with the same state. There is no barrier after the last call unless it asks for one: the caller
   joins the team. */
void eval_calls(const ggufc_calls *list, const ggufc_state *state, const eval_share *share);

#endif
