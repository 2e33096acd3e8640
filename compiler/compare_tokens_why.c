/* Why two engines do not have the same tokens of the same text, which is most often at its ends. */
#include "comparison.h"

#include "tokenizer.h"

#include <string.h>

#define SHOWN  24 /* ids of a list; of a longer one those about the difference */
#define BEFORE 8  /* of them before it */

/* ---- the lists */

static const char *quote(arena *a, const ggufc_vocab *v, int32_t id) {
    size_t n = tokenizer_piece(v, id, NULL, 0, TOKENIZER_SHOW_SPECIAL);
    char  *piece = arena_alloc(a, n + 1), *text = arena_alloc(a, 4 * n + 3), *to = text;
    tokenizer_piece(v, id, piece, n, TOKENIZER_SHOW_SPECIAL);
    *to++ = '\'';
    for (size_t i = 0; i < n; i++) {
        const char *shown = piece[i] == '\n' ? "\\n" : "\\x00";
        if (piece[i] && piece[i] != '\n') {
            *to++ = piece[i];
            continue;
        }
        memcpy(to, shown, strlen(shown));
        to += strlen(shown);
    }
    *to = '\'';
    return text;
}

static const char *list(const comparison *c, const compare_input *in, uint32_t difference) {
    const ggufc_vocab *v = compare_vocab(in->file ? in->file : c->base);
    arena   *a = c->memory;
    uint32_t from = in->n_tokens > SHOWN && difference > BEFORE ? difference - BEFORE : 0;
    if (from && from + SHOWN > in->n_tokens) from = in->n_tokens - SHOWN;
    const char *text = arena_printf(a, "%u %s:%s", in->n_tokens, in->n_tokens == 1 ? "token" : "tokens",
                                    from ? " …" : "");
    for (uint32_t i = from; i < in->n_tokens && i < from + SHOWN; i++)
        text = arena_printf(a, "%s %d%s", text, in->tokens[i], v ? quote(a, v, in->tokens[i]) : "");
    return from + SHOWN < in->n_tokens ? arena_printf(a, "%s …", text) : text;
}

/* ---- the ends */

/* Whether `longer` is `other` with `id` before it, or behind it. */
static bool has_before(const compare_input *longer, const compare_input *other, int32_t id) {
    return longer->n_tokens == other->n_tokens + 1 && longer->tokens[0] == id &&
           compare_same_ids(longer->tokens + 1, longer->n_tokens - 1, other->tokens, other->n_tokens);
}

static bool begins_with(const compare_input *longer, const compare_input *other) {
    return longer->n_tokens > other->n_tokens &&
           compare_same_ids(longer->tokens, other->n_tokens, other->tokens, other->n_tokens);
}

static const char *ends_cause(arena *a, const ggufc_vocab *v, const compare_input *longer,
                              const compare_input *other, const char *name, const char *other_name) {
    if (v && has_before(longer, other, v->bos) && other->tokens[0] == v->bos)
        return arena_printf(a, "%s begins with two BOS (%d%s): the text has one, and another was added", name,
                            v->bos, quote(a, v, v->bos));
    if (v && has_before(longer, other, v->bos))
        return arena_printf(a, "BOS (%d%s) is missing in %s", v->bos, quote(a, v, v->bos), other_name);
    if (!begins_with(longer, other)) return NULL;
    if (v && longer->n_tokens == other->n_tokens + 1 && longer->tokens[other->n_tokens] == v->eos)
        return arena_printf(a, "EOS (%d%s) was added in %s", v->eos, quote(a, v, v->eos), name);
    return arena_printf(a, "%s goes on where %s ends, after %u tokens: of another text, or generated", name,
                        other_name, other->n_tokens);
}

/* ---- the reading */

/* Ways in which another tokenizer may read the same text. */
static const struct {
    bool        no_special, other_prefix, no_ends;
    const char *cause;
} ways[] = {
    { false, true, false, "the space before the text: one adds it and the other does not" },
    { true, false, false, "special tokens in the text: one parses them and the other takes them for text" },
    { true, true, false, "the space before the text, and special tokens taken for text" },
    { false, true, true, "the space before the text, and BOS or EOS" },
    { true, false, true, "special tokens taken for text, and BOS or EOS" },
    { true, true, true, "the space before the text, special tokens taken for text, and BOS or EOS" },
};

static compare_ids read_so(arena *a, const ggufc_vocab *v, const char *text, size_t size, bool no_special,
                           bool other_prefix, bool no_ends) {
    ggufc_vocab other = *v;
    if (other_prefix) other.add_space_prefix = !other.add_space_prefix;
    return compare_encode(a, &other, text, size,
                          (no_special ? 0 : TOKENIZER_PARSE_SPECIAL) | (no_ends ? 0 : TOKENIZER_ADD_SPECIAL));
}

static bool is_of(const compare_input *in, const compare_ids *t) {
    return compare_same_ids(in->tokens, in->n_tokens, t->data, t->n);
}

/* One side must have read it as it should be, and the other in that way. */
static const char *reading_cause(arena *a, const ggufc_vocab *v, const compare_input *in, const char *text,
                                 size_t size) {
    compare_ids right = read_so(a, v, text, size, false, false, false);
    for (size_t w = 0; w < ARRAY_LEN(ways); w++) {
        compare_ids t = read_so(a, v, text, size, ways[w].no_special, ways[w].other_prefix, ways[w].no_ends);
        for (int i = 0; i < 2; i++)
            if (is_of(&in[i], &t) && is_of(&in[1 - i], &right)) return ways[w].cause;
    }
    return NULL;
}

/* The text is what either side's tokens say, without a BOS before it. */
static const char *decoded_cause(arena *a, const ggufc_vocab *v, const compare_input *in) {
    for (int i = 0; i < 2; i++) {
        bool        bos = in[i].n_tokens && in[i].tokens[0] == v->bos;
        const char *text = compare_decode(a, v, in[i].tokens + bos, in[i].n_tokens - bos, TOKENIZER_SHOW_SPECIAL);
        const char *cause = reading_cause(a, v, in, text, strlen(text));
        if (cause) return cause;
    }
    return NULL;
}

const char *compare_tokens_why(const comparison *c, const char *text, size_t size) {
    const ggufc_vocab   *v = compare_vocab(c->base);
    const compare_input *in = c->in;
    arena   *a = c->memory;
    uint32_t i = 0;
    while (i < in[0].n_tokens && i < in[1].n_tokens && in[0].tokens[i] == in[1].tokens[i]) i++;
    const char *cause = ends_cause(a, v, &in[0], &in[1], "A", "B");
    if (!cause) cause = ends_cause(a, v, &in[1], &in[0], "B", "A");
    if (!cause && v && text) cause = reading_cause(a, v, in, text, size);
    if (!cause && v) cause = decoded_cause(a, v, in);
    return arena_printf(a, "A has %s\nB has %s\nthey differ from token %u on%s%s", list(c, &in[0], i),
                        list(c, &in[1], i), i, cause ? "; likely cause: " : "", cause ? cause : "");
}
