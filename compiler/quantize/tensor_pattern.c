#include "tensor_pattern.h"

#include "mixture.h"

#include <string.h>

#define MOST_NESTING 100 /* of parentheses: the library's compiler calls itself for each */

/* Escapes that POSIX says in another way: alone, and in a list. */
static const struct {
    char        letter;
    const char *alone, *in_list;
} classes[] = {
    { 'd', "[0-9]", "0-9" },
    { 'D', "[^0-9]", NULL },
    { 'w', "[[:alnum:]_]", "[:alnum:]_" },
    { 'W', "[^[:alnum:]_]", NULL },
    { 's', "[[:space:]]", "[:space:]" },
    { 'S', "[^[:space:]]", NULL },
};

/* NULL: it has no such meaning here. */
static const char *find_class(char letter, bool in_list) {
    for (size_t i = 0; i < ARRAY_LEN(classes); i++)
        if (classes[i].letter == letter) return in_list ? classes[i].in_list : classes[i].alone;
    return NULL;
}

static bool is_letter_or_digit(char c) {
    return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
}

/* A list from its '[' on, written to *to. In POSIX a backslash is itself there: what it stands before is
   said by its place, ] first and - last. Returns what follows the list; NULL: cannot be said. */
static const char *translate_list(const char *at, const char *end, char **to) {
    bool closes = false, dash = false, caret = false;
    char items[256], *out = items;
    bool negated = at + 1 < end && at[1] == '^';
    for (at += 1 + negated; at < end && *at != ']'; at++) {
        if (out > items + sizeof items - 32) return NULL;
        if (*at != '\\') {
            *out++ = *at;
            continue;
        }
        if (++at == end) return NULL;
        const char *class = find_class(*at, true);
        if (class)
            out = stpcpy(out, class);
        else if (is_letter_or_digit(*at))
            return NULL;
        else if (*at == ']')
            closes = true;
        else if (*at == '-')
            dash = true;
        else if (*at == '^')
            caret = true;
        else
            *out++ = *at;
    }
    if (at == end) return NULL;
    *out = 0;
    if (caret && !negated && !closes && out == items) return NULL; /* [^] would be another list */
    *to = stpcpy(stpcpy(*to, negated ? "[^" : "["), closes ? "]" : "");
    *to = stpcpy(stpcpy(stpcpy(*to, items), caret ? "^" : ""), dash ? "-]" : "]");
    return at + 1;
}

/* What POSIX writes in another way. NULL: cannot be said. */
static char *translate(arena *a, const char *text, size_t size) {
    char       *out = arena_alloc(a, size * 16 + 1), *to = out;
    const char *end = text + size;
    int         depth = 0;
    for (const char *at = text; at < end; at++) {
        if (*at == '[') {
            const char *next = translate_list(at, end, &to);
            if (!next) return NULL;
            at = next - 1;
        } else if (*at == '\\') {
            if (++at == end) return NULL;
            const char *class = find_class(*at, false);
            if (!class && is_letter_or_digit(*at)) return NULL;
            if (!class) *to++ = '\\';
            to = class ? stpcpy(to, class) : (*to = *at, to + 1);
        } else {
            if (*at == '(' && ++depth > MOST_NESTING) return NULL;
            if (*at == ')') depth--;
            *to++ = *at;
            if (*at != '(' || at + 1 == end || at[1] != '?') continue;
            if (at + 2 >= end || at[2] != ':') return NULL;
            at += 2;
        }
    }
    *to = 0;
    return out;
}

const char *tensor_pattern_add(arena *a, tensor_patterns *p, const char *text) {
    const char *equal = strrchr(text, '=');
    if (!equal || equal == text || !equal[1]) return "NAME=TYPE";
    uint32_t quant = mixture_find_type(equal + 1);
    if (quant == QUANT_COUNT) return "NAME=TYPE with a type of tensors, as attn_v=Q6_K";
    char   *pattern = translate(a, text, (size_t)(equal - text));
    regex_t regex;
    if (!pattern || regcomp(&regex, pattern, REG_EXTENDED | REG_ICASE | REG_NOSUB))
        return "NAME=TYPE with a regular expression";
    tensor_pattern *item = arena_push(a, (void **)&p->items, &p->n, &p->room, sizeof *p->items);
    *item = (tensor_pattern){ .text = text, .quant = quant, .regex = regex };
    return NULL;
}

tensor_pattern *tensor_pattern_find(tensor_patterns *p, const char *name) {
    for (uint32_t i = 0; i < p->n; i++) {
        if (regexec(&p->items[i].regex, name, 0, NULL, 0)) continue;
        p->items[i].used = true;
        return &p->items[i];
    }
    return NULL;
}

void tensor_patterns_free(tensor_patterns *p) {
    for (uint32_t i = 0; i < p->n; i++) regfree(&p->items[i].regex);
    p->n = 0;
}
