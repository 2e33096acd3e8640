/* generate.c - see generate.h. */
#include "generate.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "ahead.h"
#include "clock.h"
#include "error.h"
#include "session.h"
#include "tokenizer.h"
#include "utf8.h"

/* ---- printing tokens */

typedef struct printer {
    const ggufc_vocab *vocab; /* NULL: ids */
    stream            *out;
    utf8_stream        utf8;
    size_t             max_piece;
    char              *piece; /* room for max_piece, then for what utf8_feed makes of it */
    bool               began;
} printer;

static bool printer_init(printer *p, const ggufc_vocab *vocab, stream *out) {
    *p = (printer){ .vocab = vocab, .out = out };
    if (!vocab) return true;
    p->max_piece = tokenizer_max_piece(vocab);
    p->piece = malloc(2 * p->max_piece + UTF8_MAX_HELD);
    return p->piece != NULL;
}

static void print_token(printer *p, int32_t id) {
    if (!p->vocab) {
        stream_printf(p->out, p->began ? ",%d" : "%d", id);
        p->began = true;
        return;
    }
    char *whole = p->piece + p->max_piece;
    size_t size = tokenizer_piece(p->vocab, id, p->piece, p->max_piece, 0);
    stream_write(p->out, whole, utf8_feed(&p->utf8, p->piece, size, whole));
}

static void print_prompt(printer *p, const generate_request *r) {
    if (r->hide_prompt) return;
    if (r->text && p->vocab) {
        stream_write(p->out, r->text, r->text_size);
        return;
    }
    for (size_t i = 0; i < r->n_tokens; i++) print_token(p, r->tokens[i]);
}

static void print_end(printer *p) {
    char held[UTF8_MAX_HELD + 1];
    size_t n = utf8_flush(&p->utf8, held);
    held[n] = '\n';
    stream_write(p->out, held, n + 1);
}

/* ---- generating */

typedef struct generation {
    ggufc_session          *session;
    lookup                 *guess; /* NULL: no looking ahead */
    ahead                   reader;
    sampler                *choose;
    const generate_request *request;
    generate_report        *report;
    const ggufc_vocab      *vocab;
    printer                 print;
} generation;

static bool is_stopped(const generate_request *r) {
    return r->stop && *r->stop;
}

/* A batch at a time, so that a long prompt can be interrupted. */
static ggufc_status read_prompt(generation *g, ggufc_error *error) {
    const generate_request *r = g->request;
    size_t batch = ggufc_session_model(g->session)->n_batch;
    uint64_t start = clock_ns();
    ggufc_status status = GGUFC_OK;
    for (size_t i = 0; i < r->n_tokens && status == GGUFC_OK && !is_stopped(r); i += batch) {
        size_t n = r->n_tokens - i < batch ? r->n_tokens - i : batch;
        status = ggufc_session_evaluate(g->session, r->tokens + i, n, error);
        g->report->n_prompt += n;
    }
    if (r->n_predict != 0) ggufc_session_logits(g->session);
    g->report->prompt_ns = clock_ns() - start;
    for (size_t i = 0; i < r->n_tokens; i++) sampler_accept(g->choose, r->tokens[i]);
    for (size_t i = 0; g->guess && i < r->n_tokens; i++) lookup_push(g->guess, r->tokens[i]);
    g->reader = ahead_begin(g->session, g->guess);
    return status;
}

static int32_t choose_token(generation *g) {
    const float *logits = ahead_logits(&g->reader);
    uint64_t start = clock_ns();
    int32_t id = sampler_pick(g->choose, logits);
    sampler_accept(g->choose, id);
    g->report->sample_ns += clock_ns() - start;
    return id;
}

/* Tokens that are wanted after the last one chosen and that will be read: all but the very last. */
static uint64_t count_wanted(const generation *g) {
    if (g->request->n_predict < 0) return UINT64_MAX;
    uint64_t left = (uint64_t)g->request->n_predict - g->report->n_generated;
    return left ? left - 1 : 0;
}

static ggufc_status read_token(generation *g, int32_t id, ggufc_error *error) {
    uint64_t start = clock_ns();
    ggufc_status status = ahead_read(&g->reader, id, count_wanted(g), error);
    ahead_logits(&g->reader);
    g->report->eval_ns += clock_ns() - start;
    g->report->n_evaluated++;
    return status;
}

/* Whether generation ends before another token is chosen, or read; report->end says why. */
static bool has_ended(generation *g, bool before_reading) {
    generate_report *report = g->report;
    const generate_request *r = g->request;
    if (g->print.out->failure)
        report->end = GENERATE_END_OUTPUT;
    else if (is_stopped(r))
        report->end = GENERATE_END_STOP;
    else if (r->n_predict >= 0 && report->n_generated >= (uint64_t)r->n_predict)
        report->end = GENERATE_END_COUNT;
    else if (before_reading && ahead_n_past(&g->reader) >= ggufc_session_n_ctx(g->session))
        report->end = GENERATE_END_CONTEXT;
    else
        return false;
    return true;
}

static ggufc_status generate_tokens(generation *g, ggufc_error *error) {
    while (!has_ended(g, false)) {
        int32_t id = choose_token(g);
        if (g->vocab && tokenizer_is_end(g->vocab, id)) {
            g->report->end = GENERATE_END_TOKEN;
            break;
        }
        print_token(&g->print, id);
        g->report->n_generated++;
        if (has_ended(g, true)) break;
        ggufc_status status = read_token(g, id, error);
        if (status != GGUFC_OK) return status;
    }
    return GGUFC_OK;
}

static ggufc_status check_prompt(const ggufc_session *s, const generate_request *r,
                                 ggufc_error *error) {
    uint32_t room = ggufc_session_n_ctx(s) - ggufc_session_n_past(s);
    if (r->n_tokens == 0) return error_set(error, GGUFC_ERROR_OPTIONS, "the prompt is empty");
    if (r->n_tokens > room)
        return error_set(error, GGUFC_ERROR_CONTEXT,
                         "the prompt has %zu tokens, the context has room for %" PRIu32,
                         r->n_tokens, room);
    return session_check_tokens(s, r->tokens, r->n_tokens, error);
}

/* What can be read: the prompt and what is generated, as far as the context has room. */
static bool make_guess(generation *g) {
    const generate_request *r = g->request;
    uint64_t room = ggufc_session_n_ctx(g->session) - ggufc_session_n_past(g->session);
    uint64_t most = r->n_tokens + (uint64_t)(r->n_predict < 0 ? 0 : r->n_predict);
    lookup_options options = {
        .capacity = (uint32_t)(r->n_predict < 0 || most > room ? room : most),
        .max_draft = r->max_draft,
        .always = r->always_draft,
    };
    if (!r->look_ahead || r->max_draft == 0) return true;
    g->guess = lookup_new(&options);
    return g->guess != NULL;
}

static void end_reading(generation *g) {
    ahead_end(&g->reader);
    g->report->n_passes = g->reader.n_passes;
    g->report->n_drafted = g->reader.n_drafted;
    g->report->n_accepted = g->reader.n_accepted;
    lookup_free(g->guess);
}

ggufc_status generate_run(ggufc_session *session, sampler *choose, const generate_request *request,
                          stream *out, generate_report *report, ggufc_error *error) {
    *report = (generate_report){ 0 };
    ggufc_status status = check_prompt(session, request, error);
    if (status != GGUFC_OK) return status;

    const ggufc_vocab *vocab = ggufc_session_model(session)->vocab;
    generation g = {
        .session = session, .choose = choose, .request = request, .report = report, .vocab = vocab
    };
    if (!printer_init(&g.print, vocab, out) || !make_guess(&g)) {
        free(g.print.piece);
        return error_set(error, GGUFC_ERROR_MEMORY, "out of memory");
    }
    print_prompt(&g.print, request);
    status = read_prompt(&g, error);
    if (status == GGUFC_OK) status = generate_tokens(&g, error);
    print_end(&g.print);
    end_reading(&g);
    free(g.print.piece);
    return status;
}

void generate_forbid_end(sampler *choose, const ggufc_vocab *vocab) {
    for (uint32_t id = 0; vocab && id < vocab->n_tokens; id++)
        if (tokenizer_is_end(vocab, (int32_t)id)) sampler_forbid(choose, (int32_t)id);
}
