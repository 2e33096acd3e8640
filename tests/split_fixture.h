/* split_fixture.h - the demo model in three parts, and programs that are given them.
 *
 *     char *folder = new_folder("here"), *first = demo_part(folder, 1);
 *     assert_story(text_of(RUN(compiler, "run", first, ASK)));
 *     remove_folder(folder);
 *
 * Folders are in the one of compiled_model.h; each test removes its own. The compiler is $GGUFC, or
 * out/ggufc: split_find_compiler. */
#ifndef GGUFC_TESTS_SPLIT_FIXTURE_H
#define GGUFC_TESTS_SPLIT_FIXTURE_H

#include "compiled_model.h"

#include "child.h"
#include "split_model.h"

#include <sys/stat.h>

#define DEMO    "tests/models/storyteller-q8_0.gguf"
#define PROMPT  "Once upon a time,"
#define N_PARTS 3 /* of the demo's 38 tensors, 13 in each */
#define EACH    13

static char compiler[4096];

static inline void split_find_compiler(void) {
    const char *given = getenv("GGUFC");
    snprintf(compiler, sizeof compiler, "%s", given && *given ? given : "out/ggufc");
}

/* ---- files */

static inline char *in_folder(const char *name) {
    char *path = strdup(compiled_path(name));
    assert_non_null(path);
    return path;
}

static inline char *join(const char *folder, const char *name) {
    char *path;
    assert_true(asprintf(&path, "%s/%s", folder, name) > 0);
    return path;
}

static inline char *new_folder(const char *name) {
    char *path = in_folder(name);
    assert_int_equal(mkdir(path, 0777), 0);
    return path;
}

/* Frees its name, too. */
static inline void remove_folder(char *folder) {
    DIR *dir = opendir(folder);
    for (struct dirent *d; dir && (d = readdir(dir));) {
        char *path = join(folder, d->d_name);
        if (strcmp(d->d_name, ".") && strcmp(d->d_name, "..")) remove(path);
        free(path);
    }
    if (dir) closedir(dir);
    assert_int_equal(rmdir(folder), 0);
    free(folder);
}

static inline int64_t size_of(const char *path) {
    struct stat s;
    return stat(path, &s) ? -1 : (int64_t)s.st_size;
}

/* Part `number` of the demo in three parts, which are written to that folder if there is none yet. */
static inline char *demo_part(const char *folder, uint32_t number) {
    char *stem = join(folder, "demo"), *path = split_path(stem, number, N_PARTS);
    if (size_of(path) < 0) assert_int_equal(split_write(DEMO, stem, &(split_recipe){.each = EACH}), N_PARTS);
    free(stem);
    return path;
}

/* ---- running */

static inline child run(char *const *argv) {
    return child_run((child_setup){.argv = argv});
}

#define RUN(...) run((char *[]){__VA_ARGS__, NULL})

static inline void assert_silent(child c) {
    if (c.exit_code || c.err_size || c.out_size)
        fail_msg("exit %d; it said: %s%s", c.exit_code, c.out, c.err);
    child_free(&c);
}

/* It ended with that status and one line that holds both texts, and said no more. */
static inline void assert_refused_with(child c, int status, const char *message, const char *other,
                                       const char *what) {
    const char *newline = strchr(c.err, '\n');
    if (c.exit_code != status || !newline || newline[1] || c.out_size || !strstr(c.err, message) ||
        !strstr(c.err, other))
        fail_msg("%s: exit %d, expected %d with \"%s\" and \"%s\"; it said: %s%s", what, c.exit_code, status,
                 message, other, c.out, c.err);
    child_free(&c);
}

static inline void assert_refused(child c, const char *message, const char *other, const char *what) {
    assert_refused_with(c, 1, message, other, what);
}

/* What it wrote, to be freed. */
static inline char *text_of(child c) {
    if (c.exit_code) fail_msg("exit %d; it said: %s", c.exit_code, c.err);
    char *text = strdup(c.out);
    assert_non_null(text);
    child_free(&c);
    return text;
}

#define ASK "-p", PROMPT, "-n", "24", "-s", "1"

/* What the unsplit demo says, compiled. */
static inline const char *story(void) {
    static char *text;
    if (!text) text = text_of(RUN(compiler, "run", DEMO, ASK));
    assert_true(strlen(text) > strlen(PROMPT) + 40);
    return text;
}

/* Frees the text. */
static inline void assert_story(char *text) {
    assert_string_equal(text, story());
    free(text);
}

#endif
