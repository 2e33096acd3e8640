/* recording.h - activations that an engine wrote down, whatever form it gave them.
 *
 * What can be read:
 *
 *     an activations GGUF     general.type = "activations", activations.tokens (i32 ids), an F32
 *                             tensor [..., columns] for each name, a column for each token; with
 *                             fewer columns than tokens they are the last ones
 *     a folder of text        one number a line, "INDEX: NUMBER" and "INDEX NUMBER" too; '#' begins
 *                             a comment. A map says which file is which activation (see below)
 *     llama-debug's logits    llamacpp-NAME.bin (f32) or .txt, the last token's result_output, with
 *                             NAME-tokens.bin and NAME-prompt.txt beside it where they exist
 *
 * A map is lines of `PATTERN = NAME`. In a pattern {l} and {t} stand for a number and {name} for
 * anything; in a name {l} and {name} stand for what they were, "@{t}" or "@N" at its end says which
 * token (counted from 0) the file holds, else it holds the last token's values, or those of all
 * tokens one after another. `tokens` as a name means the token ids. Built in, and tried after the
 * lines that are given:
 *
 *     tokens.txt                 = tokens
 *     layer_{l}.txt              = l_out-{l}
 *     hidden_state_call_{t}.txt  = result_norm@{t}
 *     logits_call_{t}.txt        = result_output@{t}
 *     logits.txt                 = result_output
 *     {name}.txt                 = {name}
 *
 * Promise: a recording that was opened can be read without checks but those for NULL; what is wrong
 * with one (not a number, more than 2^31 - 1 numbers, a file that is two things, a GGUF of another
 * general.type, tensors that are not F32, ids below 0) is reported with file and line or tensor.
 */
#ifndef GGUFC_RECORDING_H
#define GGUFC_RECORDING_H

#include "base.h"
#include "diag.h"

/* The values of an activation for one token. */
typedef struct recorded_column {
    int64_t      token; /* counted from 0; negative: from the end, -1 being the last token */
    const float *data;
} recorded_column;

typedef struct recorded_value {
    const char      *name;
    const char      *source; /* the file it came from, for messages */
    uint64_t         n;      /* values in a column: perhaps only the first of the activation's */
    recorded_column *columns;
    uint32_t         n_columns;
    /* A text file of several columns: the columns cannot be told apart before the activation's size
       is known. columns[0] then holds all `n` values, and recording_split makes columns of it. */
    bool             unsplit;
} recorded_value;

typedef struct recording {
    const char     *path;
    const char     *kind;     /* "activations GGUF", "text dumps", "llama-debug logits" */
    const char     *producer; /* NULL where it does not say; likewise below */
    const char     *model;
    const char     *prompt;
    const int32_t  *tokens;
    uint32_t        n_tokens;
    recorded_value *values; /* in order of the file, or of names */
    uint32_t        n_values;
    uint32_t        n_ignored;     /* files of a folder that no line of the map took */
    const char     *first_ignored; /* … and one of them */

    struct gguf_file *file; /* private: the map that columns point into */
} recording;

/* Whether `path` is a recording rather than a model: a folder, a file that is no GGUF but ends in
   .bin or .txt, or a GGUF whose general.type is "activations". Reports nothing. */
bool recording_is(const char *path);

/* `map` is the text of a map or NULL. The result lives in `a` but for the map of a GGUF:
   recording_close releases that. NULL after an error was reported. */
recording *recording_open(arena *a, diag *d, const char *path, const char *map);
void       recording_close(recording *r); /* NULL is allowed */

/* NULL where there is none of that name. */
recorded_value *recording_find(const recording *r, const char *name);

/* Tells an unsplit value how many values a token has. With no more numbers than that it is one
   column, the last token's; with a multiple, one for each of the last tokens. False after an error
   was reported: any other count. */
bool recording_split(arena *a, diag *d, recorded_value *v, uint64_t values_per_token);

/* The values for `token` of n_tokens, or NULL. */
const float *recording_row(const recorded_value *v, uint32_t token, uint32_t n_tokens);

#endif
