/* A comparison for machines: one JSON object, an op a line. Its fields are those of compare_report
 * and of what it points to, of the same names and nested in the same way (compare.h says what they
 * mean), but for this:
 *
 *     counts             of arrays that are written whole are left out: ops, hypotheses, notes
 *     between, alone     null where nothing was compared (n_values 0)
 *     logits             null where one side has none (n_tokens 0)
 *     perplexity_a, _b   null where no token was predicted (n_predicted 0)
 *     outcome            "same", "different", "failed"
 *     exit_status        0, 1, 2: that of `ggufc compare`
 *
 * Numbers are exact: doubles are read back as they were, and are null where they are infinite or no
 * number. A text is null where the report has none; a byte in it that is no UTF-8 becomes U+FFFD.
 * Later versions may add fields and do not change these.
 */
#include "report.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_DEPTH = 8 };

typedef struct json {
    FILE    *to;
    unsigned depth;
    unsigned n[MAX_DEPTH];    /* items so far */
    bool     tall[MAX_DEPTH]; /* an item a line */
} json;

/* ---- the language */

static void put_string(json *j, const char *text) {
    report_char c;
    fputc('"', j->to);
    while (report_next_char(&text, &c)) {
        if (!c.valid)
            fputs("\\ufffd", j->to);
        else if (report_char_drives(&c))
            fprintf(j->to, "\\u%04" PRIx32, c.code);
        else
            fprintf(j->to, "%s%.*s", c.code == '"' || c.code == '\\' ? "\\" : "", (int)c.size,
                    c.bytes);
    }
    fputc('"', j->to);
}

/* What stands before an item: the comma, the line's beginning, its name unless that is NULL. */
static void begin_item(json *j, const char *name) {
    if (j->n[j->depth]++) fputc(',', j->to);
    if (j->tall[j->depth])
        fprintf(j->to, "\n%*s", (int)(2 * j->depth), "");
    else if (j->n[j->depth] > 1)
        fputc(' ', j->to);
    if (!name) return;
    put_string(j, name);
    fputs(": ", j->to);
}

static void open_item(json *j, const char *name, char bracket, bool tall) {
    if (j->depth) begin_item(j, name);
    fputc(bracket, j->to);
    if (++j->depth == MAX_DEPTH) bug("JSON of depth %u", j->depth);
    j->n[j->depth] = 0;
    j->tall[j->depth] = tall;
}

static void close_item(json *j, char bracket) {
    bool line = j->tall[j->depth] && j->n[j->depth];
    j->depth--;
    if (line) fprintf(j->to, "\n%*s", (int)(2 * j->depth), "");
    fputc(bracket, j->to);
}

static void put_null(json *j, const char *name) {
    begin_item(j, name);
    fputs("null", j->to);
}

static void put_text(json *j, const char *name, const char *text) {
    if (!text) {
        put_null(j, name);
        return;
    }
    begin_item(j, name);
    put_string(j, text);
}

/* The shortest number that is read back as the same. */
static void put_number(json *j, const char *name, double x) {
    if (!isfinite(x)) {
        put_null(j, name);
        return;
    }
    char text[REPORT_NUMBER];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x) break;
    }
    begin_item(j, name);
    fputs(text, j->to);
}

static void put_integer(json *j, const char *name, int64_t n) {
    begin_item(j, name);
    fprintf(j->to, "%" PRId64, n);
}

static void put_count(json *j, const char *name, uint64_t n) {
    begin_item(j, name);
    fprintf(j->to, "%" PRIu64, n);
}

static void put_bool(json *j, const char *name, bool yes) {
    begin_item(j, name);
    fputs(yes ? "true" : "false", j->to);
}

static void put_ids(json *j, const char *name, const int32_t *ids, uint32_t n) {
    if (!ids) {
        put_null(j, name);
        return;
    }
    open_item(j, name, '[', false);
    for (uint32_t i = 0; i < n; i++) put_integer(j, NULL, ids[i]);
    close_item(j, ']');
}

static void put_numbers(json *j, const char *name, const double *x, uint32_t n) {
    open_item(j, name, '[', false);
    for (uint32_t i = 0; i < n; i++) put_number(j, NULL, x[i]);
    close_item(j, ']');
}

static void put_texts(json *j, const char *name, const char *const *texts, uint32_t n, bool tall) {
    open_item(j, name, '[', tall);
    for (uint32_t i = 0; i < n; i++) put_text(j, NULL, texts[i]);
    close_item(j, ']');
}

/* ---- the report */

static void put_distance(json *j, const char *name, const compare_distance *d) {
    if (!d->n_values) {
        put_null(j, name);
        return;
    }
    open_item(j, name, '{', false);
    put_count(j, "n_values", d->n_values);
    put_count(j, "n_tokens", d->n_tokens);
    put_number(j, "match", d->match);
    put_number(j, "mean", d->mean);
    put_number(j, "most", d->most);
    put_count(j, "most_index", d->most_index);
    put_count(j, "most_token", d->most_token);
    put_number(j, "most_a", d->most_a);
    put_number(j, "most_b", d->most_b);
    put_number(j, "nmse", d->nmse);
    put_number(j, "cosine", d->cosine);
    put_number(j, "worst", d->worst);
    put_count(j, "worst_token", d->worst_token);
    put_count(j, "n_strange", d->n_strange);
    close_item(j, '}');
}

static void put_op(json *j, const compare_op *o) {
    open_item(j, NULL, '{', false);
    put_text(j, "name", o->name);
    put_text(j, "kind", o->kind);
    put_text(j, "shape", o->shape);
    put_integer(j, "layer", o->layer);
    put_distance(j, "between", &o->between);
    put_number(j, "tolerance", o->tolerance);
    put_number(j, "worst_tolerance", o->worst_tolerance);
    put_bool(j, "beyond", o->beyond);
    put_distance(j, "alone", &o->alone);
    put_number(j, "alone_tolerance", o->alone_tolerance);
    put_number(j, "alone_worst_tolerance", o->alone_worst_tolerance);
    put_bool(j, "alone_beyond", o->alone_beyond);
    close_item(j, '}');
}

static void put_hypothesis(json *j, const compare_hypothesis *h) {
    open_item(j, NULL, '{', false);
    put_text(j, "what", h->what);
    put_number(j, "nmse", h->nmse);
    put_bool(j, "matches", h->matches);
    close_item(j, '}');
}

static void put_logits(json *j, const compare_logits *l) {
    if (!l->n_tokens) {
        put_null(j, "logits");
        return;
    }
    open_item(j, "logits", '{', true);
    put_count(j, "n_tokens", l->n_tokens);
    put_count(j, "same_best", l->same_best);
    put_number(j, "top_overlap", l->top_overlap);
    put_number(j, "divergence", l->divergence);
    put_number(j, "divergence_most", l->divergence_most);
    put_count(j, "n_predicted", l->n_predicted);
    put_number(j, "perplexity_a", l->n_predicted ? l->perplexity_a : (double)NAN);
    put_number(j, "perplexity_b", l->n_predicted ? l->perplexity_b : (double)NAN);
    put_ids(j, "best_a", l->best_a, COMPARE_TOP);
    put_ids(j, "best_b", l->best_b, COMPARE_TOP);
    put_numbers(j, "best_logit_a", l->best_logit_a, COMPARE_TOP);
    put_numbers(j, "best_logit_b", l->best_logit_b, COMPARE_TOP);
    put_texts(j, "best_text_a", l->best_text_a, COMPARE_TOP, false);
    put_texts(j, "best_text_b", l->best_text_b, COMPARE_TOP, false);
    close_item(j, '}');
}

static void put_sides(json *j, const compare_report *r) {
    put_text(j, "name_a", r->name_a);
    put_text(j, "name_b", r->name_b);
    put_text(j, "what_a", r->what_a);
    put_text(j, "what_b", r->what_b);
    put_text(j, "model", r->model);
    put_text(j, "version", r->version);
    put_number(j, "slack", r->slack);
    put_bool(j, "cost", r->cost);
    put_text(j, "suspect", r->suspect);
    put_ids(j, "tokens", r->tokens, r->n_tokens);
    put_count(j, "n_tokens", r->n_tokens);
    put_text(j, "text", r->text);
    put_text(j, "tokens_differ", r->tokens_differ);
    put_texts(j, "notes", r->notes, r->n_notes, true);
}

void report_json(const compare_report *r, void *stream) {
    json j = { .to = stream };
    open_item(&j, NULL, '{', true);
    put_sides(&j, r);
    open_item(&j, "ops", '[', true);
    for (uint32_t i = 0; i < r->n_ops; i++) put_op(&j, &r->ops[i]);
    close_item(&j, ']');
    put_integer(&j, "first", r->first);
    put_text(&j, "sentence", r->sentence);
    put_text(&j, "origin", r->origin);
    open_item(&j, "hypotheses", '[', true);
    for (uint32_t i = 0; i < r->n_hypotheses; i++) put_hypothesis(&j, &r->hypotheses[i]);
    close_item(&j, ']');
    put_text(&j, "verdict", r->verdict);
    put_logits(&j, &r->logits);
    put_text(&j, "outcome", report_outcome(r));
    put_integer(&j, "exit_status", r->outcome);
    close_item(&j, '}');
    fputc('\n', j.to);
}
