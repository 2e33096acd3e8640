/* tokenizer.c - see tokenizer.h for what is computed; here is how.
 *
 * Special tokens are marked in an array beside the text, one length after the other, the longest
 * first: at each position that begins with a byte that some special token of this length begins
 * with, the hash of that many bytes is looked up. The cost does not grow with the number of special
 * tokens, of which some models have thousands.
 *
 * What lies between them is a chain of symbols (characters at first) and a heap of pairs. A pair
 * names its left symbol and the size of both together; a later merge that touches either changes
 * that sum, which is how a pair that is out of date is recognised when it comes up: the left symbol
 * only ever grows by swallowing the right one. Each merge adds at most two pairs.
 */
#include "tokenizer.h"

#include <stdlib.h>
#include <string.h>

#define NONE UINT32_MAX

typedef struct symbol {
    uint32_t prev, next; /* neighbours in the chain, or NONE */
    uint32_t at, size;   /* bytes of work.text; size 0: merged into another */
} symbol;

typedef struct pair {
    float score;
    uint32_t left, size;
} pair;

typedef struct work {
    const ggufc_vocab *vocab;
    const char *raw;
    size_t raw_size;
    int32_t *marks; /* per byte of raw: 0 text, id + 1 where a token begins, -1 within */
    char *text;     /* the fragment at hand, escaped */
    uint32_t text_size;
    symbol *symbols;
    size_t symbol_capacity;
    pair *pairs;
    size_t n_pairs, pair_capacity;
    int32_t *out;
    size_t capacity;
    int64_t n_out;
} work;

static bool grow(void **items, size_t *capacity, size_t need, size_t size) {
    if (need <= *capacity) return true;
    size_t wanted = need + need / 2;
    void *moved = realloc(*items, wanted * size);
    if (!moved) return false;
    *items = moved;
    *capacity = wanted;
    return true;
}

static uint32_t token_size(const ggufc_vocab *v, int32_t id) {
    return v->offsets[id + 1] - v->offsets[id];
}

static void emit_token(work *w, int32_t id) {
    if ((uint64_t)w->n_out < w->capacity) w->out[w->n_out] = id;
    w->n_out++;
}

/* ---- special tokens */

static bool is_split_at(const ggufc_vocab *v, int32_t id, unsigned flags) {
    switch (v->types[id] & GGUFC_TOKEN_TYPE) {
    case GGUFC_TOKEN_USER_DEFINED:
        return true;
    case GGUFC_TOKEN_CONTROL:
    case GGUFC_TOKEN_UNKNOWN:
        return flags & TOKENIZER_PARSE_SPECIAL;
    default:
        return false;
    }
}

static bool is_white(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_unmarked(const int32_t *marks, size_t size) {
    for (size_t i = 0; i < size; i++)
        if (marks[i]) return false;
    return true;
}

/* Marks token `id` at `at`, and returns where to search on. */
static size_t mark_token(work *w, size_t at, uint32_t size, int32_t id) {
    size_t end = at + size;
    w->marks[at] = id + 1;
    for (size_t i = at + 1; i < end; i++) w->marks[i] = -1;
    if (!(w->vocab->types[id] & GGUFC_TOKEN_STRIPS)) return end;
    while (end < w->raw_size && !w->marks[end] && is_white(w->raw[end])) w->marks[end++] = -1;
    return end;
}

/* Marks every special token of `size` bytes; firsts has the bytes that they begin with. */
static void mark_tokens_of_size(work *w, uint32_t size, const bool firsts[256], unsigned flags) {
    size_t at = 0;
    while (w->raw_size - at >= size) {
        if (firsts[(unsigned char)w->raw[at]] && is_unmarked(w->marks + at, size)) {
            int32_t id = ggufc_vocab_find(w->vocab, w->raw + at, size);
            if (id >= 0 && is_split_at(w->vocab, id, flags)) {
                at = mark_token(w, at, size, id);
                continue;
            }
        }
        at++;
    }
}

static bool mark_special(work *w, unsigned flags) {
    const ggufc_vocab *v = w->vocab;
    w->marks = calloc(w->raw_size, sizeof *w->marks);
    if (!w->marks) return false;
    for (uint32_t i = 0; i < v->n_special;) {
        bool firsts[256] = { false }, any = false;
        uint32_t size = token_size(v, v->special[i]);
        for (; i < v->n_special && token_size(v, v->special[i]) == size; i++) {
            if (!size || !is_split_at(v, v->special[i], flags)) continue;
            firsts[(unsigned char)v->text[v->offsets[v->special[i]]]] = any = true;
        }
        if (any) mark_tokens_of_size(w, size, firsts, flags);
    }
    return true;
}

/* ---- the heap of pairs: best score first, then the leftmost */

static bool is_before(const pair *a, const pair *b) {
    return a->score > b->score || (a->score == b->score && a->left < b->left);
}

static bool push_pair(work *w, pair p) {
    if (!grow((void **)&w->pairs, &w->pair_capacity, w->n_pairs + 1, sizeof *w->pairs))
        return false;
    size_t i = w->n_pairs++;
    for (; i && is_before(&p, &w->pairs[(i - 1) / 2]); i = (i - 1) / 2)
        w->pairs[i] = w->pairs[(i - 1) / 2];
    w->pairs[i] = p;
    return true;
}

static pair pop_pair(work *w) {
    pair top = w->pairs[0], last = w->pairs[--w->n_pairs];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < w->n_pairs; i = child) {
        if (child + 1 < w->n_pairs && is_before(&w->pairs[child + 1], &w->pairs[child])) child++;
        if (!is_before(&w->pairs[child], &last)) break;
        w->pairs[i] = w->pairs[child];
    }
    w->pairs[i] = last;
    return top;
}

/* ---- fragments */

static uint32_t character_size(char first) {
    unsigned char c = (unsigned char)first;
    return c < 0xc0 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

/* Pairs symbol `left` with the one after it, where together they are a token. */
static bool add_pair(work *w, uint32_t left) {
    if (left == NONE || w->symbols[left].next == NONE) return true;
    const symbol *s = &w->symbols[left];
    uint32_t size = s->size + w->symbols[s->next].size;
    int32_t id = ggufc_vocab_find(w->vocab, w->text + s->at, size);
    if (id < 0) return true;
    return push_pair(w, (pair){ .score = w->vocab->scores[id], .left = left, .size = size });
}

static bool split_characters(work *w) {
    uint32_t n = 0;
    for (uint32_t at = 0; at < w->text_size; n++) {
        uint32_t size = character_size(w->text[at]), rest = w->text_size - at;
        if (!grow((void **)&w->symbols, &w->symbol_capacity, (size_t)n + 1, sizeof *w->symbols))
            return false;
        if (size > rest) size = rest;
        w->symbols[n] = (symbol){ .prev = n ? n - 1 : NONE, .next = n + 1, .at = at, .size = size };
        at += size;
    }
    w->symbols[n - 1].next = NONE;
    for (uint32_t i = 0; i + 1 < n; i++)
        if (!add_pair(w, i)) return false;
    return true;
}

static bool merge_pairs(work *w) {
    while (w->n_pairs) {
        pair best = pop_pair(w);
        symbol *left = &w->symbols[best.left];
        if (!left->size || left->next == NONE) continue;
        symbol *right = &w->symbols[left->next];
        if (left->size + right->size != best.size) continue;
        left->size = best.size;
        right->size = 0;
        left->next = right->next;
        if (left->next != NONE) w->symbols[left->next].prev = best.left;
        if (!add_pair(w, left->prev) || !add_pair(w, best.left)) return false;
    }
    return true;
}

static void emit_symbol(work *w, const symbol *s) {
    const char *text = w->text + s->at;
    int32_t id = ggufc_vocab_find(w->vocab, text, s->size);
    if (id >= 0) {
        emit_token(w, id);
        return;
    }
    for (uint32_t i = 0; i < s->size; i++) {
        id = w->vocab->byte_tokens[(unsigned char)text[i]];
        if (id < 0) id = w->vocab->unk;
        if (id >= 0) emit_token(w, id);
    }
}

static void escape_byte(work *w, char c) {
    if (c == ' ') {
        memcpy(w->text + w->text_size, "\xe2\x96\x81", 3);
        w->text_size += 3;
    } else {
        w->text[w->text_size++] = c;
    }
}

static bool encode_fragment(work *w, size_t begin, size_t end, bool prefix) {
    w->text_size = 0;
    w->n_pairs = 0;
    if (prefix) escape_byte(w, ' ');
    for (size_t i = begin; i < end; i++) escape_byte(w, w->raw[i]);
    if (!split_characters(w) || !merge_pairs(w)) return false;
    for (uint32_t i = 0; i != NONE; i = w->symbols[i].next) emit_symbol(w, &w->symbols[i]);
    return true;
}

static bool encode_text(work *w) {
    bool after_special = true;
    for (size_t at = 0, end; at < w->raw_size; at = end) {
        end = at + 1;
        if (w->marks[at] > 0) {
            emit_token(w, w->marks[at] - 1);
            while (end < w->raw_size && w->marks[end] < 0) end++;
            after_special = true;
            continue;
        }
        while (end < w->raw_size && !w->marks[end]) end++;
        if (!encode_fragment(w, at, end, after_special && w->vocab->add_space_prefix)) return false;
        after_special = false;
    }
    return true;
}

static bool encode_all(work *w, unsigned flags) {
    const ggufc_vocab *v = w->vocab;
    if ((flags & TOKENIZER_ADD_SPECIAL) && v->add_bos && v->bos >= 0) emit_token(w, v->bos);
    if (w->raw_size) {
        size_t room = w->raw_size + 3;
        for (size_t i = 0; i < w->raw_size; i++) room += w->raw[i] == ' ' ? 2 : 0;
        w->text = malloc(room);
        if (!w->text || !mark_special(w, flags) || !encode_text(w)) return false;
    }
    if ((flags & TOKENIZER_ADD_SPECIAL) && v->add_eos && v->eos >= 0) emit_token(w, v->eos);
    return true;
}

int64_t tokenizer_encode(const ggufc_vocab *vocab, const char *text, size_t size, unsigned flags,
                         int32_t *out, size_t capacity) {
    if (size > TOKENIZER_MAX_TEXT) return TOKENIZER_TOO_LONG;
    work w = { .vocab = vocab, .raw = text, .raw_size = size, .out = out, .capacity = capacity };
    bool done = encode_all(&w, flags);
    free(w.marks);
    free(w.text);
    free(w.symbols);
    free(w.pairs);
    return done ? w.n_out : TOKENIZER_NO_MEMORY;
}

/* ---- back to text */

/* What is being written, and how much of it there is room for. */
typedef struct piece {
    char *out;
    size_t size, capacity;
} piece;

static void put_byte(piece *p, char c) {
    if (p->size < p->capacity) p->out[p->size] = c;
    p->size++;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

/* The byte of "<0x0A>", or -1. */
static int byte_of_text(const char *text, uint32_t size) {
    if (size != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') return -1;
    int high = hex_digit(text[3]), low = hex_digit(text[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

static void put_text(piece *p, const char *text, uint32_t size, bool unescape) {
    for (uint32_t i = 0; i < size; i++) {
        if (unescape && size - i >= 3 && memcmp(text + i, "\xe2\x96\x81", 3) == 0) {
            put_byte(p, ' ');
            i += 2;
        } else {
            put_byte(p, text[i]);
        }
    }
}

size_t tokenizer_piece(const ggufc_vocab *vocab, int32_t id, char *out, size_t capacity,
                       unsigned flags) {
    if (id < 0 || (uint32_t)id >= vocab->n_tokens) return 0;
    piece p = { .out = out, .capacity = capacity };
    const char *text = vocab->text + vocab->offsets[id];
    uint32_t size = token_size(vocab, id);
    int byte;
    switch (vocab->types[id] & GGUFC_TOKEN_TYPE) {
    case GGUFC_TOKEN_NORMAL:
        put_text(&p, text, size, true);
        break;
    case GGUFC_TOKEN_USER_DEFINED:
        put_text(&p, text, size, false);
        break;
    case GGUFC_TOKEN_UNKNOWN:
    case GGUFC_TOKEN_CONTROL:
        if (flags & TOKENIZER_SHOW_SPECIAL) put_text(&p, text, size, false);
        break;
    case GGUFC_TOKEN_BYTE:
        byte = byte_of_text(text, size);
        if (byte >= 0)
            put_byte(&p, (char)byte);
        else
            put_text(&p, text, size, true);
        break;
    default:
        break;
    }
    return p.size;
}

size_t tokenizer_max_piece(const ggufc_vocab *vocab) {
    uint32_t max = 0;
    for (uint32_t i = 0; i < vocab->n_tokens; i++) {
        uint32_t size = token_size(vocab, (int32_t)i);
        if (size > max) max = size;
    }
    return max;
}

bool tokenizer_is_end(const ggufc_vocab *vocab, int32_t id) {
    if (id < 0 || (uint32_t)id >= vocab->n_tokens) return false;
    return id == vocab->eos || id == vocab->eot || (vocab->types[id] & GGUFC_TOKEN_ENDS);
}
