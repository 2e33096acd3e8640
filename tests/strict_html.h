/* strict_html.h - whether a page's tags are balanced and it asks for nothing from outside; for tests.
 *
 * Stricter than HTML: every element is closed, but for `void_elements` and those that end in "/>";
 * attributes are quoted; '&' begins a reference of a few; '<' and '>' stand for tags only.
 */
#ifndef GGUFC_TESTS_STRICT_HTML_H
#define GGUFC_TESTS_STRICT_HTML_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { HTML_MAX_DEPTH = 64, HTML_NAME = 24 };

typedef struct html_reader {
    const char *at;
    const char *error; /* what is wrong at `at`, or NULL */
    char        open[HTML_MAX_DEPTH][HTML_NAME];
    unsigned    depth;
} html_reader;

static inline bool html_wrong(html_reader *h, const char *why) {
    if (!h->error) h->error = why;
    return false;
}

static inline bool html_name(html_reader *h, char *name) {
    size_t n = strspn(h->at, "abcdefghijklmnopqrstuvwxyz0123456789-B"); /* B: viewBox */
    if (!n || n >= HTML_NAME) return html_wrong(h, "a name");
    snprintf(name, HTML_NAME, "%.*s", (int)n, h->at);
    h->at += n;
    return true;
}

static inline bool html_reference(html_reader *h) {
    static const char *const known[] = { "&amp;", "&lt;", "&gt;", "&quot;", "&#39;" };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strncmp(h->at, known[i], strlen(known[i]))) {
            h->at += strlen(known[i]);
            return true;
        }
    return html_wrong(h, "a reference");
}

/* Whether an attribute may stand in a page that asks for nothing. */
static inline bool html_allowed(const char *name, const char *content) {
    if (!strcmp(name, "href")) return *content == '#';
    return strcmp(name, "src") != 0 && strcmp(name, "style") != 0 && strncmp(name, "on", 2) != 0;
}

static inline bool html_attribute(html_reader *h) {
    char name[HTML_NAME];
    if (!html_name(h, name)) return false;
    if (strncmp(h->at, "=\"", 2) != 0) return html_wrong(h, "an attribute without quotes");
    h->at += 2;
    if (!html_allowed(name, h->at)) return html_wrong(h, "an attribute that should not be there");
    while (*h->at && *h->at != '"') {
        if (*h->at == '<' || *h->at == '>') return html_wrong(h, "an attribute");
        if (*h->at != '&') h->at++;
        else if (!html_reference(h)) return false;
    }
    h->at += *h->at == '"';
    return true;
}

static inline bool html_is_void(const char *name) {
    static const char *const void_elements[] = { "meta", "br", "hr", "img", "link" };
    for (size_t i = 0; i < sizeof void_elements / sizeof *void_elements; i++)
        if (!strcmp(name, void_elements[i])) return true;
    return false;
}

/* What is between the tags of a style or a script is no HTML. */
static inline bool html_skip_raw(html_reader *h, const char *name) {
    char end[HTML_NAME + 3];
    snprintf(end, sizeof end, "</%s>", name);
    const char *at = strstr(h->at, end);
    if (!at) return html_wrong(h, "a style or script without an end");
    h->at = at;
    return true;
}

static inline bool html_begin_tag(html_reader *h) {
    char name[HTML_NAME];
    if (!html_name(h, name)) return false;
    while (*h->at == ' ') {
        h->at++;
        if (!html_attribute(h)) return false;
    }
    if (!strncmp(h->at, "/>", 2)) {
        h->at += 2;
        return true;
    }
    if (*h->at++ != '>') return html_wrong(h, "a tag");
    if (html_is_void(name)) return true;
    if (h->depth == HTML_MAX_DEPTH) return html_wrong(h, "depth");
    strcpy(h->open[h->depth++], name);
    return strcmp(name, "style") && strcmp(name, "script") ? true : html_skip_raw(h, name);
}

static inline bool html_end_tag(html_reader *h) {
    char name[HTML_NAME];
    if (!html_name(h, name)) return false;
    if (*h->at++ != '>') return html_wrong(h, "an end tag");
    if (!h->depth || strcmp(h->open[--h->depth], name) != 0) return html_wrong(h, "an end tag's name");
    return true;
}

static inline bool html_step(html_reader *h) {
    if (!strncmp(h->at, "</", 2)) {
        h->at += 2;
        return html_end_tag(h);
    }
    if (*h->at == '<') {
        h->at++;
        return html_begin_tag(h);
    }
    if (*h->at == '&') return html_reference(h);
    if (*h->at == '>') return html_wrong(h, "a lonely >");
    h->at++;
    return true;
}

/* NULL, or what is wrong with the page; *where is where. */
static inline const char *html_error(const char *text, const char **where) {
    static const char doctype[] = "<!DOCTYPE html>";
    html_reader       h = { .at = text };
    if (strncmp(text, doctype, sizeof doctype - 1) != 0) return *where = text, "no doctype";
    h.at += sizeof doctype - 1;
    while (*h.at && html_step(&h)) continue;
    *where = h.at;
    return h.error ? h.error : h.depth ? "an element that is not closed" : NULL;
}

#endif
