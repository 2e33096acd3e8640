/* recording.c - what kind of recording a path is, activations GGUFs, and the columns of a value.
 *
 * A column is the values of one token. A recording often does not say how many values that is: text
 * has no shapes, and GGUF writers drop trailing dimensions of 1, so that [32, 8] may be the last
 * token's 8 heads as well as 8 tokens. Such a value stays unsplit until somebody who knows the
 * model says how many there are.
 */
#include "recording.h"
#include "recording_read.h"

#include "gguf_read.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define GENERAL_TYPE "general.type"
#define ACTIVATIONS  "activations"
#define EXPECTED                                                                                   \
    "expected an activations GGUF, a folder of text dumps, or a .bin or .txt of logits"

/* ---- which kind */

enum path_kind { PATH_ABSENT, PATH_OTHER, PATH_FOLDER, PATH_GGUF, PATH_LOGITS };

static bool has_magic(const char *path) {
    char magic[4];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return false;
    bool ok = read(fd, magic, sizeof magic) == sizeof magic && !memcmp(magic, "GGUF", sizeof magic);
    close(fd);
    return ok;
}

static enum path_kind find_kind(const char *path) {
    struct stat st;
    if (stat(path, &st)) return PATH_ABSENT;
    if (S_ISDIR(st.st_mode)) return PATH_FOLDER;
    if (!S_ISREG(st.st_mode)) return PATH_OTHER;
    if (has_magic(path)) return PATH_GGUF;
    return recording_has_end(path, ".bin") || recording_has_end(path, ".txt") ? PATH_LOGITS
                                                                                : PATH_OTHER;
}

static void ignore(void *user, enum diag_level level, const char *line) {
    (void)user, (void)level, (void)line;
}

static bool is_activations(gguf_string type) {
    return type.size == strlen(ACTIVATIONS) && !memcmp(type.data, ACTIVATIONS, type.size);
}

static bool is_activations_gguf(const char *path) {
    arena *a = arena_new();
    diag d = { .sink = ignore };
    gguf_string type;
    gguf_file *f = gguf_open(a, &d, path);
    bool yes = f && gguf_get_string(f, &d, GENERAL_TYPE, &type) == GGUF_PRESENT &&
               is_activations(type);
    gguf_close(f);
    arena_free(a);
    return yes;
}

bool recording_is(const char *path) {
    enum path_kind kind = find_kind(path);
    if (kind == PATH_GGUF) return is_activations_gguf(path);
    return kind == PATH_FOLDER || kind == PATH_LOGITS;
}

/* ---- an activations GGUF */

static bool read_type(arena *a, diag *d, const gguf_file *f) {
    gguf_string type;
    switch (gguf_get_string(f, d, GENERAL_TYPE, &type)) {
    case GGUF_MISTYPED:
        return false;
    case GGUF_ABSENT:
        return diag_error(d, "%s: no key '" GENERAL_TYPE "', expected '" ACTIVATIONS "'", f->path);
    case GGUF_PRESENT:
        break;
    }
    if (is_activations(type)) return true;
    return diag_error(d, "%s: key '" GENERAL_TYPE "' is %s, expected '" ACTIVATIONS "'", f->path,
                      gguf_quote(a, type));
}

static bool read_text(arena *a, diag *d, const gguf_file *f, const char *key, const char **out) {
    gguf_string text;
    enum gguf_found found = gguf_get_string(f, d, key, &text);
    if (found == GGUF_PRESENT) *out = arena_copy_text(a, text.data, text.size);
    return found != GGUF_MISTYPED;
}

/* The ids are copied: in the file they need not be aligned. */
static bool read_tokens(arena *a, diag *d, const gguf_file *f, recording *r) {
    static const char key[] = "activations.tokens";
    gguf_array ids;
    enum gguf_found found = gguf_get_array(f, d, key, GGUF_I32, &ids);
    if (found != GGUF_PRESENT || !ids.count) return found != GGUF_MISTYPED;
    if (ids.count > INT32_MAX)
        return diag_error(d, "%s: key '%s': %" PRIu64 " tokens, at most %d can be read", f->path,
                          key, ids.count, INT32_MAX);
    int32_t *tokens = ARENA_ARRAY(a, int32_t, ids.count);
    for (uint64_t i = 0; i < ids.count; i++) {
        tokens[i] = (int32_t)gguf_array_u32(&ids, i);
        if (tokens[i] < 0)
            return diag_error(d, "%s: key '%s': token %" PRIu64 " is %" PRId32
                              ", expected an id of 0 or more", f->path, key, i, tokens[i]);
    }
    r->tokens = tokens;
    r->n_tokens = (uint32_t)ids.count;
    return true;
}

/* Values of equal columns, the last of which is that of the last token. */
static void make_columns(arena *a, recorded_value *v, const float *data, uint64_t n_columns) {
    v->n_columns = (uint32_t)n_columns;
    v->columns = ARENA_ARRAY(a, recorded_column, n_columns);
    for (uint64_t i = 0; i < n_columns; i++)
        v->columns[i] = (recorded_column){ (int64_t)i - (int64_t)n_columns, data + i * v->n };
}

static bool read_tensor(arena *a, diag *d, const gguf_file *f, const gguf_tensor *t, recording *r) {
    recorded_value *v = &r->values[r->n_values++];
    const char *quoted = gguf_quote(a, t->name);
    if (memchr(t->name.data, 0, t->name.size))
        return diag_error(d, "%s: tensor %s: a zero byte in the name", f->path, quoted);
    if (t->type != QUANT_F32)
        return diag_error(d, "%s: tensor %s: the type is %s, expected F32", f->path, quoted,
                          quant_find(t->type)->name);
    uint64_t n = t->bytes / sizeof(float);
    uint64_t n_columns = t->n_dims > 1 && t->dims[t->n_dims - 1] == r->n_tokens ? r->n_tokens : 1;
    *v = (recorded_value){
        .name = arena_copy_text(a, t->name.data, t->name.size),
        .source = r->path,
        .n = n / n_columns,
        .unsplit = n_columns == 1 && r->n_tokens != 1,
        .n_tokens = r->n_tokens,
    };
    make_columns(a, v, (const float *)(const void *)(f->data + t->offset), n_columns);
    return true;
}

bool recording_read_gguf(arena *a, diag *d, recording *r, const gguf_file *f) {
    r->kind = "activations GGUF";
    if (!read_type(a, d, f) || !read_tokens(a, d, f, r) ||
        !read_text(a, d, f, "activations.producer", &r->producer) ||
        !read_text(a, d, f, "activations.model", &r->model) ||
        !read_text(a, d, f, "activations.prompt", &r->prompt))
        return false;
    r->values = ARENA_ARRAY(a, recorded_value, f->n_tensors);
    for (uint64_t i = 0; i < f->n_tensors; i++)
        if (!read_tensor(a, d, f, &f->tensors[i], r)) return false;
    return true;
}

/* ---- opening and closing */

static bool open_gguf(arena *a, diag *d, recording *r) {
    r->file = gguf_open(a, d, r->path);
    return r->file && recording_read_gguf(a, d, r, r->file);
}

static bool read_kind(arena *a, diag *d, recording *r, const recording_map *map) {
    switch (find_kind(r->path)) {
    case PATH_ABSENT:
        return diag_error(d, "%s: cannot open: %s", r->path, strerror(errno));
    case PATH_FOLDER:
        return recording_read_folder(a, d, r, map);
    case PATH_GGUF:
        return open_gguf(a, d, r);
    case PATH_LOGITS:
        return recording_read_logits(a, d, r);
    case PATH_OTHER:
        break;
    }
    if (access(r->path, R_OK))
        return diag_error(d, "%s: cannot open: %s", r->path, strerror(errno));
    return diag_error(d, "%s: this is no recording, " EXPECTED, r->path);
}

recording *recording_open(arena *a, diag *d, const char *path, const char *map) {
    recording *r = ARENA_NEW(a, recording);
    recording_map lines;
    r->path = arena_copy_text(a, path, strlen(path));
    bool ok = recording_map_parse(a, d, "map", map, &lines) && read_kind(a, d, r, &lines);
    if (ok && !r->n_values && !r->n_tokens)
        ok = diag_error(d, "%s: neither activations nor token ids in it", path);
    if (ok) return r;
    recording_close(r);
    return NULL;
}

void recording_close(recording *r) {
    if (!r) return;
    gguf_close(r->file);
    r->file = NULL;
}

/* ---- values and their columns */

recorded_value *recording_find(const recording *r, const char *name) {
    for (uint32_t i = 0; i < r->n_values; i++)
        if (!strcmp(r->values[i].name, name)) return &r->values[i];
    return NULL;
}

/* Columns told by a tensor's last dimension, which are a token's rows: all of them together are as
   many values as it has. */
static bool is_one_token(const recorded_value *v, uint64_t values_per_token) {
    return v->n_columns > 1 && v->columns->token < 0 && v->n * v->n_columns == values_per_token;
}

/* Whether each of its rows is the first values of a token. One whose length divides that of a token may
   as well be a head of many. */
static bool has_short_rows(const recorded_value *v, uint64_t values_per_token) {
    uint64_t n_rows = v->row ? v->n / v->row : 0;
    if (!v->unsplit || n_rows < 2 || v->row >= values_per_token) return false;
    if (v->n % values_per_token == 0 && values_per_token % v->row == 0) return false;
    if (v->n_tokens == n_rows) return true;
    return v->n > values_per_token && v->n % values_per_token && (!v->n_tokens || n_rows < v->n_tokens);
}

bool recording_split(arena *a, diag *d, recorded_value *v, uint64_t values_per_token) {
    if (!values_per_token) bug("%s: no values for a token", v->name);
    if (has_short_rows(v, values_per_token)) values_per_token = v->row;
    uint64_t n_columns = v->n / values_per_token;
    if (is_one_token(v, values_per_token)) {
        v->n = values_per_token;
        make_columns(a, v, v->columns->data, 1);
    }
    if (v->n <= values_per_token) {
        v->unsplit = false;
        return true;
    }
    if (!v->unsplit)
        return diag_error(d, "%s: %s: %" PRIu64 " values for a token, expected %" PRIu64, v->source,
                          v->name, v->n, values_per_token);
    if (v->n % values_per_token || n_columns > INT32_MAX)
        return diag_error(d, "%s: %s: %" PRIu64 " numbers, expected %" PRIu64
                          " for each token", v->source, v->name, v->n, values_per_token);
    if (v->n_tokens && n_columns > v->n_tokens)
        return diag_error(d, "%s: %s: %" PRIu64 " numbers are those of %" PRIu64
                          " tokens, expected at most %" PRIu32, v->source, v->name, v->n, n_columns,
                          v->n_tokens);
    v->n = values_per_token;
    v->unsplit = false;
    make_columns(a, v, v->columns->data, n_columns);
    return true;
}

static double text_step(const recorded_precision *p, double x) {
    double step = pow(10, -p->n_decimals);
    return x < 0 || x > 0 ? fmax(step, pow(10, floor(log10(fabs(x))) + 1 - p->n_digits)) : step;
}

/* Of floats of so many bits whose exponent is x's. */
static double bits_step(int n_bits, double x) {
    int exponent = 0;
    frexp(x, &exponent);
    return x < 0 || x > 0 ? ldexp(1, exponent - n_bits) : 0;
}

double recording_step(const recorded_precision *p, float x) {
    if (!isfinite(x)) return 0;
    double step = p->n_digits ? text_step(p, (double)x) : 0;
    return p->n_bits ? fmax(step, bits_step(p->n_bits, (double)x)) : step;
}

bool recording_fits(const recorded_value *v, int n_bits, uint64_t *n) {
    for (uint32_t c = 0; c < v->n_columns; c++)
        for (uint64_t i = 0; i < v->n; i++) {
            double x = (double)v->columns[c].data[i], step = bits_step(n_bits, x);
            double lost = v->precision.n_digits ? text_step(&v->precision, x) / 2 + fabs(x) * 0x1p-24 : 0;
            if (!isfinite(x) || !(step > 8 * lost)) continue;
            if (fabs(rint(x / step) * step - x) > lost) return false;
            ++*n;
        }
    return true;
}

/* Columns are in order of their tokens. */
const float *recording_row(const recorded_value *v, uint32_t token, uint32_t n_tokens) {
    if (v->unsplit) bug("%s: recording_split has not been called", v->name);
    int64_t from_end = v->columns->token < 0 ? n_tokens : 0;
    int64_t wanted = (int64_t)token - from_end;
    for (uint32_t low = 0, high = v->n_columns; low < high;) {
        uint32_t middle = low + (high - low) / 2;
        const recorded_column *c = &v->columns[middle];
        if (c->token == wanted) return c->data;
        if (c->token < wanted)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}
