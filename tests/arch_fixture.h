/* arch_fixture.h - for tests of architectures: parsing with the messages kept, and a small Llama
 * whose keys and tensors can be changed one by one. */
#ifndef GGUFC_TESTS_ARCH_FIXTURE_H
#define GGUFC_TESTS_ARCH_FIXTURE_H

#include "arch.h"
#include "gguf_writer.h"

/* What was said, a message a line: "warning: …". */
typedef struct said {
    char   text[8192];
    size_t size;
} said;

static inline void said_add(void *user, enum diag_level level, const char *line) {
    static const char *const levels[] = { "note", "warning", "error" };
    said *s = user;
    int n = snprintf(s->text + s->size, sizeof s->text - s->size, "%s: %s\n", levels[level], line);
    if (n > 0 && s->size + (size_t)n < sizeof s->text) s->size += (size_t)n;
}

typedef struct fixture {
    arena      *memory;
    said        said;
    diag        diag;
    gguf_writer writer;
} fixture;

static inline void fixture_begin(fixture *f) {
    *f = (fixture){ .memory = arena_new() };
    f->diag = (diag){ .sink = said_add, .user = &f->said };
}

static inline void fixture_end(fixture *f) {
    writer_free(&f->writer);
    arena_free(f->memory);
}

/* A change of the model: a key or tensor is added, put in the place of the one of that name, or
   left out. */
typedef struct edit {
    const char *name; /* ends a list */
    enum { EDIT_DROP, EDIT_U32, EDIT_I32, EDIT_F32, EDIT_BOOL, EDIT_STRING, EDIT_U32S, EDIT_I32S,
           EDIT_F32S, EDIT_STRINGS, EDIT_TENSOR } kind;
    double      number;
    const char *text;
    double      numbers[4];
    uint32_t    n; /* numbers, or dimensions */
    uint64_t    dims[4];
    uint32_t    type; /* of a tensor */
} edit;

/* The model without changes: 2 layers, 4 heads of 8, 2 of them for keys and values. */
static const edit fixture_keys[] = {
    { "general.architecture", EDIT_STRING, .text = "llama" },
    { "llama.context_length", EDIT_U32, .number = 128 },
    { "llama.embedding_length", EDIT_U32, .number = 32 },
    { "llama.block_count", EDIT_U32, .number = 2 },
    { "llama.feed_forward_length", EDIT_U32, .number = 64 },
    { "llama.attention.head_count", EDIT_U32, .number = 4 },
    { "llama.attention.head_count_kv", EDIT_U32, .number = 2 },
    { "llama.attention.layer_norm_rms_epsilon", EDIT_F32, .number = 1e-5 },
};
#define FIXTURE_TENSOR(text, a, b, t) { text, EDIT_TENSOR, .n = 2, .dims = { a, b }, .type = t }
#define FIXTURE_VECTOR(text, a)       { text, EDIT_TENSOR, .n = 1, .dims = { a } }
static const edit fixture_tensors[] = {
    FIXTURE_TENSOR("token_embd.weight", 32, 100, QUANT_Q8_0),
    FIXTURE_VECTOR("output_norm.weight", 32),
    FIXTURE_TENSOR("output.weight", 32, 100, QUANT_Q8_0),
};
static const edit fixture_layer_tensors[] = {
    FIXTURE_VECTOR("blk.%d.attn_norm.weight", 32),
    FIXTURE_TENSOR("blk.%d.attn_q.weight", 32, 32, QUANT_Q8_0),
    FIXTURE_TENSOR("blk.%d.attn_k.weight", 32, 16, QUANT_Q8_0),
    FIXTURE_TENSOR("blk.%d.attn_v.weight", 32, 16, QUANT_Q8_0),
    FIXTURE_TENSOR("blk.%d.attn_output.weight", 32, 32, QUANT_Q8_0),
    FIXTURE_VECTOR("blk.%d.ffn_norm.weight", 32),
    FIXTURE_TENSOR("blk.%d.ffn_gate.weight", 32, 64, QUANT_Q8_0),
    FIXTURE_TENSOR("blk.%d.ffn_up.weight", 32, 64, QUANT_Q8_0),
    FIXTURE_TENSOR("blk.%d.ffn_down.weight", 64, 32, QUANT_Q8_0),
};

static inline const edit *edit_find(const edit *edits, const char *name) {
    for (; edits && edits->name; edits++)
        if (!strcmp(edits->name, name)) return edits;
    return NULL;
}

static inline void edit_write_array(gguf_writer *w, const edit *e) {
    uint32_t words[4];
    for (uint32_t i = 0; i < e->n; i++) {
        float f = (float)e->numbers[i];
        words[i] = (uint32_t)(int64_t)e->numbers[i];
        if (e->kind == EDIT_F32S) memcpy(&words[i], &f, 4);
    }
    enum gguf_type type = e->kind == EDIT_U32S ? GGUF_U32 : e->kind == EDIT_I32S ? GGUF_I32
                                                                                 : GGUF_F32;
    writer_kv_array(w, e->name, type, words, e->n, 4);
}

static inline void edit_write(gguf_writer *w, const edit *e, const char *name) {
    switch (e->kind) {
    case EDIT_DROP: break;
    case EDIT_U32: writer_kv_u32(w, name, (uint32_t)e->number); break;
    case EDIT_I32: writer_kv_i32(w, name, (int32_t)e->number); break;
    case EDIT_F32: writer_kv_f32(w, name, (float)e->number); break;
    case EDIT_BOOL: writer_kv_bool(w, name, e->number != 0); break;
    case EDIT_STRING: writer_kv_string(w, name, e->text); break;
    case EDIT_U32S:
    case EDIT_I32S:
    case EDIT_F32S: edit_write_array(w, e); break;
    case EDIT_STRINGS: writer_kv_strings(w, name, &e->text, 1); break;
    case EDIT_TENSOR: writer_tensor(w, name, e->n, e->dims, e->type); break;
    }
}

static inline void edit_write_either(gguf_writer *w, const edit *e, const char *name,
                                     const edit *edits) {
    const edit *other = edit_find(edits, name);
    edit_write(w, other ? other : e, name);
}

static inline bool fixture_has(const char *name, uint64_t n_layers) {
    char text[64];
    for (size_t i = 0; i < ARRAY_LEN(fixture_keys); i++)
        if (!strcmp(fixture_keys[i].name, name)) return true;
    for (size_t i = 0; i < ARRAY_LEN(fixture_tensors); i++)
        if (!strcmp(fixture_tensors[i].name, name)) return true;
    for (size_t i = 0; i < ARRAY_LEN(fixture_layer_tensors) * n_layers; i++) {
        const edit *e = &fixture_layer_tensors[i / n_layers];
        snprintf(text, sizeof text, "blk.%d%s", (int)(i % n_layers), e->name + 6);
        if (!strcmp(text, name)) return true;
    }
    return false;
}

static inline void fixture_write_new(gguf_writer *w, const edit *edits, bool tensors) {
    for (const edit *e = edits; e && e->name; e++)
        if ((e->kind == EDIT_TENSOR) == tensors && !fixture_has(e->name, 2))
            edit_write(w, e, e->name);
}

/* The model with these edits (NULL: none), read; "m.gguf" in messages. */
static inline gguf_file *fixture_model(fixture *f, const edit *edits) {
    gguf_writer *w = &f->writer;
    char name[64];
    writer_begin(w);
    for (size_t i = 0; i < ARRAY_LEN(fixture_keys); i++)
        edit_write_either(w, &fixture_keys[i], fixture_keys[i].name, edits);
    fixture_write_new(w, edits, false);
    for (size_t i = 0; i < ARRAY_LEN(fixture_tensors); i++)
        edit_write_either(w, &fixture_tensors[i], fixture_tensors[i].name, edits);
    for (int l = 0; l < 2; l++)
        for (size_t i = 0; i < ARRAY_LEN(fixture_layer_tensors); i++) {
            snprintf(name, sizeof name, "blk.%d%s", l, fixture_layer_tensors[i].name + 6);
            edit_write_either(w, &fixture_layer_tensors[i], name, edits);
        }
    fixture_write_new(w, edits, true);
    writer_finish(w);
    return gguf_parse(f->memory, &f->diag, "m.gguf", w->data, w->size);
}

/* The built-in llama.arch, "llama.arch" in messages. */
static inline arch *fixture_llama(fixture *f) {
    size_t size = 0;
    const char *text = arch_builtin("llama", &size);
    return text ? arch_parse(f->memory, &f->diag, "llama.arch", text, size) : NULL;
}

/* What graph_print says; to be freed. */
static inline char *fixture_print(const graph *g) {
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    if (!stream) abort();
    graph_print(g, stream);
    fclose(stream);
    return text;
}

#endif
