#include "imatrix.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SUMS   ".in_sum2"
#define COUNTS ".counts"

static bool ends_with(gguf_string name, const char *end) {
    size_t n = strlen(end);
    return name.size > n && !memcmp(name.data + name.size - n, end, n);
}

static int compare_names(gguf_string a, gguf_string b) {
    int order = memcmp(a.data, b.data, a.size < b.size ? a.size : b.size);
    return order ? order : a.size < b.size ? -1 : a.size > b.size;
}

static int compare_entries(const void *x, const void *y) {
    return compare_names(((const imatrix_entry *)x)->name, ((const imatrix_entry *)y)->name);
}

/* ---- reading */

static uint64_t count_values(const gguf_tensor *t) {
    return t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3];
}

static float stored_float(const gguf_file *f, const gguf_tensor *t, uint64_t i) {
    float x;
    memcpy(&x, f->data + t->offset + i * sizeof x, sizeof x);
    return x;
}

/* NULL after it was reported that there is none that fits. */
static const gguf_tensor *find_counts(arena *a, diag *d, const gguf_file *f, const gguf_tensor *sums,
                                      gguf_string name) {
    const char        *wanted = arena_printf(a, "%.*s" COUNTS, (int)name.size, name.data);
    const gguf_tensor *counts = gguf_find_tensor(f, wanted);
    const char        *quoted = gguf_quote(a, sums->name);
    if (!counts)
        diag_error(d, "%s: tensor %s: there is no '%s' beside it", f->path, quoted, wanted);
    else if (sums->type != QUANT_F32 || counts->type != QUANT_F32)
        diag_error(d, "%s: tensor %s: it and its counts must be F32", f->path, quoted);
    else if (count_values(sums) % count_values(counts))
        diag_error(d, "%s: tensor %s: %" PRIu64 " sums are no multiple of %" PRIu64 " counts", f->path,
                   quoted, count_values(sums), count_values(counts));
    else
        return counts;
    return NULL;
}

/* Sums over counts, as f32. */
static bool read_weights(arena *a, diag *d, const gguf_file *f, const gguf_tensor *sums,
                         const gguf_tensor *counts, imatrix_entry *e) {
    uint64_t columns = e->n / count_values(counts);
    float   *out = ARENA_ARRAY(a, float, e->n);
    for (uint64_t i = 0; i < e->n; i++) {
        float sum = stored_float(f, sums, i), count = stored_float(f, counts, i / columns);
        out[i] = count != 0 ? sum / roundf(count) : 1;
        if (!isfinite(out[i]) || out[i] < 0 || count < 0)
            return diag_error(d, "%s: tensor %s: value %" PRIu64 " is %g, met %g times: no finite importance "
                              "of 0 or more",
                              f->path, gguf_quote(a, sums->name), i, (double)sum, (double)count);
    }
    e->weights = out;
    return true;
}

static bool read_entry(arena *a, diag *d, const gguf_file *f, const gguf_tensor *sums, imatrix_entry *e) {
    gguf_string        name = { sums->name.data, sums->name.size - strlen(SUMS) };
    const gguf_tensor *counts = find_counts(a, d, f, sums, name);
    e->name = (gguf_string){ arena_copy_text(a, name.data, name.size), name.size };
    e->n = count_values(sums);
    return counts && read_weights(a, d, f, sums, counts, e);
}

static bool has_sums(arena *a, diag *d, const gguf_file *f, const gguf_tensor *counts) {
    size_t      n = counts->name.size - strlen(COUNTS);
    const char *wanted = arena_printf(a, "%.*s" SUMS, (int)n, counts->name.data);
    return gguf_find_tensor(f, wanted) ||
           diag_error(d, "%s: tensor %s: there is no '%s' beside it", f->path, gguf_quote(a, counts->name),
                      wanted);
}

static bool read_entries(arena *a, diag *d, const gguf_file *f, imatrix *m) {
    imatrix_entry *entries = ARENA_ARRAY(a, imatrix_entry, f->n_tensors + 1);
    m->entries = entries;
    for (uint64_t i = 0; i < f->n_tensors; i++) {
        const gguf_tensor *t = &f->tensors[i];
        if (ends_with(t->name, SUMS) && !read_entry(a, d, f, t, &entries[m->n_entries++])) return false;
        if (ends_with(t->name, COUNTS) && !has_sums(a, d, f, t)) return false;
    }
    if (!m->n_entries) return diag_error(d, "%s: holds no tensor named …" SUMS ": no importances", f->path);
    qsort(entries, m->n_entries, sizeof *entries, compare_entries);
    return true;
}

static bool read_facts(arena *a, diag *d, const gguf_file *f, imatrix *m) {
    gguf_string kind = { "", 0 };
    gguf_array  datasets;
    enum gguf_found found = gguf_get_string(f, d, "general.type", &kind);
    if (found == GGUF_MISTYPED) return false;
    if (kind.size != strlen("imatrix") || memcmp(kind.data, "imatrix", kind.size))
        return diag_error(d, "%s: general.type is %s, expected 'imatrix'", f->path,
                          found == GGUF_ABSENT ? "absent" : gguf_quote(a, kind));
    if (gguf_get_u64(f, d, "imatrix.chunk_count", &m->n_chunks) == GGUF_MISTYPED) return false;
    if (m->n_chunks > UINT32_MAX)
        return diag_error(d, "%s: imatrix.chunk_count is %" PRIu64 ": too many", f->path, m->n_chunks);
    found = gguf_get_array(f, d, "imatrix.datasets", GGUF_STRING, &datasets);
    if (found == GGUF_MISTYPED) return false;
    if (found == GGUF_PRESENT && datasets.count) {
        const uint8_t *cursor = datasets.data;
        gguf_string    first = gguf_string_next(&cursor);
        m->dataset = (gguf_string){ arena_copy_text(a, first.data, first.size), first.size };
    }
    return true;
}

/* The older format has no magic: it begins with how many entries it has. */
static bool is_legacy(const char *path) {
    char        magic[4];
    struct stat s;
    FILE       *f = !stat(path, &s) && S_ISREG(s.st_mode) ? fopen(path, "rb") : NULL;
    bool        legacy = f && fread(magic, 1, 4, f) == 4 && memcmp(magic, "GGUF", 4);
    if (f) fclose(f);
    return legacy;
}

imatrix *imatrix_read(arena *a, diag *d, const char *path) {
    imatrix *m = ARENA_NEW(a, imatrix);
    m->path = path;
    if (is_legacy(path)) {
        diag_error(d, "%s: no GGUF: an importance matrix in the older .dat format has to be converted first, "
                   "by llama-imatrix --in-file", path);
        return NULL;
    }
    gguf_file *f = gguf_open(a, d, path);
    bool       ok = f && read_facts(a, d, f, m) && read_entries(a, d, f, m);
    gguf_close(f);
    return ok ? m : NULL;
}

/* ---- using it */

static bool has_part(gguf_string name, const char *const *parts, uint32_t n_parts) {
    for (uint32_t i = 0; i < n_parts; i++)
        if (memmem(name.data, name.size, parts[i], strlen(parts[i]))) return true;
    return false;
}

void imatrix_select(imatrix *m, const char *const *parts, uint32_t n_parts, bool exclude) {
    imatrix_entry *entries = (imatrix_entry *)m->entries;
    uint32_t       n = 0;
    for (uint32_t i = 0; i < m->n_entries; i++)
        if (has_part(entries[i].name, parts, n_parts) != exclude) entries[n++] = entries[i];
    m->n_entries = n;
}

const imatrix_entry *imatrix_find(const imatrix *m, gguf_string name) {
    imatrix_entry key = { .name = name };
    if (!m->n_entries) return NULL;
    return bsearch(&key, m->entries, m->n_entries, sizeof key, compare_entries);
}
