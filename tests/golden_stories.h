/* golden_stories.h - greedy continuations that llama.cpp made, from a table: model, prompt, text, prompt
 * ids, output ids, and at each output the margin between the best and the second logit. */
#ifndef GGUFC_TESTS_GOLDEN_STORIES_H
#define GGUFC_TESTS_GOLDEN_STORIES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { STORY_MOST_TOKENS = 512 };

typedef struct story {
    char     prompt[256];
    uint32_t n_prompt, n_tokens; /* n_tokens: prompt and continuation */
    int32_t  tokens[STORY_MOST_TOKENS];
    float    margins[STORY_MOST_TOKENS]; /* of the token at this position */
} story;

static inline uint32_t parse_ids(char *text, int32_t *out) {
    uint32_t n = 0;
    for (char *rest = text, *w; (w = strtok_r(rest, ",", &rest));) out[n++] = atoi(w);
    return n;
}

/* The fields: model, prompt, text, prompt ids, output ids, margins. */
static inline bool parse_story(char *line, const char *model, story *s) {
    char *field[6], *rest = line;
    for (int i = 0; i < 6; i++) {
        field[i] = strsep(&rest, "\t\n");
        if (!field[i]) return false;
    }
    if (strcmp(field[0], model)) return false;
    snprintf(s->prompt, sizeof s->prompt, "%s", field[1]);
    s->n_prompt = parse_ids(field[3], s->tokens);
    s->n_tokens = s->n_prompt + parse_ids(field[4], s->tokens + s->n_prompt);
    uint32_t at = s->n_prompt;
    for (char *w; (w = strsep(&field[5], ",")); at++) s->margins[at] = strtof(w, NULL);
    assert_int_equal(at, s->n_tokens);
    return true;
}

/* The model's continuations, at most `most` of them; a test fails without any. */
static inline uint32_t read_stories(const char *path, const char *model, story *all, uint32_t most) {
    static char line[32768];
    FILE    *f = fopen(path, "r");
    uint32_t n = 0;
    if (!f) fail_msg("%s is missing", path);
    while (n < most && fgets(line, sizeof line, f))
        if (*line != '#' && parse_story(line, model, &all[n])) n++;
    fclose(f);
    assert_true(n > 0);
    return n;
}

#endif
