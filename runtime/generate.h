/* generate.h - goes on from a prompt: evaluate, choose, print, again.
 *
 * Text is printed token by token in whole UTF-8 characters; a model without a tokenizer prints ids,
 * "1,2,3". Tokens may be drafted from the text itself and evaluated ahead (ahead.h), which changes
 * nothing but the time it takes. Nothing is allocated between the first token and the last.
 */
#ifndef GGUFC_GENERATE_H
#define GGUFC_GENERATE_H

#include <signal.h>
#include <stdbool.h>

#include "ggufc/runtime.h"
#include "lookup.h"
#include "stream.h"
#include "sampler.h"

typedef struct generate_request {
    const int32_t *tokens; /* the prompt, at least one */
    size_t         n_tokens;
    const char    *text; /* what is printed for it; NULL: what its tokens stand for */
    size_t         text_size;
    bool           hide_prompt;
    bool           look_ahead; /* draft up to max_draft tokens, where it pays or always */
    bool           always_draft;
    uint32_t       max_draft;
    int64_t        n_predict; /* most tokens to generate; negative: no limit but the context */

    /* Set by a signal handler to end after the current token; may be NULL. */
    const volatile sig_atomic_t *stop;
} generate_request;

enum generate_end {
    GENERATE_END_COUNT,   /* n_predict tokens were made */
    GENERATE_END_TOKEN,   /* the model chose its end token, which is not printed */
    GENERATE_END_CONTEXT, /* the context is full */
    GENERATE_END_STOP,    /* request.stop */
    GENERATE_END_OUTPUT   /* the output failed: see stream.failure */
};

typedef struct generate_report {
    enum generate_end end;
    uint64_t n_prompt, n_generated;
    uint64_t n_evaluated; /* generated ones that were read, to choose the next */
    uint64_t n_passes, n_drafted, n_accepted; /* evaluations for n_evaluated tokens, see ahead.h */
    uint64_t prompt_ns, eval_ns, sample_ns;
} generate_report;

/* Errors: the prompt is longer than the context has room for, or has tokens outside the
   vocabulary. Both are found before anything is printed. */
ggufc_status generate_run(ggufc_session *session, sampler *choose, const generate_request *request,
                          stream *out, generate_report *report, ggufc_error *error);

/* Never to choose a token that ends generation; without a tokenizer nothing is known to. */
void generate_forbid_end(sampler *choose, const ggufc_vocab *vocab);

#endif
