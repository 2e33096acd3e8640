/* json.h - writing JSON piece by piece.
 *
 *     json j = json_begin(stdout);
 *     json_open(&j, NULL, '{');
 *     json_count(&j, "rows", 4);
 *     json_open(&j, "shape", '['), json_count(&j, NULL, 256), json_close(&j, ']');
 *     json_close(&j, '}');
 *
 * A name is given inside an object and NULL elsewhere. The members of the outermost object stand on
 * lines of their own, and so do the members of those that json_open opens. Whether writing worked is
 * for ferror to say. */
#ifndef GGUFC_JSON_H
#define GGUFC_JSON_H

#include "base.h"

#include <stdio.h>

enum { JSON_MAX_DEPTH = 16 };

typedef struct json {
    FILE    *out;
    unsigned depth;
    bool     begun[JSON_MAX_DEPTH]; /* an item stands there, so that the next needs a comma */
    bool     tall[JSON_MAX_DEPTH];  /* an item a line */
} json;

json json_begin(FILE *out);

void json_open(json *j, const char *name, char bracket);
void json_open_line(json *j, const char *name, char bracket); /* all of it on one line */
void json_close(json *j, char bracket);

void json_bool(json *j, const char *name, bool yes);
void json_count(json *j, const char *name, uint64_t n);
void json_integer(json *j, const char *name, int64_t n);
void json_null(json *j, const char *name);

/* The shortest number that is read back as the same double; null where it is not finite. */
void json_number(json *j, const char *name, double x);

/* Bytes that are no UTF-8 become U+FFFD, and characters that a terminal should not be given are
   escaped. `text` may be NULL: null. */
void json_text(json *j, const char *name, const char *text);
void json_bytes(json *j, const char *name, const char *bytes, uint64_t size);

#endif
