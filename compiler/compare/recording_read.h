/* recording_read.h - the readers that recording.c chooses from. Private to recording*.c and to its
 * fuzzer. What fails has reported one error. */
#ifndef GGUFC_RECORDING_READ_H
#define GGUFC_RECORDING_READ_H

#include "gguf.h"
#include "recording.h"

/* A file in memory, or what stands for one. A zero byte that does not count follows the data. */
typedef struct recording_bytes {
    const char *path; /* for messages */
    const char *data;
    uint64_t    size;
} recording_bytes;

/* Numbers of a file, in `words`: f32 values or token ids, as was asked for. */
typedef struct recording_numbers {
    const void *words;
    uint32_t    n;
    uint32_t    row; /* how many stand in a line, or are counted up; 0: not the same number, or one */
    recorded_precision precision;
} recording_numbers;

enum recording_number { RECORDING_F32, RECORDING_ID };

/* ---- files (recording_text.c) */

/* A regular file, whole. */
bool recording_load(arena *a, diag *d, const char *path, recording_bytes *out);

/* That there is no zero byte in what becomes a string. */
bool recording_check_text(diag *d, const recording_bytes *text);

/* Text of numbers in the forms that recording.h tells, at least one. */
bool recording_parse_text(arena *a, diag *d, const recording_bytes *text,
                          enum recording_number kind, recording_numbers *out);

/* Numbers of 4 bytes as they stand in memory, little-endian, at least one. */
bool recording_parse_binary(arena *a, diag *d, const recording_bytes *file,
                            enum recording_number kind, recording_numbers *out);

/* ---- the map (recording_map.c) */

typedef struct recording_map_line {
    const char *where; /* "map", "built-in map" or a file */
    uint64_t    line;
    const char *pattern, *name; /* an empty name: files of this pattern are left out */
    uint32_t    n_literal;      /* characters of the pattern that stand for themselves */
} recording_map_line;

typedef struct recording_map {
    recording_map_line *lines; /* the given ones, then the built-in ones */
    uint32_t            n_lines, n_given, capacity;
} recording_map;

/* What a file is, by the map. */
enum recording_role { RECORDING_VALUES, RECORDING_TOKENS, RECORDING_PROMPT, RECORDING_LEFT_OUT };

typedef struct recording_place {
    const recording_map_line *line; /* NULL: no line takes the file */
    enum recording_role       role;
    const char               *name;
    int64_t                   token; /* -1 where the name does not say which */
} recording_place;

/* `text` may be NULL. `where` says in messages what the lines belong to. */
bool recording_map_parse(arena *a, diag *d, const char *where, const char *text,
                         recording_map *out);

/* `path` is for messages, `file` the name without its folder. */
bool recording_map_find(arena *a, diag *d, const recording_map *map, const char *path,
                        const char *file, recording_place *out);

/* ---- whole recordings: they fill in what they find, r->path is set */

bool recording_read_gguf(arena *a, diag *d, recording *r, const gguf_file *f);
bool recording_read_folder(arena *a, diag *d, recording *r, const recording_map *map);
bool recording_read_logits(arena *a, diag *d, recording *r);

/* "prompt: TEXT", "n_tokens: N", "token ids: 1, 2": the lines of llama-debug's -prompt.txt. */
bool recording_parse_prompt(arena *a, diag *d, const recording_bytes *text, const char **prompt,
                            recording_numbers *ids);

/* Whether `text` ends with `end`. */
bool recording_has_end(const char *text, const char *end);

#endif
