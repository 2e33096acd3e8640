/* recording.h - activations that an engine wrote down, whatever form it gave them.
 *
 * What can be read:
 *
 *     an activations GGUF     general.type = "activations", activations.tokens (i32 ids), an F32
 *                             tensor [..., columns] for each name, a column for each token; with
 *                             fewer columns than tokens they are the last ones. Where they stand:
 *                             activations.model, .producer, .prompt
 *     a folder of text        a map says which file is which activation (see below). Files in it
 *                             hold numbers: one a line, or rows of them with blanks or commas
 *                             between, "INDEX: NUMBER" and "INDEX NUMBER" too; '#' begins a
 *                             comment. Sub-folders and files whose names begin with a dot are not
 *                             looked at
 *     llama-debug's logits    llamacpp-NAME.bin (f32) or .txt, the last token's result_output, with
 *                             NAME-tokens.bin and NAME-prompt.txt beside it where they exist; any
 *                             other .bin or .txt of logits
 *
 * A map is lines of `PATTERN = NAME`; '#' at a line's begin or after a blank begins a comment. In a
 * pattern {l} and {t} stand for a whole number and {name} for anything, as little as will do; in a
 * name {l} (without leading zeros) and {name} stand for what they were, "@{t}" or "@N" at its end
 * says which token (counted from 0) the file holds, else it holds the last token's values, or those
 * of all tokens one after another. `tokens` as a name means the token ids, `prompt` the text; no
 * name at all leaves the file out. A file is what the line says whose pattern has the most
 * characters of its own, built-in lines coming after all that are given. Built in are:
 *
 *     tokens.txt                 = tokens
 *     prompt.txt                 = prompt
 *     layer_{l}.txt              = l_out-{l}
 *     hidden_state_call_{t}.txt  = result_norm@{t}
 *     logits_call_{t}.txt        = result_output@{t}
 *     logits.txt                 = result_output
 *     {name}.txt                 = {name}            so Qcur-0@3.txt is token 3's Qcur-0
 *
 * Promise: a recording that was opened can be read without checks but those for NULL; what is wrong
 * with one (not a number, more than 2^31 - 1 numbers in a file, a file that is two things by equally
 * good lines, two files of the same thing, columns of different lengths, a GGUF of another
 * general.type, tensors that are not F32, ids below 0, nothing in it at all) is reported with file
 * and line or tensor.
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

/* How exactly numbers were written. As text: no more digits behind the point than this, and no more
   significant ones; n_digits 0: they are as the engine had them. And n_bits: what it had were floats
   of so many bits, an f16's 11 or a bf16's 8; 0: f32, or it is not known (recording_fits). */
typedef struct recorded_precision {
    int n_decimals, n_digits, n_bits;
} recorded_precision;

typedef struct recorded_value {
    const char      *name;
    const char      *source; /* the file it came from, for messages */
    uint64_t         n;      /* values in a column: perhaps only the first of the activation's */
    recorded_column *columns; /* in order of their tokens, which are all counted from one end */
    uint32_t         n_columns;
    /* A text file, or a tensor whose last dimension is not the number of tokens: the columns cannot
       be told apart before the activation's size is known. columns[0] then holds all `n` values,
       and recording_split makes columns of it. */
    bool             unsplit;
    uint32_t         row; /* private: of text in rows of equal length, numbers in each; else 0 */
    recorded_precision precision;
    uint32_t         n_tokens; /* private: how many columns there can be; 0: any number */
} recorded_value;

typedef struct recording {
    const char     *path;
    const char     *kind;     /* "activations GGUF", "text dumps", "llama-debug logits" */
    const char     *producer; /* NULL where it does not say; likewise below */
    const char     *model;
    const char     *prompt;
    const int32_t  *tokens;   /* ids; NULL and 0 where it does not say */
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

/* `map` is the text of a map or NULL; only a folder needs one, wrong lines are reported anyway. The
   result lives in `a` but for the map of a GGUF: recording_close releases that. NULL after an error
   was reported. */
recording *recording_open(arena *a, diag *d, const char *path, const char *map);
void       recording_close(recording *r); /* NULL is allowed */

/* The text of a file that holds a map, checked, for recording_open. Lines that are given otherwise
   can be put before or behind it. NULL after an error was reported. */
const char *recording_map_read(arena *a, diag *d, const char *path);

/* NULL where there is none of that name. */
recorded_value *recording_find(const recording *r, const char *name);

/* Tells a value how many values a token has (not 0). An unsplit one with no more numbers than that
   is one column, the last token's; with a multiple, one for each of the last tokens. Columns that
   have as many values together are one: [32, 8] of 8 tokens is the last one's 8 heads where a token
   has 256 values. Text in rows of fewer numbers is a row for each token, its first values, where the
   count of numbers is no such multiple: of all tokens, or of the last where they would be too many
   for one. False after an error was reported: any other count, more columns than the recording has
   tokens, or a value split before whose columns are longer. */
bool recording_split(arena *a, diag *d, recorded_value *v, uint64_t values_per_token);

/* The distance of the numbers that could be written next to x: x is off by at most half of it. 0
   where nothing was rounded. */
double recording_step(const recorded_precision *p, float x);

/* Whether all of v's numbers are floats of `n_bits`, as far as that can be told. *n is added of how many:
   not of zeros, nor of what was rounded in text to less. */
bool recording_fits(const recorded_value *v, int n_bits, uint64_t *n);

/* The v->n values for `token` of n_tokens, or NULL. Not before an unsplit value was split. */
const float *recording_row(const recorded_value *v, uint32_t token, uint32_t n_tokens);

#endif
