/* vocab_fixture.h - vocabularies for tests: a file's, or one given as rows of tokens. */
#ifndef GGUFC_TESTS_VOCAB_FIXTURE_H
#define GGUFC_TESTS_VOCAB_FIXTURE_H

#include "gguf_writer.h"
#include "vocab.h"

#define FIXTURE_DEMO   "tests/models/storyteller-q8_0.gguf"
#define FIXTURE_SHARED "../shared/"

typedef struct fixture {
    arena *a;
    gguf_file *file;
    gguf_writer writer;
    vocab_tables tables;
    int result; /* enum vocab_result */
} fixture;

typedef struct fixture_token {
    const char *text;
    float score;
    int32_t type;
} fixture_token;

static inline void fixture_ignore(void *user, enum diag_level level, const char *line) {
    (void)user, (void)level, (void)line;
}

/* False where there is no such file. */
static inline bool fixture_open(fixture *x, const char *path) {
    diag d = { .sink = fixture_ignore };
    *x = (fixture){ .a = arena_new(), .result = VOCAB_BAD };
    x->file = gguf_open(x->a, &d, path);
    if (x->file) x->result = vocab_read(x->a, &d, x->file, &x->tables);
    return x->file != NULL;
}

/* Reads what is in x->writer. */
static inline void fixture_read(fixture *x, diag *d) {
    writer_finish(&x->writer);
    x->a = arena_new();
    x->result = VOCAB_BAD;
    x->file = gguf_parse(x->a, d, "test.gguf", x->writer.data, x->writer.size);
    if (x->file) x->result = vocab_read(x->a, d, x->file, &x->tables);
}

static inline void fixture_put_tokens(gguf_writer *w, const fixture_token *rows, size_t n) {
    writer_kv_array(w, "tokenizer.ggml.tokens", GGUF_STRING, NULL, n, 0);
    for (size_t i = 0; i < n; i++) writer_put_string(w, rows[i].text);
    writer_kv_array(w, "tokenizer.ggml.scores", GGUF_F32, NULL, n, 0);
    for (size_t i = 0; i < n; i++) writer_put(w, &rows[i].score, 4);
    writer_kv_array(w, "tokenizer.ggml.token_type", GGUF_I32, NULL, n, 0);
    for (size_t i = 0; i < n; i++) writer_put(w, &rows[i].type, 4);
}

/* A vocabulary of `n` rows; `name` is general.name. */
static inline void fixture_make(fixture *x, const char *name, const fixture_token *rows, size_t n) {
    diag d = { .sink = fixture_ignore };
    *x = (fixture){ .a = NULL };
    writer_begin(&x->writer);
    writer_kv_string(&x->writer, "general.name", name);
    writer_kv_string(&x->writer, "tokenizer.ggml.model", "llama");
    fixture_put_tokens(&x->writer, rows, n);
    fixture_read(x, &d);
}

static inline void fixture_close(fixture *x) {
    gguf_close(x->file);
    if (x->a) arena_free(x->a);
    writer_free(&x->writer);
}

#endif
