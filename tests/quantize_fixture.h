/* quantize_fixture.h - `ggufc quantize` driven as a user does, for tests: models to begin with, importance
 * matrices, and what came out of it.
 *
 * The compiler is $GGUFC, or out/ggufc. */
#ifndef GGUFC_TESTS_QUANTIZE_FIXTURE_H
#define GGUFC_TESTS_QUANTIZE_FIXTURE_H

#include "odd_models.h"

#include "child.h"
#include "gguf_writer.h"
#include "mixture.h"

#include <math.h>
#include <sys/stat.h>

#define DEMO   "tests/models/storyteller-q8_0.gguf"
#define SHARED "../shared/demo-model/"

/* Rows of 96 and 160: nothing of 256 fits. And rows of 256 and 512, more of them than a piece has. */
static const odd_model narrow_model = { "narrow", "tiny --type f32", "", "" };
static const odd_model wide_model = { "wide", "--layers 2 --embd 256 --heads 4 --kv-heads 2 --ff 512 "
                                      "--vocab 1100 --ctx 64 --type f32", "", "" };

static char compiler[4096], narrow[300], wide[300], out[300], importance[300];

static inline int make_models(void **state) {
    const char *path = getenv("GGUFC");
    (void)state;
    snprintf(compiler, sizeof compiler, "%s", path && *path ? path : "out/ggufc");
    snprintf(narrow, sizeof narrow, "%s", odd_model_make(&narrow_model, 900));
    snprintf(wide, sizeof wide, "%s", odd_model_make(&wide_model, 901));
    snprintf(out, sizeof out, "%s", compiled_path("result.gguf"));
    snprintf(importance, sizeof importance, "%s", compiled_path("importance.gguf"));
    return 0;
}

/* ---- running; `words` have blanks between, and PATHS stand for {narrow}, {wide}, {out}, {importance}. */

static inline char *expand_word(const char *word) {
    static const struct {
        const char *name, *path;
    } paths[] = {
        { "{narrow}", narrow }, { "{wide}", wide }, { "{out}", out }, { "{importance}", importance },
    };
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        const char *at = strstr(word, paths[i].name);
        char       *text = at ? malloc(strlen(word) + strlen(paths[i].path) + 1) : NULL;
        if (!text) continue;
        sprintf(text, "%.*s%s%s", (int)(at - word), word, paths[i].path, at + strlen(paths[i].name));
        return text;
    }
    return strdup(word);
}

typedef int child_function(int argc, char **argv);

static inline child start_line(const char *words, child_function *function) {
    char  copy[1024], *rest = copy, *argv[40] = { compiler, "quantize" };
    int   n = 2;
    snprintf(copy, sizeof copy, "%s", words);
    for (char *word; (word = strtok_r(rest, " ", &rest)) && n < 39;) argv[n++] = expand_word(word);
    child c = child_start((child_setup){ .argv = argv, .function = function });
    for (int i = 2; i < n; i++) free(argv[i]);
    return c;
}

static inline child quantize(const char *words) {
    child c = start_line(words, NULL);
    child_finish(&c);
    return c;
}

static inline void assert_made(const char *words) {
    child c = quantize(words);
    if (c.exit_code || c.out_size) fail_msg("quantize %s: exit %d: %s%s", words, c.exit_code, c.out, c.err);
    child_free(&c);
}

static inline bool exists(const char *path) {
    struct stat s;
    return lstat(path, &s) == 0;
}

/* A file that is written under another name. */
static inline bool has_temporary(void) {
    DIR *dir = opendir(compiled_dir);
    bool found = false;
    for (struct dirent *d; dir && (d = readdir(dir));) found |= strstr(d->d_name, ".tmp") != NULL;
    if (dir) closedir(dir);
    return found;
}

/* ---- reading what there is */

typedef struct model {
    arena     *memory;
    gguf_file *file;
} model;

static inline model open_model(const char *path) {
    diag  d = { 0 };
    model m = { .memory = arena_new() };
    m.file = gguf_open(m.memory, &d, path);
    if (!m.file) fail_msg("%s cannot be read", path);
    return m;
}

static inline void close_model(model *m) {
    gguf_close(m->file);
    arena_free(m->memory);
}

static inline const gguf_tensor *tensor_of(const model *m, const char *name) {
    const gguf_tensor *t = gguf_find_tensor(m->file, name);
    if (!t) fail_msg("%s has no tensor '%s'", m->file->path, name);
    return t;
}

static inline const char *type_of(const model *m, const char *name) {
    return quant_find(tensor_of(m, name)->type)->name;
}

/* All of a file, to be freed. */
static inline char *read_whole(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s cannot be opened", path);
    return child_read(f, size);
}

static inline bool same_file(const char *a, const char *b) {
    size_t na, nb;
    char  *x = read_whole(a, &na), *y = read_whole(b, &nb);
    bool   same = na == nb && !memcmp(x, y, na);
    free(x);
    free(y);
    return same;
}

static inline void write_whole(const char *path, const void *data, size_t size) {
    FILE *f = fopen(path, "wb");
    assert_true(f && fwrite(data, 1, size, f) == size && !fclose(f));
}

/* ---- importance matrices */

/* What is odd about one; all zero: nothing. */
typedef struct oddities {
    const char *general_type; /* NULL: "imatrix" */
    const char *missing;      /* a matrix without an entry; NULL: none */
    bool        no_counts, other_type, negative, not_finite, narrower;
} oddities;

static inline bool gets_entry(const gguf_tensor *t, const oddities *odd) {
    char name[80];
    snprintf(name, sizeof name, "%.*s", (int)t->name.size, t->name.data);
    if (!mixture_quantizes(t) || !strcmp(name, "token_embd.weight")) return false;
    return !odd->missing || strcmp(name, odd->missing) != 0;
}

static inline void put_entry(gguf_writer *w, const gguf_tensor *t, const oddities *odd) {
    char     name[96];
    uint64_t columns = t->dims[0] - (odd->narrower ? 32 : 0), n = t->dims[2];
    snprintf(name, sizeof name, "%.*s.in_sum2", (int)t->name.size, t->name.data);
    writer_tensor(w, name, 2, (uint64_t[]){ columns, n }, odd->other_type ? QUANT_F16 : QUANT_F32);
    snprintf(name, sizeof name, "%.*s.counts", (int)t->name.size, t->name.data);
    if (!odd->no_counts) writer_tensor(w, name, 2, (uint64_t[]){ 1, n }, QUANT_F32);
}

/* Importance of column i, of a matrix that met 4 tokens: times four in the file. */
static inline float made_importance(uint64_t i) {
    return (float)(i * 7 % 13 + 1) / 8;
}

static inline void fill_entry(uint8_t **to, const gguf_tensor *t, const oddities *odd) {
    uint64_t columns = t->dims[0] - (odd->narrower ? 32 : 0), n = columns * t->dims[2];
    float   *sums = (float *)(void *)*to;
    if (odd->other_type) {
        *to += round_up(n * 2, WRITER_ALIGNMENT) + round_up(t->dims[2] * 4, WRITER_ALIGNMENT);
        return;
    }
    for (uint64_t i = 0; i < n; i++) sums[i] = 4 * made_importance(i);
    if (odd->negative) sums[3] = -1;
    if (odd->not_finite) sums[3] = INFINITY;
    *to += round_up(n * 4, WRITER_ALIGNMENT);
    if (odd->no_counts) return;
    for (uint64_t i = 0; i < t->dims[2]; i++) ((float *)(void *)*to)[i] = 4;
    *to += round_up(t->dims[2] * 4, WRITER_ALIGNMENT);
}

/* Makes {importance} for the model. */
static inline void make_importance(const char *path, oddities odd) {
    static const char *const datasets[] = { "stories.txt" };
    model       m = open_model(path);
    gguf_writer w;
    writer_begin(&w);
    writer_kv_string(&w, "general.type", odd.general_type ? odd.general_type : "imatrix");
    writer_kv_strings(&w, "imatrix.datasets", datasets, 1);
    writer_kv_u32(&w, "imatrix.chunk_count", 5);
    writer_kv_u32(&w, "imatrix.chunk_size", 64);
    for (uint64_t i = 0; i < m.file->n_tensors; i++)
        if (gets_entry(&m.file->tensors[i], &odd)) put_entry(&w, &m.file->tensors[i], &odd);
    uint8_t *to = writer_finish(&w);
    for (uint64_t i = 0; i < m.file->n_tensors; i++)
        if (gets_entry(&m.file->tensors[i], &odd)) fill_entry(&to, &m.file->tensors[i], &odd);
    write_whole(importance, w.data, w.size);
    writer_free(&w);
    close_model(&m);
}

#endif
