/* A comparison as a page: templates/report.html.in, in which each @SLOT@ is filled by a function.
 * The page asks for nothing else, neither file nor network. Whatever a model or a recording holds
 * reaches it through page.h only. */
#include "report.h"

#include "page.h"

#include <stdio.h>
#include <string.h>

extern const char report_html_text[]; /* made by the build from templates/report.html.in */

enum {
    DIGITS = 3,
    EXCERPT = 600, /* characters of the text that is compared */
    FIRST_IDS = 24,
    COSTLY = 5,
};

/* ---- pieces */

static void put(FILE *to, const char *text) {
    page_put_text(to, text, UINT32_MAX);
}

static void put_number(FILE *to, double x, int digits) {
    char text[REPORT_NUMBER];
    fputs(report_number(text, x, digits), to);
}

/* As it is, but for what must be escaped: newlines are kept. */
static void put_lines(FILE *to, const char *text) {
    character c;
    while (character_take(&text, NULL, &c)) {
        if (c.code == '\n')
            fputc('\n', to);
        else
            page_put_char(to, &c);
    }
}

static void put_paragraph(FILE *to, const char *text) {
    if (!text) return;
    fputs("<p>", to);
    put(to, text);
    fputs("</p>\n", to);
}

/* ---- the top */

static void put_title(const compare_report *r, FILE *to) {
    put(to, r->name_a ? r->name_a : "A");
    fputs(" and ", to);
    put(to, r->name_b ? r->name_b : "B");
    fprintf(to, ": %s", report_outcome(r));
}

static void put_version(const compare_report *r, FILE *to) {
    put(to, r->version ? r->version : "ggufc");
}

static void put_outcome(const compare_report *r, FILE *to) {
    fputs(report_outcome(r), to);
}

static void put_verdict(const compare_report *r, FILE *to) {
    const char *headline = r->verdict ? r->verdict : r->sentence;
    if (r->tokens_differ) headline = "The tokens differ.";
    fputs("<h1>", to);
    put(to, headline ? headline : report_outcome(r));
    fputs("</h1>\n", to);
    if (r->tokens_differ) {
        fputs("<p class=\"lines\">", to);
        put_lines(to, r->tokens_differ);
        fputs("</p>\n", to);
        return;
    }
    if (r->sentence != headline) put_paragraph(to, r->sentence);
    put_paragraph(to, r->origin);
}

/* ---- what was compared */

static void put_side(FILE *to, const char *label, const char *name, const char *what) {
    if (!name) return;
    fprintf(to, "<dt>%s</dt><dd><code>", label);
    put(to, name);
    fputs("</code>", to);
    if (what) {
        fputs(" <span class=\"soft\">", to);
        put(to, what);
        fputs("</span>", to);
    }
    fputs("</dd>\n", to);
}

static void put_tokens(const compare_report *r, FILE *to) {
    fprintf(to, "<dt>tokens</dt><dd>%u", r->n_tokens);
    if (r->tokens && r->n_tokens) fputs(": <span class=\"mono soft\">", to);
    for (uint32_t i = 0; r->tokens && i < r->n_tokens && i < FIRST_IDS; i++)
        fprintf(to, "%s%d", i ? ", " : "", r->tokens[i]);
    if (r->tokens && r->n_tokens > FIRST_IDS) fputs(", …", to);
    if (r->tokens && r->n_tokens) fputs("</span>", to);
    fputs("</dd>\n", to);
}

static void put_facts(const compare_report *r, FILE *to) {
    put_side(to, "A", r->name_a, r->what_a);
    put_side(to, "B", r->name_b, r->what_b);
    put_side(to, "model", r->model, NULL);
    if (!r->tokens_differ) put_tokens(r, to);
    if (r->text && !r->tokens_differ) {
        fputs("<dt>text</dt><dd>“", to);
        page_put_text(to, r->text, EXCERPT);
        fputs("”</dd>\n", to);
    }
    for (uint32_t i = 0; i < r->n_notes; i++) {
        fputs("<dt>note</dt><dd>", to);
        put(to, r->notes[i]);
        fputs("</dd>\n", to);
    }
}

/* ---- the plot */

static void put_named(FILE *to, const char *name, double x) {
    fputs(name, to);
    put_number(to, x, DIGITS);
}

void report_put_html_op(void *stream, const compare_op *o, bool cost) {
    put(stream, o->name ? o->name : "-");
    fputs(" (", stream);
    put(stream, o->kind ? o->kind : "-");
    fputs(" ", stream);
    put(stream, o->shape ? o->shape : "-");
    fputs(")", stream);
    put_named(stream, ": NMSE ", o->between.nmse);
    if (!cost) put_named(stream, ", tolerance ", o->tolerance);
    if (o->alone.n_values) put_named(stream, ", alone ", o->alone.nmse);
    if (!cost) fprintf(stream, ": %s", report_words[report_verdict_of(o)].word);
}

static void put_legend_item(FILE *to, const char *symbol, const char *what) {
    fprintf(to, "<li><svg viewBox=\"0 0 24 12\">%s</svg>%s</li>\n", symbol, what);
}

static void put_legend(const compare_report *r, FILE *to) {
    static const report_column alone = { .flags = REPORT_ALONE };
    char about[REPORT_ABOUT];
    fputs("<ul class=\"legend\">\n", to);
    put_legend_item(to, "<circle class=\"dot\" cx=\"12\" cy=\"6\" r=\"4\"/>", "NMSE of B against A");
    for (unsigned v = 0; v < REPORT_VERDICTS; v++) {
        char symbol[80];
        if (!report_words[v].about || !report_has_verdict(r, v)) continue;
        snprintf(symbol, sizeof symbol, "<circle class=\"dot %s\" cx=\"12\" cy=\"6\" r=\"4\"/>",
                 report_words[v].word);
        put_legend_item(to, symbol, report_words[v].word);
    }
    if (report_has_column(r, &alone))
        put_legend_item(to, "<path class=\"alone\" d=\"M12 2l4 4-4 4-4-4z\"/>",
                        report_about(about, r, "alone: @ against what its own inputs imply"));
    if (!r->cost)
        put_legend_item(to, "<path class=\"allowed\" d=\"M0 2h24v10h-24z\"/>"
                            "<path class=\"tolerance\" d=\"M0 2h24\"/>", "tolerance");
    fputs("</ul>\n", to);
}

static void put_plot(const compare_report *r, FILE *to) {
    if (!r->n_ops || r->tokens_differ) return;
    fputs("<section class=\"chart\">\n<h2>Error by layer</h2>\n", to);
    put_legend(r, to);
    report_plot(r, to);
    fputs("<p class=\"readout\">Each dot is an op, in order of execution; it leads to its line in "
          "the table.</p>\n</section>\n", to);
}

/* ---- tables */

static void put_hypotheses(const compare_report *r, FILE *to) {
    char title[REPORT_ABOUT];
    if (!r->n_hypotheses || r->tokens_differ) return;
    fprintf(to, "<section>\n<h2>Hypotheses</h2>\n<table>\n<thead><tr><th class=\"left\">%s</th>"
            "<th>NMSE</th><th class=\"left\"></th></tr></thead>\n<tbody>\n",
            report_about(title, r, "what @ may do"));
    for (uint32_t i = 0; i < r->n_hypotheses; i++) {
        const compare_hypothesis *h = &r->hypotheses[i];
        fprintf(to, "<tr%s><td class=\"left what\">", h->matches ? " class=\"matches\"" : "");
        put(to, h->what ? h->what : "-");
        fputs("</td><td>", to);
        put_number(to, h->nmse, DIGITS);
        fprintf(to, "</td><td class=\"left\">%s</td></tr>\n", h->matches ? "matches" : "");
    }
    fputs("</tbody>\n</table>\n</section>\n", to);
}

static void put_candidate(FILE *to, const char *side, int32_t id, double logit, const char *text) {
    if (id < 0) {
        fputs("<td></td><td></td><td></td>", to);
        return;
    }
    fprintf(to, "<td class=\"%s\">%d</td><td>", side, id);
    put_number(to, logit, 6);
    fputs("</td><td class=\"left\">", to);
    if (text) {
        fputs("“", to);
        page_put_text(to, text, 24);
        fputs("”", to);
    }
    fputs("</td>", to);
}

static void put_best(const compare_logits *l, FILE *to) {
    fputs("<table class=\"best\">\n<caption>Most likely after the last token</caption>\n<thead><tr>"
          "<th></th><th>A</th><th>logit</th><th></th><th class=\"b\">B</th><th>logit</th><th></th>"
          "</tr></thead>\n<tbody>\n", to);
    for (unsigned i = 0; i < COMPARE_TOP; i++) {
        if (l->best_a[i] < 0 && l->best_b[i] < 0) continue;
        fprintf(to, "<tr%s><td class=\"left\">%u</td>",
                l->best_a[i] != l->best_b[i] ? " class=\"apart\"" : "", i + 1);
        put_candidate(to, "a", l->best_a[i], l->best_logit_a[i], l->best_text_a[i]);
        put_candidate(to, "b", l->best_b[i], l->best_logit_b[i], l->best_text_b[i]);
        fputs("</tr>\n", to);
    }
    fputs("</tbody>\n</table>\n", to);
}

static void put_logits(const compare_report *r, FILE *to) {
    const compare_logits *l = &r->logits;
    if (!l->n_tokens || r->tokens_differ) return;
    fprintf(to, "<section>\n<h2>Logits</h2>\n<dl>\n"
            "<dt>same most likely successor</dt><dd>%u of %u</dd>\n"
            "<dt>in common of the %d most likely</dt><dd>", l->same_best, l->n_tokens, COMPARE_TOP);
    put_number(to, 100 * l->top_overlap, DIGITS);
    fputs("%</dd>\n<dt>divergence KL(A‖B)</dt><dd>", to);
    put_number(to, l->divergence, 6);
    fputs(" nats, at most ", to);
    put_number(to, l->divergence_most, 6);
    fputs("</dd>\n", to);
    if (l->n_predicted) {
        fputs("<dt>perplexity</dt><dd>A ", to);
        put_number(to, l->perplexity_a, 6);
        fputs(", B ", to);
        put_number(to, l->perplexity_b, 6);
        fprintf(to, ", over %u token%s</dd>\n", l->n_predicted, l->n_predicted == 1 ? "" : "s");
    }
    fputs("</dl>\n", to);
    put_best(l, to);
    fputs("</section>\n", to);
}

static void put_costly(const compare_report *r, FILE *to) {
    uint32_t ops[COSTLY], n = report_costly(r, ops, COSTLY);
    if (!r->cost || !n || r->tokens_differ) return;
    fputs("<section>\n<h2>What costs most</h2>\n<table class=\"costly\">\n<thead><tr>"
          "<th class=\"left\">op</th><th class=\"left\">kind</th><th>NMSE alone</th></tr></thead>\n"
          "<tbody>\n", to);
    for (uint32_t i = 0; i < n; i++) {
        const compare_op *o = &r->ops[ops[i]];
        fputs("<tr><td class=\"left\">", to);
        put(to, o->name ? o->name : "-");
        fputs("</td><td class=\"left\">", to);
        put(to, o->kind ? o->kind : "-");
        fputs("</td><td>", to);
        put_number(to, o->alone.nmse, DIGITS);
        fputs("</td></tr>\n", to);
    }
    fputs("</tbody>\n</table>\n</section>\n", to);
}

/* ---- the table of ops */

static void put_titles(const compare_report *r, FILE *to) {
    char about[REPORT_ABOUT];
    fputs("<thead><tr>", to);
    for (unsigned c = 0; c < REPORT_COLUMNS; c++) {
        const report_column *column = &report_columns[c];
        if (!report_has_column(r, column)) continue;
        fprintf(to, "<th%s title=\"", column->flags & REPORT_LEFT ? " class=\"left\"" : "");
        put(to, report_about(about, r, column->about));
        fputs("\">", to);
        put(to, column->title);
        fputs("</th>", to);
    }
    fputs("</tr></thead>\n", to);
}

static void put_op(const compare_report *r, uint32_t i, FILE *to) {
    static const char *const tones[] = {
        [REPORT_UNTOLD] = "", [REPORT_FINE] = "fine", [REPORT_NEAR] = "near", [REPORT_BEYOND] = "far",
    };
    const compare_op *o = &r->ops[i];
    bool              first = r->first >= 0 && i == (uint32_t)r->first;
    char              cell[REPORT_CELL];
    fprintf(to, "<tr id=\"op-%u\"%s>", i,
            first ? " class=\"first\"" : o->between.n_values ? "" : " class=\"none\"");
    for (unsigned c = 0; c < REPORT_COLUMNS; c++) {
        const report_column *column = &report_columns[c];
        if (!report_has_column(r, column)) continue;
        fprintf(to, "<td class=\"%s %s\">", column->flags & REPORT_LEFT ? "left" : "right",
                column->flags & REPORT_TONE ? tones[report_tone_of(o)] : "");
        put(to, column->cell(cell, o, DIGITS));
        fputs("</td>", to);
    }
    fputs("</tr>\n", to);
}

/* Begins a layer, or what is outside the layers, with the op `i`. */
static void put_group(const compare_report *r, uint32_t i, FILE *to) {
    unsigned n_columns = 0;
    for (unsigned c = 0; c < REPORT_COLUMNS; c++)
        n_columns += report_has_column(r, &report_columns[c]);
    fprintf(to, "%s<tbody>\n<tr><th colspan=\"%u\">", i ? "</tbody>\n" : "", n_columns);
    if (r->ops[i].layer >= 0)
        fprintf(to, "layer %d", r->ops[i].layer);
    else
        fputs(i ? "after the layers" : "before the layers", to);
    fputs("</th></tr>\n", to);
}

static void put_words(const compare_report *r, FILE *to) {
    char about[REPORT_ABOUT];
    fputs("<dl class=\"words\">\n", to);
    for (unsigned v = 0; v < REPORT_VERDICTS; v++) {
        if (!report_words[v].about || !report_has_verdict(r, v)) continue;
        fprintf(to, "<dt>%s</dt><dd>%s</dd>\n", report_words[v].word,
                report_about(about, r, report_words[v].about));
    }
    fputs("</dl>\n", to);
}

static void put_ops(const compare_report *r, FILE *to) {
    if (!r->n_ops || r->tokens_differ) return;
    fputs("<section>\n<h2>Every op, in order of execution</h2>\n<div class=\"wide\">\n"
          "<table class=\"ops\">\n", to);
    put_titles(r, to);
    for (uint32_t i = 0; i < r->n_ops; i++) {
        if (!i || r->ops[i].layer != r->ops[i - 1].layer) put_group(r, i, to);
        put_op(r, i, to);
    }
    fputs("</tbody>\n</table>\n</div>\n", to);
    put_words(r, to);
    fputs("</section>\n", to);
}

/* ---- the page */

static const struct {
    const char *name;
    void (*put)(const compare_report *r, FILE *to);
} slots[] = {
    { "TITLE", put_title },     { "VERSION", put_version },       { "OUTCOME", put_outcome },
    { "VERDICT", put_verdict }, { "FACTS", put_facts },           { "PLOT", put_plot },
    { "LOGITS", put_logits },   { "HYPOTHESES", put_hypotheses }, { "COSTLY", put_costly },
    { "OPS", put_ops },
};

static bool fill_slot(const void *subject, FILE *to, const char *name, size_t size) {
    for (size_t i = 0; i < ARRAY_LEN(slots); i++) {
        if (strlen(slots[i].name) != size || strncmp(slots[i].name, name, size)) continue;
        slots[i].put(subject, to);
        return true;
    }
    return false;
}

void report_html(const compare_report *r, void *stream) {
    page_fill(stream, report_html_text, fill_slot, r);
}
