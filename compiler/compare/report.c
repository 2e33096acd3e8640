/* What a comparison's table says, and how text and numbers are made fit to be read: the parts of a
 * report that do not depend on what it is written as. */
#include "report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- numbers */

static void drop_zeros(char *text) {
    char *end = text + strlen(text);
    if (!strchr(text, '.')) return;
    while (end[-1] == '0') *--end = 0;
    if (end[-1] == '.') end[-1] = 0;
}

const char *report_number(char *to, double x, int digits) {
    if (isnan(x)) return strcpy(to, "nan");
    if (isinf(x)) return strcpy(to, x < 0 ? "-inf" : "inf");
    if (x == 0) return strcpy(to, "0");
    snprintf(to, REPORT_NUMBER, "%.*e", digits - 1, x);
    char *e = strchr(to, 'e');
    int   exponent = atoi(e + 1);
    if (exponent >= -3 && exponent < 6) {
        int decimals = digits - 1 - exponent;
        snprintf(to, REPORT_NUMBER, "%.*f", decimals > 0 ? decimals : 0, x);
        drop_zeros(to);
        return to;
    }
    *e = 0;
    drop_zeros(to);
    snprintf(to + strlen(to), 8, "e%d", exponent);
    return to;
}

/* Rounded down: 100 means all of them. */
static const char *percent(char *to, double share) {
    if (!(share < 1)) return report_number(to, 100 * share, 4);
    snprintf(to, REPORT_CELL, "%.1f", floor(1e3 * share + 1e-6) / 10);
    return to;
}

/* ---- the table of ops */

static const char *or_dash(const char *text) {
    return text && *text ? text : "-";
}

static const char *cell_name(char *to, const compare_op *o, int digits) {
    (void)to, (void)digits;
    return or_dash(o->name);
}

static const char *cell_kind(char *to, const compare_op *o, int digits) {
    (void)to, (void)digits;
    return or_dash(o->kind);
}

static const char *cell_shape(char *to, const compare_op *o, int digits) {
    (void)to, (void)digits;
    return or_dash(o->shape);
}

static const char *cell_match(char *to, const compare_op *o, int digits) {
    (void)digits;
    return o->between.n_values ? percent(to, o->between.match) : "-";
}

/* Where there is little room, a two-digit exponent takes that of a digit. */
static const char *number_cell(char *to, const compare_distance *d, double x, int digits) {
    if (digits == 2 && fabs(x) < 1e-9) digits = 1;
    return d->n_values ? report_number(to, x, digits) : "-";
}

static const char *cell_mean(char *to, const compare_op *o, int digits) {
    return number_cell(to, &o->between, o->between.mean, digits);
}

static const char *cell_most(char *to, const compare_op *o, int digits) {
    return number_cell(to, &o->between, o->between.most, digits);
}

static const char *cell_at(char *to, const compare_op *o, int digits) {
    (void)digits;
    if (!o->between.n_values) return "-";
    snprintf(to, REPORT_CELL, "[%llu]@%u", (unsigned long long)o->between.most_index,
             o->between.most_token);
    return to;
}

/* Two numbers that differ little: enough digits to see in what. */
static const char *cell_most_a(char *to, const compare_op *o, int digits) {
    return number_cell(to, &o->between, o->between.most_a, digits + 3);
}

static const char *cell_most_b(char *to, const compare_op *o, int digits) {
    return number_cell(to, &o->between, o->between.most_b, digits + 3);
}

static const char *cell_nmse(char *to, const compare_op *o, int digits) {
    return number_cell(to, &o->between, o->between.nmse, digits);
}

static const char *cell_tolerance(char *to, const compare_op *o, int digits) {
    return number_cell(to, &o->between, o->tolerance, digits);
}

static const char *cell_cosine(char *to, const compare_op *o, int digits) {
    double cosine = o->between.cosine;
    if (!o->between.n_values || !isfinite(cosine)) return number_cell(to, &o->between, cosine, 1);
    snprintf(to, REPORT_CELL, "%.*f", digits + 2, cosine);
    drop_zeros(to);
    return to;
}

static const char *cell_alone(char *to, const compare_op *o, int digits) {
    return number_cell(to, &o->alone, o->alone.nmse, digits);
}

static const char *cell_alone_tolerance(char *to, const compare_op *o, int digits) {
    return number_cell(to, &o->alone, o->alone_tolerance, digits);
}

static const char *cell_strange(char *to, const compare_op *o, int digits) {
    (void)digits;
    if (!o->between.n_values) return "-";
    snprintf(to, REPORT_CELL, "%llu", (unsigned long long)o->between.n_strange);
    return to;
}

static const char *cell_word(char *to, const compare_op *o, int digits) {
    (void)to, (void)digits;
    return report_words[report_verdict_of(o)].word;
}

const report_column report_columns[REPORT_COLUMNS] = {
    { "op", "the activation's name", REPORT_LEFT, cell_name },
    { "kind", "the operation that makes it", REPORT_LEFT, cell_kind },
    { "shape", "of a token", REPORT_LEFT, cell_shape },
    { "match", "share of values that match, in percent", 0, cell_match },
    { "mean", "mean of |b - a|", 0, cell_mean },
    { "max", "largest |b - a|", 0, cell_most },
    { "at", "where it is: [value]@token, counted from 0", REPORT_LEFT, cell_at },
    { "a", "A's value there", REPORT_WIDE, cell_most_a },
    { "b", "B's value there", REPORT_WIDE, cell_most_b },
    { "NMSE", "B against A: mean over tokens of sum (b - a)^2 / sum a^2", REPORT_TONE, cell_nmse },
    { "tol.", "what NMSE may be", REPORT_JUDGES, cell_tolerance },
    { "cosine", "of the angle between A and B", 0, cell_cosine },
    { "alone", "NMSE of @ against what its own inputs imply", REPORT_ALONE, cell_alone },
    { "alone tol.", "what that may be", REPORT_ALONE | REPORT_JUDGES | REPORT_WIDE,
      cell_alone_tolerance },
    { "strange", "values that are infinite or no number on one side only",
      REPORT_WIDE | REPORT_STRANGE, cell_strange },
    { "verdict", "what that makes of it", REPORT_LEFT | REPORT_JUDGES | REPORT_TONE, cell_word },
};

/* Which of REPORT_ALONE and REPORT_STRANGE there is to say something about. */
static unsigned present(const compare_report *r) {
    unsigned flags = 0;
    for (uint32_t i = 0; i < r->n_ops; i++) {
        const compare_op *o = &r->ops[i];
        if (o->alone.n_values) flags |= REPORT_ALONE;
        if (o->between.n_values && o->between.n_strange) flags |= REPORT_STRANGE;
    }
    return flags;
}

bool report_has_column(const compare_report *r, const report_column *c) {
    if (c->flags & REPORT_JUDGES && r->cost) return false;
    return !(c->flags & (REPORT_ALONE | REPORT_STRANGE) & ~present(r));
}

const report_word report_words[REPORT_VERDICTS] = {
    [REPORT_NOT_COMPARED] = { "-", NULL },
    [REPORT_OK] = { "ok", NULL },
    [REPORT_WRONG] = { "BEYOND", "further from A than its tolerance" },
    [REPORT_INHERITED] = { "inherited", "as far, but right for the inputs that @ gave it" },
    [REPORT_NEW] = { "new", "within its tolerance, but wrong for the inputs that @ gave it" },
};

enum report_verdict report_verdict_of(const compare_op *o) {
    if (!o->between.n_values) return REPORT_NOT_COMPARED;
    if (!o->beyond) return o->alone_beyond ? REPORT_NEW : REPORT_OK;
    return o->alone.n_values && !o->alone_beyond ? REPORT_INHERITED : REPORT_WRONG;
}

bool report_has_verdict(const compare_report *r, enum report_verdict v) {
    for (uint32_t i = 0; i < r->n_ops && !r->cost; i++)
        if (report_verdict_of(&r->ops[i]) == v) return true;
    return false;
}

enum report_tone report_tone_of(const compare_op *o) {
    if (!o->between.n_values) return REPORT_UNTOLD;
    if (o->beyond || o->alone_beyond) return REPORT_BEYOND;
    if (!(o->tolerance > 0)) return REPORT_UNTOLD;
    return o->between.nmse <= o->tolerance / 4 ? REPORT_FINE : REPORT_NEAR;
}

const char *report_about(char *to, const compare_report *r, const char *about) {
    const char *at = strchr(about, '@'), *suspect = r->suspect ? r->suspect : "B";
    if (at)
        snprintf(to, REPORT_ABOUT, "%.*s%s%s", (int)(at - about), about, suspect, at + 1);
    else
        snprintf(to, REPORT_ABOUT, "%s", about);
    return to;
}

/* What is no number costs most. */
static bool costs_more(const compare_op *a, const compare_op *b) {
    if (isnan(b->alone.nmse)) return false;
    return isnan(a->alone.nmse) || a->alone.nmse > b->alone.nmse;
}

uint32_t report_costly(const compare_report *r, uint32_t *ops, uint32_t most) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->n_ops; i++) {
        if (!r->ops[i].alone.n_values) continue;
        uint32_t at = n < most ? n++ : most;
        for (; at > 0 && costs_more(&r->ops[i], &r->ops[ops[at - 1]]); at--)
            if (at < most) ops[at] = ops[at - 1];
        if (at < most) ops[at] = i;
    }
    return n;
}

/* ---- the whole */

const char *report_outcome(const compare_report *r) {
    static const char *const names[] = {
        [COMPARE_SAME] = "same",
        [COMPARE_DIFFERENT] = "different",
        [COMPARE_FAILED] = "failed",
    };
    return names[r->outcome];
}
