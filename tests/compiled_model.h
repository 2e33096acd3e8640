/* compiled_model.h - for tests that run what the compiler made: a GGUF file is compiled in this
 * process, linked to a shared library and loaded.
 *
 *     const ggufc_model *m = compiled_model("tests/models/x.gguf", "--cpu=x86-64-v3 --unroll=4");
 *     float *logits = compiled_logits(m, "tests/models/x.gguf", tokens, count, 1, 2);
 *
 * A failure of these is a failure of the test that calls them. Everything made is in one folder,
 * which is removed at exit; a model asked for again with the same flags is the same. */
#ifndef GGUFC_TESTS_COMPILED_MODEL_H
#define GGUFC_TESTS_COMPILED_MODEL_H

#include "base.h"
#include "ggufc/compiler.h"
#include "ggufc/runtime.h"
#include "options.h"

#include <dirent.h>
#include <dlfcn.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- the folder */

static char compiled_dir[64];

static inline void compiled_clean_up(void) {
    DIR *dir = opendir(compiled_dir);
    char path[512];
    for (struct dirent *d; dir && (d = readdir(dir));) {
        snprintf(path, sizeof path, "%s/%s", compiled_dir, d->d_name);
        if (d->d_name[0] != '.') unlink(path);
    }
    if (dir) closedir(dir);
    rmdir(compiled_dir);
}

/* The path of `name` in the folder; one of eight, used in turn. */
static inline const char *compiled_path(const char *name) {
    static char paths[8][256];
    static int  turn;
    if (!*compiled_dir) {
        const char *tmp = getenv("TMPDIR");
        snprintf(compiled_dir, sizeof compiled_dir, "%.30s/ggufc-test.XXXXXX",
                 tmp && *tmp ? tmp : "/tmp");
        if (!mkdtemp(compiled_dir)) fail_msg("cannot make %s", compiled_dir);
        atexit(compiled_clean_up);
    }
    char *path = paths[turn++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", compiled_dir, name);
    return path;
}

/* Runs a program to its end, its output where ours goes; the exit status, -1 for a signal. */
static inline int compiled_run(char *const *argv) {
    int   status = 0;
    pid_t child = fork();
    if (!child) {
        execvp(argv[0], argv);
        _exit(127);
    }
    if (child < 0 || waitpid(child, &status, 0) != child) return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* ---- compiling and loading */

static inline void compiled_message(void *user, int level, const char *line) {
    (void)user;
    if (level == 2) fprintf(stderr, "%s\n", line);
}

/* Compiles `gguf` to `output`; `flags` as on the command line, separated by single spaces. */
static inline void compiled_file(const char *gguf, const char *flags, const char *output) {
    char  words[1024];
    char *argv[32] = {"ggufc", (char *)gguf, "-o", (char *)output}, *rest = words;
    int   n = 4;
    ggufc_compile_options options;
    assert_true((size_t)snprintf(words, sizeof words, "%s", flags) < sizeof words);
    while (n < 32 && (argv[n] = strtok_r(rest, " ", &rest))) n++;
    if (options_parse(&options, n, argv) != OPTIONS_COMPILE) fail_msg("bad flags: %s", flags);
    if (!ggufc_compile(&options, compiled_message, NULL))
        fail_msg("%s was not compiled (%s)", gguf, flags);
}

typedef struct compiled {
    char  gguf[256], flags[640];
    void *library;
    const ggufc_model *model;
} compiled;

static inline void compiled_load(compiled *c, int number) {
    char name[32], flags[700];
    snprintf(name, sizeof name, "model%d.o", number);
    const char *object = compiled_path(name);
    snprintf(name, sizeof name, "model%d.so", number);
    const char *library = compiled_path(name);
    snprintf(flags, sizeof flags, "--emit=obj %s", c->flags);
    compiled_file(c->gguf, flags, object);
    const char *cc = getenv("CC");
    char *argv[] = {(char *)(cc && *cc ? cc : "cc"), "-shared", "-nostdlib", "-o",
                    (char *)library, (char *)object, NULL};
    if (compiled_run(argv)) fail_msg("%s was not linked", object);
    c->library = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!c->library) fail_msg("%s", dlerror());
    c->model = dlsym(c->library, "ggufc_compiled");
    if (!c->model) fail_msg("%s", dlerror());
    unlink(library);
    unlink(object);
}

/* `flags` as on the command line; "" for none. Never NULL. */
static inline const ggufc_model *compiled_model(const char *gguf, const char *flags) {
    static compiled all[128];
    static int      n;
    for (int i = 0; i < n; i++)
        if (!strcmp(all[i].gguf, gguf) && !strcmp(all[i].flags, flags)) return all[i].model;
    assert_true(n < (int)ARRAY_LEN(all));
    compiled *c = &all[n];
    snprintf(c->gguf, sizeof c->gguf, "%s", gguf);
    snprintf(c->flags, sizeof c->flags, "%s", flags);
    compiled_load(c, n);
    n++;
    return c->model;
}

/* ---- running */

static inline ggufc_session *compiled_session(const ggufc_model *model, const char *gguf,
                                              uint32_t n_threads) {
    ggufc_session *session;
    ggufc_error    error;
    ggufc_session_options options = {
        .model = model, .weights_path = gguf, .n_threads = n_threads,
    };
    if (ggufc_session_open(&session, &options, &error) != GGUFC_OK) fail_msg("%s", error.text);
    return session;
}

typedef struct compiled_rows {
    float   *to;
    uint32_t n_vocab;
} compiled_rows;

static inline int compiled_keep(void *context, uint32_t position, const float *logits) {
    compiled_rows *rows = context;
    memcpy(rows->to + (size_t)position * rows->n_vocab, logits, rows->n_vocab * sizeof *logits);
    return 0;
}

/* The logits after each of `count` tokens, [count][n_vocab], to be freed; the tokens are given to
   the model `batch` at a time. */
static inline float *compiled_logits(const ggufc_model *model, const char *gguf,
                                     const int32_t *tokens, uint32_t count, uint32_t batch,
                                     uint32_t n_threads) {
    ggufc_session *session = compiled_session(model, gguf, n_threads);
    ggufc_error    error;
    compiled_rows  rows = {calloc((size_t)count * model->n_vocab, sizeof(float)), model->n_vocab};
    assert_non_null(rows.to);
    for (uint32_t i = 0; i < count; i += batch) {
        uint32_t n = count - i < batch ? count - i : batch;
        if (ggufc_session_evaluate_each(session, tokens + i, n, compiled_keep, &rows, &error))
            fail_msg("%s", error.text);
    }
    ggufc_session_close(session);
    return rows.to;
}

static inline uint32_t compiled_argmax(const float *logits, uint32_t n) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

/* Normalised mean square error: Σ (a - b)² / Σ b². Not a number where `a` holds one. */
static inline double compiled_nmse(const float *a, const float *b, size_t n) {
    double error = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)a[i] - (double)b[i];
        error += d * d;
        norm += (double)b[i] * (double)b[i];
    }
    return error / norm;
}

/* ---- the machine types that tests go through */

typedef struct compiled_variant {
    const char *name, *flags;
    const char *needs; /* words of /proc/cpuinfo */
} compiled_variant;

#define X86_V2 "ssse3 sse4_1 sse4_2 popcnt cx16 lahf_lm"
#define X86_V3 "avx2 fma f16c"

enum { COMPILED_NATIVE, COMPILED_AVX_VNNI, COMPILED_AVX2, COMPILED_SSSE3, COMPILED_GENERIC, COMPILED_AVX512 };

static const compiled_variant compiled_isas[] = {
    [COMPILED_NATIVE] = {"native", "", ""},
    [COMPILED_AVX_VNNI] = {"avx-vnni", "--cpu=x86-64-v3 --features=+avxvnni", X86_V3 " avx_vnni"},
    [COMPILED_AVX2] = {"avx2", "--cpu=x86-64-v3", X86_V3},
    [COMPILED_SSSE3] = {"ssse3", "--cpu=x86-64-v2", X86_V2},
    [COMPILED_GENERIC] = {"generic", "--cpu=x86-64", "sse2"},
    /* where the machine's own is AMX */
    [COMPILED_AVX512] = {"avx512", "--cpu=cooperlake", "amx_tile avx512_bf16"},
};

/* Whether this machine has all of those words. */
static inline bool compiled_can_run(const char *needs) {
    static char line[8192];
    FILE *f = *line ? NULL : fopen("/proc/cpuinfo", "r");
    while (f && fgets(line, sizeof line, f) && strncmp(line, "flags", 5)) {}
    if (f) fclose(f);
    char words[256];
    snprintf(words, sizeof words, "%s", needs);
    for (char *rest = words, *w; (w = strtok_r(rest, " ", &rest));) {
        const char *at = line;
        size_t      n = strlen(w);
        while ((at = strstr(at, w)) && (at[-1] != ' ' || (at[n] != ' ' && at[n] != '\n'))) at += n;
        if (!at) return false;
    }
    return true;
}

#endif
