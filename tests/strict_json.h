/* strict_json.h - whether a text is JSON to the letter, and what it holds at a place; for tests.
 *
 *     json_find(text, "ops.3.between.nmse", &size)
 *
 * RFC 8259 and no more: one value, UTF-8 that is none of it overlong, no name twice in an object.
 */
#ifndef GGUFC_TESTS_STRICT_JSON_H
#define GGUFC_TESTS_STRICT_JSON_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { JSON_MAX_PATH = 256, JSON_MAX_NAMES = 64 };

typedef struct json_reader {
    const char *at, *error; /* error: where the text ceases to be JSON, or NULL */
    char        path[JSON_MAX_PATH];
    const char *wanted, *found;
    size_t      found_size;
} json_reader;

static inline bool json_value(json_reader *j);

static inline bool json_wrong(json_reader *j) {
    if (!j->error) j->error = j->at;
    return false;
}

static inline void json_space(json_reader *j) {
    j->at += strspn(j->at, " \t\r\n");
}

static inline bool json_take(json_reader *j, const char *word) {
    if (strncmp(j->at, word, strlen(word)) != 0) return json_wrong(j);
    j->at += strlen(word);
    return true;
}

/* The length of the UTF-8 sequence at `text`, 0 where there is none. */
static inline size_t json_sequence(const char *text) {
    static const struct {
        unsigned char lead_from, lead_to, next_from, next_to;
        size_t        size;
    } rows[] = {
        { 0x01, 0x7f, 0x00, 0xff, 1 }, { 0xc2, 0xdf, 0x80, 0xbf, 2 }, { 0xe0, 0xe0, 0xa0, 0xbf, 3 },
        { 0xe1, 0xec, 0x80, 0xbf, 3 }, { 0xed, 0xed, 0x80, 0x9f, 3 }, { 0xee, 0xef, 0x80, 0xbf, 3 },
        { 0xf0, 0xf0, 0x90, 0xbf, 4 }, { 0xf1, 0xf3, 0x80, 0xbf, 4 }, { 0xf4, 0xf4, 0x80, 0x8f, 4 },
    };
    const unsigned char *s = (const unsigned char *)text;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (s[0] < rows[i].lead_from || s[0] > rows[i].lead_to) continue;
        if (rows[i].size > 1 && (s[1] < rows[i].next_from || s[1] > rows[i].next_to)) return 0;
        for (size_t k = 2; k < rows[i].size; k++)
            if ((s[k] & 0xc0) != 0x80) return 0;
        return rows[i].size;
    }
    return 0;
}

static inline bool json_is_utf8(const char *text) {
    for (size_t n; *text; text += n)
        if (!(n = json_sequence(text))) return false;
    return true;
}

static inline bool json_string(json_reader *j) {
    if (!json_take(j, "\"")) return false;
    while (*j->at != '"') {
        size_t n = json_sequence(j->at);
        if (!n || (unsigned char)*j->at < 0x20) return json_wrong(j);
        if (*j->at == '\\') {
            bool unicode = j->at[1] == 'u';
            if (unicode ? strspn(j->at + 2, "0123456789abcdefABCDEF") < 4
                        : !j->at[1] || !strchr("\"\\/bfnrt", j->at[1]))
                return json_wrong(j);
            n = unicode ? 6 : 2;
        }
        j->at += n;
    }
    j->at++;
    return true;
}

static inline bool json_digits(json_reader *j) {
    size_t n = strspn(j->at, "0123456789");
    j->at += n;
    return n ? true : json_wrong(j);
}

static inline bool json_number(json_reader *j) {
    if (*j->at == '-') j->at++;
    if (*j->at == '0') j->at++;
    else if (!json_digits(j)) return false;
    if (*j->at == '.' && (j->at++, !json_digits(j))) return false;
    if (*j->at != 'e' && *j->at != 'E') return true;
    j->at++;
    if (*j->at == '-' || *j->at == '+') j->at++;
    return json_digits(j);
}

/* An item of an array or object, whose place is `name` in the path. */
static inline bool json_item(json_reader *j, const char *name, size_t size) {
    size_t length = strlen(j->path);
    if (length + size + 2 > sizeof j->path) return json_wrong(j);
    snprintf(j->path + length, sizeof j->path - length, "%s%.*s", length ? "." : "", (int)size, name);
    bool ok = json_value(j);
    j->path[length] = '\0';
    json_space(j);
    return ok;
}

static inline bool json_object(json_reader *j) {
    const char *names[JSON_MAX_NAMES];
    size_t      sizes[JSON_MAX_NAMES];
    for (size_t n = 0;; n++) {
        json_space(j);
        if (!n && *j->at == '}') break;
        const char *name = j->at + 1;
        if (n == JSON_MAX_NAMES || !json_string(j)) return json_wrong(j);
        names[n] = name;
        sizes[n] = (size_t)(j->at - 1 - name);
        for (size_t i = 0; i < n; i++)
            if (sizes[i] == sizes[n] && !memcmp(names[i], name, sizes[n])) return json_wrong(j);
        json_space(j);
        if (!json_take(j, ":") || !json_item(j, name, sizes[n])) return false;
        if (*j->at != ',') break;
        j->at++;
    }
    return json_take(j, "}");
}

static inline bool json_array(json_reader *j) {
    for (unsigned n = 0;; n++) {
        char name[16];
        json_space(j);
        if (!n && *j->at == ']') break;
        snprintf(name, sizeof name, "%u", n);
        if (!json_item(j, name, strlen(name))) return false;
        if (*j->at != ',') break;
        j->at++;
    }
    return json_take(j, "]");
}

static inline bool json_value(json_reader *j) {
    json_space(j);
    const char *begin = j->at;
    bool        ok;
    switch (*j->at) {
    case '{': j->at++, ok = json_object(j); break;
    case '[': j->at++, ok = json_array(j); break;
    case '"': ok = json_string(j); break;
    case 't': ok = json_take(j, "true"); break;
    case 'f': ok = json_take(j, "false"); break;
    case 'n': ok = json_take(j, "null"); break;
    default: ok = json_number(j); break;
    }
    if (ok && j->wanted && !strcmp(j->wanted, j->path)) {
        j->found = begin;
        j->found_size = (size_t)(j->at - begin);
    }
    return ok;
}

/* NULL, or where `text` ceases to be JSON. */
static inline const char *json_error(const char *text) {
    json_reader j = { .at = text };
    if (json_value(&j)) json_space(&j);
    if (!j.error && *j.at) j.error = j.at;
    return j.error;
}

/* The value at a place, as it is written, or NULL; `text` is JSON. */
static inline const char *json_find(const char *text, const char *path, size_t *size) {
    json_reader j = { .at = text, .wanted = path };
    json_value(&j);
    *size = j.found_size;
    return j.found;
}

#endif
