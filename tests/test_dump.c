/* What `ggufc dump` tells of a tensor: of the demo model against sums and sorted scales of our own,
 * of files written by hand against numbers worked out by hand; what it refuses, and how; and that
 * every type can be written, as JSON that a parser takes. */
#include "dump.h"
#include "gguf_writer.h"
#include "strict_json.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

#define MODEL "tests/models/storyteller-q8_0.gguf"

static char path[] = "/tmp/test_dump.XXXXXX";

/* ---- running it */

typedef struct outcome {
    bool   ok;
    char  *text; /* what was written */
    size_t size;
    char   error[1500]; /* the last message */
} outcome;

static void keep(void *user, enum diag_level level, const char *line) {
    outcome *o = user;
    assert_int_equal(level, DIAG_ERROR);
    snprintf(o->error, sizeof o->error, "%s", line);
}

/* Released by outcome_free. */
static outcome run(const dump_options *options) {
    outcome o = { .ok = false };
    diag    d = { .sink = keep, .user = &o };
    FILE   *out = open_memstream(&o.text, &o.size);
    assert_non_null(out);
    o.ok = options->tensor ? dump_tensor(options, &d, out) : dump_list(options, &d, out);
    fclose(out);
    assert_int_equal(o.ok, d.n_errors == 0);
    return o;
}

static outcome run_on(const char *model, const char *tensor, bool json) {
    outcome o = run(&(dump_options){ model, tensor, -1, -1, -1, json });
    if (!o.ok) fail_msg("%s: %s", tensor ? tensor : "list", o.error);
    return o;
}

static void outcome_free(outcome *o) {
    free(o->text);
    o->text = NULL;
}

static void expect_text(const outcome *o, const char *text) {
    if (!strstr(o->text, text)) fail_msg("'%s' is not in:\n%s", text, o->text);
}

static void expect_no_text(const outcome *o, const char *text) {
    if (strstr(o->text, text)) fail_msg("'%s' is in:\n%s", text, o->text);
}

/* ---- reading JSON */

static void expect_json(const outcome *o) {
    const char *wrong = json_error(o->text);
    if (wrong) fail_msg("no JSON from here: %.60s\nin:\n%s", wrong, o->text);
    assert_true(o->size > 2);
    assert_string_equal(o->text + o->size - 2, "}\n");
}

static const char *find_value(const outcome *o, const char *where) {
    size_t      size;
    const char *found = json_find(o->text, where, &size);
    if (!found) fail_msg("no %s", where);
    return found;
}

static double number(const outcome *o, const char *where) {
    const char *s = find_value(o, where);
    if (!strncmp(s, "null", 4)) return (double)NAN;
    return strtod(s, NULL);
}

static void expect_null(const outcome *o, const char *where) {
    if (strncmp(find_value(o, where), "null", 4) != 0) fail_msg("%s is not null", where);
}

static void expect_number(const outcome *o, const char *where, double expected) {
    const double found = number(o, where);
    if (found != expected) fail_msg("%s: %.17g, expected %.17g", where, found, expected);
}

static void expect_near(const outcome *o, const char *where, double expected) {
    const double found = number(o, where);
    if (!(fabs(found - expected) <= 1e-12 * fabs(expected)))
        fail_msg("%s: %.17g, expected %.17g", where, found, expected);
}

static void expect_word(const outcome *o, const char *where, const char *expected) {
    const char *s = find_value(o, where);
    if (*s != '"' || strncmp(s + 1, expected, strlen(expected)) != 0 ||
        s[1 + strlen(expected)] != '"')
        fail_msg("%s: %.40s, expected %s", where, s, expected);
}

/* ---- the demo model */

static int compare_doubles(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* |scale| of each block of a Q8_0 tensor; returns how many. */
static uint64_t scales_of(const gguf_file *f, const gguf_tensor *t, double *out) {
    const uint64_t n = t->bytes / 34;
    for (uint64_t i = 0; i < n; i++) {
        uint16_t bits;
        memcpy(&bits, f->data + t->offset + 34 * i, 2);
        out[i] = fabs((double)quant_f16_to_f32(bits));
    }
    qsort(out, n, sizeof *out, compare_doubles);
    return n;
}

static void expect_values(const outcome *o, const char *where, const float *x, uint64_t n) {
    double   least = INFINITY, most = -INFINITY, sum = 0, squares = 0;
    uint64_t zeros = 0;
    char     name[64];
    for (uint64_t i = 0; i < n; i++) {
        least = fmin(least, (double)x[i]), most = fmax(most, (double)x[i]);
        sum += (double)x[i], squares += (double)x[i] * (double)x[i];
        zeros += x[i] == 0;
    }
    const double mean = sum / (double)n, rms = sqrt(squares / (double)n);
#define AT(field) (snprintf(name, sizeof name, "%s." field, where), name)
    expect_number(o, AT("n"), (double)n);
    expect_number(o, AT("min"), least);
    expect_number(o, AT("max"), most);
    expect_number(o, AT("zero"), (double)zeros);
    expect_number(o, AT("nan"), 0);
    expect_number(o, AT("infinite"), 0);
    assert_true(fabs(number(o, AT("mean")) - mean) < 1e-12);
    expect_near(o, AT("rms"), rms);
    expect_near(o, AT("std"), sqrt(rms * rms - mean * mean));
#undef AT
}

static void tell_of_a_tensor(void **state) {
    (void)state;
    arena             *a = arena_new();
    diag               d = { 0 };
    gguf_file         *f = gguf_open(a, &d, MODEL);
    const gguf_tensor *t = gguf_find_tensor(f, "blk.1.ffn_down.weight");
    assert_true(t && t->type == QUANT_Q8_0 && t->dims[0] == 512 && t->dims[1] == 256);
    outcome o = run(&(dump_options){ MODEL, "blk.1.ffn_down.weight", 200, 3, 2, true });
    assert_true(o.ok);
    expect_json(&o);

    expect_word(&o, "tensor.name", "blk.1.ffn_down.weight");
    expect_word(&o, "tensor.type", "Q8_0");
    expect_number(&o, "tensor.shape.0", 512);
    expect_number(&o, "tensor.shape.1", 256);
    expect_number(&o, "tensor.bytes", 512 * 256 / 32 * 34);
    expect_number(&o, "tensor.offset", (double)t->offset);
    expect_number(&o, "tensor.rows", 256);
    expect_number(&o, "tensor.row_bytes", 544);
    expect_number(&o, "tensor.blocks", 4096);

    /* The second of the blocks shown is the row's fifth. */
    float          *values = ARENA_ARRAY(a, float, 512 * 256);
    const uint8_t  *block = f->data + t->offset + 200 * 544 + 4 * 34;
    const uint16_t *bits = (const uint16_t *)(const void *)block;
    quant_read(QUANT_Q8_0, f->data + t->offset, 512 * 256, NULL, values);
    expect_number(&o, "shown.1.block", 4);
    expect_number(&o, "shown.1.offset", (double)(block - f->data));
    expect_number(&o, "shown.1.fields.d.numbers.0", (double)quant_f16_to_f32(*bits));
    for (int i = 0; i < 32; i++) {
        char where[64];
        snprintf(where, sizeof where, "shown.1.fields.qs.%d", i);
        expect_number(&o, where, (int8_t)block[2 + i]);
        snprintf(where, sizeof where, "shown.1.values.%d", i);
        expect_number(&o, where, (double)values[200 * 512 + 4 * 32 + i]);
    }
    expect_values(&o, "statistics.row.values", values + 200 * 512, 512);
    expect_values(&o, "statistics.tensor.values", values, 512 * 256);
    outcome_free(&o);
    gguf_close(f);
    arena_free(a);
}

/* Sorting all scales of the file gives the same quantiles and shares. */
static void tell_what_is_usual(void **state) {
    (void)state;
    static const double shares[] = { 0.001, 0.01, 0.5, 0.99, 0.999 };
    arena     *a = arena_new();
    diag       d = { 0 };
    gguf_file *f = gguf_open(a, &d, MODEL);
    double    *all = ARENA_ARRAY(a, double, f->size / 34), *here = ARENA_ARRAY(a, double, 4096);
    uint64_t   n = 0, n_tensors = 0, below = 0, above = 0, n_here, n_less = 0;
    for (uint64_t i = 0; i < f->n_tensors; i++)
        if (f->tensors[i].type == QUANT_Q8_0) {
            n += scales_of(f, &f->tensors[i], all + n);
            n_tensors++;
        }
    qsort(all, n, sizeof *all, compare_doubles);
    n_here = scales_of(f, gguf_find_tensor(f, "blk.1.ffn_down.weight"), here);

    outcome o = run_on(MODEL, "blk.1.ffn_down.weight", true);
    expect_number(&o, "usual.tensors", (double)n_tensors);
    expect_number(&o, "usual.scales.n", (double)n);
    for (size_t i = 0; i < ARRAY_LEN(shares); i++) {
        char where[64];
        snprintf(where, sizeof where, "usual.quantiles.%zu.share", i);
        expect_number(&o, where, shares[i]);
        snprintf(where, sizeof where, "usual.quantiles.%zu.scale", i);
        expect_number(&o, where, all[(uint64_t)ceil(shares[i] * (double)n) - 1]);
    }
    const double first = number(&o, "usual.quantiles.0.scale");
    const double last = number(&o, "usual.quantiles.4.scale");
    for (uint64_t i = 0; i < n_here; i++) below += here[i] < first, above += here[i] > last;
    while (n_less < n && all[n_less] < here[n_here / 2 - 1]) n_less++;
    expect_number(&o, "statistics.tensor.scales.min", here[0]);
    expect_number(&o, "statistics.tensor.scales.median", here[n_here / 2 - 1]);
    expect_number(&o, "statistics.tensor.scales.max", here[n_here - 1]);
    expect_number(&o, "usual.share_median", (double)n_less / (double)n);
    expect_number(&o, "usual.below", (double)below);
    expect_number(&o, "usual.above", (double)above);
    expect_number(&o, "usual.limit", 16 * last);
    expect_number(&o, "usual.suspicious", 0);
    outcome_free(&o);
    gguf_close(f);
    arena_free(a);
}

/* ---- a file written by hand */

static void save(gguf_writer *w) {
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(w->data, 1, w->size, f) != w->size || fclose(f) != 0) abort();
    writer_free(w);
}

static void put_block(uint8_t **at, uint16_t scale, int8_t first, int8_t second) {
    memcpy(*at, &scale, 2);
    (*at)[2] = (uint8_t)first, (*at)[3] = (uint8_t)second;
    *at += 34;
}

/* Odd: 1, 2^-24 (subnormal) | zero, infinite | -2, 64. Wild: NaN. Usual: a thousand times 1. */
static void write_odd_scales(void) {
    gguf_writer w;
    writer_begin(&w);
    writer_tensor(&w, "odd.weight", 2, (uint64_t[]){ 64, 3 }, QUANT_Q8_0);
    writer_tensor(&w, "wild.weight", 1, (uint64_t[]){ 32 }, QUANT_Q8_0);
    writer_tensor(&w, "usual.weight", 2, (uint64_t[]){ 32, 1000 }, QUANT_Q8_0);
    writer_tensor(&w, "norm.weight", 1, (uint64_t[]){ 4 }, QUANT_F16);
    uint8_t *data = writer_finish(&w), *at = data;
    put_block(&at, 0x3c00, 3, -5);
    put_block(&at, 0x0001, 127, -1);
    put_block(&at, 0x0000, 0, 0);
    put_block(&at, 0x7c00, 1, -1);
    put_block(&at, 0xc000, 7, 0);
    put_block(&at, 0x5400, 1, 0);
    at = data + round_up(6 * 34, WRITER_ALIGNMENT);
    put_block(&at, 0x7e00, 0, 0);
    at = data + round_up(6 * 34, WRITER_ALIGNMENT) + round_up(34, WRITER_ALIGNMENT);
    for (int i = 0; i < 1000; i++) put_block(&at, 0x3c00, 1, 0);
    memcpy(data + w.data_bytes - WRITER_ALIGNMENT, (uint16_t[]){ 0x3c00, 0xfc00, 0x0001, 0 }, 8);
    save(&w);
}

static void count_odd_scales(void **state) {
    (void)state;
    write_odd_scales();
    outcome o = run(&(dump_options){ path, "odd.weight", 1, -1, 2, true });
    assert_true(o.ok);
    expect_json(&o);

    /* Infinity times zero is no number: of the last block 30 are. */
    expect_word(&o, "shown.1.fields.d.bits.0", "0x7c00");
    expect_null(&o, "shown.1.fields.d.numbers.0");
    expect_null(&o, "shown.1.values.0");
    expect_number(&o, "statistics.row.values.nan", 30);
    expect_number(&o, "statistics.row.values.infinite", 2);
    expect_number(&o, "statistics.row.values.zero", 32);
    expect_number(&o, "statistics.row.values.rms", 0);
    expect_number(&o, "statistics.row.scales.zero", 1);
    expect_number(&o, "statistics.row.scales.infinite", 1);
    expect_number(&o, "statistics.row.scales.max", 0);

    /* 3, -5; 127 × 2^-24, -2^-24; zeros; -14; 64: of 192 values 160 are finite. */
    expect_number(&o, "statistics.tensor.values.min", -14);
    expect_number(&o, "statistics.tensor.values.max", 64);
    expect_near(&o, "statistics.tensor.values.mean", (3 - 5 - 14 + 64 + 126 * 0x1p-24) / 160);
    expect_number(&o, "statistics.tensor.values.zero", 160 - 6);
    expect_number(&o, "statistics.tensor.scales.n", 6);
    expect_number(&o, "statistics.tensor.scales.min", 0);
    expect_number(&o, "statistics.tensor.scales.median", 1);
    expect_number(&o, "statistics.tensor.scales.max", 64);
    expect_number(&o, "statistics.tensor.scales.subnormal", 1);
    expect_number(&o, "statistics.tensor.scales.negative", 1);
    expect_number(&o, "statistics.tensor.scales.nan", 0);
    outcome_free(&o);
}

/* Of all 1007 the finite 1005 are 0, 2^-24, 1001 times 1, 2, 64: the 1004th (99.9 %) is 2. */
static void find_suspicious_scales(void **state) {
    (void)state;
    write_odd_scales();
    outcome o = run_on(path, "odd.weight", true);
    expect_number(&o, "usual.tensors", 3);
    expect_number(&o, "usual.scales.n", 1007);
    expect_number(&o, "usual.scales.nan", 1);
    expect_number(&o, "usual.scales.infinite", 1);
    expect_number(&o, "usual.scales.subnormal", 1);
    expect_number(&o, "usual.quantiles.0.scale", 0x1p-24);
    expect_number(&o, "usual.quantiles.1.scale", 1);
    expect_number(&o, "usual.quantiles.4.scale", 2);
    expect_number(&o, "usual.limit", 32);
    expect_number(&o, "usual.share_min", 0);
    expect_near(&o, "usual.share_median", 2.0 / 1005);
    expect_near(&o, "usual.share_max", 1004.0 / 1005);
    expect_number(&o, "usual.below", 1);
    expect_number(&o, "usual.above", 1);
    expect_number(&o, "usual.suspicious", 3);
    expect_number(&o, "usual.suspicious_here", 2);
    expect_number(&o, "usual.places.0.row", 1);
    expect_number(&o, "usual.places.0.block", 1);
    expect_null(&o, "usual.places.0.scale");
    expect_number(&o, "usual.places.1.row", 2);
    expect_number(&o, "usual.places.1.scale", 64);
    outcome_free(&o);

    o = run_on(path, "wild.weight", true);
    expect_number(&o, "statistics.tensor.values.nan", 32);
    expect_null(&o, "statistics.tensor.values.mean");
    expect_null(&o, "statistics.tensor.scales.median");
    expect_number(&o, "usual.suspicious_here", 1);
    expect_word(&o, "usual.places.0.bits", "0x7e00");
    outcome_free(&o);

    o = run_on(path, "usual.weight", true);
    expect_number(&o, "usual.suspicious_here", 0);
    expect_number(&o, "usual.share_max", 2.0 / 1005);
    outcome_free(&o);
}

static void write_odd_scales_as_text(void **state) {
    (void)state;
    write_odd_scales();
    outcome o = run(&(dump_options){ path, "odd.weight", -1, -1, 2, false });
    expect_text(&o, "odd.weight: Q8_0 [64, 3], 204 bytes at offset ");
    expect_text(&o, "3 rows of 68 bytes; 6 blocks of 32 values in 34 bytes\n");
    expect_text(&o, "\n  d               0x0001 = 5.96046448e-08\n"
                    "  qs         [0]    127   -1    0    0    0    0    0    0    0    0    0    0");
    expect_text(&o, "\n  values     [0]     7.56978989e-06  -5.96046448e-08                0");
    expect_text(&o, "zero 1  subnormal 1  negative 1  NaN 0  infinite 1  of 6\n");
    expect_text(&o, "\nQ8_0 scales in this file: 1007 in 3 tensors\n");
    expect_text(&o, "  its largest           64 is above 99.90 % of them\n");
    expect_text(&o, "  suspicious: 2 in this tensor, 3 in the file (above 32, 16 times what 99.9 % "
                    "do not exceed, infinite or no number)\n"
                    "    row 1, block 1: d 0x7c00 = inf\n"
                    "    row 2, block 1: d 0x5400 = 64\n");
    expect_text(&o, "  subnormal: 1 in this tensor, 1 in the file. These are valid values and must "
                    "not be flushed to zero.\n");
    outcome_free(&o);

    o = run_on(path, "wild.weight", false);
    expect_text(&o, "  min NaN  max NaN  mean NaN");
    expect_text(&o, "NaN 32  infinite 0\n");
    expect_text(&o, "    row 0, block 0: d 0x7e00 = NaN\n");
    expect_no_text(&o, "its median");
    outcome_free(&o);

    o = run_on(MODEL, "blk.0.attn_q.weight", false);
    expect_text(&o, "  suspicious: 0 in this tensor, 0 in the file (above ");
    expect_no_text(&o, "subnormal:");
    outcome_free(&o);
}

static void write_plain_values(void **state) {
    (void)state;
    write_odd_scales();
    outcome o = run_on(path, "norm.weight", false);
    expect_text(&o, "           0  0x3c00 = 1\n           1  0xfc00 = -inf\n"
                    "           2  0x0001 = 5.96046448e-08\n           3  0x0000 = 0\n");
    expect_text(&o, "zero 1  NaN 0  infinite 1\n");
    expect_no_text(&o, "scale");
    outcome_free(&o);

    o = run(&(dump_options){ path, "norm.weight", -1, 2, 2, true });
    expect_json(&o);
    expect_number(&o, "shown.0.value", 2);
    expect_number(&o, "shown.0.number", 0x1p-24);
    expect_number(&o, "shown.1.number", 0);
    expect_near(&o, "statistics.tensor.values.mean", (1 + 0x1p-24) / 3);
    expect_null(&o, "usual");
    outcome_free(&o);
}

/* One of four scales is wild. At least the largest is left out of what is usual, and where the rest
   is zero nothing is. */
static void judge_a_small_file(void **state) {
    (void)state;
    for (int zeros = 0; zeros < 2; zeros++) {
        gguf_writer w;
        writer_begin(&w);
        writer_tensor(&w, "t", 1, (uint64_t[]){ 128 }, QUANT_Q8_0);
        uint8_t *at = writer_finish(&w);
        for (int i = 0; i < 3; i++) put_block(&at, zeros ? 0 : 0x3c00, 1, 1);
        put_block(&at, 0x5640, 1, 1); /* 100 */
        save(&w);
        outcome o = run_on(path, "t", true);
        expect_json(&o);
        expect_number(&o, "usual.suspicious_here", zeros ? 0 : 1);
        if (zeros)
            expect_null(&o, "usual.limit");
        else
            expect_number(&o, "usual.limit", 16);
        outcome_free(&o);
    }
}

/* Zero has no sign that counts, nor has NaN; 2^-14 is the least that is not subnormal. */
static void count_at_the_borders(void **state) {
    (void)state;
    static const uint16_t scales[] = { 0x8000, 0xfe00, 0xfc00, 0x8001, 0x83ff, 0x0400, 0x8400 };
    gguf_writer w;
    writer_begin(&w);
    writer_tensor(&w, "t", 1, (uint64_t[]){ 32 * ARRAY_LEN(scales) }, QUANT_Q8_0);
    uint8_t *at = writer_finish(&w);
    for (size_t i = 0; i < ARRAY_LEN(scales); i++) put_block(&at, scales[i], 1, 1);
    save(&w);
    outcome o = run_on(path, "t", true);
    expect_number(&o, "statistics.tensor.scales.zero", 1);
    expect_number(&o, "statistics.tensor.scales.nan", 1);
    expect_number(&o, "statistics.tensor.scales.infinite", 1);
    expect_number(&o, "statistics.tensor.scales.subnormal", 2);
    expect_number(&o, "statistics.tensor.scales.negative", 4);
    outcome_free(&o);
}

/* The first eight of nine are told; e8m0 has no sign and no infinity. */
static void tell_of_other_scales(void **state) {
    (void)state;
    gguf_writer w;
    writer_begin(&w);
    writer_tensor(&w, "mx", 2, (uint64_t[]){ 32, 1000 }, QUANT_MXFP4);
    writer_tensor(&w, "nv", 1, (uint64_t[]){ 64 }, QUANT_NVFP4);
    writer_tensor(&w, "q4", 1, (uint64_t[]){ 32 * 20 }, QUANT_Q4_0);
    uint8_t *data = writer_finish(&w);
    for (int i = 0; i < 1000; i++) data[17 * i] = i == 500 ? 136 : 127; /* 512, 1 */
    data[1] = 0x2f; /* positions 15 and 2 in the table: -6 and 1 */
    memcpy(data + 17024, (uint8_t[]){ 0xff, 0x30, 0x7f, 0x01 }, 4); /* 480, 0.5, 0, 2^-9 */
    for (int i = 0; i < 9; i++) memcpy(data + 17024 + 64 + 18 * 2 * i, (uint8_t[]){ 0, 0x7c }, 2);
    save(&w);

    outcome o = run_on(path, "mx", true);
    expect_json(&o);
    expect_word(&o, "scale.field", "e");
    expect_word(&o, "scale.kind", "e8m0");
    expect_number(&o, "shown.0.fields.qs.0", 15);
    expect_number(&o, "shown.0.fields.qs.16", 2);
    expect_number(&o, "shown.0.values.0", -6);
    expect_number(&o, "shown.0.values.16", 1);
    expect_number(&o, "usual.suspicious_here", 1);
    expect_number(&o, "usual.places.0.row", 500);
    expect_word(&o, "usual.places.0.bits", "0x88");
    expect_number(&o, "usual.places.0.scale", 512);
    outcome_free(&o);

    o = run_on(path, "nv", true);
    expect_number(&o, "statistics.tensor.scales.n", 4);
    expect_number(&o, "statistics.tensor.scales.min", 0);
    expect_number(&o, "statistics.tensor.scales.median", 0x1p-9);
    expect_number(&o, "statistics.tensor.scales.max", 480);
    expect_number(&o, "shown.0.fields.d.numbers.1", 0.5);
    outcome_free(&o);

    o = run_on(path, "q4", false);
    expect_text(&o, "  suspicious: 9 in this tensor, 9 in the file (infinite or no number)\n"
                    "    row 0, block 0: d 0x7c00 = inf\n    row 0, block 2: d 0x7c00 = inf\n");
    expect_text(&o, "    row 0, block 14: d 0x7c00 = inf\n    …\n");
    outcome_free(&o);
}

/* ---- every type */

static void write_every_type(void **state) {
    (void)state;
    gguf_writer w;
    writer_begin(&w);
    for (uint32_t t = 0; t < QUANT_COUNT; t++)
        if (quant_find(t)) writer_tensor(&w, quant_find(t)->name, 2, (uint64_t[]){ 512, 2 }, t);
    uint8_t *data = writer_finish(&w);
    uint32_t random = 1;
    for (uint64_t i = 0; i < w.data_bytes; i++) {
        random = random * 1664525 + 1013904223;
        data[i] = (uint8_t)(random >> 24);
    }
    save(&w);
    for (uint32_t t = 0; t < QUANT_COUNT; t++) {
        const quant_info *q = quant_find(t);
        if (!q) continue;
        outcome o = run(&(dump_options){ path, q->name, 1, 1, 1, true });
        assert_true(o.ok);
        expect_json(&o);
        expect_word(&o, "tensor.type", q->name);
        expect_number(&o, "tensor.bytes", (double)(2 * quant_row_bytes(t, 512)));
        if (!quant_find_scale(t) || t == QUANT_Q8_K) expect_null(&o, "usual");
        outcome_free(&o);

        o = run(&(dump_options){ path, q->name, 1, 1, 1, false });
        assert_true(o.ok);
        for (uint32_t i = 0; i < q->n_fields && q->block_len > 1; i++) {
            char name[32];
            snprintf(name, sizeof name, "\n  %-8s ", q->fields[i].name);
            expect_text(&o, name);
        }
        if (q->block_len > 1) expect_text(&o, "\n  values ");
        outcome_free(&o);
    }
}

/* Wide numbers are not rounded to f32 on the way. */
static void keep_wide_numbers(void **state) {
    (void)state;
    gguf_writer w;
    writer_begin(&w);
    writer_tensor(&w, "i", 1, (uint64_t[]){ 4 }, QUANT_I64);
    writer_tensor(&w, "f", 1, (uint64_t[]){ 4 }, QUANT_F64);
    uint8_t *data = writer_finish(&w);
    memcpy(data, (int64_t[]){ INT64_MIN, 9007199254740993, 0, -1 }, 32);
    memcpy(data + 32, (double[]){ 1e300, 0.1, 0.2, 0.3 }, 32);
    save(&w);
    outcome o = run_on(path, "i", true);
    expect_json(&o);
    expect_text(&o, "\"number\": -9223372036854775808}");
    expect_text(&o, "\"number\": 9007199254740993}");
    expect_number(&o, "statistics.tensor.values.min", -0x1p63);
    outcome_free(&o);
    o = run_on(path, "i", false);
    expect_text(&o, " 9007199254740993\n");
    outcome_free(&o);
    o = run_on(path, "f", true);
    expect_number(&o, "shown.1.number", 0.1);
    expect_number(&o, "statistics.tensor.values.max", 1e300);
    expect_number(&o, "statistics.tensor.values.infinite", 0);
    outcome_free(&o);
}

/* ---- what is refused */

typedef struct refusal {
    dump_options options;
    const char  *message;
} refusal;

#define Q    "blk.0.attn_q.weight"
#define WQ   MODEL ": tensor '" Q "': "
#define NORM MODEL ": tensor 'output_norm.weight': "

static const refusal refusals[] = {
    { { MODEL, Q, 256, -1, -1, 0 }, WQ "there is no row 256, the tensor has 256 rows, counted from 0" },
    { { MODEL, Q, -2, -1, -1, 0 }, WQ "there is no row -2, the tensor has 256 rows, counted from 0" },
    { { MODEL, Q, INT64_MAX, -1, -1, 0 }, WQ "there is no row 9223372036854775807" },
    { { MODEL, "output_norm.weight", 1, -1, -1, 0 }, NORM "there is no row 1, the tensor has 1 row," },
    { { MODEL, Q, 0, 8, -1, 0 }, WQ "there is no block 8, a row has 8, counted from 0" },
    { { MODEL, Q, 0, -2, -1, 0 }, WQ "there is no block -2, a row has 8, counted from 0" },
    { { MODEL, Q, 0, 3, 6, 0 }, WQ "a count of 6 from block 3, a row has 8" },
    { { MODEL, Q, 0, -1, 9, 0 }, WQ "a count of 9 from block 0, a row has 8" },
    { { MODEL, Q, 0, -1, INT64_MAX, 0 }, WQ "a count of 9223372036854775807 from block 0" },
    { { MODEL, Q, 0, -1, 0, 0 }, WQ "a count of 0, expected 1 or more" },
    { { MODEL, Q, 0, -1, -2, 0 }, WQ "a count of -2, expected 1 or more" },
    { { MODEL, "output_norm.weight", 0, 256, -1, 0 }, NORM "there is no value 256, a row has 256" },
    { { MODEL, "output_norm.weight", 0, 0, 257, 0 }, NORM "a count of 257 from value 0" },

    /* Names: a part of one, a slip, nothing like any. */
    { { MODEL, "attn_q.weight", -1, -1, -1, 0 },
      MODEL ": there is no tensor 'attn_q.weight'; similar: 'blk.0.attn_q.weight', "
            "'blk.1.attn_q.weight', 'blk.2.attn_q.weight'" },
    { { MODEL, "blk.2.ffn_gate", -1, -1, -1, 0 }, "'; similar: 'blk.2.ffn_gate.weight'" },
    { { MODEL, "token_embed.weight", -1, -1, -1, 0 }, "'; similar: 'token_embd.weight'" },
    { { MODEL, "blk.1.atn_k.weigth", -1, -1, -1, 0 }, "'; similar: 'blk.1.attn_k.weight', '" },
    { { MODEL, "blk.9.ffn_up.weight", -1, -1, -1, 0 }, "'; similar: 'blk.0.ffn_up.weight', '" },
    { { MODEL, "zzz", -1, -1, -1, 0 },
      MODEL ": there is no tensor 'zzz'; without a name all are listed" },
    { { MODEL, "q", -1, -1, -1, 0 }, "tensor 'q'; without a name all are listed" },
    { { MODEL, "", -1, -1, -1, 0 }, MODEL ": there is no tensor ''; without a name all are listed" },
    { { MODEL, "a\nb", -1, -1, -1, 0 }, "there is no tensor 'a\\x0ab'; without" },

    { { "/nowhere.gguf", "x", -1, -1, -1, 0 }, "/nowhere.gguf: cannot open: No such file" },
    { { "/nowhere.gguf", NULL, -1, -1, -1, 0 }, "/nowhere.gguf: cannot open: No such file" },
    { { "tests", "x", -1, -1, -1, 0 }, "tests: this is a directory, expected a GGUF file" },
};

static void refuse_what_is_not_there(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
        outcome o = run(&refusals[i].options);
        if (o.ok || !strstr(o.error, refusals[i].message))
            fail_msg("expected '%s', found '%s'", refusals[i].message, o.error);
        assert_int_equal(o.size, 0);
        outcome_free(&o);
    }
}

static void refuse_a_very_long_name(void **state) {
    (void)state;
    char name[4000];
    memset(name, 'a', sizeof name);
    name[sizeof name - 1] = 0;
    outcome o = run(&(dump_options){ MODEL, name, -1, -1, -1, false });
    assert_false(o.ok);
    assert_non_null(strstr(o.error, "there is no tensor 'aaa"));
    outcome_free(&o);
}

/* Up to the last block and value of a row nothing is refused. */
static void show_to_the_end(void **state) {
    (void)state;
    outcome o = run(&(dump_options){ MODEL, Q, 255, 7, 1, true });
    assert_true(o.ok);
    expect_number(&o, "shown.0.block", 7);
    outcome_free(&o);
    o = run(&(dump_options){ MODEL, Q, 0, 7, -1, true });
    expect_number(&o, "count", 1);
    outcome_free(&o);
    o = run(&(dump_options){ MODEL, "output_norm.weight", 0, 250, -1, true });
    expect_number(&o, "count", 6);
    outcome_free(&o);
}

static void say_that_writing_failed(void **state) {
    (void)state;
    outcome o = { .ok = false };
    diag    d = { .sink = keep, .user = &o };
    FILE   *full = fopen("/dev/full", "w");
    if (!full) skip();
    assert_false(dump_tensor(&(dump_options){ MODEL, Q, -1, -1, -1, false }, &d, full));
    fclose(full);
    assert_string_equal(o.error, "what was read cannot be written: No space left on device");
}

/* ---- the list */

static void list_tensors(void **state) {
    (void)state;
    outcome o = run_on(MODEL, NULL, false);
    expect_text(&o, "token_embd.weight         Q8_0      [256, 1024]\n");
    expect_text(&o, "\nblk.0.attn_norm.weight    F32       [256]\n");
    outcome_free(&o);

    o = run_on(MODEL, NULL, true);
    expect_json(&o);
    expect_word(&o, "file", MODEL);
    expect_word(&o, "tensors.1.name", "token_embd.weight");
    expect_word(&o, "tensors.1.type", "Q8_0");
    expect_number(&o, "tensors.1.shape.1", 1024);
    expect_number(&o, "tensors.1.bytes", 278528);
    outcome_free(&o);
}

/* A terminal sees no control character, a parser only UTF-8. */
static void write_odd_names(void **state) {
    (void)state;
    gguf_writer w;
    writer_begin(&w);
    writer_tensor(&w, "a\x1b[1m\"\\\xc2\x9b", 4, (uint64_t[]){ 1, 2, 3, 4 }, QUANT_F32);
    writer_tensor(&w, "\xc3\xa4\xff\xc3|\xe0\x80\x80|\xf0\x9f\x99\x82|\xed\xa0\x80", 1,
                  (uint64_t[]){ 1 }, QUANT_F32);
    writer_finish(&w);
    save(&w);
    outcome o = run_on(path, NULL, false);
    expect_text(&o, "a\\x1b[1m\"\\\\xc2\\x9b ");
    expect_text(&o, "\xc3\xa4\\xff\\xc3|\\xe0");
    expect_text(&o, "[1, 2, 3, 4]\n");
    expect_no_text(&o, "\x1b");
    expect_no_text(&o, "\xc2\x9b");
    outcome_free(&o);
    o = run_on(path, NULL, true);
    expect_json(&o);
    expect_word(&o, "tensors.0.name", "a\\u001b[1m\\\"\\\\\\u009b");
    expect_word(&o, "tensors.1.name",
                  "\xc3\xa4\\ufffd\\ufffd|\\ufffd\\ufffd\\ufffd|\xf0\x9f\x99\x82|\\ufffd\\ufffd\\ufffd");
    outcome_free(&o);
}

static int begin(void **state) {
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 || close(fd) != 0;
}

static int end(void **state) {
    (void)state;
    return unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tell_of_a_tensor),
        cmocka_unit_test(tell_what_is_usual),
        cmocka_unit_test(count_odd_scales),
        cmocka_unit_test(find_suspicious_scales),
        cmocka_unit_test(write_odd_scales_as_text),
        cmocka_unit_test(write_plain_values),
        cmocka_unit_test(judge_a_small_file),
        cmocka_unit_test(count_at_the_borders),
        cmocka_unit_test(tell_of_other_scales),
        cmocka_unit_test(write_every_type),
        cmocka_unit_test(keep_wide_numbers),
        cmocka_unit_test(refuse_what_is_not_there),
        cmocka_unit_test(refuse_a_very_long_name),
        cmocka_unit_test(show_to_the_end),
        cmocka_unit_test(say_that_writing_failed),
        cmocka_unit_test(list_tensors),
        cmocka_unit_test(write_odd_names),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
