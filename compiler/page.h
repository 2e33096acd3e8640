/* page.h - pages of HTML, each one file that asks for nothing else, neither file nor network.
 *
 * A page is a template (templates/NAME.html.in) in which each @SLOT@ is filled by a function; @STYLE@
 * is what all pages look like (templates/page.css.in). Text of unknown origin reaches a page through
 * page_put_text only. */
#ifndef GGUFC_PAGE_H
#define GGUFC_PAGE_H

#include "character.h"
#include "diag.h"

#include <stdio.h>

/* A character so that it may stand in an element or in an attribute. */
void page_put_char(FILE *to, const character *c);

/* At most `most` characters of `text`, likewise, "…" where that is not all. */
void page_put_text(FILE *to, const char *text, uint32_t most);

/* Writes what belongs into the slot whose name is `size` bytes at `name`; false where there is none
   of that name, which is a mistake of the template. */
typedef bool page_slot(const void *subject, FILE *to, const char *name, size_t size);

void page_fill(FILE *to, const char *text, page_slot *slot, const void *subject);

/* An empty file beside `path`: whether a page can be written there is known before there is anything
   to write. `inputs`, which end with NULL, are refused as its place. Afterwards page_write, which puts
   it there whole, or output_discard. False after an error was reported. */
bool page_begin(arena *a, diag *d, const char *path, const char *const *inputs, const char **temporary);
bool page_write(diag *d, const char *temporary, const char *path,
                void (*put)(const void *subject, FILE *to), const void *subject);

#endif
