/* recording_folder.c - a folder of text dumps to activations.
 *
 * Every file that the map takes is read to a piece: an activation's values for one token, or all
 * that there is of it. Pieces are sorted by name and token, and those of a name become a value.
 */
#include "recording_read.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct piece {
    const char       *name, *source;
    int64_t           token; /* -1: the file does not say */
    recording_numbers numbers;
} piece;

typedef struct folder {
    arena     *memory;
    diag      *d;
    recording *r;
    const recording_map *map;
    const char *tokens_source, *prompt_source; /* NULL until there is one */
    piece     *pieces;
    uint32_t   n_pieces, capacity;
} folder;

/* ---- what is in it */

static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static const char *join(arena *a, const char *path, const char *name) {
    return arena_printf(a, "%s%s%s", path, recording_has_end(path, "/") ? "" : "/", name);
}

/* What cannot be looked at is kept, so that reading it tells why. */
static bool is_wanted(folder *f, const char *name) {
    struct stat st;
    if (*name == '.') return false;
    return stat(join(f->memory, f->r->path, name), &st) || S_ISREG(st.st_mode);
}

static bool list_files(folder *f, char ***out, uint32_t *n) {
    uint32_t capacity = 0;
    DIR *dir = opendir(f->r->path);
    if (!dir) return diag_error(f->d, "%s: cannot open: %s", f->r->path, strerror(errno));
    *out = NULL;
    *n = 0;
    errno = 0;
    for (struct dirent *e; (e = readdir(dir)); errno = 0) {
        if (!is_wanted(f, e->d_name)) continue;
        char **name = arena_push(f->memory, (void **)out, n, &capacity, sizeof *name);
        *name = arena_copy_text(f->memory, e->d_name, strlen(e->d_name));
    }
    int error = errno;
    closedir(dir);
    if (error) return diag_error(f->d, "%s: cannot read: %s", f->r->path, strerror(error));
    if (*n) qsort(*out, *n, sizeof **out, compare_names);
    return true;
}

/* ---- its files */

static bool is_second(folder *f, const char **first, const char *path, const char *what) {
    if (*first) return !diag_error(f->d, "%s: a second file of %s, after %s", path, what, *first);
    *first = path;
    return false;
}

static bool read_numbers(folder *f, const char *path, enum recording_number kind,
                         recording_numbers *out) {
    arena *scratch = arena_new();
    recording_bytes text;
    bool ok = recording_load(scratch, f->d, path, &text) &&
              recording_parse_text(f->memory, f->d, &text, kind, out);
    arena_free(scratch);
    return ok;
}

static bool read_tokens(folder *f, const char *path) {
    recording_numbers ids;
    if (is_second(f, &f->tokens_source, path, "token ids")) return false;
    if (!read_numbers(f, path, RECORDING_ID, &ids)) return false;
    f->r->tokens = ids.words;
    f->r->n_tokens = ids.n;
    return true;
}

/* The text without the end of its last line. */
static bool read_prompt(folder *f, const char *path) {
    recording_bytes text;
    if (is_second(f, &f->prompt_source, path, "the prompt")) return false;
    if (!recording_load(f->memory, f->d, path, &text) || !recording_check_text(f->d, &text))
        return false;
    uint64_t size = text.size;
    if (size && text.data[size - 1] == '\n') size--;
    if (size && text.data[size - 1] == '\r') size--;
    f->r->prompt = arena_copy_text(f->memory, text.data, size);
    return true;
}

static bool read_piece(folder *f, const char *path, const recording_place *place) {
    recording_numbers numbers;
    if (!read_numbers(f, path, RECORDING_F32, &numbers)) return false;
    piece *p = arena_push(f->memory, (void **)&f->pieces, &f->n_pieces, &f->capacity, sizeof *p);
    *p = (piece){ place->name, path, place->token, numbers };
    return true;
}

/* Whether llama-debug wrote the file and nobody said that it is meant as a dump. */
static bool is_logits(const folder *f, const char *name, const recording_place *place) {
    bool given = place->line < f->map->lines + f->map->n_given;
    return !given && !strncmp(name, "llamacpp-", strlen("llamacpp-"));
}

static bool read_file(folder *f, const char *name) {
    recording_place place;
    const char *path = join(f->memory, f->r->path, name);
    if (!recording_map_find(f->memory, f->d, f->map, path, name, &place)) return false;
    if (!place.line) {
        if (!f->r->n_ignored++) f->r->first_ignored = path;
        return true;
    }
    if (is_logits(f, name, &place))
        return diag_error(f->d, "%s: llama-debug's, no text dump: give the .bin or .txt of logits"
                          " itself, or say in a map what it is", path);
    switch (place.role) {
    case RECORDING_TOKENS:
        return read_tokens(f, path);
    case RECORDING_PROMPT:
        return read_prompt(f, path);
    case RECORDING_VALUES:
        return read_piece(f, path, &place);
    case RECORDING_LEFT_OUT:
        break;
    }
    return true;
}

/* ---- pieces to values */

static int compare_pieces(const void *a, const void *b) {
    const piece *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    if (!order) order = x->token < y->token ? -1 : x->token > y->token;
    return order ? order : strcmp(x->source, y->source);
}

/* Whether `p` goes with the piece before it, of the same name. */
static bool check_pair(folder *f, const piece *before, const piece *p) {
    if (before->token == p->token && p->token < 0)
        return diag_error(f->d, "%s: a second file of %s, after %s", p->source, p->name,
                          before->source);
    if (before->token == p->token)
        return diag_error(f->d, "%s: a second file of %s for token %" PRId64 ", after %s",
                          p->source, p->name, p->token, before->source);
    if (before->token < 0)
        return diag_error(f->d, "%s: %s for token %" PRId64 ", and %s has %s for no token in"
                          " particular", p->source, p->name, p->token, before->source, p->name);
    if (before->numbers.n != p->numbers.n)
        return diag_error(f->d, "%s: %" PRIu32 " numbers, expected %" PRIu32 " as in %s", p->source,
                          p->numbers.n, before->numbers.n, before->source);
    return true;
}

static void make_value(folder *f, recorded_value *v, const piece *pieces, uint32_t n) {
    recorded_precision most = pieces->numbers.precision;
    for (uint32_t i = 1; i < n; i++) {
        const recorded_precision *p = &pieces[i].numbers.precision;
        if (p->n_decimals > most.n_decimals) most.n_decimals = p->n_decimals;
        if (p->n_digits > most.n_digits) most.n_digits = p->n_digits;
    }
    *v = (recorded_value){
        .precision = most,
        .name = pieces->name,
        .source = pieces->source,
        .n = pieces->numbers.n,
        .columns = ARENA_ARRAY(f->memory, recorded_column, n),
        .n_columns = n,
        .unsplit = pieces->token < 0,
        .n_tokens = f->r->n_tokens,
    };
    for (uint32_t i = 0; i < n; i++)
        v->columns[i] = (recorded_column){ pieces[i].token, pieces[i].numbers.words };
}

static bool make_values(folder *f) {
    if (!f->n_pieces) return true;
    qsort(f->pieces, f->n_pieces, sizeof *f->pieces, compare_pieces);
    f->r->values = ARENA_ARRAY(f->memory, recorded_value, f->n_pieces);
    for (uint32_t first = 0, i = 1; i <= f->n_pieces; i++) {
        const piece *p = &f->pieces[i];
        if (i < f->n_pieces && !strcmp(p[-1].name, p->name)) {
            if (!check_pair(f, p - 1, p)) return false;
            continue;
        }
        make_value(f, &f->r->values[f->r->n_values++], &f->pieces[first], i - first);
        first = i;
    }
    return true;
}

bool recording_read_folder(arena *a, diag *d, recording *r, const recording_map *map) {
    folder f = { .memory = a, .d = d, .r = r, .map = map };
    char **names;
    uint32_t n;
    r->kind = "text dumps";
    if (!list_files(&f, &names, &n)) return false;
    for (uint32_t i = 0; i < n; i++)
        if (!read_file(&f, names[i])) return false;
    return make_values(&f);
}
