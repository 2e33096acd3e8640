/* make_model_vocab.h - a made-up SentencePiece vocabulary of any size.
 *
 *     0 1 2        <unk> <s> </s>
 *     3 .. 258     <0x00> .. <0xFF>
 *     259 ..       "▁", a to z in the order of their frequency, then the rest of printable ASCII
 *     354 ..       merges: a piece and a shorter one that came before, joined
 *
 * Because a merge consists of two pieces with better scores, the tokenizer's merging can arrive at
 * it: a piece that is merely random text would never be used. A smaller vocabulary is cut short. */
#ifndef MAKE_MODEL_VOCAB_H
#define MAKE_MODEL_VOCAB_H

#include "make_model_values.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#define VOCAB_BYTE_0  3
#define VOCAB_LETTERS 259
#define VOCAB_MERGES  354
#define VOCAB_POOL    27 /* letters that merge: "▁" and a to z */
#define VOCAB_SPACE   "\xe2\x96\x81"

enum { VOCAB_NORMAL = 1, VOCAB_UNKNOWN = 2, VOCAB_CONTROL = 3, VOCAB_BYTE = 6 };

typedef struct vocab_piece {
    char    text[23]; /* UTF-8 */
    uint8_t size;
} vocab_piece;

typedef struct vocab {
    vocab_piece *pieces;
    uint32_t     count, wanted;
    uint32_t    *slots; /* open addressing; position + 1, 0 for empty */
    uint32_t     mask;
} vocab;

static inline float vocab_score(uint32_t id) {
    return id < VOCAB_LETTERS ? 0.0f : -(float)(id - VOCAB_LETTERS);
}

static inline int32_t vocab_type(uint32_t id) {
    if (id < VOCAB_BYTE_0)
        return id == 0 ? VOCAB_UNKNOWN : VOCAB_CONTROL;
    return id < VOCAB_LETTERS ? VOCAB_BYTE : VOCAB_NORMAL;
}

/* Adds a piece, unless it is there already or the vocabulary is full. */
static inline void vocab_add(vocab *v, const char *text, size_t size) {
    uint64_t hash = size;
    for (size_t i = 0; i < size; i++)
        hash = random_mix(hash ^ (uint8_t)text[i]);
    uint32_t slot = (uint32_t)hash & v->mask;
    for (; v->slots[slot]; slot = (slot + 1) & v->mask) {
        const vocab_piece *p = &v->pieces[v->slots[slot] - 1];
        if (p->size == size && !memcmp(p->text, text, size))
            return;
    }
    if (v->count == v->wanted)
        return;
    vocab_piece *p = &v->pieces[v->count++];
    memcpy(p->text, text, size);
    p->size = (uint8_t)size;
    v->slots[slot] = v->count;
}

static inline void vocab_add_fixed(vocab *v) {
    static const char *const specials[] = {"<unk>", "<s>", "</s>"};
    for (int i = 0; i < VOCAB_BYTE_0; i++)
        vocab_add(v, specials[i], strlen(specials[i]));
    for (unsigned byte = 0; byte < 256; byte++) {
        char text[8];
        int  size = snprintf(text, sizeof text, "<0x%02X>", byte);
        vocab_add(v, text, (size_t)size);
    }
    vocab_add(v, VOCAB_SPACE, strlen(VOCAB_SPACE));
    for (const char *c = "etaoinshrdlcumwfgypbvkjxqz"; *c; c++)
        vocab_add(v, c, 1);
    for (char c = '!'; c <= '~'; c++)
        vocab_add(v, &c, 1); /* the letters are there: skipped */
}

/* A piece that takes part in merges; more `draws` prefer older, that is shorter, ones. */
static inline const vocab_piece *vocab_pick(const vocab *v, uint64_t bits, int draws) {
    uint64_t below = VOCAB_POOL + (v->count > VOCAB_MERGES ? v->count - VOCAB_MERGES : 0);
    for (int i = 0; i < draws; i++, bits = random_mix(bits + 1))
        below = (bits >> 32) * below / ((uint64_t)1 << 32) + 1;
    uint64_t i = below - 1;
    return &v->pieces[i < VOCAB_POOL ? VOCAB_LETTERS + i : VOCAB_MERGES + i - VOCAB_POOL];
}

static inline bool vocab_is_vowel(char c) {
    return c == 'a' || c == 'e' || c == 'i' || c == 'o' || c == 'u';
}

/* Joins two pieces unless the result would be no likely piece. */
static inline void vocab_try_merge(vocab *v, const vocab_piece *left, const vocab_piece *right,
                                   uint64_t luck) {
    const size_t longest = 14;
    if (right->text[0] == VOCAB_SPACE[0] || left->size + right->size > longest)
        return;
    bool same = vocab_is_vowel(left->text[left->size - 1]) == vocab_is_vowel(right->text[0]);
    if (same && luck % 4 && left->text[0] != VOCAB_SPACE[0])
        return; /* what can be pronounced: mostly a vowel beside a consonant */
    char text[sizeof left->text];
    memcpy(text, left->text, left->size);
    memcpy(text + left->size, right->text, right->size);
    vocab_add(v, text, (size_t)left->size + right->size);
}

static inline void vocab_add_merges(vocab *v, uint64_t seed) {
    uint64_t key = random_key(seed, "vocabulary");
    for (uint64_t i = 0; v->count < v->wanted; i += 3) {
        uint64_t           luck = random_at(key, i);
        bool               starts_word = (luck >> 8) % 4 == 0;
        const vocab_piece *left = starts_word ? &v->pieces[VOCAB_LETTERS]
                                              : vocab_pick(v, random_at(key, i + 1), 2);
        const vocab_piece *right = vocab_pick(v, random_at(key, i + 2), starts_word ? 2 : 4);
        vocab_try_merge(v, left, right, luck);
    }
}

static inline void vocab_free(vocab *v) {
    free(v->pieces);
    free(v->slots);
    *v = (vocab){0};
}

/* `wanted` pieces. False when there is no memory; vocab_free in either case. */
static inline bool vocab_make(vocab *v, uint32_t wanted, uint64_t seed) {
    uint32_t slots = 1024;
    while (slots < 2 * (uint64_t)wanted)
        slots *= 2;
    *v = (vocab){.wanted = wanted, .mask = slots - 1};
    v->pieces = calloc(wanted, sizeof *v->pieces);
    v->slots = calloc(slots, sizeof *v->slots);
    if (!v->pieces || !v->slots)
        return false;
    vocab_add_fixed(v);
    vocab_add_merges(v, seed);
    return true;
}

#endif
