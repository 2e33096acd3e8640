/* Whose tokens are evaluated, and, where the two sides do not agree on them, why. */
#include "comparison.h"

#include "tokenizer.h"

#include <string.h>

#define SHOWN 24 /* ids in a message */

static const ggufc_vocab *vocab_of(const engine *file) {
    return file && file->compilation.has_vocab ? &file->compilation.vocab.vocab : NULL;
}

/* ---- text and tokens */

typedef struct ids {
    int32_t *data;
    uint32_t n;
} ids;

static ids encode(arena *a, const ggufc_vocab *v, const char *text, size_t size, unsigned flags) {
    size_t  room = size + 16;
    ids     t = { ARENA_ARRAY(a, int32_t, room), 0 };
    int64_t n = tokenizer_encode(v, text, size, flags, t.data, room);
    if (n > (int64_t)room) {
        t.data = ARENA_ARRAY(a, int32_t, (size_t)n);
        n = tokenizer_encode(v, text, size, flags, t.data, (size_t)n);
    }
    t.n = n > 0 ? (uint32_t)n : 0;
    return t;
}

static const char *piece(arena *a, const ggufc_vocab *v, int32_t id) {
    size_t n = tokenizer_piece(v, id, NULL, 0, TOKENIZER_SHOW_SPECIAL);
    char  *text = arena_alloc(a, n + 1);
    tokenizer_piece(v, id, text, n, TOKENIZER_SHOW_SPECIAL);
    return text;
}

const char *compare_token_text(const comparison *c, int32_t id) {
    const ggufc_vocab *v = vocab_of(c->base);
    return v ? piece(c->memory, v, id) : NULL;
}

/* What tokens stand for, without those that begin and end a text. */
static const char *decode(arena *a, const ggufc_vocab *v, const int32_t *tokens, uint32_t n) {
    size_t size = 0, room = 1;
    for (uint32_t i = 0; i < n; i++) room += tokenizer_piece(v, tokens[i], NULL, 0, 0);
    char *text = arena_alloc(a, room);
    for (uint32_t i = 0; i < n; i++)
        size += tokenizer_piece(v, tokens[i], text + size, room - size, 0);
    return v->add_space_prefix && *text == ' ' ? text + 1 : text;
}

static bool same(const int32_t *a, uint32_t n_a, const int32_t *b, uint32_t n_b) {
    return n_a == n_b && !memcmp(a, b, n_a * sizeof *a);
}

/* ---- why they differ */

static const char *list(arena *a, const ggufc_vocab *v, const compare_input *in) {
    const char *text = arena_printf(a, "%u tokens:", in->n_tokens);
    for (uint32_t i = 0; i < in->n_tokens && i < SHOWN; i++)
        text = v ? arena_printf(a, "%s %d'%s'", text, in->tokens[i], piece(a, v, in->tokens[i]))
                 : arena_printf(a, "%s %d", text, in->tokens[i]);
    return in->n_tokens > SHOWN ? arena_printf(a, "%s …", text) : text;
}

/* Whether `longer` is `other` with `id` before it, or behind it. */
static bool has_before(const compare_input *longer, const compare_input *other, int32_t id) {
    return longer->n_tokens == other->n_tokens + 1 && longer->tokens[0] == id &&
           same(longer->tokens + 1, longer->n_tokens - 1, other->tokens, other->n_tokens);
}

static bool has_behind(const compare_input *longer, const compare_input *other, int32_t id) {
    return longer->n_tokens == other->n_tokens + 1 && longer->tokens[longer->n_tokens - 1] == id &&
           same(longer->tokens, longer->n_tokens - 1, other->tokens, other->n_tokens);
}

/* The likely cause where one side has one token more; NULL where that is not so. */
static const char *ends_cause(arena *a, const ggufc_vocab *v, const compare_input *in) {
    for (int i = 0; i < 2; i++) {
        const compare_input *longer = &in[i], *other = &in[1 - i];
        const char *name = i ? "B" : "A", *other_name = i ? "A" : "B";
        if (has_before(longer, other, v->bos) && other->n_tokens && other->tokens[0] == v->bos)
            return arena_printf(a, "%s begins with two BOS (%d '%s'): the text has one, and another was added",
                                name, v->bos, piece(a, v, v->bos));
        if (has_before(longer, other, v->bos))
            return arena_printf(a, "BOS (%d '%s') is missing in %s", v->bos, piece(a, v, v->bos), other_name);
        if (has_behind(longer, other, v->eos))
            return arena_printf(a, "EOS (%d '%s') was added in %s", v->eos, piece(a, v, v->eos), name);
    }
    return NULL;
}

/* Ways in which another tokenizer may read the same text. */
static const char *reading_cause(arena *a, const ggufc_vocab *v, const compare_input *in, const char *text,
                                 size_t size) {
    static const struct {
        bool        parse_special, other_prefix, add_special;
        const char *cause;
    } ways[] = {
        { true, true, true, "the space before the text" },
        { false, false, true, "special tokens, which one of them parses and the other takes for text" },
        { false, true, true, "the space before the text, and special tokens taken for text" },
        { true, true, false, "the space before the text, and BOS" },
        { false, false, false, "special tokens taken for text, and BOS" },
    };
    ids usual = encode(a, v, text, size, TOKENIZER_ADD_SPECIAL | TOKENIZER_PARSE_SPECIAL);
    for (size_t w = 0; w < ARRAY_LEN(ways); w++) {
        ggufc_vocab other = *v;
        if (ways[w].other_prefix) other.add_space_prefix = !other.add_space_prefix;
        unsigned flags = (ways[w].parse_special ? TOKENIZER_PARSE_SPECIAL : 0) |
                         (ways[w].add_special ? TOKENIZER_ADD_SPECIAL : 0);
        ids t = encode(a, &other, text, size, flags);
        for (int i = 0; i < 2; i++)
            if (same(usual.data, usual.n, in[1 - i].tokens, in[1 - i].n_tokens) &&
                same(t.data, t.n, in[i].tokens, in[i].n_tokens))
                return ways[w].cause;
    }
    return NULL;
}

static const char *first_difference(arena *a, const compare_input *in) {
    uint32_t i = 0;
    while (i < in[0].n_tokens && i < in[1].n_tokens && in[0].tokens[i] == in[1].tokens[i]) i++;
    for (int k = 0; k < 2; k++)
        if (i == in[k].n_tokens)
            return arena_printf(a, "%s goes on where %s ends: these are two texts", k ? "A" : "B", k ? "B" : "A");
    return arena_printf(a, "they differ from token %u on", i);
}

static bool tell_difference(comparison *c, const char *text, size_t size) {
    arena *a = c->memory;
    const ggufc_vocab *v = vocab_of(c->base);
    const char *cause = v ? ends_cause(a, v, c->in) : NULL;
    if (!cause && v && !text) {
        text = decode(a, v, c->in[0].tokens, c->in[0].n_tokens);
        size = strlen(text);
    }
    if (!cause && v) cause = reading_cause(a, v, c->in, text, size);
    c->report->tokens_differ = arena_printf(
        a, "A has %s\nB has %s\n%s%s", list(a, v, &c->in[0]), list(a, v, &c->in[1]),
        cause ? "likely cause: " : "", cause ? cause : first_difference(a, c->in));
    return false;
}

/* ---- whose tokens */

static bool tokenize(comparison *c, compare_input *in, const char *text, size_t size) {
    const ggufc_vocab *v = vocab_of(in->file);
    if (!v)
        return diag_error(c->d, "%s: has no tokenizer that is supported: give token ids with --tokens",
                          in->name);
    ids t = encode(c->memory, v, text, size, TOKENIZER_ADD_SPECIAL | TOKENIZER_PARSE_SPECIAL);
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

/* A side's own tokens: as recorded, as given, or of the text. */
static bool find_own(comparison *c, compare_input *in, const char *text, size_t size) {
    if (in->recording && in->recording->tokens) {
        in->tokens = in->recording->tokens;
        in->n_tokens = in->recording->n_tokens;
    } else if (in->recording) {
        return true;
    } else if (c->options->tokens) {
        in->tokens = c->options->tokens;
        in->n_tokens = c->options->n_tokens;
    } else if (text) {
        return tokenize(c, in, text, size);
    }
    return true;
}

bool compare_tokens(comparison *c) {
    const compare_options *o = c->options;
    const char *text = o->text;
    size_t      size = o->text_size;
    for (int i = 0; i < 2 && !text && !o->tokens; i++)
        if (c->in[i].recording && c->in[i].recording->prompt) {
            text = c->in[i].recording->prompt;
            size = strlen(text);
        }
    for (int i = 0; i < 2; i++)
        if (!find_own(c, &c->in[i], text, size)) return false;
    if (c->in[0].tokens && c->in[1].tokens &&
        !same(c->in[0].tokens, c->in[0].n_tokens, c->in[1].tokens, c->in[1].n_tokens))
        return tell_difference(c, text, size);

    compare_input given = { .name = c->base->compilation.file->path, .file = c->base };
    const compare_input *from = c->in[0].tokens ? &c->in[0] : c->in[1].tokens ? &c->in[1] : &given;
    if (from == &given && o->tokens) {
        given.tokens = o->tokens;
        given.n_tokens = o->n_tokens;
    } else if (from == &given && text && !tokenize(c, &given, text, size)) {
        return false;
    }
    if (!from->tokens)
        return diag_error(c->d, "nothing to evaluate: give a text with -p or -f, or ids with --tokens");
    for (int i = 0; i < 2; i++)
        if (!c->in[i].tokens && c->in[i].recording)
            compare_note(c, "%s does not say of which tokens it is: those given are taken", i ? "B" : "A");
    c->tokens = from->tokens;
    c->n_tokens = from->n_tokens;
    if (!check_ids(c)) return false;
    c->report->tokens = c->tokens;
    c->report->n_tokens = c->n_tokens;
    const ggufc_vocab *v = vocab_of(c->base);
    if (v) c->report->text = decode(c->memory, v, c->tokens, c->n_tokens);
    return true;
}
