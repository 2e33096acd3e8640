/* Tables of Markdown, padded so that they are tables in a terminal too. */
#include "bench_table.h"

#include "character.h"

#include <string.h>

static unsigned columns_of(const char *text) {
    character c;
    char      shown[CHARACTER_SHOWN];
    unsigned  n = 0;
    while (character_take(&text, NULL, &c)) n += character_show(shown, &c);
    return n;
}

/* What a model's file holds may be anything: a bar would end its cell. */
static void put(FILE *to, const char *text) {
    character c;
    char      shown[CHARACTER_SHOWN];
    while (character_take(&text, NULL, &c)) {
        character_show(shown, &c);
        fprintf(to, "%s%s", c.code == '|' ? "\\" : "", shown);
    }
}

static void put_padded(FILE *to, const char *text, unsigned width, bool left) {
    unsigned n = columns_of(text), pad = n < width ? width - n : 0;
    if (!left) fprintf(to, "%*s", (int)pad, "");
    put(to, text);
    if (left) fprintf(to, "%*s", (int)pad, "");
}

static void put_rule(FILE *to, unsigned width, bool left) {
    for (unsigned i = 0; i < width; i++) fputc(!left && i == width - 1 ? ':' : '-', to);
}

static void put_table(const bench_table *t, FILE *to) {
    unsigned widths[BENCH_MOST_COLUMNS];
    if (!t->n_rows) return;
    fprintf(to, "\n### %s\n\n", t->title);
    if (t->note) fprintf(to, "%s\n\n", t->note);
    for (uint32_t c = 0; c < t->n_columns; c++) {
        widths[c] = columns_of(t->columns[c].title);
        for (uint32_t i = 0; i < t->n_rows; i++)
            if (columns_of(t->rows[i][c]) > widths[c]) widths[c] = columns_of(t->rows[i][c]);
    }
    for (int line = -2; line < (int)t->n_rows; line++) {
        for (uint32_t c = 0; c < t->n_columns; c++) {
            fputs("| ", to);
            bool left = t->columns[c].left;
            if (line == -1)
                put_rule(to, widths[c], left);
            else
                put_padded(to, line < 0 ? t->columns[c].title : t->rows[line][c], widths[c], left);
            fputc(' ', to);
        }
        fputs("|\n", to);
    }
}

void bench_text(arena *a, const bench_report *r, FILE *to) {
    put(to, bench_model_text(a, r));
    fputs("  \n", to);
    put(to, bench_machine_text(a, r));
    fputs("\n", to);
    bench_table limits = bench_table_limits(a, r), tests = bench_table_tests(a, r);
    bench_table variants = bench_table_variants(a, r);
    put_table(&limits, to);
    put_table(&tests, to);
    put_table(&variants, to);
    for (uint32_t i = 0; i < r->n_passes; i++) {
        bench_table kernels = bench_table_kernels(a, r, r->passes[i]);
        put_table(&kernels, to);
    }
}
