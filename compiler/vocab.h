/* vocab.h - the tokenizer of a GGUF file as the tables of ggufc_vocab.
 *
 * Reads tokenizer.ggml.*: `model` must be "llama" (SentencePiece), `tokens` is required. What is
 * absent gets llama.cpp's defaults: scores 0, types normal, bos 1, eos 2, unk 0 (none where the
 * vocabulary is smaller), add_bos_token true, add_eos_token false, add_space_prefix true.
 *
 * llama.cpp also knows some tokens by their text, since many files do not declare them: "<|end|>"
 * and its like end generation and are control tokens whatever their type says, the first such is
 * EOT where eot_token_id is absent, and in a model named Phi-3 special tokens swallow white space
 * behind them. vocab.c has these as tables; where a file has several candidates for one role,
 * llama.cpp takes any and we take the first of the table.
 */
#ifndef GGUFC_VOCAB_H
#define GGUFC_VOCAB_H

#include "base.h"
#include "diag.h"
#include "ggufc/model.h"
#include "gguf.h"

enum vocab_result {
    VOCAB_READ,
    VOCAB_UNSUPPORTED, /* no tokenizer, or not one of ours: nothing was reported */
    VOCAB_BAD          /* reported */
};

/* `vocab` is ready for use in this process; for emission its arrays count
 *
 *     text         text_bytes
 *     offsets      n_tokens + 1
 *     scores       n_tokens
 *     types        n_tokens
 *     byte_tokens  256
 *     slots        slot_mask + 1
 *     special      n_special        (never NULL, also when it is 0) */
typedef struct vocab_tables {
    const char *model; /* tokenizer.ggml.model, NULL where absent; also set for VOCAB_UNSUPPORTED */
    ggufc_vocab vocab; /* only for VOCAB_READ */
    uint32_t text_bytes;
} vocab_tables;

/* Fills `out`; its arrays live in `a` and refer to nothing of `f`. Errors: arrays that are
   mistyped, empty or differ in length; ids outside the vocabulary; scores that are NaN; text of 4
   GiB. */
enum vocab_result vocab_read(arena *a, diag *d, const gguf_file *f, vocab_tables *out);

#endif
