/* report.h - what the three ways to write a comparison down have in common (report_*.c). */
#ifndef GGUFC_REPORT_H
#define GGUFC_REPORT_H

#include "character.h"
#include "compare.h"

/* ---- numbers */

enum { REPORT_NUMBER = 32 };

/* At most `digits` significant digits, without zeros that say nothing: "0.0031", "1.2e-7", "inf",
   "nan". `to` has room for REPORT_NUMBER bytes; it is returned. */
const char *report_number(char *to, double x, int digits);

/* ---- ops */

enum { REPORT_CELL = 64 };

enum {
    REPORT_LEFT = 1u << 0,    /* aligned to the left */
    REPORT_JUDGES = 1u << 1,  /* makes no sense in a comparison of costs */
    REPORT_ALONE = 1u << 2,   /* only where an op was computed alone */
    REPORT_WIDE = 1u << 3,    /* only where there is room */
    REPORT_STRANGE = 1u << 4, /* only where some values are strange */
    REPORT_TONE = 1u << 5,    /* in the colour of report_tone_of() */
};

/* A column of the table of ops. A cell is in `to`, which has room for REPORT_CELL bytes, or it is a
   text of the op itself, whose length and content nobody has checked. */
typedef struct report_column {
    const char *title;
    const char *about; /* see report_about */
    unsigned    flags;
    const char *(*cell)(char *to, const compare_op *o, int digits);
} report_column;

enum { REPORT_COLUMNS = 16 };
extern const report_column report_columns[REPORT_COLUMNS];

/* Whether the table of this report has that column. */
bool report_has_column(const compare_report *r, const report_column *c);

enum report_tone { REPORT_UNTOLD, REPORT_FINE, REPORT_NEAR, REPORT_BEYOND };

/* How close an op is to its tolerance: REPORT_NEAR from a quarter of it on. */
enum report_tone report_tone_of(const compare_op *o);

/* An op in a word. */
enum report_verdict {
    REPORT_NOT_COMPARED,
    REPORT_OK,
    REPORT_WRONG,     /* beyond its tolerance, and not known to be inherited */
    REPORT_INHERITED, /* beyond, but right for its own inputs */
    REPORT_NEW,       /* not beyond, but wrong for its own inputs */
    REPORT_VERDICTS,
};

typedef struct report_word {
    const char *word;
    const char *about; /* see report_about; NULL: speaks for itself */
} report_word;

extern const report_word report_words[REPORT_VERDICTS];
enum report_verdict report_verdict_of(const compare_op *o);

/* Whether an op has that verdict; none has in a comparison of costs. */
bool report_has_verdict(const compare_report *r, enum report_verdict v);

enum { REPORT_ABOUT = 80 };

/* What a column's or a word's `about` says in this report: an @ in it is the side from whose inputs
   ops were computed alone. `to` has room for REPORT_ABOUT bytes; it is returned. */
const char *report_about(char *to, const compare_report *r, const char *about);

/* The ops of the largest NMSE alone, the largest first, at most `most`. Returns their number. */
uint32_t report_costly(const compare_report *r, uint32_t *ops, uint32_t most);

/* ---- the page */

/* An op in words, so that it may stand in an element or in an attribute: "Qcur-0 (matmul [256]): NMSE 1.23e-7, …". */
void report_put_html_op(void *stream, const compare_op *o, bool cost);

/* NMSE of the ops in order of execution, as an <svg> of the class "plot". */
void report_plot(const compare_report *r, void *stream);

/* ---- the whole */

/* "same", "different", "failed". */
const char *report_outcome(const compare_report *r);

#endif
