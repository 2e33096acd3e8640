/* cli_bench.h - how fast a session reads a prompt and generates. */
#ifndef GGUFC_CLI_BENCH_H
#define GGUFC_CLI_BENCH_H

#include <signal.h>

#include "ggufc/runtime.h"
#include "stream.h"

typedef struct cli_bench_request {
    uint32_t n_prompt;   /* 0: 512, or the context where that is smaller */
    uint32_t n_generate; /* 0: 128, likewise */
    uint32_t depth;      /* tokens before them: in the context when a run begins, not timed */
    uint32_t n_runs;     /* medians of that many, after one that does not count */
    const volatile sig_atomic_t *stop; /* ends it with GGUFC_STOPPED; may be NULL */
} cli_bench_request;

/* Each run begins with a context of `depth` tokens; a generated token is a made-up one that is evaluated and
   whose logits are computed, as in llama-bench: choosing one is not measured. Prints a line for
   each of the two, and one more where weights had to be read from the disk meanwhile. Ends with an empty
   context. */
ggufc_status cli_bench_run(ggufc_session *session, const cli_bench_request *request, stream *out,
                           ggufc_error *error);

#endif
