/* cli_prompt.c - see cli_prompt.h. */
#include "cli_prompt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "error.h"
#include "tokenizer.h"

enum { READ_BYTES = 64 * 1024 };

static ggufc_status out_of_memory(ggufc_error *error) {
    return error_set(error, GGUFC_ERROR_MEMORY, "out of memory for the prompt");
}

/* ---- text */

static ggufc_status prompt_grow(cli_prompt *in, size_t *capacity, ggufc_error *error) {
    if (*capacity - in->text_size >= READ_BYTES) return GGUFC_OK;
    size_t wanted = *capacity * 2 + READ_BYTES;
    char *text = realloc(in->text, wanted);
    if (!text) return out_of_memory(error);
    in->text = text;
    *capacity = wanted;
    return GGUFC_OK;
}

static ggufc_status prompt_read(cli_prompt *in, int fd, const char *name,
                                const volatile sig_atomic_t *stop, ggufc_error *error) {
    for (size_t capacity = 0;;) {
        ggufc_status status = prompt_grow(in, &capacity, error);
        if (status != GGUFC_OK) return status;
        ssize_t n = read(fd, in->text + in->text_size, READ_BYTES);
        if (stop && *stop) return error_set(error, GGUFC_STOPPED, "interrupted");
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return error_set(error, GGUFC_ERROR_OPTIONS, "%s: %s", name, strerror(errno));
        if (n == 0) break;
        in->text_size += (size_t)n;
        if (in->text_size > TOKENIZER_MAX_TEXT)
            return error_set(error, GGUFC_ERROR_OPTIONS, "%s: the prompt is longer than %zu bytes",
                             name, TOKENIZER_MAX_TEXT);
    }
    if (in->text_size > 0 && in->text[in->text_size - 1] == '\n') in->text_size--;
    if (in->text_size == 0)
        return error_set(error, GGUFC_ERROR_OPTIONS, "%s: the prompt is empty", name);
    return GGUFC_OK;
}

ggufc_status cli_prompt_read_file(cli_prompt *in, const char *path, ggufc_error *error) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return error_set(error, GGUFC_ERROR_OPTIONS, "%s: %s", path, strerror(errno));
    ggufc_status status = prompt_read(in, fd, path, NULL, error);
    close(fd);
    return status;
}

ggufc_status cli_prompt_read_stdin(cli_prompt *in, const volatile sig_atomic_t *stop,
                                   ggufc_error *error) {
    return prompt_read(in, STDIN_FILENO, "standard input", stop, error);
}

ggufc_status cli_prompt_copy_text(cli_prompt *in, const char *text, ggufc_error *error) {
    in->text_size = strlen(text);
    in->text = malloc(in->text_size + 1);
    if (!in->text) return out_of_memory(error);
    memcpy(in->text, text, in->text_size + 1);
    return GGUFC_OK;
}

/* ---- tokens */

ggufc_status cli_prompt_tokenize(cli_prompt *in, const ggufc_vocab *vocab, ggufc_error *error) {
    const unsigned flags = TOKENIZER_ADD_SPECIAL | TOKENIZER_PARSE_SPECIAL;
    size_t capacity = in->text_size + 16; /* a token is a byte or more, but for BOS, prefix, EOS */
    in->tokens = malloc(capacity * sizeof *in->tokens);
    if (!in->tokens) return out_of_memory(error);
    int64_t n = tokenizer_encode(vocab, in->text, in->text_size, flags, in->tokens, capacity);
    if (n > 0 && (uint64_t)n > capacity) {
        free(in->tokens);
        in->tokens = malloc((size_t)n * sizeof *in->tokens);
        if (!in->tokens) return out_of_memory(error);
        n = tokenizer_encode(vocab, in->text, in->text_size, flags, in->tokens, (size_t)n);
    }
    if (n == TOKENIZER_NO_MEMORY) return out_of_memory(error);
    if (n < 0)
        return error_set(error, GGUFC_ERROR_OPTIONS, "the prompt is longer than %zu bytes",
                         TOKENIZER_MAX_TEXT);
    in->n_tokens = (size_t)n;
    if (n == 0) return error_set(error, GGUFC_ERROR_OPTIONS, "the prompt is empty");
    return GGUFC_OK;
}

static const char *skip_spaces(const char *s) {
    return s + strspn(s, " \t");
}

/* One id, and the comma behind it; false where there is none. */
static bool take_token(const char **list, int32_t *id) {
    char *end;
    const char *s = skip_spaces(*list);
    if (*s < '0' || *s > '9') return false;
    errno = 0;
    long n = strtol(s, &end, 10);
    if (errno || n > INT32_MAX) return false;
    *id = (int32_t)n;
    s = skip_spaces(end);
    if (*s == ',' && *skip_spaces(s + 1))
        s++;
    else if (*s)
        return false;
    *list = s;
    return true;
}

ggufc_status cli_prompt_parse_tokens(cli_prompt *in, const char *list, ggufc_error *error) {
    in->tokens = malloc((strlen(list) / 2 + 1) * sizeof *in->tokens);
    if (!in->tokens) return out_of_memory(error);
    const char *rest = list;
    do {
        if (!take_token(&rest, &in->tokens[in->n_tokens]))
            return error_set(error, GGUFC_ERROR_OPTIONS,
                             "--tokens: '%s' is not a list of token ids such as 1,2,3", list);
        in->n_tokens++;
    } while (*rest);
    return GGUFC_OK;
}

void cli_prompt_free(cli_prompt *in) {
    free(in->text);
    free(in->tokens);
    *in = (cli_prompt){ 0 };
}
