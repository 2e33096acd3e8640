/* eval.h - walks a list of calls: all that evaluating a model is, outside its kernels.
 *
 * Freestanding: no libc, no allocation, no threads of its own. With one thread it needs nothing at
 * all, which is how firmware uses it:
 *
 *     eval_calls(&model->decode, &state, &(eval_share){ .n_threads = 1 });
 */
#ifndef GGUFC_EVAL_H
#define GGUFC_EVAL_H

#include <stdint.h>

#include "ggufc/model.h"

/* Which part of every call a thread does: of N units of calls split together, those from
   N * thread / n_threads on. */
typedef struct eval_share {
    uint32_t thread, n_threads; /* thread < n_threads */

    /* Returns when all threads have called it, and makes what they wrote visible to each. Not
       called, and may be NULL, when n_threads is 1. */
    void (*barrier)(void *team, uint32_t thread);
    void *team;
} eval_share;

/* Does this thread's share of the calls, in order. Every thread of the team must walk the same list
   with the same state. There is no barrier after the last call unless it asks for one: the caller
   joins the team. */
void eval_calls(const ggufc_calls *list, const ggufc_state *state, const eval_share *share);

#endif
