/* ggufc/runtime.h - running a compiled model inside a program of your own.
 *
 * Link the model (ggufc --emit=lib) and include its generated header, which declares
 * it as a constant, here `story_model`. A session is one conversation with it: the weights, mapped;
 * a key-value cache; a team of threads.
 *
 *     ggufc_error error;
 *     ggufc_session *session;
 *     ggufc_session_options options = { .model = &story_model };
 *     if (ggufc_session_open(&session, &options, &error) != GGUFC_OK) return puts(error.text);
 *     ggufc_session_evaluate(session, prompt, n_prompt, &error);
 *     const float *logits = ggufc_session_logits(session);       n_vocab of them
 *     …choose a token, evaluate it, and so on…
 *     ggufc_session_close(session);
 *
 * Nothing here prints or exits, and nothing is allocated between open and close. A session is used
 * by one thread at a time; sessions, also of one model, are independent of one another.
 */
#ifndef GGUFC_RUNTIME_H
#define GGUFC_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

#include "ggufc/model.h"

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

typedef enum ggufc_status {
    GGUFC_OK = 0,
    GGUFC_ERROR_OPTIONS, /* an option out of range, or a model of another ABI */
    GGUFC_ERROR_WEIGHTS, /* the weights are missing, unreadable, or of another model */
    GGUFC_ERROR_MEMORY,  /* memory or threads that the system did not give */
    GGUFC_ERROR_TOKEN,   /* a token that is not in the vocabulary */
    GGUFC_ERROR_CONTEXT, /* more tokens than the context has room for */
    GGUFC_STOPPED        /* the callback said so */
} ggufc_status;

/* Why a function failed: one line without a newline. */
typedef struct ggufc_error {
    ggufc_status status;
    char         text[1020];
} ggufc_error;

typedef struct ggufc_session_options {
    const ggufc_model *model;

    /* The GGUF file that the model was compiled from. NULL: embedded weights; else a file of the
       same name beside the executable; else where it was at compile time. */
    const char *weights_path;

    /* Not 0: the file, or what is embedded, is copied to memory instead of being mapped. That takes as much memory
       again, and time at the start; then, in huge pages, weights are read faster. */
    uint32_t copy_weights;

    /* Not 0: the weights are read at once and kept in memory until the session is closed (embedded ones
       until the program ends), whatever else asks for memory. GGUFC_ERROR_WEIGHTS where the system does not allow as much (RLIMIT_MEMLOCK). */
    uint32_t lock_weights;

    uint32_t n_threads; /* 0: as many as this process has processors */
    uint32_t n_ctx;     /* most positions, at most the model's; 0: the model's */

    /* Not 0: when there are as many threads as processors, each keeps to one, that which opens the
       session included until it closes it. Worth it where the program does nothing else and the
       machine is shared. */
    uint32_t pin_threads;
} ggufc_session_options;

typedef struct ggufc_session ggufc_session;

/* Maps the weights, checks that they are the model's, makes memory and threads. Of a model compiled for several CPUs
   it takes the best that this one can run: GGUFC_ERROR_OPTIONS where there is none. Where the model is compiled for AMX,
   asks Linux to let this process use it, once for all: a signal's stack (sigaltstack) must then have room for 8 KiB
   more, and where there is a smaller one already, Linux refuses. Every function that
   takes an `error` fills it when it returns anything but GGUFC_OK; NULL is allowed. */
ggufc_status ggufc_session_open(ggufc_session **session, const ggufc_session_options *options,
                                ggufc_error *error);

void ggufc_session_close(ggufc_session *session); /* NULL is allowed */

/* Appends `count` tokens to the context. On an error the context is as it was. */
ggufc_status ggufc_session_evaluate(ggufc_session *session, const int32_t *tokens, size_t count,
                                    ggufc_error *error);

/* The n_vocab logits after the last token, computed at the first call; valid until the next
   evaluation. NULL before any token was evaluated and after ggufc_session_truncate. */
const float *ggufc_session_logits(ggufc_session *session);

/* Receives the logits after the token at `position`. Returns 0 to go on. */
typedef int ggufc_logits_sink(void *context, uint32_t position, const float *logits);

/* As ggufc_session_evaluate, giving the logits after every one of the tokens to `sink`. When that
   stops it, the status is GGUFC_STOPPED and the context ends with the token it was called for. */
ggufc_status ggufc_session_evaluate_each(ggufc_session *session, const int32_t *tokens,
                                         size_t count, ggufc_logits_sink *sink, void *context,
                                         ggufc_error *error);

/* Receives the values of ggufc_session_model(session)->activations[activation] for the `count` tokens
   from `position` on: those of a token stand together, from one token to the next it is `stride` bytes.
   They are the session's and valid until it returns. Returns 0 to go on. */
typedef int ggufc_activation_sink(void *context, uint32_t activation, uint32_t position,
                                  uint32_t count, const float *values, uint64_t stride);

/* As ggufc_session_evaluate, giving every activation of every token to `sink`, a batch at a time:
   those of the body for all of the batch, then those of the head token by token. A model that was
   compiled without --trace has none: GGUFC_ERROR_OPTIONS. When the sink stops it, the status is
   GGUFC_STOPPED and the context ends with that batch. */
ggufc_status ggufc_session_trace(ggufc_session *session, const int32_t *tokens, size_t count,
                                 ggufc_activation_sink *sink, void *context, ggufc_error *error);

/* Forgets every position from n_past on; n_past is at most what there is. */
ggufc_status ggufc_session_truncate(ggufc_session *session, uint32_t n_past, ggufc_error *error);

/* What it evaluates: options.model, or, of a model compiled for several CPUs, the one of these that this machine runs,
   whose target, activations and sizes may differ from the first's. */
const ggufc_model *ggufc_session_model(const ggufc_session *session);

uint32_t ggufc_session_n_past(const ggufc_session *session); /* tokens in the context */
uint32_t ggufc_session_n_ctx(const ggufc_session *session);  /* most that it takes */
uint32_t ggufc_session_n_threads(const ggufc_session *session);

/* The file that was mapped, or "(embedded)". */
const char *ggufc_session_weights_path(const ggufc_session *session);

const char *ggufc_status_name(ggufc_status status); /* "weights", "context", … */

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
