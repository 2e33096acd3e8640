/* Whose tokens are evaluated. */
#include "comparison.h"

#include "tokenizer.h"

#include <string.h>

const ggufc_vocab *compare_vocab(const engine *file) {
    return file && file->compilation.has_vocab ? &file->compilation.vocab.vocab : NULL;
}

/* ---- text and tokens */

compare_ids compare_encode(arena *a, const ggufc_vocab *v, const char *text, size_t size, unsigned flags) {
    size_t      room = size + 16;
    compare_ids t = { ARENA_ARRAY(a, int32_t, room), 0 };
    int64_t     n = tokenizer_encode(v, text, size, flags, t.data, room);
    if (n > (int64_t)room) {
        t.data = ARENA_ARRAY(a, int32_t, (size_t)n);
        n = tokenizer_encode(v, text, size, flags, t.data, (size_t)n);
    }
    t.n = n > 0 ? (uint32_t)n : 0;
    return t;
}

const char *compare_decode(arena *a, const ggufc_vocab *v, const int32_t *tokens, uint32_t n, unsigned flags) {
    size_t size = 0, room = 1;
    for (uint32_t i = 0; i < n; i++) room += tokenizer_piece(v, tokens[i], NULL, 0, flags);
    char *text = arena_alloc(a, room);
    for (uint32_t i = 0; i < n; i++) size += tokenizer_piece(v, tokens[i], text + size, room - size, flags);
    return v->add_space_prefix && *text == ' ' ? text + 1 : text;
}

const char *compare_token_text(const comparison *c, int32_t id) {
    const ggufc_vocab *v = compare_vocab(c->base);
    if (!v) return NULL;
    size_t n = tokenizer_piece(v, id, NULL, 0, TOKENIZER_SHOW_SPECIAL);
    char  *text = arena_alloc(c->memory, n + 1);
    tokenizer_piece(v, id, text, n, TOKENIZER_SHOW_SPECIAL);
    return text;
}

bool compare_same_ids(const int32_t *a, uint32_t n_a, const int32_t *b, uint32_t n_b) {
    return n_a == n_b && (!n_a || !memcmp(a, b, n_a * sizeof *a));
}

/* ---- whose tokens */

static bool tokenize(comparison *c, compare_input *in, const char *text, size_t size) {
    const ggufc_vocab *v = compare_vocab(in->file);
    if (!v)
        return diag_error(c->d, "%s: has no tokenizer that is supported: give token ids with --tokens",
                          in->name);
    compare_ids t = compare_encode(c->memory, v, text, size, TOKENIZER_ADD_SPECIAL | TOKENIZER_PARSE_SPECIAL);
    if (!t.n) return diag_error(c->d, "the text is empty, or too long");
    in->tokens = t.data;
    in->n_tokens = t.n;
    return true;
}

static bool check_ids(const comparison *c) {
    if (!c->n_tokens) return diag_error(c->d, "there are no tokens to evaluate");
    if (c->n_tokens > GGUFC_MAX_TOKENS)
        return diag_error(c->d, "%u tokens; at most %d can be evaluated", c->n_tokens, GGUFC_MAX_TOKENS);
    for (uint32_t i = 0; i < c->n_tokens; i++)
        if (c->tokens[i] < 0 || (uint64_t)c->tokens[i] >= c->g->n_vocab)
            return diag_error(c->d, "token %d at position %u is not in the vocabulary of %llu", c->tokens[i],
                              i, (unsigned long long)c->g->n_vocab);
    return true;
}

/* What is to be tokenized: the text that was given, else one that a side has recorded. */
typedef struct source {
    const char *text;
    size_t      size;
    bool        recorded;
} source;

static source find_text(const comparison *c) {
    const compare_options *o = c->options;
    source s = { o->text, o->text_size, false };
    for (int i = 0; i < 2 && !s.text && !o->tokens; i++)
        if (c->in[i].recording && c->in[i].recording->prompt) {
            s.text = c->in[i].recording->prompt;
            s.size = strlen(s.text);
            s.recorded = true;
        }
    return s;
}

/* A side's own tokens: as recorded, as given, or of the text. A recorded text need not be tokenized:
   its tokens may be recorded too. */
static bool find_own(comparison *c, compare_input *in, const source *s) {
    if (in->recording) {
        in->tokens = in->recording->tokens;
        in->n_tokens = in->recording->n_tokens;
    } else if (c->options->tokens) {
        in->tokens = c->options->tokens;
        in->n_tokens = c->options->n_tokens;
    } else if (s->text && (!s->recorded || compare_vocab(in->file))) {
        return tokenize(c, in, s->text, s->size);
    }
    return true;
}

/* Where neither side has tokens of its own: both are recordings that do not say. */
static bool find_given(comparison *c, const source *s) {
    compare_input given = { .name = c->report->model, .file = c->base };
    if (c->options->tokens) {
        given.tokens = c->options->tokens;
        given.n_tokens = c->options->n_tokens;
    } else if (s->text && !tokenize(c, &given, s->text, s->size)) {
        return false;
    }
    c->tokens = given.tokens;
    c->n_tokens = given.n_tokens;
    return c->tokens || diag_error(c->d, "nothing to evaluate: give a text with -p or -f, or ids with --tokens");
}

static void note_tokens(comparison *c) {
    const compare_input *in = c->in;
    for (int i = 0; i < 2; i++)
        if (in[i].recording && !in[i].tokens)
            compare_note(c, "%s does not say of which tokens it is: those given are taken", i ? "B" : "A");
    bool given = c->options->text || c->options->tokens;
    if (given && in[0].recording && in[1].recording && (in[0].tokens || in[1].tokens))
        compare_note(c, "the text or tokens that were given are left out: those recorded are taken");
    if (c->n_tokens > c->g->n_ctx_train && c->g->n_ctx_train)
        compare_note(c, "%u tokens are more than the %llu that the model was trained for", c->n_tokens,
                     (unsigned long long)c->g->n_ctx_train);
}

bool compare_tokens(comparison *c) {
    compare_input *in = c->in;
    source         s = find_text(c);
    for (int i = 0; i < 2; i++)
        if (!find_own(c, &in[i], &s)) return false;
    if (in[0].tokens && in[1].tokens &&
        !compare_same_ids(in[0].tokens, in[0].n_tokens, in[1].tokens, in[1].n_tokens)) {
        c->report->tokens_differ = compare_tokens_why(c, s.text, s.size);
        return false;
    }
    const compare_input *from = in[0].tokens ? &in[0] : &in[1];
    c->tokens = from->tokens;
    c->n_tokens = from->n_tokens;
    if ((!c->tokens && !find_given(c, &s)) || !check_ids(c)) return false;
    note_tokens(c);
    c->report->tokens = c->tokens;
    c->report->n_tokens = c->n_tokens;
    const ggufc_vocab *v = compare_vocab(c->base);
    if (v) c->report->text = compare_decode(c->memory, v, c->tokens, c->n_tokens, 0);
    return true;
}
