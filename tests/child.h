/* child.h - runs a program, or a function, as a child process and keeps what it wrote; for tests.
 *
 *     child c = child_run((child_setup){ .argv = argv, .input = "Once" });
 *     assert_int_equal(c.exit_code, 0); … c.out, c.err …
 *     child_free(&c);
 *
 * Standard output and standard error go to unlinked temporary files, so that neither can fill up
 * and block; a setup may name other descriptors instead.
 */
#ifndef GGUFC_TESTS_CHILD_H
#define GGUFC_TESTS_CHILD_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct child_setup {
    char *const *argv;                      /* argv[0] is the program's path */
    int (*function)(int argc, char **argv); /* called instead of executing argv[0] */
    const char  *input;                     /* on standard input; NULL: nothing there */
    int          in_fd, out_fd;             /* used when not 0 */
} child_setup;

typedef struct child {
    pid_t pid;
    FILE *out_file, *err_file;
    int   exit_code; /* 128 + signal when killed by one */
    char *out, *err; /* NUL-terminated */
    size_t out_size, err_size;
} child;

static inline int child_argc(char *const *argv) {
    int n = 0;
    while (argv[n]) n++;
    return n;
}

static inline FILE *child_temporary(const char *content) {
    FILE *f = tmpfile();
    if (!f || (content && fputs(content, f) < 0) || fflush(f) != 0) abort();
    rewind(f);
    return f;
}

static inline child child_start(child_setup s) {
    child c = { .out_file = child_temporary(NULL), .err_file = child_temporary(NULL) };
    FILE *in = child_temporary(s.input);
    fflush(NULL);
    c.pid = fork();
    if (c.pid < 0) abort();
    if (c.pid == 0) {
        if (dup2(s.in_fd ? s.in_fd : fileno(in), 0) < 0 ||
            dup2(s.out_fd ? s.out_fd : fileno(c.out_file), 1) < 0 ||
            dup2(fileno(c.err_file), 2) < 0)
            _exit(125);
        if (s.function) exit(s.function(child_argc(s.argv), (char **)s.argv));
        execv(s.argv[0], s.argv);
        _exit(126);
    }
    fclose(in);
    return c;
}

static inline char *child_read(FILE *f, size_t *size) {
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    char *text = malloc(*size + 1);
    if (!text || fread(text, 1, *size, f) != *size) abort();
    text[*size] = '\0';
    fclose(f);
    return text;
}

static inline void child_finish(child *c) {
    int status = 0;
    if (waitpid(c->pid, &status, 0) != c->pid) abort();
    c->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    c->out = child_read(c->out_file, &c->out_size);
    c->err = child_read(c->err_file, &c->err_size);
    c->out_file = c->err_file = NULL;
}

static inline child child_run(child_setup s) {
    child c = child_start(s);
    child_finish(&c);
    return c;
}

static inline void child_free(child *c) {
    free(c->out);
    free(c->err);
}

#endif
