/* recording_fixture.h - a folder of files that a test makes, and recordings opened in it.
 *
 *     scene s = scene_new();                                a new, empty folder
 *     scene_write(&s, "layer_0.txt", "1\n2\n");
 *     scene_open(&s, "", NULL);                             the folder; or a file in it
 *     assert_non_null(s.r);                                 else s.line is the one message
 *     scene_free(&s);                                       and the folder with all files is gone
 */
#ifndef GGUFC_TESTS_RECORDING_FIXTURE_H
#define GGUFC_TESTS_RECORDING_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "recording.h"

typedef struct scene {
    char       folder[256];
    arena     *a;
    diag       d;
    recording *r;
    char       line[1500]; /* the last message, the folder's name in it replaced by "~" */
} scene;

/* Messages are compared without what differs from run to run. */
static inline void scene_keep_line(void *user, enum diag_level level, const char *line) {
    scene *s = user;
    size_t n = 0, folder = strlen(s->folder);
    assert_int_equal(level, DIAG_ERROR);
    for (; *line && n + 1 < sizeof s->line; n++) {
        bool here = !strncmp(line, s->folder, folder);
        s->line[n] = here ? '~' : *line;
        line += here ? folder : 1;
    }
    s->line[n] = 0;
}

static inline scene scene_new(void) {
    scene       s = { .a = arena_new() };
    const char *base = getenv("TMPDIR");
    snprintf(s.folder, sizeof s.folder, "%s/ggufc-recording-XXXXXX", base && *base ? base : "/tmp");
    assert_non_null(mkdtemp(s.folder));
    return s;
}

static inline const char *scene_path(scene *s, const char *name) {
    return *name ? arena_printf(s->a, "%s/%s", s->folder, name) : s->folder;
}

static inline void scene_write_bytes(scene *s, const char *name, const void *data, size_t size) {
    FILE *f = fopen(scene_path(s, name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

static inline void scene_write(scene *s, const char *name, const char *text) {
    scene_write_bytes(s, name, text, strlen(text));
}

/* Either a recording or exactly one message, in a line. */
static inline void scene_open(scene *s, const char *name, const char *map) {
    recording_close(s->r);
    s->d = (diag){ .sink = scene_keep_line, .user = s };
    *s->line = 0;
    s->r = recording_open(s->a, &s->d, scene_path(s, name), map);
    assert_int_equal(s->d.n_errors, s->r ? 0 : 1);
    assert_null(strchr(s->line, '\n'));
}

/* As it was made, empty. */
static inline void scene_clear(scene *s) {
    DIR *dir = opendir(s->folder);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
            assert_int_equal(remove(scene_path(s, e->d_name)), 0);
    closedir(dir);
}

static inline void scene_free(scene *s) {
    recording_close(s->r);
    scene_clear(s);
    assert_int_equal(rmdir(s->folder), 0);
    arena_free(s->a);
}

#endif
