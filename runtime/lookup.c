/* lookup.c - see lookup.h.
 *
 * For each length from LOOKUP_LEAST to LOOKUP_MOST a table of the text's n-grams, open addressing
 * with linear probing, at most half full. A slot holds the place behind the n-gram's last
 * occurrence: its tokens are those of the text before it, so nothing is stored twice, two n-grams
 * are never taken for one another, and finding the last occurrence and becoming it are one search.
 */
#include "lookup.h"

#include <stdlib.h>

enum { LEVELS = LOOKUP_MOST - LOOKUP_LEAST + 1, MAX_BATCH = GGUFC_BATCH_EXACT };

/* How often a guess is right, at first, by the match's length; learned from then on. */
typedef struct length_class {
    uint32_t most; /* the largest length of this class */
    float    chance;
} length_class;

static const length_class classes[] = {
    { 2, 0.20f }, { 3, 0.30f },  { 4, 0.45f },  { 6, 0.60f },
    { 9, 0.70f }, { 15, 0.80f }, { 23, 0.88f }, { LOOKUP_LONGEST, 0.93f },
};

enum { CLASSES = sizeof classes / sizeof *classes };

#define CHANCE_STEP 0.0625f /* how far one guess moves a chance */
#define LEAST_GAIN  1.04f   /* of a draft over single tokens */
#define GUESSED     0.25f   /* of a token's cost: what one more may cost where none was measured, */
#define GUESSED_OF  0.6f    /* … or of what one more costs in a smaller batch that was */
#define LIKELY      0.7f    /* what logits of one more token cost, of what those of one alone do */
#define FADE        0.995f  /* costs are forgotten, that one bad measurement is not for ever */
#define TRYING      8      /* tokens of a match that a batch never measured is tried for: its first
                              time also brings its code into the cache */
#define CLEAR       16      /* tokens of a match that is no accident: measuring is worth it */

struct lookup {
    lookup_options options;
    int32_t       *tokens;
    uint32_t       n_tokens;
    uint32_t      *slots; /* LEVELS tables; 0: empty */
    uint32_t       slot_mask;
    lookup_match   match;
    float          chance[CLASSES];
    float          cost[MAX_BATCH + 1]; /* ns, by tokens; 0: never measured */
    double         spent, saved;        /* ns */
};

/* ---- the text and its n-grams */

lookup *lookup_new(const lookup_options *options) {
    lookup *l = calloc(1, sizeof *l);
    if (!l) return NULL;
    uint64_t slots = 16;
    while (slots < 2 * (uint64_t)options->capacity) slots *= 2;
    l->options = *options;
    l->slot_mask = (uint32_t)(slots - 1);
    l->tokens = calloc((size_t)options->capacity + 1, sizeof *l->tokens);
    l->slots = calloc(LEVELS * slots, sizeof *l->slots);
    for (int i = 0; i < CLASSES; i++) l->chance[i] = classes[i].chance;
    if (l->tokens && l->slots) return l;
    lookup_free(l);
    return NULL;
}

void lookup_free(lookup *l) {
    if (!l) return;
    free(l->tokens);
    free(l->slots);
    free(l);
}

static uint32_t hash_tokens(const int32_t *tokens, uint32_t n) {
    uint32_t h = 0;
    for (uint32_t i = 0; i < n; i++) {
        h = (h ^ (uint32_t)tokens[i]) * 0x9e3779b1u;
        h ^= h >> 15;
    }
    return h;
}

/* How many tokens before the places a and b are the same, at most `most`; a < b. */
static uint32_t count_equal(const lookup *l, uint32_t a, uint32_t b, uint32_t most) {
    uint32_t n = 0;
    if (most > a) most = a;
    while (n < most && l->tokens[a - 1 - n] == l->tokens[b - 1 - n]) n++;
    return n;
}

/* The slot of the text's last n tokens: of the same n-gram, or empty. */
static uint32_t *find_slot(const lookup *l, uint32_t n) {
    uint32_t *table = l->slots + (size_t)(n - LOOKUP_LEAST) * (l->slot_mask + 1ull);
    uint32_t  i = hash_tokens(l->tokens + l->n_tokens - n, n) & l->slot_mask;
    while (table[i] && count_equal(l, table[i], l->n_tokens, n) < n) i = (i + 1) & l->slot_mask;
    return &table[i];
}

/* Where the text last stood like this; makes its end the last such place of each length. */
static lookup_match find_latest(lookup *l) {
    uint32_t found = 0;
    for (uint32_t n = LOOKUP_MOST; n >= LOOKUP_LEAST; n--) {
        if (n > l->n_tokens) continue;
        uint32_t *slot = find_slot(l, n);
        if (!found) found = *slot;
        *slot = l->n_tokens;
    }
    if (!found) return (lookup_match){ 0 };
    return (lookup_match){ found, count_equal(l, found, l->n_tokens, LOOKUP_LONGEST) };
}

static float *chance_of(lookup *l, uint32_t length) {
    uint32_t i = 0;
    while (i < CLASSES - 1 && length > classes[i].most) i++;
    return &l->chance[i];
}

/* The match as it goes on with this token, if it does. */
static void follow_match(lookup *l, int32_t token) {
    lookup_match *m = &l->match;
    if (m->length == 0) return;
    bool   right = l->tokens[m->next] == token;
    float *chance = chance_of(l, m->length);
    *chance += ((right ? 1.0f : 0.0f) - *chance) * CHANCE_STEP;
    m->next++;
    m->length = !right ? 0 : m->length < LOOKUP_LONGEST ? m->length + 1 : LOOKUP_LONGEST;
}

void lookup_push(lookup *l, int32_t token) {
    if (l->n_tokens == l->options.capacity) return;
    follow_match(l, token);
    l->tokens[l->n_tokens++] = token;
    lookup_match latest = find_latest(l);
    if (latest.length >= l->match.length) l->match = latest;
}

lookup_match lookup_current(const lookup *l) {
    return l->match;
}

/* ---- how much to draft */

/* What a batch costs, or might where it was never measured. */
static float cost_guessed(const lookup *l, uint32_t n) {
    uint32_t known = n;
    while (l->cost[known] <= 0) known--; /* one token's is known */
    float more = known == 1 ? GUESSED * l->cost[1]
                            : GUESSED_OF * (l->cost[known] - l->cost[1]) / (float)(known - 1);
    return l->cost[known] + (float)(n - known) * more;
}

/* Whether a batch whose first guess is right with this chance may be wrong from there on. */
static bool can_afford(const lookup *l, uint32_t n, float chance) {
    double most = l->cost[n] > 0 ? (double)l->cost[n] : (double)n * l->cost[1];
    return (1.0 - chance) * (most - l->cost[1]) <= l->cost[1] + l->spent / 100 + l->saved;
}

static uint32_t choose_count(lookup *l, uint32_t limit) {
    uint32_t best = 0;
    float    best_gain = LEAST_GAIN, expected = 1, chance = 1;
    float    first = *chance_of(l, l->match.length);
    if (l->cost[1] <= 0) return 0;
    for (uint32_t n = 2; n <= MAX_BATCH && l->match.length >= CLEAR; n++) l->cost[n] *= FADE;
    for (uint32_t k = 1; k <= limit; k++) {
        bool tried = l->cost[k + 1] > 0 || l->match.length >= TRYING;
        chance *= *chance_of(l, l->match.length + k - 1);
        expected += chance;
        float gain = expected * l->cost[1] / cost_guessed(l, k + 1);
        if (!tried || gain <= best_gain || !can_afford(l, k + 1, first)) continue;
        best_gain = gain;
        best = k;
    }
    return best;
}

/* A match that reaches the text's end goes on with what it drafted: a loop. */
uint32_t lookup_draft(lookup *l, int32_t *draft, uint32_t limit) {
    if (limit > l->options.max_draft) limit = l->options.max_draft;
    if (l->match.length == 0 || limit == 0) return 0;
    uint32_t count = l->options.always ? limit : choose_count(l, limit);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t from = l->match.next + i;
        draft[i] = from < l->n_tokens ? l->tokens[from] : draft[from - l->n_tokens];
    }
    return count;
}

uint32_t lookup_count_likely(lookup *l, uint32_t limit) {
    uint32_t n = 0;
    float    chance = 1;
    if (l->options.always) return limit;
    for (; l->match.length && n < limit; n++) {
        chance *= *chance_of(l, l->match.length + n);
        if (chance < LIKELY) break;
    }
    return n;
}

/* Noise only ever adds: a lower cost is believed at once, a higher one an eighth at a time. A batch
   never costs much more than its tokens. */
void lookup_note_cost(lookup *l, uint32_t n_batch, uint64_t ns) {
    float *cost = &l->cost[n_batch], took = ns ? (float)ns : 1;
    l->spent += (double)took;
    if (n_batch > 1) {
        float single = l->cost[1] * (float)n_batch * 1.1f;
        if (single > 0 && took > single) took = single;
    }
    if (*cost <= 0 || took < *cost)
        *cost = took;
    else
        *cost += (took < 2 * *cost ? took - *cost : *cost) / 8;
}

/* What was saved long ago must not pay for what is lost now. */
void lookup_note_result(lookup *l, uint32_t n_right, uint64_t ns) {
    double most = 8.0 * l->cost[1];
    l->saved += (double)n_right * l->cost[1] - (double)ns;
    if (l->saved > most) l->saved = most;
}
