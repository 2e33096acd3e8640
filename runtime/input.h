/* input.h - prompts: text from a file or standard input, token ids from an argument. */
#ifndef GGUFC_INPUT_H
#define GGUFC_INPUT_H

#include <signal.h>

#include "ggufc/runtime.h"

/* A prompt. All zero is an empty one; input_free releases what it holds. */
typedef struct input {
    char    *text; /* as it was given; NULL when ids were */
    size_t   text_size;
    int32_t *tokens;
    size_t   n_tokens;
} input;

/* Each appends to nothing: `in` is empty before. A last newline is dropped, as llama.cpp does. An
   interrupted read (see `stop`, may be NULL) is GGUFC_STOPPED. Empty files are an error. */
ggufc_status input_read_file(input *in, const char *path, ggufc_error *error);
ggufc_status input_read_stdin(input *in, const volatile sig_atomic_t *stop, ggufc_error *error);

ggufc_status input_copy_text(input *in, const char *text, ggufc_error *error);

/* "1, 2,3" */
ggufc_status input_parse_tokens(input *in, const char *list, ggufc_error *error);

/* Makes tokens of the text, special tokens written in it included. */
ggufc_status input_tokenize(input *in, const ggufc_vocab *vocab, ggufc_error *error);

void input_free(input *in);

#endif
