/* session.c - a conversation: weights, memory, threads, and how far it has come.
 *
 * The arena holds the intermediate values of one call and the logits; the key-value memory holds
 * every position. Both are mapped once, zeroed by the system, and touched only where the model
 * writes: a long context costs nothing until it is used.
 *
 * Tokens are evaluated in batches of at most n_batch: the body's calls for the batch, then, when
 * somebody asks, the head's for one of its tokens or a few. A batch's hidden states stay in the arena
 * until the next batch, so logits are computed only when they are looked at.
 */
#include "session.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "clock.h"
#include "cpu.h"
#include "error.h"
#include "eval.h"
#include "steal.h"
#include "threads.h"
#include "weights.h"

struct ggufc_session {
    const ggufc_model *model;
    weights            weights;
    threads_team      *team;
    steal_ranges      *ranges;
    ggufc_state        state;
    const ggufc_calls *list; /* what the team is at */
    uint32_t           n_ctx, n_past;
    bool               has_batch; /* the arena holds the last batch's hidden states */
    uint32_t           n_logits;  /* … and the logits of so many of its tokens, from out_token on */
};

/* ---- opening and closing */

/* Zeroed pages. Not huge ones: clearing 2 MiB at each first touch delays the first token, and what
   attention reads is little beside the weights. */
static void *memory_map(uint64_t bytes) {
    void *p =
        mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static void memory_unmap(void *p, uint64_t bytes) {
    if (p) munmap(p, bytes ? bytes : 1);
}

ggufc_status session_resolve_ctx(const ggufc_model *model, uint32_t wanted, uint32_t *n_ctx,
                                 ggufc_error *error) {
    *n_ctx = wanted ? wanted : model->n_ctx;
    if (*n_ctx <= model->n_ctx) return GGUFC_OK;
    return error_set(error, GGUFC_ERROR_OPTIONS,
                     "a context of %u was asked for, the model was compiled for at most %u", wanted,
                     model->n_ctx);
}

static ggufc_status session_make(ggufc_session *s, const ggufc_session_options *options,
                                 ggufc_error *error) {
    const ggufc_model *model = s->model;
    ggufc_status status = session_resolve_ctx(model, options->n_ctx, &s->n_ctx, error);
    if (status != GGUFC_OK) return status;
    if (options->n_threads > THREADS_MAX)
        return error_set(error, GGUFC_ERROR_OPTIONS, "%u threads were asked for, at most %d can be",
                         options->n_threads, THREADS_MAX);

    weights_request wanted = { options->weights_path, options->copy_weights, options->lock_weights };
    status = weights_open(&s->weights, model, &wanted, error);
    if (status != GGUFC_OK) return status;
    s->state.weights = s->weights.data;

    s->state.arena = memory_map(model->arena_bytes);
    s->state.kv = memory_map(model->kv_bytes);
    if (!s->state.arena || !s->state.kv)
        return error_set(error, GGUFC_ERROR_MEMORY,
                         "cannot map %" PRIu64 " bytes of working memory: %s",
                         model->arena_bytes + model->kv_bytes, strerror(errno));

    uint32_t n_threads = options->n_threads ? options->n_threads : threads_online();
    s->team = threads_create(n_threads, options->pin_threads);
    if (!s->team)
        return error_set(error, GGUFC_ERROR_MEMORY, "cannot start %u threads: %s", n_threads,
                         strerror(errno));
    s->ranges = steal_new(n_threads);
    if (!s->ranges) return error_set(error, GGUFC_ERROR_MEMORY, "out of memory");
    return GGUFC_OK;
}

static ggufc_status session_refuse_cpu(const ggufc_model *model, ggufc_error *error) {
    char text[256];
    cpu_list_targets(model, text, sizeof text);
    return error_set(error, GGUFC_ERROR_OPTIONS,
                     "compiled for %s, which this processor is not, or the system keeps from programs; compile for "
                     "it, or with %s among its CPUs, which all can run", text, cpu_least);
}

ggufc_status ggufc_session_open(ggufc_session **session, const ggufc_session_options *options,
                                ggufc_error *error) {
    *session = NULL;
    if (!options->model) return error_set(error, GGUFC_ERROR_OPTIONS, "no model was given");
    if (options->model->abi != GGUFC_ABI)
        return error_set(error, GGUFC_ERROR_OPTIONS,
                         "the model was compiled for ABI %u, this runtime has %d",
                         options->model->abi, GGUFC_ABI);
    const ggufc_model *model = cpu_choose(options->model);
    if (!model) return session_refuse_cpu(options->model, error);
    ggufc_session *s = calloc(1, sizeof *s);
    if (!s) return error_set(error, GGUFC_ERROR_MEMORY, "out of memory");
    s->model = model;
    ggufc_status status = session_make(s, options, error);
    if (status != GGUFC_OK)
        ggufc_session_close(s);
    else
        *session = s;
    return status;
}

void ggufc_session_close(ggufc_session *s) {
    if (!s) return;
    threads_destroy(s->team);
    steal_free(s->ranges);
    memory_unmap(s->state.kv, s->model->kv_bytes);
    memory_unmap(s->state.arena, s->model->arena_bytes);
    weights_close(&s->weights);
    free(s);
}

/* ---- evaluating */

static void session_barrier(void *session, uint32_t thread) {
    threads_barrier(((const ggufc_session *)session)->team, thread);
}

static bool session_take(void *session, uint32_t thread, const eval_work *work, eval_units *units) {
    return steal_take(((const ggufc_session *)session)->ranges, thread, work, units);
}

static void session_turn(void *session, uint32_t thread) {
    steal_turn(((const ggufc_session *)session)->ranges, thread);
}

static eval_share session_share(ggufc_session *s, uint32_t thread, uint32_t n_threads) {
    return (eval_share){
        .thread = thread, .n_threads = n_threads, .barrier = session_barrier, .take = session_take,
        .turn = session_turn, .team = s,
    };
}

static void session_job(void *arg, uint32_t thread, uint32_t n_threads) {
    ggufc_session *s = arg;
    eval_share share = session_share(s, thread, n_threads);
    eval_calls(s->list, &s->state, &share);
}

static void session_run(ggufc_session *s, const ggufc_calls *list) {
    s->list = list;
    threads_run(s->team, session_job, s);
}

static void session_forget_batch(ggufc_session *s) {
    s->has_batch = false;
    s->n_logits = 0;
}

static void session_begin_batch(ggufc_session *s, const int32_t *tokens, uint32_t count) {
    s->state.tokens = tokens;
    s->state.n_tokens = count;
    s->state.pos = s->n_past;
    s->state.out_token = count - 1;
    session_forget_batch(s);
}

static const ggufc_calls *session_body(const ggufc_session *s) {
    return s->state.n_tokens == 1 ? &s->model->decode : &s->model->prefill;
}

static void session_run_body(ggufc_session *s, const int32_t *tokens, uint32_t count) {
    session_begin_batch(s, tokens, count);
    session_run(s, session_body(s));
    s->n_past += count;
    s->has_batch = true;
}

static void session_run_head(ggufc_session *s, uint32_t out_token) {
    s->state.out_token = out_token;
    session_run(s, &s->model->head);
    s->n_logits = 1;
}

/* To kernels of a few tokens, these are the batch. */
static void session_run_heads(ggufc_session *s, uint32_t first, uint32_t count) {
    uint32_t n_tokens = s->state.n_tokens;
    s->state.out_token = first;
    s->state.n_tokens = count;
    session_run(s, &s->model->heads);
    s->state.n_tokens = n_tokens;
    s->n_logits = count;
}

/* NULL where they are not computed. */
static const float *session_find_logits(const ggufc_session *s, uint32_t index) {
    uint32_t row = index - s->state.out_token;
    if (index < s->state.out_token || row >= s->n_logits) return NULL;
    uint64_t at = s->model->logits_offset + row * s->model->logits_stride;
    return (const float *)(const void *)(s->state.arena + at);
}

bool session_compute_logits(ggufc_session *s, uint32_t first, uint32_t count) {
    if (!s->has_batch || !s->model->heads.count) return false;
    if (session_find_logits(s, first)) return true;
    if (count == 1)
        session_run_head(s, first);
    else
        session_run_heads(s, first, count);
    return true;
}

const float *session_logits_at(ggufc_session *s, uint32_t index) {
    if (!s->has_batch) return NULL;
    if (!session_find_logits(s, index)) session_run_head(s, index);
    return session_find_logits(s, index);
}

ggufc_status session_check_tokens(const ggufc_session *s, const int32_t *tokens, size_t count,
                                  ggufc_error *error) {
    if (count > s->n_ctx - s->n_past)
        return error_set(error, GGUFC_ERROR_CONTEXT,
                         "%zu tokens do not fit: the context has room for %u, and %u are taken",
                         count, s->n_ctx, s->n_past);
    for (size_t i = 0; i < count; i++)
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= s->model->n_vocab)
            return error_set(error, GGUFC_ERROR_TOKEN,
                             "token %d at position %zu is not in the vocabulary of %u", tokens[i],
                             s->n_past + i, s->model->n_vocab);
    return GGUFC_OK;
}

static uint32_t next_batch(const ggufc_session *s, size_t left) {
    return left < s->model->n_batch ? (uint32_t)left : s->model->n_batch;
}

ggufc_status ggufc_session_evaluate(ggufc_session *s, const int32_t *tokens, size_t count,
                                    ggufc_error *error) {
    ggufc_status status = session_check_tokens(s, tokens, count, error);
    if (status != GGUFC_OK) return status;
    for (size_t done = 0; done < count;) {
        uint32_t n = next_batch(s, count - done);
        session_run_body(s, tokens + done, n);
        done += n;
    }
    s->state.tokens = NULL; /* the caller's; the head does not read them */
    return GGUFC_OK;
}

/* Gives the sink the logits of each token of the batch just run, which began at `pos`; a few of them
   are computed at a time. */
static bool session_sink_batch(ggufc_session *s, uint32_t pos, ggufc_logits_sink *sink,
                               void *context) {
    for (uint32_t i = 0; i < s->state.n_tokens; i++) {
        uint32_t left = s->state.n_tokens - i;
        if (i % GGUFC_BATCH_EXACT == 0)
            session_compute_logits(s, i, left < GGUFC_BATCH_EXACT ? left : GGUFC_BATCH_EXACT);
        if (sink(context, pos + i, session_logits_at(s, i)) == 0) continue;
        s->n_past = pos + i + 1;
        s->state.n_tokens = i + 1;
        return false;
    }
    return true;
}

ggufc_status ggufc_session_evaluate_each(ggufc_session *s, const int32_t *tokens, size_t count,
                                         ggufc_logits_sink *sink, void *context,
                                         ggufc_error *error) {
    ggufc_status status = session_check_tokens(s, tokens, count, error);
    for (size_t done = 0; status == GGUFC_OK && done < count;) {
        uint32_t n = next_batch(s, count - done);
        uint32_t pos = s->n_past;
        session_run_body(s, tokens + done, n);
        if (!session_sink_batch(s, pos, sink, context))
            status = error_set(error, GGUFC_STOPPED, "stopped at position %u", s->n_past - 1);
        done += n;
    }
    s->state.tokens = NULL;
    return status;
}

/* Gives the sink the activations of the body, or of the head, for `count` tokens from `pos` on. */
static bool session_sink_activations(const ggufc_session *s, bool head, uint32_t pos, uint32_t count,
                                     ggufc_activation_sink *sink, void *context) {
    for (uint64_t i = 0; i < s->model->n_activations; i++) {
        const ggufc_activation *a = &s->model->activations[i];
        const float *values = (const float *)(const void *)(s->state.arena + a->offset);
        if ((a->head != 0) == head && sink(context, (uint32_t)i, pos, count, values, a->stride) != 0)
            return false;
    }
    return true;
}

static bool session_trace_batch(ggufc_session *s, uint32_t pos, ggufc_activation_sink *sink,
                                void *context) {
    if (!session_sink_activations(s, false, pos, s->state.n_tokens, sink, context)) return false;
    for (uint32_t i = 0; i < s->state.n_tokens; i++) {
        session_run_head(s, i);
        if (!session_sink_activations(s, true, pos + i, 1, sink, context)) return false;
    }
    return true;
}

ggufc_status ggufc_session_trace(ggufc_session *s, const int32_t *tokens, size_t count,
                                 ggufc_activation_sink *sink, void *context, ggufc_error *error) {
    if (!s->model->activations)
        return error_set(error, GGUFC_ERROR_OPTIONS,
                         "compiled without --trace: its activations are not kept");
    ggufc_status status = session_check_tokens(s, tokens, count, error);
    for (size_t done = 0; status == GGUFC_OK && done < count;) {
        uint32_t n = next_batch(s, count - done);
        uint32_t pos = s->n_past;
        session_run_body(s, tokens + done, n);
        if (!session_trace_batch(s, pos, sink, context))
            status = error_set(error, GGUFC_STOPPED, "stopped at position %u", s->n_past - 1);
        done += n;
    }
    s->state.tokens = NULL;
    return status;
}

static void session_run_call(ggufc_session *s, const ggufc_call *call) {
    ggufc_calls one = { call, 1 };
    session_run(s, &one);
}

static bool session_run_each(ggufc_session *s, const ggufc_calls *list, uint32_t pos, uint32_t count,
                             session_after_call *after, void *context) {
    for (uint64_t i = 0; i < list->count; i++) {
        session_run_call(s, &list->calls[i]);
        if (after(context, &list->calls[i], pos, count, s->state.arena) != 0) return false;
    }
    return true;
}

static void session_run_batch_by_calls(ggufc_session *s, const int32_t *tokens, uint32_t count,
                                       session_after_call *after, void *context) {
    uint32_t pos = s->n_past;
    session_begin_batch(s, tokens, count);
    bool more = session_run_each(s, session_body(s), pos, count, after, context);
    for (uint32_t i = 0; more && i < count; i++) {
        s->state.out_token = i;
        more = session_run_each(s, &s->model->head, pos + i, 1, after, context);
    }
    s->n_past += count;
}

ggufc_status session_evaluate_calls(ggufc_session *s, const int32_t *tokens, size_t count,
                                    session_after_call *after, void *context, ggufc_error *error) {
    ggufc_status status = session_check_tokens(s, tokens, count, error);
    if (status != GGUFC_OK) return status;
    for (size_t done = 0; done < count;) {
        uint32_t n = next_batch(s, count - done);
        session_run_batch_by_calls(s, tokens + done, n, after, context);
        done += n;
    }
    s->state.tokens = NULL;
    return GGUFC_OK;
}

/* ---- measuring */

typedef struct session_timer {
    ggufc_session *session;
    uint64_t *ends; /* of each call */
} session_timer;

static void session_timed_job(void *arg, uint32_t thread, uint32_t n_threads) {
    const session_timer *timer = arg;
    ggufc_session *s = timer->session;
    eval_share share = session_share(s, thread, n_threads);
    for (uint64_t i = 0; i < s->list->count; i++) {
        ggufc_call alone = s->list->calls[i];
        alone.before = alone.after = 0;
        eval_calls(&(ggufc_calls){ &alone, 1 }, &s->state, &share);
        if (!(alone.flags & GGUFC_CALL_BARRIER)) threads_barrier(s->team, thread);
        if (thread == 0) timer->ends[i] = clock_ns();
    }
}

/* A call ends when all threads have ended it, the last one when they have also left the job. */
static void session_time_list(ggufc_session *s, const ggufc_calls *list, uint64_t *ns) {
    session_timer timer = { s, ns };
    uint64_t begin = clock_ns();
    s->list = list;
    threads_run(s->team, session_timed_job, &timer);
    ns[list->count - 1] = clock_ns();
    for (uint64_t i = list->count - 1; i > 0; i--) ns[i] -= ns[i - 1];
    ns[0] -= begin;
}

ggufc_status session_time_calls(ggufc_session *s, const int32_t *tokens, uint32_t count,
                                uint64_t *ns, ggufc_error *error) {
    ggufc_status status = session_check_tokens(s, tokens, count, error);
    if (status != GGUFC_OK) return status;
    if (!count || count > s->model->n_batch)
        return error_set(error, GGUFC_ERROR_OPTIONS, "%u tokens are no batch of at most %u", count,
                         s->model->n_batch);
    session_begin_batch(s, tokens, count);
    const ggufc_calls *body = session_body(s);
    session_time_list(s, body, ns);
    session_time_list(s, &s->model->head, ns + body->count);
    s->n_past += count;
    s->has_batch = true;
    s->n_logits = 1;
    s->state.tokens = NULL;
    return GGUFC_OK;
}

ggufc_status session_skip(ggufc_session *s, uint32_t n_past, ggufc_error *error) {
    if (n_past > s->n_ctx)
        return error_set(error, GGUFC_ERROR_CONTEXT, "position %u is beyond the context of %u", n_past,
                         s->n_ctx);
    s->n_past = n_past;
    session_forget_batch(s);
    return GGUFC_OK;
}

const float *ggufc_session_logits(ggufc_session *s) {
    return session_logits_at(s, s->state.n_tokens - 1);
}

ggufc_status ggufc_session_truncate(ggufc_session *s, uint32_t n_past, ggufc_error *error) {
    if (n_past > s->n_past)
        return error_set(error, GGUFC_ERROR_CONTEXT, "cannot go back to %u tokens, there are %u",
                         n_past, s->n_past);
    s->n_past = n_past;
    session_forget_batch(s);
    return GGUFC_OK;
}

/* ---- looking */

const ggufc_model *ggufc_session_model(const ggufc_session *s) {
    return s->model;
}

uint32_t ggufc_session_n_past(const ggufc_session *s) {
    return s->n_past;
}

uint32_t ggufc_session_n_ctx(const ggufc_session *s) {
    return s->n_ctx;
}

uint32_t ggufc_session_n_threads(const ggufc_session *s) {
    return threads_count(s->team);
}

const char *ggufc_session_weights_path(const ggufc_session *s) {
    return s->weights.path;
}
