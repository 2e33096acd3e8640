/* ggufc dump: finds the tensor and what of it is to be shown, or says why that cannot be. Counting
 * is in dump_stats.c, writing in dump_text.c and dump_json.c. */
#include "dump.h"

#include "dump_facts.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { SHOWN_VALUES = 32, SIMILAR = 3, LONGEST_NAME = 128 };

/* ---- a name that is nearly right */

static uint32_t least(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

/* Insertions, deletions and changes of a byte that make one name of the other, each at most
   LONGEST_NAME bytes (Wagner and Fischer 1974). */
static uint32_t edit_distance(gguf_string a, gguf_string b) {
    uint32_t row[LONGEST_NAME + 1];
    for (uint32_t k = 0; k <= b.size; k++) row[k] = k;
    for (uint32_t i = 0; i < a.size; i++) {
        uint32_t diagonal = row[0];
        row[0] = i + 1;
        for (uint32_t k = 0; k < b.size; k++) {
            uint32_t changed = diagonal + (a.data[i] != b.data[k]);
            diagonal = row[k + 1];
            row[k + 1] = least(changed, least(row[k], row[k + 1]) + 1);
        }
    }
    return row[b.size];
}

static bool contains(gguf_string whole, gguf_string part) {
    return memmem(whole.data, whole.size, part.data, part.size) != NULL;
}

/* How far a name is from what was asked for; UINT32_MAX: not similar. A part of a name (without
   "blk.0." or ".weight") is nearer than any misspelling, of which a third of the bytes may be
   wrong. */
static uint32_t name_distance(gguf_string name, gguf_string asked) {
    if (!asked.size || asked.size > LONGEST_NAME || name.size > LONGEST_NAME) return UINT32_MAX;
    if (asked.size > 2 && contains(name, asked)) return 0;
    const uint32_t distance = edit_distance(name, asked);
    return distance <= asked.size / 3 ? distance : UINT32_MAX;
}

/* Says up to three similar names, the nearest first, else those that come first in the file. */
static bool refuse_name(arena *a, diag *d, const gguf_file *f, const char *asked) {
    const gguf_string name = { asked, strlen(asked) };
    const gguf_string *found[SIMILAR + 1];
    uint32_t distance[SIMILAR + 1], n = 0;
    for (uint64_t i = 0; i < f->n_tensors; i++) {
        const uint32_t now = name_distance(f->tensors[i].name, name);
        if (now == UINT32_MAX) continue;
        uint32_t at = n;
        for (; at && distance[at - 1] > now; at--) {
            distance[at] = distance[at - 1];
            found[at] = found[at - 1];
        }
        distance[at] = now;
        found[at] = &f->tensors[i].name;
        n = least(n + 1, SIMILAR);
    }
    const char *similar = "";
    for (uint32_t i = 0; i < n; i++)
        similar = arena_printf(a, "%s%s %s", similar, i ? "," : "; similar:",
                               gguf_quote(a, *found[i]));
    return diag_error(d, "%s: there is no tensor %s%s", f->path, gguf_quote(a, name),
                      n ? similar : "; without a name all are listed");
}

/* ---- what is to be shown */

static bool choose_row(const dump_options *o, diag *d, const char *where, dump_facts *facts) {
    facts->row = o->row == -1 ? 0 : (uint64_t)o->row;
    if (facts->row < facts->n_rows) return true; /* which no negative row is */
    return diag_error(d, "%s: there is no row %" PRId64 ", the tensor has %" PRIu64
                      " row%s, counted from 0", where, o->row, facts->n_rows,
                      facts->n_rows == 1 ? "" : "s");
}

static bool choose_blocks(const dump_options *o, diag *d, const char *where, dump_facts *facts) {
    const char    *what = dump_is_plain(facts) ? "value" : "block";
    const uint64_t there = facts->row_blocks;
    facts->block = o->block == -1 ? 0 : (uint64_t)o->block;
    if (facts->block >= there)
        return diag_error(d, "%s: there is no %s %" PRId64 ", a row has %" PRIu64
                          ", counted from 0", where, what, o->block, there);
    const uint64_t left = there - facts->block, usual = SHOWN_VALUES / facts->type->block_len;
    facts->count = (uint64_t)o->count;
    if (o->count == -1) facts->count = !usual ? 1 : usual < left ? usual : left;
    if (o->count < -1 || !facts->count)
        return diag_error(d, "%s: a count of %" PRId64 ", expected 1 or more", where, o->count);
    if (facts->count > left)
        return diag_error(d, "%s: a count of %" PRIu64 " from %s %" PRIu64 ", a row has %" PRIu64,
                          where, facts->count, what, facts->block, there);
    return true;
}

static bool choose(arena *a, const dump_options *o, diag *d, const gguf_file *f,
                   dump_facts *facts) {
    const gguf_tensor *t = gguf_find_tensor(f, o->tensor);
    if (!t) return refuse_name(a, d, f, o->tensor);
    *facts = (dump_facts){ .file = f, .tensor = t, .type = quant_find(t->type) };
    facts->n_rows = t->dims[1] * t->dims[2] * t->dims[3];
    facts->row_bytes = quant_row_bytes(t->type, t->dims[0]);
    facts->row_blocks = t->dims[0] / facts->type->block_len;
    const char *where = arena_printf(a, "%s: tensor %s", f->path, gguf_quote(a, t->name));
    return choose_row(o, d, where, facts) && choose_blocks(o, d, where, facts);
}

/* ---- doing it */

typedef bool dumper(arena *a, const dump_options *o, diag *d, const gguf_file *f, FILE *out);

static bool write_tensor(arena *a, const dump_options *o, diag *d, const gguf_file *f, FILE *out) {
    dump_facts facts;
    if (!choose(a, o, d, f, &facts)) return false;
    dump_count(a, &facts);
    (o->json ? dump_write_json : dump_write_text)(&facts, out);
    return true;
}

static bool write_list(arena *a, const dump_options *o, diag *d, const gguf_file *f, FILE *out) {
    (void)a, (void)d;
    (o->json ? dump_write_list_json : dump_write_list_text)(f, out);
    return true;
}

static bool dump(const dump_options *o, diag *d, FILE *out, dumper *write) {
    arena     *a = arena_new();
    gguf_file *f = gguf_open(a, d, o->model);
    bool       ok = f && write(a, o, d, f, out);
    if (ok && (fflush(out) || ferror(out)))
        ok = diag_error(d, "what was read cannot be written: %s", strerror(errno));
    gguf_close(f);
    arena_free(a);
    return ok;
}

bool dump_tensor(const dump_options *o, diag *d, FILE *out) {
    return dump(o, d, out, write_tensor);
}

bool dump_list(const dump_options *o, diag *d, FILE *out) {
    return dump(o, d, out, write_list);
}
