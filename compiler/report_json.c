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

#include "json.h"

#include <math.h>

static void put_ids(json *j, const char *name, const int32_t *ids, uint32_t n) {
    if (!ids) {
        json_null(j, name);
        return;
    }
    json_open_line(j, name, '[');
    for (uint32_t i = 0; i < n; i++) json_integer(j, NULL, ids[i]);
    json_close(j, ']');
}

static void put_numbers(json *j, const char *name, const double *x, uint32_t n) {
    json_open_line(j, name, '[');
    for (uint32_t i = 0; i < n; i++) json_number(j, NULL, x[i]);
    json_close(j, ']');
}

static void put_texts(json *j, const char *name, const char *const *texts, uint32_t n) {
    json_open(j, name, '[');
    for (uint32_t i = 0; i < n; i++) json_text(j, NULL, texts[i]);
    json_close(j, ']');
}

/* ---- the report */

static void put_distance(json *j, const char *name, const compare_distance *d) {
    if (!d->n_values) {
        json_null(j, name);
        return;
    }
    json_open_line(j, name, '{');
    json_count(j, "n_values", d->n_values);
    json_count(j, "n_tokens", d->n_tokens);
    json_number(j, "match", d->match);
    json_number(j, "mean", d->mean);
    json_number(j, "most", d->most);
    json_count(j, "most_index", d->most_index);
    json_count(j, "most_token", d->most_token);
    json_number(j, "most_a", d->most_a);
    json_number(j, "most_b", d->most_b);
    json_number(j, "nmse", d->nmse);
    json_number(j, "cosine", d->cosine);
    json_number(j, "worst", d->worst);
    json_count(j, "worst_token", d->worst_token);
    json_count(j, "n_strange", d->n_strange);
    json_close(j, '}');
}

static void put_op(json *j, const compare_op *o) {
    json_open(j, NULL, '{');
    json_text(j, "name", o->name);
    json_text(j, "kind", o->kind);
    json_text(j, "shape", o->shape);
    json_integer(j, "layer", o->layer);
    put_distance(j, "between", &o->between);
    json_number(j, "tolerance", o->tolerance);
    json_number(j, "worst_tolerance", o->worst_tolerance);
    json_bool(j, "beyond", o->beyond);
    put_distance(j, "alone", &o->alone);
    json_number(j, "alone_tolerance", o->alone_tolerance);
    json_number(j, "alone_worst_tolerance", o->alone_worst_tolerance);
    json_bool(j, "alone_beyond", o->alone_beyond);
    json_close(j, '}');
}

static void put_hypothesis(json *j, const compare_hypothesis *h) {
    json_open(j, NULL, '{');
    json_text(j, "what", h->what);
    json_number(j, "nmse", h->nmse);
    json_bool(j, "matches", h->matches);
    json_close(j, '}');
}

static void put_logits(json *j, const compare_logits *l) {
    if (!l->n_tokens) {
        json_null(j, "logits");
        return;
    }
    json_open(j, "logits", '{');
    json_count(j, "n_tokens", l->n_tokens);
    json_count(j, "same_best", l->same_best);
    json_number(j, "top_overlap", l->top_overlap);
    json_number(j, "divergence", l->divergence);
    json_number(j, "divergence_most", l->divergence_most);
    json_count(j, "n_predicted", l->n_predicted);
    json_number(j, "perplexity_a", l->n_predicted ? l->perplexity_a : (double)NAN);
    json_number(j, "perplexity_b", l->n_predicted ? l->perplexity_b : (double)NAN);
    put_ids(j, "best_a", l->best_a, COMPARE_TOP);
    put_ids(j, "best_b", l->best_b, COMPARE_TOP);
    put_numbers(j, "best_logit_a", l->best_logit_a, COMPARE_TOP);
    put_numbers(j, "best_logit_b", l->best_logit_b, COMPARE_TOP);
    put_texts(j, "best_text_a", l->best_text_a, COMPARE_TOP);
    put_texts(j, "best_text_b", l->best_text_b, COMPARE_TOP);
    json_close(j, '}');
}

static void put_sides(json *j, const compare_report *r) {
    json_text(j, "name_a", r->name_a);
    json_text(j, "name_b", r->name_b);
    json_text(j, "what_a", r->what_a);
    json_text(j, "what_b", r->what_b);
    json_text(j, "model", r->model);
    json_text(j, "version", r->version);
    json_number(j, "slack", r->slack);
    json_bool(j, "cost", r->cost);
    json_text(j, "suspect", r->suspect);
    put_ids(j, "tokens", r->tokens, r->n_tokens);
    json_count(j, "n_tokens", r->n_tokens);
    json_text(j, "text", r->text);
    json_text(j, "tokens_differ", r->tokens_differ);
    put_texts(j, "notes", r->notes, r->n_notes);
}

void report_json(const compare_report *r, void *stream) {
    json j = json_begin(stream);
    json_open(&j, NULL, '{');
    put_sides(&j, r);
    json_open(&j, "ops", '[');
    for (uint32_t i = 0; i < r->n_ops; i++) put_op(&j, &r->ops[i]);
    json_close(&j, ']');
    json_integer(&j, "first", r->first);
    json_text(&j, "sentence", r->sentence);
    json_text(&j, "origin", r->origin);
    json_open(&j, "hypotheses", '[');
    for (uint32_t i = 0; i < r->n_hypotheses; i++) put_hypothesis(&j, &r->hypotheses[i]);
    json_close(&j, ']');
    json_text(&j, "verdict", r->verdict);
    put_logits(&j, &r->logits);
    json_text(&j, "outcome", report_outcome(r));
    json_integer(&j, "exit_status", r->outcome);
    json_close(&j, '}');
}
