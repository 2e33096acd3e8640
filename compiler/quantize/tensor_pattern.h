/* tensor_pattern.h - --tensor-type NAME=TYPE: types for tensors by a regular expression.
 *
 * A pattern is looked for anywhere in a tensor's name, without regard to case; of several that are
 * found, the first given counts. It is a POSIX extended regular expression, and what is written for
 * llama.cpp, which has ECMAScript's, is taken where it means the same: \d, \w, \s, (?:…), escapes in
 * lists. What cannot be said in POSIX, as looking ahead or \t, is refused. */
#ifndef GGUFC_TENSOR_PATTERN_H
#define GGUFC_TENSOR_PATTERN_H

#include "base.h"

#include <regex.h>

typedef struct tensor_pattern {
    const char *text;
    uint32_t    quant; /* enum quant_type */
    regex_t     regex;
    bool        used; /* tensor_pattern_find found it */
} tensor_pattern;

typedef struct tensor_patterns {
    tensor_pattern *items;
    uint32_t        n, room;
} tensor_patterns;

/* Adds `text`, NAME=TYPE. NULL, or after nothing was added what `text` is not: "NAME=TYPE with …". */
const char *tensor_pattern_add(arena *a, tensor_patterns *p, const char *text);

/* The first whose pattern is in the name; NULL: none. */
tensor_pattern *tensor_pattern_find(tensor_patterns *p, const char *name);

void tensor_patterns_free(tensor_patterns *p);

#endif
