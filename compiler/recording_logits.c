/* recording_logits.c - the logits that llama-debug --save-logits writes.
 *
 *     llamacpp-NAME.bin          f32 logits of the last token       llamacpp-NAME.txt  "0: -1.234"
 *     llamacpp-NAME-tokens.bin   i32 ids
 *     llamacpp-NAME-prompt.txt   "prompt: TEXT", "n_tokens: 15", "token ids: 1, 442, 439"
 *
 * Only the first has to be there. Any other .bin or .txt of logits is read in the same way.
 */
#include "recording_read.h"

#include "gguf_read.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define PROMPT_LINE "prompt: "
#define COUNT_LINE  "n_tokens: "
#define IDS_LINE    "token ids: "

typedef bool parser(arena *a, diag *d, const recording_bytes *file, enum recording_number kind,
                    recording_numbers *out);

/* Files that stand beside logits and hold none, by the end of their names without .bin or .txt. */
static const struct {
    const char *end, *what;
} siblings[] = {
    { "-embeddings", "embeddings" },
    { "-tokens", "token ids" },
    { "-prompt", "a prompt" },
};

static bool refuse_siblings(diag *d, const char *path, const char *stem) {
    for (size_t i = 0; i < ARRAY_LEN(siblings); i++)
        if (recording_has_end(stem, siblings[i].end))
            return diag_error(d, "%s: by its name this holds %s, expected a file of logits", path,
                              siblings[i].what);
    return true;
}

static bool read_numbers(arena *a, diag *d, const char *path, parser *parse,
                         enum recording_number kind, recording_numbers *out) {
    arena *scratch = arena_new();
    recording_bytes file;
    bool ok = recording_load(scratch, d, path, &file) && parse(a, d, &file, kind, out);
    arena_free(scratch);
    return ok;
}

/* ---- the prompt */

static bool has_begin(const char *from, const char *end, const char *begin) {
    return (size_t)(end - from) >= strlen(begin) && !memcmp(from, begin, strlen(begin));
}

/* Where the last line before `end` begins. */
static const char *last_line(const char *from, const char *end) {
    while (end > from && end[-1] != '\n') end--;
    return end;
}

static const char *trim_line_end(const char *from, const char *end) {
    if (end > from && end[-1] == '\n') end--;
    if (end > from && end[-1] == '\r') end--;
    return end;
}

/* The ids as a text of their own, in which they stand on the same line as in the file. */
static bool parse_ids(arena *a, diag *d, const recording_bytes *text, const char *from,
                      recording_numbers *out) {
    uint64_t skipped = (uint64_t)(from - text->data), kept = 0;
    char *copy = arena_alloc(a, text->size + 1);
    for (const char *c = text->data; c < from; c++)
        if (*c == '\n') copy[kept++] = '\n';
    memcpy(copy + kept, from, text->size - skipped);
    recording_bytes ids = { text->path, copy, kept + text->size - skipped };
    return recording_parse_text(a, d, &ids, RECORDING_ID, out);
}

/* The prompt may hold any lines, these too: they are looked for from the end. */
bool recording_parse_prompt(arena *a, diag *d, const recording_bytes *text, const char **prompt,
                            recording_numbers *ids) {
    if (!recording_check_text(d, text)) return false;
    const char *from = text->data, *end = trim_line_end(from, from + text->size);
    const char *ids_line = last_line(from, end), *count_end = trim_line_end(from, ids_line);
    const char *count_line = last_line(from, count_end);
    const char *prompt_end = trim_line_end(from, count_line);
    if (!has_begin(from, prompt_end, PROMPT_LINE) ||
        !has_begin(count_line, count_end, COUNT_LINE) || !has_begin(ids_line, end, IDS_LINE))
        return diag_error(d, "%s: expected the lines '" PROMPT_LINE "…', '" COUNT_LINE
                          "…' and '" IDS_LINE "…'", text->path);
    const char *count = count_line + strlen(COUNT_LINE);
    *prompt = arena_copy_text(a, from + strlen(PROMPT_LINE),
                              (size_t)(prompt_end - from) - strlen(PROMPT_LINE));
    if (!parse_ids(a, d, text, ids_line + strlen(IDS_LINE), ids)) return false;

    gguf_string found = { count, (uint64_t)(count_end - count) };
    char *expected = arena_printf(a, "%" PRIu32, ids->n);
    if (strlen(expected) == found.size && !memcmp(expected, count, found.size)) return true;
    return diag_error(d, "%s: %s tokens by '" COUNT_LINE "', but %" PRIu32 " ids", text->path,
                      gguf_quote(a, found), ids->n);
}

/* ---- what stands beside the logits */

static bool is_there(const char *path) {
    return !access(path, F_OK);
}

static bool read_prompt(arena *a, diag *d, recording *r, const char *path, recording_numbers *ids) {
    recording_bytes text;
    return recording_load(a, d, path, &text) &&
           recording_parse_prompt(a, d, &text, &r->prompt, ids);
}

static bool same_ids(const recording_numbers *x, const recording_numbers *y) {
    return x->n == y->n && !memcmp(x->words, y->words, (size_t)x->n * sizeof(int32_t));
}

static bool read_siblings(arena *a, diag *d, recording *r, const char *stem) {
    const char *tokens = arena_printf(a, "%s-tokens.bin", stem);
    const char *prompt = arena_printf(a, "%s-prompt.txt", stem);
    recording_numbers ids = { 0 }, of_prompt = { 0 };
    if (is_there(tokens) &&
        !read_numbers(a, d, tokens, recording_parse_binary, RECORDING_ID, &ids))
        return false;
    if (is_there(prompt) && !read_prompt(a, d, r, prompt, &of_prompt)) return false;
    if (ids.n && of_prompt.n && !same_ids(&ids, &of_prompt))
        return diag_error(d, "%s: other token ids than in %s: they are of different runs", tokens,
                          prompt);
    if (!ids.n) ids = of_prompt;
    r->tokens = ids.words;
    r->n_tokens = ids.n;
    return true;
}

/* NAME of llamacpp-NAME, or NULL. */
static const char *model_name(const char *stem) {
    static const char begin[] = "llamacpp-";
    const char *name = base_name(stem);
    return strncmp(name, begin, strlen(begin)) ? NULL : name + strlen(begin);
}

bool recording_read_logits(arena *a, diag *d, recording *r) {
    const char *stem = arena_copy_text(a, r->path, strlen(r->path) - strlen(".bin"));
    bool binary = recording_has_end(r->path, ".bin");
    recording_numbers logits;
    r->kind = "llama-debug logits";
    r->model = model_name(stem);
    if (!refuse_siblings(d, r->path, stem) ||
        !read_numbers(a, d, r->path, binary ? recording_parse_binary : recording_parse_text,
                      RECORDING_F32, &logits) ||
        !read_siblings(a, d, r, stem))
        return false;
    recorded_value *v = ARENA_NEW(a, recorded_value);
    *v = (recorded_value){
        .name = "result_output",
        .source = r->path,
        .n = logits.n,
        .columns = ARENA_NEW(a, recorded_column),
        .n_columns = 1,
        .unsplit = true,
        .precision = logits.precision,
        .n_tokens = r->n_tokens,
    };
    *v->columns = (recorded_column){ -1, logits.words };
    r->values = v;
    r->n_values = 1;
    return true;
}
