/* A comparison for people at a terminal: heading, table, sentences, hypotheses, logits, outcome, in
 * the order that compare.h gives. Lines are at most 100 columns wide unless a name or a text is
 * long. Whatever a model or a recording holds, only character_show's output is printed of it. */
#include "report.h"

#include <stdio.h>
#include <string.h>

enum {
    LINE = 100,
    EXCERPT = 72,   /* columns of the text that is compared */
    FIRST_IDS = 8,  /* token ids that are shown */
    WIDEST = 40,    /* of a table's column; what is wider moves the rest of its line */
    WIDEST_HYPOTHESIS = 78,
    COSTLY = 5,
    STRANGE = 5,
    DIGITS = 2,     /* in the table */
    TOP_WIDTH = 40, /* A's half of the most likely tokens */
};

enum style { PLAIN, BOLD, DIM, GREEN, YELLOW, RED, BOLD_RED };

typedef struct printer {
    FILE    *to;
    bool     colour;
    unsigned column; /* where the line stands, counted by put_text and put */
} printer;

/* ---- pieces */

static void style_begin(printer *p, enum style s) {
    static const char *const codes[] = {
        [BOLD] = "1", [DIM] = "2", [GREEN] = "32", [YELLOW] = "33", [RED] = "31", [BOLD_RED] = "1;31",
    };
    if (p->colour && s != PLAIN) fprintf(p->to, "\033[%sm", codes[s]);
}

static void style_end(printer *p, enum style s) {
    if (p->colour && s != PLAIN) fputs("\033[0m", p->to);
}

/* The columns that the text up to `end`, or all of it where that is NULL, takes when it is shown. */
static unsigned width_up_to(const char *text, const char *end) {
    char        shown[CHARACTER_SHOWN];
    character   c;
    unsigned    n = 0;
    while (character_take(&text, end, &c)) n += character_show(shown, &c);
    return n;
}

static unsigned width_of(const char *text) {
    return width_up_to(text, NULL);
}

static void put_up_to(printer *p, const char *text, const char *end) {
    char        shown[CHARACTER_SHOWN];
    character   c;
    while (character_take(&text, end, &c)) {
        p->column += character_show(shown, &c);
        fputs(shown, p->to);
    }
}

static void put(printer *p, const char *text) {
    put_up_to(p, text, NULL);
}

/* Shows as much of `text` as fits into `most` columns, with "..." where that is not all. */
static void put_excerpt(printer *p, const char *text, unsigned most) {
    char        shown[CHARACTER_SHOWN];
    character   c;
    const char *end = text, *next = text;
    unsigned    n = 0;
    while (character_take(&next, NULL, &c) && (n += character_show(shown, &c)) <= most) {
        if (n + 3 <= most) end = next;
    }
    if (n <= most) {
        put(p, text);
        return;
    }
    put_up_to(p, text, end);
    put(p, "...");
}

static void put_spaces(printer *p, unsigned n) {
    fprintf(p->to, "%*s", (int)n, "");
    p->column += n;
}

static void put_to_column(printer *p, unsigned column) {
    if (p->column < column) put_spaces(p, column - p->column);
}

static void put_right(printer *p, const char *text, unsigned width) {
    unsigned n = width_of(text);
    put_spaces(p, n < width ? width - n : 0);
    put(p, text);
}

static void put_unsigned(printer *p, uint64_t n) {
    char text[REPORT_NUMBER];
    snprintf(text, sizeof text, "%llu", (unsigned long long)n);
    put(p, text);
}

static void put_integer(printer *p, int32_t n) {
    char text[REPORT_NUMBER];
    snprintf(text, sizeof text, "%d", n);
    put(p, text);
}

static void put_number(printer *p, double x) {
    char text[REPORT_NUMBER];
    put(p, report_number(text, x, 6));
}

static void end_line(printer *p) {
    fputc('\n', p->to);
    p->column = 0;
}

/* A word of a paragraph, on a new line where it does not fit. */
static void put_word(printer *p, const char *word, const char *end, unsigned indent) {
    if (p->column > indent && p->column + 1 + width_up_to(word, end) > LINE) end_line(p);
    if (p->column > indent) put_spaces(p, 1);
    put_to_column(p, indent);
    put_up_to(p, word, end);
}

/* Prose from where the line stands, later lines indented; a newline in it begins another. */
static void put_paragraph(printer *p, const char *text, unsigned indent) {
    while (*text) {
        size_t size = strcspn(text, " \n");
        if (size) put_word(p, text, text + size, indent);
        text += size;
        if (*text == '\n' && text[1]) end_line(p);
        if (*text) text++;
    }
    end_line(p);
}

static void put_styled(printer *p, enum style s, const char *text) {
    if (!text) return;
    style_begin(p, s);
    put_paragraph(p, text, 0);
    style_end(p, s);
}

/* ---- heading */

static void put_label(printer *p, const char *label) {
    style_begin(p, DIM);
    put_spaces(p, 2);
    put(p, label);
    style_end(p, DIM);
    put_to_column(p, 10);
}

static void put_side(printer *p, const char *label, const char *name, const char *what) {
    if (!name) return;
    put_label(p, label);
    put(p, name);
    if (what) {
        bool fits = p->column + 4 + width_of(what) <= LINE;
        if (!fits) end_line(p);
        put_to_column(p, 10);
        put(p, fits ? "  (" : "(");
        put(p, what);
        put(p, ")");
    }
    end_line(p);
}

static void put_tokens(printer *p, const compare_report *r) {
    if (r->tokens_differ) return;
    put_label(p, "tokens");
    put_unsigned(p, r->n_tokens);
    for (uint32_t i = 0; r->tokens && i < r->n_tokens && i < FIRST_IDS; i++) {
        put(p, i ? ", " : ": ");
        put_integer(p, r->tokens[i]);
    }
    if (r->tokens && r->n_tokens > FIRST_IDS) put(p, ", ...");
    end_line(p);
}

static void put_heading(printer *p, const compare_report *r) {
    put_side(p, "A", r->name_a, r->what_a);
    put_side(p, "B", r->name_b, r->what_b);
    put_side(p, "model", r->model, NULL);
    put_tokens(p, r);
    if (r->text && !r->tokens_differ) {
        put_label(p, "text");
        put(p, "\"");
        put_excerpt(p, r->text, EXCERPT);
        put(p, "\"");
        end_line(p);
    }
    for (uint32_t i = 0; i < r->n_notes; i++) {
        put_label(p, "note");
        put_paragraph(p, r->notes[i], 10);
    }
}

/* ---- the table of ops */

typedef struct table {
    const report_column *columns[REPORT_COLUMNS];
    unsigned             width[REPORT_COLUMNS];
    unsigned             n, gap, total;
} table;

static void widen(unsigned *width, const char *text, unsigned most) {
    unsigned n = width_of(text);
    if (n > *width) *width = n < most ? n : most;
}

static table measure_table(const compare_report *r) {
    table t = { .gap = 2, .total = 2 };
    char  cell[REPORT_CELL];
    for (unsigned c = 0; c < REPORT_COLUMNS; c++) {
        const report_column *column = &report_columns[c];
        if (column->flags & REPORT_WIDE || !report_has_column(r, column)) continue;
        unsigned *width = &t.width[t.n];
        widen(width, column->title, WIDEST);
        for (uint32_t i = 0; i < r->n_ops; i++)
            widen(width, column->cell(cell, &r->ops[i], DIGITS), WIDEST);
        t.total += *width;
        t.columns[t.n++] = column;
    }
    if (t.total + t.gap * (t.n - 1) > LINE) t.gap = 1;
    t.total += t.gap * (t.n - 1);
    return t;
}

static void put_cell(printer *p, const table *t, unsigned c, const char *text) {
    bool     left = t->columns[c]->flags & REPORT_LEFT;
    unsigned n = width_of(text), pad = n < t->width[c] ? t->width[c] - n : 0;
    if (!left) put_spaces(p, pad);
    put(p, text);
    if (c + 1 < t->n) put_spaces(p, t->gap + (left ? pad : 0));
}

static void put_titles(printer *p, const table *t) {
    style_begin(p, DIM);
    put_spaces(p, 2);
    for (unsigned c = 0; c < t->n; c++) put_cell(p, t, c, t->columns[c]->title);
    end_line(p);
    style_end(p, DIM);
}

/* Before the first op of a layer, and before what follows the layers. */
static void put_rule(printer *p, const table *t, int32_t layer) {
    style_begin(p, DIM);
    put(p, "  --");
    if (layer >= 0) {
        put(p, " layer ");
        put_integer(p, layer);
        put(p, " ");
    }
    while (p->column < t->total && p->column < LINE) put(p, "-");
    end_line(p);
    style_end(p, DIM);
}

static void put_op(printer *p, const table *t, const compare_op *o, bool first) {
    static const enum style tones[] = {
        [REPORT_UNTOLD] = PLAIN, [REPORT_FINE] = GREEN, [REPORT_NEAR] = YELLOW, [REPORT_BEYOND] = RED,
    };
    enum style row = first ? BOLD_RED : o->between.n_values ? PLAIN : DIM;
    char       cell[REPORT_CELL];
    style_begin(p, row);
    put(p, first ? "> " : "  ");
    for (unsigned c = 0; c < t->n; c++) {
        bool       toned = row == PLAIN && t->columns[c]->flags & REPORT_TONE;
        enum style s = toned ? tones[report_tone_of(o)] : PLAIN;
        style_begin(p, s);
        put_cell(p, t, c, t->columns[c]->cell(cell, o, DIGITS));
        style_end(p, s);
    }
    end_line(p);
    style_end(p, row);
}

/* What the words in the last column mean, of those that stand there. */
static void put_words(printer *p, const compare_report *r) {
    char about[REPORT_ABOUT];
    bool any = false;
    for (unsigned v = 0; v < REPORT_VERDICTS; v++) {
        if (!report_words[v].about || !report_has_verdict(r, v)) continue;
        if (!any) end_line(p);
        any = true;
        put_spaces(p, 2);
        put(p, report_words[v].word);
        put_to_column(p, 12);
        put(p, report_about(about, r, report_words[v].about));
        end_line(p);
    }
}

static void put_strange(printer *p, const compare_report *r) {
    unsigned n = 0;
    for (uint32_t i = 0; i < r->n_ops; i++) {
        const compare_op *o = &r->ops[i];
        if (!o->between.n_values || !o->between.n_strange || ++n > STRANGE) continue;
        if (n == 1) end_line(p);
        put(p, n == 1 ? "  infinite or no number on one side only: " : ", ");
        put_unsigned(p, o->between.n_strange);
        put(p, " of ");
        put(p, o->name ? o->name : "-");
    }
    if (n > STRANGE) put(p, ", ...");
    if (n) end_line(p);
}

/* Where most ops were not compared (a recording of a few activations), their rows say nothing that a
   note does not. */
static bool hides_untold(const compare_report *r) {
    uint32_t told = 0;
    for (uint32_t i = 0; i < r->n_ops; i++) told += r->ops[i].between.n_values > 0;
    return told > 0 && told < r->n_ops / 2;
}

static void put_ops(printer *p, const compare_report *r) {
    if (!r->n_ops) return;
    table t = measure_table(r);
    end_line(p);
    put_titles(p, &t);
    bool    hidden = hides_untold(r);
    int32_t before = -1; /* the layer of the last op that was put */
    for (uint32_t i = 0; i < r->n_ops; i++) {
        if (hidden && !r->ops[i].between.n_values) continue;
        int32_t layer = r->ops[i].layer;
        if (layer != before) put_rule(p, &t, layer);
        before = layer;
        put_op(p, &t, &r->ops[i], r->first >= 0 && i == (uint32_t)r->first);
    }
    style_begin(p, DIM);
    put_words(p, r);
    style_end(p, DIM);
    put_strange(p, r);
}

/* ---- what follows from it */

static void put_hypotheses(printer *p, const compare_report *r) {
    if (!r->n_hypotheses) return;
    char     number[REPORT_NUMBER];
    unsigned width = 10;
    for (uint32_t i = 0; i < r->n_hypotheses; i++) widen(&width, r->hypotheses[i].what, WIDEST_HYPOTHESIS);
    end_line(p);
    style_begin(p, DIM);
    put(p, "  hypothesis");
    put_to_column(p, width + 4);
    put_right(p, "NMSE", 7);
    end_line(p);
    style_end(p, DIM);
    for (uint32_t i = 0; i < r->n_hypotheses; i++) {
        const compare_hypothesis *h = &r->hypotheses[i];
        enum style                s = h->matches ? GREEN : PLAIN;
        style_begin(p, s);
        put_spaces(p, 2);
        put(p, h->what);
        put_to_column(p, width + 4);
        put_right(p, report_number(number, h->nmse, DIGITS), 7);
        put(p, h->matches ? "  matches" : "");
        end_line(p);
        style_end(p, s);
    }
}

static void put_conclusion(printer *p, const compare_report *r) {
    if (r->sentence || r->origin) end_line(p);
    put_styled(p, PLAIN, r->sentence);
    put_styled(p, PLAIN, r->origin);
    put_hypotheses(p, r);
    if (r->verdict) end_line(p);
    put_styled(p, BOLD, r->verdict);
}

/* ---- logits */

static void put_fact(printer *p, const char *what) {
    put_spaces(p, 2);
    put(p, what);
    put_to_column(p, 38);
}

static void put_candidate(printer *p, int32_t id, double logit, const char *text) {
    char number[REPORT_NUMBER];
    if (id < 0) return;
    snprintf(number, sizeof number, "%d", id);
    put_right(p, number, 6);
    put_right(p, report_number(number, logit, 6), 10);
    if (!text) return;
    put(p, "  \"");
    put_excerpt(p, text, 18);
    put(p, "\"");
}

static void put_best(printer *p, const compare_logits *l) {
    if (l->best_a[0] < 0 && l->best_b[0] < 0) return;
    end_line(p);
    style_begin(p, DIM);
    put(p, "  most likely after the last token");
    end_line(p);
    put_right(p, "A", 11);
    put_to_column(p, 5 + TOP_WIDTH);
    put_right(p, "B", 6);
    end_line(p);
    style_end(p, DIM);
    for (unsigned i = 0; i < COMPARE_TOP; i++) {
        if (l->best_a[i] < 0 && l->best_b[i] < 0) continue;
        enum style s = l->best_a[i] == l->best_b[i] ? PLAIN : YELLOW;
        style_begin(p, s);
        put_spaces(p, 2);
        put_unsigned(p, i + 1);
        put_to_column(p, 5);
        put_candidate(p, l->best_a[i], l->best_logit_a[i], l->best_text_a[i]);
        put_to_column(p, 5 + TOP_WIDTH);
        put_candidate(p, l->best_b[i], l->best_logit_b[i], l->best_text_b[i]);
        end_line(p);
        style_end(p, s);
    }
}

static void put_logits(printer *p, const compare_logits *l) {
    if (!l->n_tokens) return;
    char share[REPORT_NUMBER], what[48];
    end_line(p);
    put_fact(p, "same most likely successor");
    put_unsigned(p, l->same_best);
    put(p, " of ");
    put_unsigned(p, l->n_tokens);
    end_line(p);
    snprintf(what, sizeof what, "in common of the %d most likely", COMPARE_TOP);
    put_fact(p, what);
    put(p, report_number(share, 100 * l->top_overlap, 3));
    put(p, "%");
    end_line(p);
    put_fact(p, "divergence KL(A||B)");
    put_number(p, l->divergence);
    put(p, " nats, at most ");
    put_number(p, l->divergence_most);
    end_line(p);
    if (l->n_predicted) {
        put_fact(p, "perplexity");
        put(p, "A ");
        put_number(p, l->perplexity_a);
        put(p, ", B ");
        put_number(p, l->perplexity_b);
        put(p, ", over ");
        put_unsigned(p, l->n_predicted);
        put(p, l->n_predicted == 1 ? " token" : " tokens");
        end_line(p);
    }
    put_best(p, l);
}

/* ---- the end */

static void put_costly(printer *p, const compare_report *r) {
    uint32_t ops[COSTLY];
    uint32_t n = report_costly(r, ops, COSTLY);
    char     number[REPORT_NUMBER];
    if (!r->cost || !n) return;
    end_line(p);
    put_styled(p, PLAIN, "What costs most, by NMSE alone:");
    for (uint32_t i = 0; i < n; i++) {
        const compare_op *o = &r->ops[ops[i]];
        put_right(p, report_number(number, o->alone.nmse, DIGITS), 9);
        put_spaces(p, 2);
        put(p, o->name ? o->name : "-");
        put_to_column(p, 28);
        put(p, o->kind ? o->kind : "");
        put_spaces(p, 1);
        put(p, o->shape ? o->shape : "");
        end_line(p);
    }
}

static void put_outcome(printer *p, const compare_report *r) {
    static const enum style styles[] = {
        [COMPARE_SAME] = GREEN, [COMPARE_DIFFERENT] = BOLD_RED, [COMPARE_FAILED] = BOLD_RED,
    };
    end_line(p);
    put_styled(p, styles[r->outcome], report_outcome(r));
}

void report_text(const compare_report *r, void *stream, bool colour) {
    printer p = { .to = stream, .colour = colour };
    put_heading(&p, r);
    if (r->tokens_differ) {
        end_line(&p);
        put_styled(&p, PLAIN, r->tokens_differ);
    } else {
        put_ops(&p, r);
        put_conclusion(&p, r);
        put_logits(&p, &r->logits);
        put_costly(&p, r);
    }
    put_outcome(&p, r);
}
