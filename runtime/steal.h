/* steal.h - a call's units handed out while threads do them (work stealing).
 *
 * Each thread begins with a part of its own and takes it bit by bit, from the front. One that is through takes half of
 * what another has not begun, from the back. So all end at about the same time, however fast each is; with equal
 * threads nearly every unit is done by the thread whose part it is in.
 *
 * Between two barriers there may be several calls, each with ranges of its own. They are set by whoever comes first,
 * and forgotten before the second barrier from then on, when no thread can look at them.
 */
#ifndef GGUFC_STEAL_H
#define GGUFC_STEAL_H

#include "eval.h"

typedef struct steal_ranges steal_ranges;

steal_ranges *steal_new(uint32_t n_threads); /* NULL without memory */
void          steal_free(steal_ranges *ranges); /* NULL is allowed */

/* As eval_share.take, of ranges for as many threads as work->n_threads. */
bool steal_take(steal_ranges *ranges, uint32_t thread, const eval_work *work, eval_units *units);

/* As eval_share.turn. */
void steal_turn(steal_ranges *ranges, uint32_t thread);

#endif
