/* recording_map.c - which file of a folder is which activation.
 *
 * A map is text (recording.h says how it reads), the built-in one too. A file is what the best line
 * that takes it says: a given one before a built-in one, then the one with the most characters that
 * stand for themselves, so that "layer_{l}.txt" comes before "{name}.txt" wherever it stands. Two
 * that are equally good and say different things are an error.
 */
#include "recording_read.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char builtin_map[] =
    "tokens.txt                 = tokens\n"
    "prompt.txt                 = prompt\n"
    "layer_{l}.txt              = l_out-{l}\n"
    "hidden_state_call_{t}.txt  = result_norm@{t}\n"
    "logits_call_{t}.txt        = result_output@{t}\n"
    "logits.txt                 = result_output\n"
    "{name}.txt                 = {name}\n";

enum hole_kind { HOLE_L, HOLE_T, HOLE_NAME, HOLE_COUNT };

static const char *const holes[HOLE_COUNT] = {
    [HOLE_L] = "{l}",
    [HOLE_T] = "{t}",
    [HOLE_NAME] = "{name}",
};

/* What stood in a file's name where the pattern has a hole. */
typedef struct capture {
    const char *text;
    size_t      size;
} capture;

/* HOLE_COUNT where no hole begins at `at`. */
static enum hole_kind find_hole(const char *at) {
    int i = 0;
    while (i < HOLE_COUNT && strncmp(at, holes[i], strlen(holes[i]))) i++;
    return (enum hole_kind)i;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r';
}

/* ---- reading lines */

PRINTF_LIKE(3, 4)
static bool refuse(diag *d, const recording_map_line *l, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return diag_error(d, "%s:%" PRIu64 ": %s", l->where, l->line, text);
}

/* Counts how often each hole is in `text`. */
static bool count_holes(diag *d, const recording_map_line *l, const char *text,
                        unsigned n[HOLE_COUNT]) {
    for (const char *at = text; *at; at++) {
        enum hole_kind kind = find_hole(at);
        if (kind < HOLE_COUNT)
            n[kind]++;
        else if (*at == '{')
            return refuse(d, l, "'%.20s' is none of {l}, {t} and {name}", at);
    }
    return true;
}

static bool check_pattern(diag *d, recording_map_line *l, unsigned n[HOLE_COUNT]) {
    if (!*l->pattern) return refuse(d, l, "the pattern is empty, expected PATTERN = NAME");
    if (strchr(l->pattern, '/'))
        return refuse(d, l, "'%s' has a '/', expected the name of a file in the folder",
                      l->pattern);
    if (!count_holes(d, l, l->pattern, n)) return false;
    l->n_literal = (uint32_t)strlen(l->pattern);
    for (int i = 0; i < HOLE_COUNT; i++) {
        if (n[i] > 1) return refuse(d, l, "%s is twice in '%s'", holes[i], l->pattern);
        if (n[i]) l->n_literal -= (uint32_t)strlen(holes[i]);
    }
    return true;
}

/* The digits at `at`, all of them and none before, if they are a number that a token can have. */
static size_t match_number(const char *text, const char *at) {
    uint64_t n = 0;
    size_t size = 0;
    if (at > text && is_digit(at[-1])) return 0;
    for (; is_digit(at[size]); size++)
        if (n <= INT32_MAX) n = n * 10 + (uint64_t)(at[size] - '0');
    return n <= INT32_MAX ? size : 0;
}

static bool is_of_all_tokens(const char *name, size_t size) {
    return (size == strlen("tokens") && !memcmp(name, "tokens", size)) ||
           (size == strlen("prompt") && !memcmp(name, "prompt", size));
}

/* What follows `at`, the '@' in a line's name. */
static bool check_token(diag *d, const recording_map_line *l, const char *at) {
    size_t size = find_hole(at + 1) == HOLE_T ? strlen(holes[HOLE_T]) : match_number(at, at + 1);
    if (!size || at[1 + size])
        return refuse(d, l, "'%s' is not '@' and the number of a token, nor '@{t}'", at);
    if (at == l->name) return refuse(d, l, "'%s' has no name before '@'", l->name);
    if (is_of_all_tokens(l->name, (size_t)(at - l->name)))
        return refuse(d, l, "'tokens' and 'prompt' are of all tokens, found '%s'", at);
    return true;
}

static bool check_name(diag *d, const recording_map_line *l,
                       const unsigned in_pattern[HOLE_COUNT]) {
    unsigned n[HOLE_COUNT] = { 0 };
    const char *token = strchr(l->name, '@');
    if (!count_holes(d, l, l->name, n) || (token && !check_token(d, l, token))) return false;
    for (int i = 0; i < HOLE_COUNT; i++)
        if (n[i] && !in_pattern[i])
            return refuse(d, l, "%s is in '%s' but not in the pattern '%s'", holes[i], l->name,
                          l->pattern);
    if (n[HOLE_T] && (n[HOLE_T] > 1 || !token))
        return refuse(d, l, "{t} in '%s' is not in '@{t}' at its end", l->name);
    return true;
}

static char *copy_trimmed(arena *a, const char *from, const char *end) {
    while (from < end && is_blank(*from)) from++;
    while (from < end && is_blank(end[-1])) end--;
    return arena_copy_text(a, from, (size_t)(end - from));
}

/* Where a line's comment begins, or its end. A file's name may hold a '#', but after no blank. */
static const char *find_comment(const char *from, const char *end) {
    const char *at = from;
    while (at < end && !(*at == '#' && (at == from || is_blank(at[-1])))) at++;
    return at;
}

static bool parse_line(arena *a, diag *d, recording_map *map, const char *where, uint64_t number,
                       const char *from, const char *end) {
    unsigned n[HOLE_COUNT] = { 0 };
    char *text = copy_trimmed(a, from, find_comment(from, end));
    if (!*text) return true;
    recording_map_line *l = arena_push(a, (void **)&map->lines, &map->n_lines, &map->capacity,
                                       sizeof *l);
    *l = (recording_map_line){ .where = where, .line = number };
    const char *equals = strrchr(text, '=');
    if (!equals) return refuse(d, l, "'%s' has no '=', expected PATTERN = NAME", text);
    l->pattern = copy_trimmed(a, text, equals);
    l->name = copy_trimmed(a, equals + 1, equals + strlen(equals));
    return check_pattern(d, l, n) && check_name(d, l, n);
}

static bool parse_lines(arena *a, diag *d, recording_map *map, const char *where,
                        const char *text) {
    for (uint64_t number = 1; *text; number++) {
        const char *end = text + strcspn(text, "\n");
        if (!parse_line(a, d, map, where, number, text, end)) return false;
        text = *end ? end + 1 : end;
    }
    return true;
}

bool recording_map_parse(arena *a, diag *d, const char *where, const char *text,
                         recording_map *out) {
    *out = (recording_map){ 0 };
    if (text && !parse_lines(a, d, out, where, text)) return false;
    out->n_given = out->n_lines;
    if (!parse_lines(a, d, out, "built-in map", builtin_map)) bug("the built-in map");
    return true;
}

const char *recording_map_read(arena *a, diag *d, const char *path) {
    recording_bytes file;
    recording_map map;
    bool ok = recording_load(a, d, path, &file) && recording_check_text(d, &file) &&
              recording_map_parse(a, d, path, file.data, &map);
    return ok ? file.data : NULL;
}

/* ---- finding a file's line */

/* {name} takes as little as it can: ever more is tried until the rest matches. It is in a pattern
   once, so that no trial makes others. */
static bool match(const char *pattern, const char *file, const char *at,
                  capture found[HOLE_COUNT]) {
    for (; *pattern; pattern++, at++) {
        enum hole_kind kind = find_hole(pattern);
        if (kind == HOLE_COUNT) {
            if (*pattern != *at) return false;
            continue;
        }
        const char *rest = pattern + strlen(holes[kind]);
        size_t size = kind == HOLE_NAME ? *at != 0 : match_number(file, at);
        if (!size) return false;
        if (kind == HOLE_NAME)
            while (at[size] && !match(rest, file, at + size, found)) size++;
        found[kind] = (capture){ at, size };
        pattern = rest - 1;
        at += size - 1;
    }
    return !*at;
}

static const char *fill_holes(arena *a, const char *name, const capture found[HOLE_COUNT]) {
    size_t most = strlen(name) + 1;
    for (const char *c = name; *c; c++)
        if (*c == '{') most += found[find_hole(c)].size;
    char *text = arena_alloc(a, most), *to = text;
    while (*name) {
        enum hole_kind kind = find_hole(name);
        if (kind == HOLE_COUNT) {
            *to++ = *name++;
            continue;
        }
        capture c = found[kind];
        while (kind != HOLE_NAME && c.size > 1 && *c.text == '0') c.text++, c.size--;
        memcpy(to, c.text, c.size);
        to += c.size;
        name += strlen(holes[kind]);
    }
    return text;
}

/* "NAME@N" to name and token. */
static void split_token(arena *a, recording_place *p) {
    const char *at = strrchr(p->name, '@');
    if (!at || at == p->name) return;
    size_t size = match_number(p->name, at + 1);
    if (!size || at[1 + size]) return;
    p->token = 0;
    for (const char *c = at + 1; *c; c++) p->token = p->token * 10 + (*c - '0');
    p->name = arena_copy_text(a, p->name, (size_t)(at - p->name));
}

static void set_role(recording_place *p) {
    if (!*p->name)
        p->role = RECORDING_LEFT_OUT;
    else if (!strcmp(p->name, "tokens"))
        p->role = RECORDING_TOKENS;
    else if (!strcmp(p->name, "prompt"))
        p->role = RECORDING_PROMPT;
    else
        p->role = RECORDING_VALUES;
}

static bool place(arena *a, const recording_map_line *l, const char *file, recording_place *out) {
    capture found[HOLE_COUNT] = { { 0 } };
    if (!match(l->pattern, file, file, found)) return false;
    *out = (recording_place){ .line = l, .token = -1 };
    out->name = fill_holes(a, l->name, found);
    split_token(a, out);
    set_role(out);
    return true;
}

static bool find_best(arena *a, diag *d, const recording_map_line *lines, uint32_t n,
                      const char *path, const char *file, recording_place *best) {
    recording_place p, rival = { 0 };
    for (uint32_t i = 0; i < n; i++) {
        if (!place(a, &lines[i], file, &p)) continue;
        if (best->line && p.line->n_literal < best->line->n_literal) continue;
        if (!best->line || p.line->n_literal > best->line->n_literal) {
            *best = p;
            rival.line = NULL;
        } else if (strcmp(p.name, best->name) || p.token != best->token) {
            rival = p;
        }
    }
    if (!rival.line) return true;
    return diag_error(d, "%s: the map takes it for two things: line %" PRIu64 " '%s = %s', line %"
                      PRIu64 " '%s = %s'", path, best->line->line, best->line->pattern,
                      best->line->name, rival.line->line, rival.line->pattern, rival.line->name);
}

bool recording_map_find(arena *a, diag *d, const recording_map *map, const char *path,
                        const char *file, recording_place *out) {
    *out = (recording_place){ .token = -1 };
    if (!find_best(a, d, map->lines, map->n_given, path, file, out)) return false;
    if (out->line) return true;
    return find_best(a, d, map->lines + map->n_given, map->n_lines - map->n_given, path, file, out);
}
