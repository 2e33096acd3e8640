/* cli_prompt.h - prompts: text from a file or standard input, token ids from an argument. */
#ifndef GGUFC_CLI_PROMPT_H
#define GGUFC_CLI_PROMPT_H

#include <signal.h>

#include "ggufc/runtime.h"

/* A prompt. All zero is an empty one; cli_prompt_free releases what it holds. */
typedef struct cli_prompt {
    char    *text; /* as it was given; NULL when ids were */
    size_t   text_size;
    int32_t *tokens;
    size_t   n_tokens;
} cli_prompt;

/* Each appends to nothing: `in` is empty before. A last newline is dropped, as llama.cpp does. An
   interrupted read (see `stop`, may be NULL) is GGUFC_STOPPED. Empty files are an error. */
ggufc_status cli_prompt_read_file(cli_prompt *in, const char *path, ggufc_error *error);
ggufc_status cli_prompt_read_stdin(cli_prompt *in, const volatile sig_atomic_t *stop,
                                   ggufc_error *error);

ggufc_status cli_prompt_copy_text(cli_prompt *in, const char *text, ggufc_error *error);

/* "1, 2,3" */
ggufc_status cli_prompt_parse_tokens(cli_prompt *in, const char *list, ggufc_error *error);

/* Makes tokens of the text, special tokens written in it included. */
ggufc_status cli_prompt_tokenize(cli_prompt *in, const ggufc_vocab *vocab, ggufc_error *error);

void cli_prompt_free(cli_prompt *in);

#endif
