#include "json.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TALL_DEPTH = 2 };

/* ---- text */

/* The bytes of the UTF-8 character at `s`; 0 where there is none (cut short, overlong, a surrogate,
   above U+10FFFF). */
static uint32_t character_bytes(const unsigned char *s, uint64_t size) {
    uint32_t n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    if (s[0] > 0xf4 || n > size) return 0;
    for (uint32_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    if (s[0] == 0xe0 && s[1] < 0xa0) return 0;
    if (s[0] == 0xed && s[1] >= 0xa0) return 0;
    if (s[0] == 0xf0 && s[1] < 0x90) return 0;
    if (s[0] == 0xf4 && s[1] >= 0x90) return 0;
    return n;
}

static void put_string(json *j, const char *bytes, uint64_t size) {
    const unsigned char *s = (const unsigned char *)bytes;
    fputc('"', j->out);
    for (uint64_t i = 0, n; i < size; i += n ? n : 1) {
        n = character_bytes(s + i, size - i);
        if (!n)
            fputs("\\ufffd", j->out);
        else if (s[i] < 0x20 || s[i] == 0x7f)
            fprintf(j->out, "\\u%04x", s[i]);
        else
            fprintf(j->out, "%s%.*s", s[i] == '"' || s[i] == '\\' ? "\\" : "", (int)n, bytes + i);
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
    if (j->depth && j->depth <= TALL_DEPTH)
        fprintf(j->out, "\n%*s", (int)(2 * j->depth), "");
    else if (j->begun[j->depth])
        fputc(' ', j->out);
    j->begun[j->depth] = true;
    if (!name) return;
    put_string(j, name, strlen(name));
    fputs(": ", j->out);
}

void json_open(json *j, const char *name, char bracket) {
    begin_item(j, name);
    fputc(bracket, j->out);
    if (++j->depth == JSON_MAX_DEPTH) bug("JSON of depth %u", j->depth);
    j->begun[j->depth] = false;
}

void json_close(json *j, char bracket) {
    bool line = j->depth <= TALL_DEPTH && j->begun[j->depth];
    j->depth--;
    if (line) fprintf(j->out, "\n%*s", (int)(2 * j->depth), "");
    fputc(bracket, j->out);
    if (!j->depth) fputc('\n', j->out);
}

/* ---- items */

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

void json_text(json *j, const char *name, const char *bytes, uint64_t size) {
    begin_item(j, name);
    put_string(j, bytes, size);
}
