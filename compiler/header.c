/* The C header that --emit=lib writes beside its library: templates/model.h.in, filled. */
#include "driver.h"

#include <string.h>

extern const char model_h_text[]; /* made by the build from templates/model.h.in */

static const char *find_word(const struct header_word *words, const char *name, size_t size) {
    for (; words->name; words++)
        if (strlen(words->name) == size && !strncmp(words->name, name, size)) return words->text;
    return NULL;
}

const char *header_fill(arena *a, const struct header_word *words) {
    const char *text = "", *from = model_h_text;
    for (;;) {
        size_t n = strcspn(from, "@");
        text = arena_printf(a, "%s%.*s", text, (int)n, from);
        if (!from[n]) return text;
        const char *name = from + n + 1;
        size_t      size = strcspn(name, "@");
        const char *word = find_word(words, name, size);
        if (!word) bug("model.h.in: @%.*s@", (int)size, name);
        text = arena_printf(a, "%s%s", text, word);
        from = name + size + 1;
    }
}
