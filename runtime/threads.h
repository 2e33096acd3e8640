/* threads.h - a team of threads that does one job together, with a barrier cheap enough to stand
 * between two matrix-vector products.
 *
 * The caller of threads_run is thread 0 of the team. Nothing is allocated after creation. A team is
 * used by one caller at a time.
 */
#ifndef GGUFC_THREADS_H
#define GGUFC_THREADS_H

#include <stdbool.h>
#include <stdint.h>

enum { THREADS_MAX = 1024 };

typedef struct threads_team threads_team;

/* One thread's part of a job. */
typedef void threads_job(void *arg, uint32_t thread, uint32_t n_threads);

/* Starts n_threads - 1 workers, 1 <= n_threads <= THREADS_MAX. NULL with errno set when that is not
   possible; no thread is left behind. With `pin`, and if this process may run on just n_threads
   processors, each thread, the caller's too, keeps to one of them until threads_destroy, which the
   same thread must call. */
threads_team *threads_create(uint32_t n_threads, bool pin);

/* Ends the workers and releases the team. NULL is allowed. Not from inside a job. */
void threads_destroy(threads_team *team);

uint32_t threads_count(const threads_team *team);

/* Runs job(arg, i, n) on every thread i of the team; returns when all have returned. */
void threads_run(threads_team *team, threads_job *job, void *arg);

/* From inside a job: returns when every thread of the team has called it. What each wrote before is
   visible to all after. */
void threads_barrier(threads_team *team, uint32_t thread);

/* How many processors this process may run on; at least 1. */
uint32_t threads_online(void);

#endif
