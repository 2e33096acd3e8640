/* sampler.h - from logits to the next token.
 *
 * The steps are llama.cpp's, in its order; each is off at the value given:
 *
 *     penalties    the logits of tokens among the last repeat_last_n accepted are divided by
 *                  repeat_penalty where positive, else multiplied by it        (1, or last_n 0)
 *     top_k        the k tokens with the largest logits                        (<= 0)
 *     top_p        the fewest of them whose probabilities sum to p or more     (>= 1)
 *     min_p        those with a probability of at least p times the largest    (<= 0)
 *     temperature  softmax(logits / temp), from which one is drawn; at 0 or below the token with
 *                  the largest logit after penalties, of equals the lowest id, and no drawing
 *
 * Probabilities of top_p and min_p are taken before temperature, over what the step before left.
 * Randomness is SplitMix64 from the seed (one draw per token, its upper 53 bits), and exp() is our
 * own: one seed gives one text wherever the logits are the same. It is not llama.cpp's generator:
 * its seeds give other texts. A NaN counts as -infinity. Where no logit is finite and above it the
 * token is chosen as at temperature 0, which is token 0 when all are NaN.
 */
#ifndef GGUFC_RUNTIME_SAMPLER_H
#define GGUFC_RUNTIME_SAMPLER_H

#include <stdint.h>

typedef struct sampler_options {
    float temp;            /* 0.8 */
    int32_t top_k;         /* 40 */
    float top_p;           /* 0.95 */
    float min_p;           /* 0.05 */
    float repeat_penalty;  /* 1.0: off. Above 0 and finite, else as 1.0 */
    int32_t repeat_last_n; /* 64 */
    uint64_t seed;         /* 0; choosing a random one is the caller's */
} sampler_options;

sampler_options sampler_defaults(void);

typedef struct sampler sampler;

/* For models of `n_vocab` > 0 logits. Allocates all that will be needed; NULL without memory. */
sampler *sampler_new(uint32_t n_vocab, const sampler_options *options);
void sampler_free(sampler *s); /* NULL is allowed */

/* Tells the penalties of a token. llama.cpp's way is every token of the prompt, then every token
   generated. An id out of range is ignored. */
void sampler_accept(sampler *s, int32_t id);

/* From now on `id` is never chosen while any other token can be (--ignore-eos). */
void sampler_forbid(sampler *s, int32_t id);

/* Chooses a token for `n_vocab` logits, which are left as they are. Does not accept it. */
int32_t sampler_pick(sampler *s, const float *logits);

#endif
