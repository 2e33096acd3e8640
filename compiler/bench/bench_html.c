/* The report as a page: templates/bench.html.in. */
#include "bench_plot.h"
#include "bench_table.h"
#include "page.h"

#include <string.h>

extern const char bench_html_text[]; /* made by the build from templates/bench.html.in */

typedef struct page {
    arena              *memory;
    const bench_report *r;
} page;

static void put(FILE *to, const char *text) {
    page_put_text(to, text, UINT32_MAX);
}

/* ---- tables */

static void put_cells(const bench_table *t, const char *const *cells, const char *element, FILE *to) {
    fputs("<tr>", to);
    for (uint32_t c = 0; c < t->n_columns; c++) {
        fprintf(to, "<%s class=\"%s\"", element, t->columns[c].left ? "left" : "right");
        if (!cells) {
            fputs(" title=\"", to);
            put(to, t->columns[c].about);
            fputs("\"", to);
        }
        fputs(">", to);
        put(to, cells ? cells[c] : t->columns[c].title);
        fprintf(to, "</%s>", element);
    }
    fputs("</tr>\n", to);
}

static void put_table(const bench_table *t, FILE *to) {
    if (!t->n_rows) return;
    fputs("<section>\n<h2>", to);
    put(to, t->title);
    fputs("</h2>\n", to);
    if (t->note) {
        fputs("<p class=\"soft\">", to);
        put(to, t->note);
        fputs("</p>\n", to);
    }
    fputs("<div class=\"wide\">\n<table class=\"figures\">\n<thead>", to);
    put_cells(t, NULL, "th", to);
    fputs("</thead>\n<tbody>\n", to);
    for (uint32_t i = 0; i < t->n_rows; i++) put_cells(t, t->rows[i], "td", to);
    fputs("</tbody>\n</table>\n</div>\n</section>\n", to);
}

/* ---- slots */

static void put_title(const page *p, FILE *to) {
    put(to, p->r->name);
    fputs(": how fast", to);
}

static void put_name(const page *p, FILE *to) {
    put(to, p->r->name);
}

static void put_version(const page *p, FILE *to) {
    (void)p;
    put(to, COMPILATION_VERSION);
}

static void put_facts(const page *p, FILE *to) {
    fputs("<p>", to);
    put(to, bench_model_text(p->memory, p->r));
    fputs("</p>\n<p class=\"soft\">", to);
    put(to, bench_machine_text(p->memory, p->r));
    fputs("</p>\n", to);
}

static void put_tests(const page *p, FILE *to) {
    bench_table t = bench_table_tests(p->memory, p->r);
    put_table(&t, to);
}

static void put_limits(const page *p, FILE *to) {
    bench_table t = bench_table_limits(p->memory, p->r);
    put_table(&t, to);
}

static void put_variants(const page *p, FILE *to) {
    bench_table t = bench_table_variants(p->memory, p->r);
    put_table(&t, to);
}

static void put_legend(FILE *to) {
    static const char *const items[][2] = {
        { "dot", "generating" }, { "dot prefill", "reading a prompt" },
        { "dot interpreted", "generating, interpreted" },
        { "dot prefill interpreted", "reading a prompt, interpreted" },
    };
    fputs("<ul class=\"legend\">\n", to);
    for (size_t i = 0; i < ARRAY_LEN(items); i++)
        fprintf(to, "<li><svg viewBox=\"0 0 24 12\"><circle class=\"%s\" cx=\"12\" cy=\"6\" r=\"4\"/></svg>%s"
                "</li>\n", items[i][0], items[i][1]);
    fputs("</ul>\n", to);
}

static bool has_kernels(const bench_report *r, const bench_limits *limits) {
    for (uint32_t i = 0; i < r->n_rows; i++)
        if (r->rows[i]->limits == limits) return true;
    return false;
}

static void put_kernels(const page *p, FILE *to) {
    const bench_report *r = p->r;
    for (uint32_t l = 0; l < r->n_limits; l++) {
        uint32_t n = r->limits[l]->n_threads;
        if (!has_kernels(r, r->limits[l])) continue;
        fprintf(to, "<section class=\"chart\">\n<h2>Kernels under the roofline, %u thread%s</h2>\n", n,
                n == 1 ? "" : "s");
        put_legend(to);
        bench_plot(p->memory, r, r->limits[l], to);
        fputs("</section>\n", to);
        for (uint32_t i = 0; i < r->n_passes; i++) {
            if (r->passes[i]->limits != r->limits[l]) continue;
            bench_table t = bench_table_kernels(p->memory, r, r->passes[i]);
            put_table(&t, to);
        }
    }
}

static const struct {
    const char *name;
    void (*put)(const page *p, FILE *to);
} slots[] = {
    { "TITLE", put_title },       { "NAME", put_name },   { "VERSION", put_version },
    { "FACTS", put_facts },       { "TESTS", put_tests }, { "LIMITS", put_limits },
    { "VARIANTS", put_variants }, { "KERNELS", put_kernels },
};

static bool fill_slot(const void *subject, FILE *to, const char *name, size_t size) {
    for (size_t i = 0; i < ARRAY_LEN(slots); i++) {
        if (strlen(slots[i].name) != size || strncmp(slots[i].name, name, size)) continue;
        slots[i].put(subject, to);
        return true;
    }
    return false;
}

void bench_html(arena *a, const bench_report *r, FILE *to) {
    page p = { a, r };
    page_fill(to, bench_html_text, fill_slot, &p);
}
