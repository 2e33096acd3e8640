#include "page.h"

#include "output.h"

#include <stdlib.h>
#include <string.h>

extern const char page_css_text[]; /* made by the build from templates/page.css.in */

/* ---- text */

void page_put_char(FILE *to, const character *c) {
    char shown[CHARACTER_SHOWN];
    switch (c->code) {
    case '&': fputs("&amp;", to); return;
    case '<': fputs("&lt;", to); return;
    case '>': fputs("&gt;", to); return;
    case '"': fputs("&quot;", to); return;
    case '\'': fputs("&#39;", to); return;
    default: break;
    }
    character_show(shown, c);
    fputs(shown, to);
}

void page_put_text(FILE *to, const char *text, uint32_t most) {
    character c;
    for (; most && character_take(&text, NULL, &c); most--) page_put_char(to, &c);
    if (*text) fputs("…", to);
}

/* ---- templates */

static void fill_slot(FILE *to, page_slot *slot, const void *subject, const char *name, size_t size) {
    static const char style[] = "STYLE";
    if (size == sizeof style - 1 && !strncmp(name, style, size))
        fputs(page_css_text, to);
    else if (!slot(subject, to, name, size))
        bug("a page's template has @%.*s@", (int)size, name);
}

/* An @ that is no slot's stands for itself. */
void page_fill(FILE *to, const char *text, page_slot *slot, const void *subject) {
    for (const char *from = text; *from;) {
        size_t n = strcspn(from, "@");
        fwrite(from, 1, n, to);
        from += n;
        if (!*from) break;
        size_t size = strspn(from + 1, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        if (size && from[size + 1] == '@') {
            fill_slot(to, slot, subject, from + 1, size);
            from += size + 2;
        } else {
            fputc(*from++, to);
        }
    }
}

/* ---- files */

bool page_begin(arena *a, diag *d, const char *path, const char *const *inputs, const char **temporary) {
    *temporary = NULL;
    if (!output_check(d, path, inputs)) return false;
    *temporary = output_temporary(a, path);
    return output_write(d, *temporary, "", 0);
}

bool page_write(diag *d, const char *temporary, const char *path,
                void (*put)(const void *subject, FILE *to), const void *subject) {
    char  *text = NULL;
    size_t size = 0;
    FILE  *f = open_memstream(&text, &size);
    if (!f) return diag_error(d, "out of memory");
    put(subject, f);
    bool ok = !fclose(f) || diag_error(d, "out of memory");
    ok = ok && output_write(d, temporary, text, size) && output_commit(d, temporary, path);
    free(text);
    return ok;
}
