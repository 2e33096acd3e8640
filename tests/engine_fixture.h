/* engine_fixture.h - for tests: a model compiled and loaded in this process, by flags as on a command
 * line. A failure is one of the test that calls. */
#ifndef GGUFC_TESTS_ENGINE_FIXTURE_H
#define GGUFC_TESTS_ENGINE_FIXTURE_H

#include "compiled_model.h"
#include "engine.h"

static inline void engine_fixture_tell(void *user, enum diag_level level, const char *line) {
    (void)user;
    if (level == DIAG_ERROR) fprintf(stderr, "%s\n", line);
}

/* `flags` as on the command line, separated by single spaces. */
static inline void engine_fixture_open(engine *e, const char *gguf, const char *flags) {
    static char words[1024];
    char  *argv[32] = {"ggufc", (char *)gguf, "-o", "unused"}, *rest = words;
    int    n = 4;
    diag   d = {.sink = engine_fixture_tell};
    engine_options options = {.layer = -1};
    assert_true((size_t)snprintf(words, sizeof words, "%s", flags) < sizeof words);
    while (n < 32 && (argv[n] = strtok_r(rest, " ", &rest))) n++;
    assert_int_equal(options_parse(&options.compile, n, argv), OPTIONS_COMPILE);
    options.compile.output = NULL;
    if (!engine_open(e, &options, &d)) fail_msg("%s was not compiled (%s)", gguf, flags);
}

#endif
