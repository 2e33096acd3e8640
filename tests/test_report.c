/* What is written of a comparison, as text, JSON and a page: the lines that people look for, that
 * machines can read it whatever it holds, and that nothing in it drives a terminal or a browser. */
#include "report.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <float.h>
#include <stdio.h>
#include <stdlib.h>

#include "report_fixture.h"
#include "strict_html.h"
#include "strict_json.h"

enum form { TEXT, COLOURED, JSON, HTML, FORMS };

/* What is written of `r`; the caller frees it. */
static char *render(const compare_report *r, enum form form) {
    static char  *text; /* static: GCC 12 at -O3 takes what is returned for a pointer to it */
    static size_t size;
    FILE         *f = open_memstream(&text, &size);
    assert_non_null(f);
    switch (form) {
    case TEXT:
    case COLOURED: report_text(r, f, form == COLOURED); break;
    case JSON: report_json(r, f); break;
    case HTML:
    case FORMS: report_html(r, f); break;
    }
    assert_int_equal(fclose(f), 0);
    assert_int_equal(strlen(text), size);
    return text;
}

/* ---- looking */

static unsigned count(const char *text, const char *what) {
    unsigned n = 0;
    for (; (text = strstr(text, what)); text += strlen(what)) n++;
    return n;
}

static void has(const char *text, const char *what) {
    if (!strstr(text, what)) fail_msg("'%s' is not in:\n%s", what, text);
}

static void lacks(const char *text, const char *what) {
    if (strstr(text, what)) fail_msg("'%s' is in:\n%s", what, text);
}

/* All of them, in this order. */
static void has_in_order(const char *text, const char *const *what) {
    for (const char *at = text; *what; what++) {
        const char *next = strstr(at, *what);
        if (!next) fail_msg("'%s' is not where it should be in:\n%s", *what, text);
        at = next + strlen(*what);
    }
}

static void ends_with_line(const char *text, const char *line) {
    size_t n = strlen(text), size = strlen(line);
    assert_true(n > size + 1);
    assert_string_equal(text + n - 1, "\n");
    if (strncmp(text + n - 1 - size, line, size) || text[n - 2 - size] != '\n')
        fail_msg("'%s' does not end:\n%s", line, text);
}

/* The table's line of an op, without what is before it. */
static void line_of(const char *text, const char *op, char *line, size_t size) {
    char name[64];
    snprintf(name, sizeof name, " %s ", op);
    const char *at = strstr(text, name);
    if (!at) fail_msg("no line of %s in:\n%s", op, text);
    while (at > text && at[-1] != '\n') at--;
    snprintf(line, size, "%.*s", (int)strcspn(at, "\n"), at);
}

static void line_has(const char *text, const char *op, const char *what) {
    char line[256];
    line_of(text, op, line, sizeof line);
    has(line, what);
}

static void is_json(const char *text) {
    const char *error = json_error(text);
    if (error) fail_msg("no JSON from here on: %.60s", error);
}

static void json_is(const char *text, const char *path, const char *expected) {
    size_t      size;
    const char *found = json_find(text, path, &size);
    if (!found) fail_msg("there is no %s in:\n%s", path, text);
    if (strlen(expected) != size || strncmp(found, expected, size))
        fail_msg("%s is %.*s, not %s", path, (int)size, found, expected);
}

/* Well formed, and it leads to itself only. */
static void is_page(const char *text) {
    const char *where;
    const char *error = html_error(text, &where);
    if (error) fail_msg("%s: %.80s", error, where);
    static const char *const outside[] = { "http:", "https:", "url(", "@import", "<link", "<img" };
    for (size_t i = 0; i < ARRAY_LEN(outside); i++) lacks(text, outside[i]);
    assert_int_equal(count(text, "<script"), 1);
    for (const char *at = text; (at = strstr(at, "href=\"#")); at++) {
        char target[40];
        snprintf(target, sizeof target, "id=\"%.*s\"", (int)strcspn(at + 7, "\""), at + 7);
        has(text, target);
    }
}

/* Reports that every test may make use of live in one arena. */
static arena *memory;

static int begin(void **state) {
    (void)state;
    memory = arena_new();
    return 0;
}

static int end(void **state) {
    (void)state;
    arena_free(memory);
    return 0;
}

/* ---- text */

static void tell_same(void **state) {
    (void)state;
    compare_report r = fixture_same(memory, 2);
    char          *text = render(&r, TEXT);
    has_in_order(text, (const char *[]){
        "A       interpreted:storyteller-q8_0.gguf  (model, interpreted)\n",
        "B       storyteller-q8_0.gguf  (model, compiled for x86_64 avx512-vnni)\n",
        "model   storyteller-q8_0.gguf\n", "tokens  12: 1, 403,", "text    \"Once upon a time, ",
        "tol.", "verdict\n", "embd", "-- layer 0 -----", "attn_norm-0", "l_out-0", "-- layer 1 -----",
        "l_out-1", "result_norm", "result_output", "No op is beyond its tolerance.\n", "11 of 12\n",
        "95%\n",
        "1.2345e-5 nats, at most 6.5e-5\n", "A 3.21012, B 3.21055, over 11 tokens\n",
        "1     417     14.25  \" there\"", "417      14.2  \" there\"\n", "\"\\n\"", NULL });
    line_has(text, "Qcur-1.rope", "rope      [32, 8]   100 ");
    line_has(text, "Qcur-1.rope", "[154]@6");
    line_has(text, "Qcur-1.rope", " ok");
    lacks(text, "\033");
    lacks(text, "> ");
    lacks(text, "BEYOND");
    ends_with_line(text, "same");
    free(text);
}

static void tell_different(void **state) {
    (void)state;
    compare_report r = fixture_different(memory, 4);
    char          *text = render(&r, TEXT);
    has_in_order(text, (const char *[]){
        "note    B has only the last token of 2 ops\n", "\n> Vcur-1 ", "BEYOND    further from A",
        "inherited as far, but right", "Vcur-1 (matmul, [128]) is the first op beyond",
        "The error is made there", "hypothesis", "NMSE\n", "read transposed           2\n",
        "quants are read as unsigned                4.2e-13  matches\n", "swapped        1\n",
        "Vcur-1: matches when the quants", "2 of 12", NULL });
    assert_int_equal(count(text, "\n> "), 1);
    line_has(text, "Vcur-1", " 12.3 ");
    line_has(text, "Vcur-1", " BEYOND");
    line_has(text, "Vcur-0", " ok");
    line_has(text, "kqv_out-1", " inherited");
    line_has(text, "ffn_swiglu-2", "[512]       -      -      - -             -      -      -     - -");
    ends_with_line(text, "different");
    for (const char *at = text; *at; at += strcspn(at, "\n") + 1)
        if (strcspn(at, "\n") > 100) fail_msg("too wide: %.*s", (int)strcspn(at, "\n"), at);
    free(text);
}

/* Of a recording of a few activations there are only their lines, below those of their layers. */
static void tell_a_few(void **state) {
    (void)state;
    static const char *const lines[] = { "-- layer 1 ---", "l_out-1 ", "\n  ------", "result_output ", NULL };
    compare_report r = fixture_same(memory, 3);
    for (uint32_t i = 0; i < r.n_ops; i++) {
        const char *name = r.ops[i].name;
        if (strcmp(name, "l_out-1") && strcmp(name, "result_output")) r.ops[i].between.n_values = 0;
    }
    char *text = render(&r, TEXT);
    has_in_order(text, lines);
    lacks(text, "layer 0");
    lacks(text, "l_out-0");
    free(text);
}

/* Where the inputs that ops were computed alone from are A's, nothing says that they are B's. */
static void tell_suspect(void **state) {
    (void)state;
    static const enum form forms[] = { TEXT, HTML };
    compare_report r = fixture_different(memory, 4);
    r.suspect = "A";
    r.origin = NULL;
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        char *text = render(&r, forms[i]);
        has(text, "right for the inputs that A gave it");
        lacks(text, "inputs that B");
        if (forms[i] == HTML) {
            has(text, "NMSE of A against what its own inputs imply");
            has(text, "alone: A against what its own inputs imply");
            has(text, "what A may do");
        }
        free(text);
    }
    char *text = render(&r, JSON);
    json_is(text, "suspect", "\"A\"");
    free(text);
}

static void tell_costs(void **state) {
    (void)state;
    compare_report r = fixture_cost(memory, 4);
    char          *text = render(&r, TEXT);
    lacks(text, "tol.");
    lacks(text, "verdict");
    has(text, "alone\n");
    has_in_order(text, (const char *[]){
        "What costs most, by NMSE alone:\n", "0.0022  Vcur-0", "matmul [128]\n", "Vcur-1", "Vcur-2", "Vcur-3", "result_output", "\n\nsame\n", NULL });
    free(text);
}

static void tell_of_tokens_only(void **state) {
    (void)state;
    compare_report r = fixture_different(memory, 1);
    r.tokens_differ = "The tokens differ at position 3:\nA: 261 378 31\nB: 262 378 31";
    r.outcome = COMPARE_FAILED;
    char *text = render(&r, TEXT);
    has(text, "\nThe tokens differ at position 3:\nA: 261 378 31\nB: 262 378 31\n\nfailed\n");
    lacks(text, "Vcur");
    lacks(text, "nats");
    lacks(text, "tokens  ");
    ends_with_line(text, "failed");
    free(text);
    text = render(&r, HTML);
    is_page(text);
    has(text, "A: 261 378 31\nB: 262 378 31</p>");
    lacks(text, "Vcur");
    lacks(text, "<table");
    lacks(text, "class=\"plot\"");
    free(text);
}

/* Colours add escapes and nothing else. */
static void colour_only_when_asked(void **state) {
    (void)state;
    compare_report r = fixture_different(memory, 2);
    r.ops[2].between.nmse = 0.9 * r.ops[2].tolerance;
    char *plain = render(&r, TEXT), *text = render(&r, COLOURED), *to = text;
    has(text, "\033[32mok\033[0m");
    has(text, "\033[33mok\033[0m");
    has(text, "\033[1;31m> Vcur-1");
    has(text, "\033[31minherited\033[0m");
    for (const char *from = text; *from;) {
        if (*from == '\033') from += strcspn(from, "m") + 1;
        else *to++ = *from++;
    }
    *to = '\0';
    assert_string_equal(plain, text);
    free(plain);
    free(text);
}

/* ---- JSON */

static void put_all_in_json(void **state) {
    (void)state;
    static const char *const paths[] = {
        "name_a", "name_b", "what_a", "what_b", "model", "version", "slack", "cost", "suspect",
        "tokens.11", "n_tokens", "text", "tokens_differ", "notes.0", "ops.0.name", "ops.0.kind", "ops.0.shape",
        "ops.0.layer", "ops.0.between.n_values", "ops.0.between.n_tokens", "ops.0.between.match",
        "ops.0.between.mean", "ops.0.between.most", "ops.0.between.most_index",
        "ops.0.between.most_token", "ops.0.between.most_a", "ops.0.between.most_b",
        "ops.0.between.nmse", "ops.0.between.cosine", "ops.0.between.n_strange", "ops.0.tolerance",
        "ops.0.beyond", "ops.0.alone.nmse", "ops.0.alone_tolerance", "ops.0.alone_beyond", "first",
        "sentence", "origin", "hypotheses.3.what", "hypotheses.3.nmse", "hypotheses.3.matches",
        "verdict", "logits.n_tokens", "logits.same_best", "logits.top_overlap", "logits.divergence",
        "logits.divergence_most", "logits.n_predicted", "logits.perplexity_a",
        "logits.perplexity_b", "logits.best_a.4", "logits.best_b.4", "logits.best_logit_a.4",
        "logits.best_logit_b.4", "logits.best_text_a.4", "logits.best_text_b.4", "outcome",
        "exit_status",
    };
    compare_report r = fixture_different(memory, 1);
    char          *text = render(&r, JSON);
    is_json(text);
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        size_t size;
        if (!json_find(text, paths[i], &size)) fail_msg("there is no %s in:\n%s", paths[i], text);
    }
    free(text);
}

static void tell_machines(void **state) {
    (void)state;
    compare_report r = fixture_different(memory, 2);
    char          *text = render(&r, JSON);
    json_is(text, "name_b", "\"dumps/\"");
    json_is(text, "tokens.1", "403");
    json_is(text, "tokens_differ", "null");
    json_is(text, "first", "19");
    json_is(text, "ops.19.name", "\"Vcur-1\"");
    json_is(text, "ops.19.layer", "1");
    json_is(text, "ops.19.beyond", "true");
    json_is(text, "ops.13.between", "null");
    json_is(text, "ops.13.alone", "null");
    json_is(text, "hypotheses.2.matches", "true");
    json_is(text, "logits.best_text_a.4", "\"\\u000a\"");
    json_is(text, "logits.perplexity_b", "411.75");
    json_is(text, "outcome", "\"different\"");
    json_is(text, "exit_status", "1");
    free(text);
}

static void keep_numbers_exact(void **state) {
    (void)state;
    static const double numbers[] = { 0.1,     1 / 3.0, DBL_MAX,      DBL_TRUE_MIN,
                                      -1e-300, 1e22,    123456789.125 };
    compare_report      r = fixture_same(memory, 0);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        size_t size;
        r.slack = numbers[i];
        char *text = render(&r, JSON);
        is_json(text);
        const char *found = json_find(text, "slack", &size);
        assert_non_null(found);
        if (strtod(found, NULL) != numbers[i])
            fail_msg("%.17g became %.*s", numbers[i], (int)size, found);
        free(text);
    }
}

static void leave_out_what_is_not_there(void **state) {
    (void)state;
    compare_report r = { .first = -1, .outcome = COMPARE_FAILED };
    char          *text = render(&r, JSON);
    is_json(text);
    json_is(text, "name_a", "null");
    json_is(text, "ops", "[]");
    json_is(text, "logits", "null");
    json_is(text, "exit_status", "2");
    free(text);
    text = render(&r, TEXT);
    ends_with_line(text, "failed");
    free(text);
    text = render(&r, HTML);
    is_page(text);
    free(text);

    r = fixture_same(memory, 1);
    r.logits.n_predicted = 0;
    text = render(&r, JSON);
    json_is(text, "logits.perplexity_a", "null");
    free(text);
    text = render(&r, TEXT);
    lacks(text, "perplexity");
    free(text);
}

/* ---- the page */

static void has_no_slots(const char *text) {
    for (const char *at = text; (at = strchr(at, '@')); at++) {
        size_t n = strspn(at + 1, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        if (n && at[n + 1] == '@') fail_msg("a slot is left: %.20s", at);
    }
}

static void make_pages(void **state) {
    (void)state;
    const compare_report reports[] = {
        fixture_same(memory, 1), fixture_different(memory, 4), fixture_different(memory, 90),
        fixture_cost(memory, 4), fixture_tokens_differ(memory),
    };
    for (size_t i = 0; i < ARRAY_LEN(reports); i++) {
        char *text = render(&reports[i], HTML);
        is_page(text);
        has_no_slots(text);
        free(text);
    }
}

static void show_the_first(void **state) {
    (void)state;
    compare_report r = fixture_different(memory, 4);
    char          *text = render(&r, HTML);
    has_in_order(text, (const char *[]){
        "<body class=\"different\">", "<h1>Vcur-1: matches when the quants", "dumps/",
        "<svg class=\"plot\"", "class=\"tolerance\"", "Vcur-1 (matmul [128]): NMSE 0.0534", "</svg>",
        "<tr class=\"matches\">", "<tr id=\"op-19\" class=\"first\">", NULL });
    assert_int_equal(count(text, "class=\"ring\""), 1);
    assert_int_equal(count(text, "<tr id=\"op-"), r.n_ops);
    assert_int_equal(count(text, "data-x="), r.n_ops - 4); /* of each layer an op is not compared */
    for (int l = 0; l < 4; l++) {
        char number[40];
        snprintf(number, sizeof number, "text-anchor=\"middle\">%d</text>", l);
        assert_int_equal(count(text, number), 1);
    }
    free(text);
}

/* What has no logarithm stands at the edges, which say so. */
static void draw_what_has_no_logarithm(void **state) {
    (void)state;
    compare_report r = fixture_same(memory, 1);
    r.ops[1].between.nmse = (double)INFINITY;
    r.ops[2].between.nmse = (double)NAN;
    char *text = render(&r, HTML);
    has(text, ">∞, nan</text>");
    has(text, ">0</text>");
    assert_int_equal(count(text, "cy=\"36.0\""), 2);
    assert_int_equal(count(text, "cy=\"362.0\""), 1);
    has(text, "attn_norm-0 (rms_norm [256]): NMSE inf, ");
    free(text);
}

static void judge_no_costs(void **state) {
    (void)state;
    compare_report r = fixture_cost(memory, 2);
    char          *text = render(&r, HTML);
    lacks(text, ">verdict</th>");
    lacks(text, ">tol.</th>");
    lacks(text, ", tolerance ");
    has(text, "What costs most");
    has(text, "<td>0.00224</td>");
    free(text);
}

/* ---- anything */

#define NASTY \
    "\033[2J\a\r\b\x7f\xc2\x9b\xff\xc0\xaf\xed\xa0\x80\xf4\x90\x80\x80\xe0\x80\xaf\xe2\x80\xae" \
    "</code><script>x</script>\"'&amp;&#x3c;\\\"\n\t@PLOT@ %s%n \xe2\x82\xac\xf0\x9f\x98\x80 http\xe2"

static void make_nasty(compare_report *r) {
    static const char *notes[] = { NASTY, "" };
    r->name_a = r->name_b = r->what_a = r->what_b = r->model = r->version = r->text = NASTY;
    r->sentence = r->origin = r->verdict = NASTY;
    r->notes = notes;
    r->n_notes = ARRAY_LEN(notes);
    r->hypotheses = ARENA_ARRAY(memory, compare_hypothesis, 1);
    r->hypotheses[0] = (compare_hypothesis){ .what = NASTY, .matches = true };
    r->n_hypotheses = 1;
    for (uint32_t i = 0; i < r->n_ops; i++)
        r->ops[i].name = r->ops[i].kind = r->ops[i].shape = NASTY;
    for (int i = 0; i < COMPARE_TOP; i++) r->logits.best_text_a[i] = r->logits.best_text_b[i] = NASTY;
}

/* Nothing in it does anything to a terminal, and it is UTF-8. */
static void is_harmless(const char *text) {
    assert_true(json_is_utf8(text));
    for (const char *c = text; *c; c++)
        if (((unsigned char)*c < 0x20 && *c != '\n') || *c == 0x7f)
            fail_msg("byte %02x before: %.40s", *c, c + 1);
    lacks(text, "\xc2\x9b");
    lacks(text, "\xe2\x80\xae");
}

static void stand_nasty_text(void **state) {
    (void)state;
    compare_report reports[] = {
        fixture_different(memory, 1), fixture_cost(memory, 1), fixture_tokens_differ(memory),
    };
    reports[2].tokens_differ = NASTY;
    for (size_t i = 0; i < ARRAY_LEN(reports); i++) {
        make_nasty(&reports[i]);
        for (enum form form = TEXT; form < FORMS; form++) {
            char *text = render(&reports[i], form);
            if (form != COLOURED) is_harmless(text);
            if (form == JSON) is_json(text);
            if (form == HTML) is_page(text);
            free(text);
        }
    }
}

static void escape_nasty_text(void **state) {
    (void)state;
    compare_report r = fixture_different(memory, 1);
    make_nasty(&r);
    char *text = render(&r, TEXT);
    has(text, "\\x1B[2J\\x07\\x0D\\x08\\x7F\\xC2\\x9B\\xFF\\xC0\\xAF\\xED\\xA0\\x80\\xF4\\x90\\x80\\x80"
              "\\xE0\\x80\\xAF\\xE2\\x80\\xAE</code>");
    has(text, "\xe2\x82\xac\xf0\x9f\x98\x80 http\\xE2");
    free(text);
    text = render(&r, JSON);
    json_is(text, "model", "\"\\u001b[2J\\u0007\\u000d\\u0008\\u007f\\u009b\\ufffd\\ufffd\\ufffd\\ufffd"
            "\\ufffd\\ufffd\\ufffd\\ufffd\\ufffd\\ufffd\\ufffd\\ufffd\\ufffd\\u202e</code>"
            "<script>x</script>\\\"'&amp;&#x3c;\\\\\\\"\\u000a\\u0009@PLOT@ %s%n \xe2\x82\xac\xf0\x9f\x98\x80 http\\ufffd\"");
    free(text);
    text = render(&r, HTML);
    has(text, "&lt;/code&gt;&lt;script&gt;x&lt;/script&gt;&quot;&#39;&amp;amp;&amp;#x3c;\\&quot;");
    lacks(text, "</code><script>");
    free(text);
}

static void set_numbers(compare_distance *d, double x) {
    d->n_values = UINT64_MAX;
    d->most_index = d->n_strange = UINT64_MAX;
    d->n_tokens = d->most_token = UINT32_MAX;
    d->match = d->mean = d->most = d->most_a = d->most_b = d->nmse = d->cosine = x;
}

static void set_all_numbers(compare_report *r, double x) {
    r->slack = x;
    for (uint32_t i = 0; i < r->n_ops; i++) {
        set_numbers(&r->ops[i].between, x);
        set_numbers(&r->ops[i].alone, x);
        r->ops[i].tolerance = r->ops[i].alone_tolerance = x;
    }
    r->hypotheses = ARENA_ARRAY(memory, compare_hypothesis, 1);
    r->hypotheses[0] = (compare_hypothesis){ .what = "x", .nmse = x };
    r->n_hypotheses = 1;
    compare_logits *l = &r->logits;
    l->top_overlap = l->divergence = l->divergence_most = l->perplexity_a = l->perplexity_b = x;
    for (int i = 0; i < COMPARE_TOP; i++) {
        l->best_logit_a[i] = l->best_logit_b[i] = x;
        l->best_a[i] = i - 1;
        l->best_b[i] = INT32_MAX;
    }
}

/* Coordinates are numbers, whatever is drawn. */
static void is_drawn(const char *page) {
    const char *at = strstr(page, "<svg class=\"plot\"");
    assert_non_null(at);
    const char *plot_end = strstr(at, "</svg>\n<p class=\"readout\"");
    assert_non_null(plot_end);
    for (; (at = strchr(at, '<')) && at < plot_end; at++) {
        int n = (int)strcspn(at, ">");
        for (int i = 0; i + 2 < n; i++)
            if (!strncmp(at + i, "nan", 3) || !strncmp(at + i, "inf", 3)) fail_msg("%.*s>", n, at);
    }
}

static void stand_any_number(void **state) {
    (void)state;
    static const double numbers[] = {
        (double)NAN, (double)INFINITY, -(double)INFINITY, DBL_MAX, -DBL_MAX, DBL_TRUE_MIN, 0, -0.0,
        1, -1, 1e-24, 1e-25, 1e6, 999999.5,
    };
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        compare_report r = i % 2 ? fixture_different(memory, 1) : fixture_cost(memory, 1);
        set_all_numbers(&r, numbers[i]);
        char *text = render(&r, JSON);
        is_json(text);
        json_is(text, "ops.3.between.most_index", "18446744073709551615");
        if (!isfinite(numbers[i])) json_is(text, "ops.3.alone.nmse", "null");
        free(text);
        text = render(&r, HTML);
        is_page(text);
        is_drawn(text);
        free(text);
        text = render(&r, TEXT);
        is_harmless(text);
        has(text, "infinite or no number on one side only: 18446744073709551615 of embd, ");
        free(text);
    }
}

/* ---- parts */

static void write_numbers(void **state) {
    (void)state;
    static const struct {
        double      x;
        int         digits;
        const char *text;
    } rows[] = {
        { 0, 2, "0" }, { -0.0, 2, "0" }, { 1, 2, "1" }, { 0.1, 2, "0.1" }, { 0.0999, 2, "0.1" },
        { 0.0012, 2, "0.0012" }, { 0.00099, 2, "9.9e-4" }, { 1.25e-7, 3, "1.25e-7" },
        { -3e-14, 2, "-3e-14" }, { 123.4, 2, "123" }, { 123456, 6, "123456" }, { 999999, 2, "1e6" },
        { 1e6, 6, "1e6" }, { 1.5e300, 2, "1.5e300" }, { 100, 3, "100" }, { 411.75, 6, "411.75" },
        { (double)NAN, 2, "nan" }, { -(double)NAN, 2, "nan" }, { -(double)INFINITY, 2, "-inf" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char text[REPORT_NUMBER];
        assert_string_equal(report_number(text, rows[i].x, rows[i].digits), rows[i].text);
    }
}

static void write_shares(void **state) {
    (void)state;
    static const struct {
        double      match;
        const char *text;
    } rows[] = {
        { 1, "100" }, { 0.99999, "99.9" }, { 0.998, "99.8" }, { 0.5, "50.0" }, { 0, "0.0" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char       cell[REPORT_CELL];
        compare_op o = { .between = { .n_values = 1, .match = rows[i].match } };
        for (unsigned c = 0; c < REPORT_COLUMNS; c++)
            if (!strcmp(report_columns[c].title, "match"))
                assert_string_equal(report_columns[c].cell(cell, &o, 2), rows[i].text);
    }
}

static void judge_ops(void **state) {
    (void)state;
    static const struct {
        bool        compared, alone, beyond, alone_beyond;
        const char *word;
    } rows[] = {
        { false, false, false, false, "-" }, { true, false, false, false, "ok" },
        { true, false, true, false, "BEYOND" }, { true, true, true, true, "BEYOND" },
        { true, true, true, false, "inherited" }, { true, true, false, true, "new" },
        { true, true, false, false, "ok" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        compare_op o = { .beyond = rows[i].beyond, .alone_beyond = rows[i].alone_beyond };
        o.between.n_values = rows[i].compared;
        o.alone.n_values = rows[i].alone;
        assert_string_equal(report_words[report_verdict_of(&o)].word, rows[i].word);
    }
}

static void order_costs(void **state) {
    (void)state;
    static const double nmse[] = { 1, 7, (double)NAN, 3, 7, -1, 9, 0 };
    compare_op     ops[ARRAY_LEN(nmse)] = { 0 };
    compare_report r = { .ops = ops, .n_ops = ARRAY_LEN(ops) };
    uint32_t       found[ARRAY_LEN(ops)];
    assert_int_equal(report_costly(&r, found, 5), 0);
    for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
        ops[i].alone.n_values = i != 5;
        ops[i].alone.nmse = nmse[i];
    }
    static const uint32_t expected[] = { 2, 6, 1, 4, 3, 0, 7 };
    for (uint32_t most = 0; most <= ARRAY_LEN(ops); most++) {
        uint32_t n = most < ARRAY_LEN(expected) ? most : (uint32_t)ARRAY_LEN(expected);
        assert_int_equal(report_costly(&r, found, most), n);
        assert_memory_equal(found, expected, n * sizeof *found);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tell_same),
        cmocka_unit_test(tell_different),
        cmocka_unit_test(tell_a_few),
        cmocka_unit_test(tell_suspect),
        cmocka_unit_test(tell_costs),
        cmocka_unit_test(tell_of_tokens_only),
        cmocka_unit_test(colour_only_when_asked),
        cmocka_unit_test(put_all_in_json),
        cmocka_unit_test(tell_machines),
        cmocka_unit_test(keep_numbers_exact),
        cmocka_unit_test(leave_out_what_is_not_there),
        cmocka_unit_test(make_pages),
        cmocka_unit_test(show_the_first),
        cmocka_unit_test(draw_what_has_no_logarithm),
        cmocka_unit_test(judge_no_costs),
        cmocka_unit_test(stand_nasty_text),
        cmocka_unit_test(escape_nasty_text),
        cmocka_unit_test(stand_any_number),
        cmocka_unit_test(write_numbers),
        cmocka_unit_test(write_shares),
        cmocka_unit_test(judge_ops),
        cmocka_unit_test(order_costs),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
