#include "tensor_pattern.h"

#include "mixture.h"

#include <string.h>

/* What POSIX writes in another way; lists in brackets are left but for \d. NULL: cannot be said. */
static char *translate(arena *a, const char *text, size_t size) {
    char *out = arena_alloc(a, size * 5 + 1), *to = out;
    bool  in_list = false;
    for (size_t i = 0; i < size; i++) {
        char c = text[i], next = i + 1 < size ? text[i + 1] : 0;
        if (c == '\\' && next == 'd') {
            const char *digits = in_list ? "0-9" : "[0-9]";
            to = stpcpy(to, digits);
            i++;
        } else if (c == '\\' && next) {
            if (!in_list) *to++ = c;
            *to++ = next;
            i++;
        } else if (!in_list && c == '(' && next == '?') {
            if (i + 2 >= size || text[i + 2] != ':') return NULL;
            *to++ = c;
            i += 2;
        } else {
            if (c == '[') in_list = true;
            if (c == ']') in_list = false;
            *to++ = c;
        }
    }
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
