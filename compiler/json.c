#include "json.h"

#include "character.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

enum { TALL_DEPTH = 2 };

/* ---- text */

/* What ends before `end`, or with a zero byte where that is NULL. */
static void put_string(json *j, const char *text, const char *end) {
    character c;
    fputc('"', j->out);
    while (character_take(&text, end, &c)) {
        if (!c.valid)
            fputs("\\ufffd", j->out);
        else if (character_drives(&c))
            fprintf(j->out, "\\u%04" PRIx32, c.code);
        else
            fprintf(j->out, "%s%.*s", c.code == '"' || c.code == '\\' ? "\\" : "", (int)c.size, c.bytes);
    }
    fputc('"', j->out);
}

/* ---- structure */

json json_begin(FILE *out) {
    return (json){ .out = out };
}

/* The comma after the item before, the line's beginning, the name. */
static void begin_item(json *j, const char *name) {
    if (j->begun[j->depth]) fputc(',', j->out);
    if (j->tall[j->depth])
        fprintf(j->out, "\n%*s", (int)(2 * j->depth), "");
    else if (j->begun[j->depth])
        fputc(' ', j->out);
    j->begun[j->depth] = true;
    if (!name) return;
    put_string(j, name, NULL);
    fputs(": ", j->out);
}

static void open_item(json *j, const char *name, char bracket, bool tall) {
    begin_item(j, name);
    fputc(bracket, j->out);
    if (++j->depth == JSON_MAX_DEPTH) bug("JSON of depth %u", j->depth);
    j->begun[j->depth] = false;
    j->tall[j->depth] = tall;
}

void json_open(json *j, const char *name, char bracket) {
    open_item(j, name, bracket, j->depth < TALL_DEPTH);
}

void json_open_line(json *j, const char *name, char bracket) {
    open_item(j, name, bracket, false);
}

void json_close(json *j, char bracket) {
    bool line = j->tall[j->depth] && j->begun[j->depth];
    j->depth--;
    if (line) fprintf(j->out, "\n%*s", (int)(2 * j->depth), "");
    fputc(bracket, j->out);
    if (!j->depth) fputc('\n', j->out);
}

/* ---- items */

void json_bool(json *j, const char *name, bool yes) {
    begin_item(j, name);
    fputs(yes ? "true" : "false", j->out);
}

void json_count(json *j, const char *name, uint64_t n) {
    begin_item(j, name);
    fprintf(j->out, "%" PRIu64, n);
}

void json_integer(json *j, const char *name, int64_t n) {
    begin_item(j, name);
    fprintf(j->out, "%" PRId64, n);
}

void json_null(json *j, const char *name) {
    begin_item(j, name);
    fputs("null", j->out);
}

void json_number(json *j, const char *name, double x) {
    char text[32];
    if (!isfinite(x)) {
        json_null(j, name);
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x) break;
    }
    begin_item(j, name);
    fputs(text, j->out);
}

void json_text(json *j, const char *name, const char *text) {
    if (!text) {
        json_null(j, name);
        return;
    }
    begin_item(j, name);
    put_string(j, text, NULL);
}

void json_bytes(json *j, const char *name, const char *bytes, uint64_t size) {
    begin_item(j, name);
    put_string(j, bytes, bytes + size);
}
