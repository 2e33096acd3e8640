/* tokenizer.h - text to token ids and back, over the tables of a ggufc_vocab.
 *
 * What is computed is what llama.cpp's SentencePiece tokenizer ("llama") computes:
 *
 *     split     special tokens found in the text stand for themselves, the longest first, of one
 *               length the leftmost, and cut it into fragments: user-defined ones always, control
 *               and unknown ones only with TOKENIZER_PARSE_SPECIAL. A token with
 *               GGUFC_TOKEN_STRIPS then also swallows the white space behind it
 *     prefix    with add_space_prefix, a space is put before a fragment that begins the text or
 *               follows a special token
 *     escape    " " becomes "▁" (U+2581)
 *     merge     starting from UTF-8 characters (their length read from the first byte alone; what
 *               is no UTF-8 is never refused), two neighbours that together are a token become
 *               one, best score first, the leftmost of equals first, until nothing merges
 *     look up   what remains and is no token becomes its bytes' tokens, or the unknown token for
 *               bytes that have none
 */
#ifndef GGUFC_RUNTIME_TOKENIZER_H
#define GGUFC_RUNTIME_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ggufc/model.h"

enum {
    TOKENIZER_ADD_SPECIAL = 1, /* BOS before and EOS after, as far as the vocabulary asks for it */
    TOKENIZER_PARSE_SPECIAL = 2, /* "<s>" in the text is the token, not three characters */
    TOKENIZER_SHOW_SPECIAL = 4   /* tokenizer_piece: control tokens as their text */
};

enum {
    TOKENIZER_NO_MEMORY = -1,
    TOKENIZER_TOO_LONG = -2 /* more than TOKENIZER_MAX_TEXT bytes */
};

#define TOKENIZER_MAX_TEXT ((size_t)1 << 28)

/* The ids of the `size` bytes at `text` (any bytes, NUL included; NULL where size is 0). Returns
   how many there are and writes the first `capacity` of them to `out`: a result above `capacity`
   means that the call must be repeated with more room. Negative: one of the errors above, and
   `out` holds nothing of use. Takes O(size log size) time and memory in proportion to size, given
   back before it returns. */
int64_t tokenizer_encode(const ggufc_vocab *vocab, const char *text, size_t size, unsigned flags,
                         int32_t *out, size_t capacity);

/* The text that token `id` stands for in output: "▁" is a space again, a byte token its byte (so a
   piece need not be whole UTF-8, see utf8.h), and control, unknown and unused tokens are nothing.
   TOKENIZER_SHOW_SPECIAL gives control and unknown tokens as they are written. User-defined tokens
   are given as stored. An id out of range is nothing. Returns the piece's size, of which at most
   the first `capacity` bytes are written; no NUL is added. A leading space is kept, as in
   llama.cpp's output while generating. */
size_t tokenizer_piece(const ggufc_vocab *vocab, int32_t id, char *out, size_t capacity,
                       unsigned flags);

/* The longest piece of any token in bytes, for allocating once. */
size_t tokenizer_max_piece(const ggufc_vocab *vocab);

/* Whether generation ends at this token: EOS, EOT, and others that close a turn. */
bool tokenizer_is_end(const ggufc_vocab *vocab, int32_t id);

#endif
