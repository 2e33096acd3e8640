/* golden_logits.h - all logits of a text, from a file of activations. */
#ifndef GGUFC_TESTS_GOLDEN_LOGITS_H
#define GGUFC_TESTS_GOLDEN_LOGITS_H

#include "diag.h"
#include "gguf.h"
#include "golden_stories.h"

typedef struct golden {
    uint32_t n_tokens, n_vocab;
    int32_t  tokens[STORY_MOST_TOKENS];
    float   *logits; /* [n_tokens][n_vocab], to be freed */
} golden;

static inline golden golden_read(const char *path) {
    golden     g = {0};
    arena     *memory = arena_new();
    diag       d = {0};
    gguf_file *f = gguf_open(memory, &d, path);
    gguf_array ids;
    assert_non_null(f);
    const gguf_tensor *t = gguf_find_tensor(f, "result_output");
    assert_non_null(t);
    assert_int_equal(gguf_get_array(f, &d, "activations.tokens", GGUF_I32, &ids), GGUF_PRESENT);
    g.n_tokens = (uint32_t)ids.count;
    g.n_vocab = (uint32_t)t->dims[0];
    assert_true(g.n_tokens > 0 && g.n_tokens <= STORY_MOST_TOKENS && t->dims[1] == g.n_tokens);
    for (uint32_t i = 0; i < g.n_tokens; i++) g.tokens[i] = (int32_t)gguf_array_u32(&ids, i);
    g.logits = malloc(t->bytes);
    assert_non_null(g.logits);
    memcpy(g.logits, f->data + t->offset, t->bytes);
    gguf_close(f);
    arena_free(memory);
    return g;
}

#endif
