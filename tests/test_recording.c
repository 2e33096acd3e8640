/* That recordings are read as they were written.
 *
 * Everything is on disk, in a folder of the test's own (recording_fixture.h): files by name are the
 * matter. Tables: forms that numbers come in, what the map makes of a file's name, what a tensor's
 * shape tells. test_recording_broken.c has what is refused. A golden recording of ../shared is read
 * where it is there. */
#include "recording_fixture.h"

#include <inttypes.h>
#include <locale.h>
#include <math.h>

#include "gguf_writer.h"

#define GOLDEN "../shared/golden/storyteller-q8_0.gguf"
#define MODEL  "tests/models/storyteller-q8_0.gguf"

static void expect_opened(const scene *s, const char *name) {
    if (!s->r) fail_msg("%s: refused: %s", name, s->line);
}

static const recorded_value *must_find(const scene *s, const char *name) {
    const recorded_value *v = recording_find(s->r, name);
    if (!v) fail_msg("no value '%s'", name);
    return v;
}

static bool split(scene *s, const char *name, uint64_t values_per_token) {
    recorded_value *v = recording_find(s->r, name);
    assert_non_null(v);
    return recording_split(s->a, &s->d, v, values_per_token);
}

/* ---- numbers */

typedef struct number_case {
    const char *text;
    uint32_t    n;
    float       values[6];
} number_case;

static const number_case number_cases[] = {
    { "1", 1, { 1 } },
    { "1\n2\n", 2, { 1, 2 } },
    { "1\r\n2\r\n", 2, { 1, 2 } },
    { "\xef\xbb\xbf" "1\n", 1, { 1 } },
    { "\n\n 1 \n\t\n2", 2, { 1, 2 } },
    { "# values\n1 # one\n#2\n3#\n", 2, { 1, 3 } },
    { "1.5 2.5 -3\n", 3, { 1.5f, 2.5f, -3 } },
    { "1.5,2.5 , -3,\n4,", 4, { 1.5f, 2.5f, -3, 4 } },
    { "+1e-3\n.5\n5.\n0x1p3\n", 4, { 1e-3f, .5f, 5, 8 } },
    { "nan\n-NaN\nNAN(1)\n", 3, { NAN, NAN, NAN } },
    { "inf\n-Infinity\n1e39\n-1e400\n1e-60\n", 5, { INFINITY, -INFINITY, INFINITY, -INFINITY, 0 } },
    { "0.1\n16777217\n1.00000005960464477540\n1e-45", 4, { .1f, 16777216, 1.00000012f, 1e-45f } },
    /* an index and a colon */
    { "0: 1.5\n1: 2.5\n", 2, { 1.5f, 2.5f } },
    { "1:1\n2 :2\n", 2, { 1, 2 } },
    { "0: 7", 1, { 7 } },
    { "0: 1\n\n1: 2 # c\n0: 3\n1: 4", 4, { 1, 2, 3, 4 } },
    { "0: 1 2 3\n1: 4, 5, 6", 6, { 1, 2, 3, 4, 5, 6 } },
    /* an index without colon, and what only looks so */
    { "0 1.5\n1 2.5\n2 3.5\n", 3, { 1.5f, 2.5f, 3.5f } },
    { "1\t5\n2\t6\n", 2, { 5, 6 } },
    { "0 5\n1 6\n0 7\n1 8\n", 4, { 5, 6, 7, 8 } },
    { "0 5\n1 6\n0 7\n", 6, { 0, 5, 1, 6, 0, 7 } },
    { "0 5\n0 6\n", 4, { 0, 5, 0, 6 } },
    { "0 1", 2, { 0, 1 } },
    { "0 5\n2 6\n", 4, { 0, 5, 2, 6 } },
    { "2 5\n3 6\n", 4, { 2, 5, 3, 6 } },
    { "0, 5\n1, 6\n", 4, { 0, 5, 1, 6 } },
    { "0 5\n1 6 7\n", 5, { 0, 5, 1, 6, 7 } },
    { "0 5\n1. 6\n", 4, { 0, 5, 1, 6 } },
};

static bool same_float(float x, float y) {
    return isnan(x) ? isnan(y) : x == y;
}

static void check_numbers(const scene *s, const number_case *c) {
    const recorded_value *v = must_find(s, "x");
    if (v->n != c->n) fail_msg("'%s': %" PRIu64 " numbers, expected %u", c->text, v->n, c->n);
    assert_true(v->unsplit);
    assert_int_equal(v->n_columns, 1);
    assert_int_equal(v->columns->token, -1);
    for (uint32_t i = 0; i < c->n; i++)
        if (!same_float(v->columns->data[i], c->values[i]))
            fail_msg("'%s': number %u is %g, expected %g", c->text, i,
                     (double)v->columns->data[i], (double)c->values[i]);
}

static void read_every_form_of_numbers(void **state) {
    (void)state;
    scene s = scene_new();
    for (size_t i = 0; i < ARRAY_LEN(number_cases); i++) {
        scene_write(&s, "x.txt", number_cases[i].text);
        scene_open(&s, "", NULL);
        expect_opened(&s, number_cases[i].text);
        check_numbers(&s, &number_cases[i]);
    }
    scene_free(&s);
}

static void read_numbers_in_any_locale(void **state) {
    (void)state;
    static const char *const names[] = { "de_DE.UTF-8", "fr_FR.UTF-8", "ru_RU.UTF-8" };
    size_t i = 0;
    while (i < ARRAY_LEN(names) && !setlocale(LC_NUMERIC, names[i])) i++;
    if (i == ARRAY_LEN(names)) {
        print_message("no locale with a decimal comma is installed\n");
        skip();
    }
    scene s = scene_new();
    scene_write(&s, "x.txt", "1.5\n");
    scene_open(&s, "", NULL);
    expect_opened(&s, "x.txt");
    assert_float_equal(must_find(&s, "x")->columns->data[0], 1.5, 0);
    setlocale(LC_NUMERIC, "C");
    scene_free(&s);
}

static void read_many_numbers(void **state) {
    (void)state;
    enum { MANY = 300000 };
    scene s = scene_new();
    FILE *f = fopen(scene_path(&s, "x.txt"), "w");
    assert_non_null(f);
    for (int i = 0; i < MANY; i++) fprintf(f, "%d %.9g\n", i, (double)i / 3);
    fclose(f);
    scene_open(&s, "", NULL);
    expect_opened(&s, "x.txt");
    const recorded_value *v = must_find(&s, "x");
    assert_int_equal(v->n, MANY);
    for (int i = 0; i < MANY; i++)
        if (v->columns->data[i] != (float)((double)i / 3)) fail_msg("number %d", i);
    scene_free(&s);
}

/* ---- the map */

typedef struct map_case {
    const char *map; /* NULL: the built-in one */
    const char *file;
    const char *name; /* NULL: no line takes it; "": left out */
    int64_t     token;
} map_case;

static const map_case map_cases[] = {
    { NULL, "layer_0.txt", "l_out-0", -1 },
    { NULL, "layer_21.txt", "l_out-21", -1 },
    { NULL, "layer_007.txt", "l_out-7", -1 },
    { NULL, "layer_000.txt", "l_out-0", -1 },
    { NULL, "layer_x.txt", "layer_x", -1 },
    { NULL, "layer_.txt", "layer_", -1 },
    { NULL, "layer_4294967296.txt", "layer_4294967296", -1 },
    { NULL, "hidden_state_call_0.txt", "result_norm", 0 },
    { NULL, "hidden_state_call_12.txt", "result_norm", 12 },
    { NULL, "logits_call_3.txt", "result_output", 3 },
    { NULL, "logits.txt", "result_output", -1 },
    { NULL, "Qcur-0.rope.txt", "Qcur-0.rope", -1 },
    { NULL, "Qcur-0@3.txt", "Qcur-0", 3 },
    { NULL, "Qcur-0@2147483647.txt", "Qcur-0", 2147483647 },
    { NULL, "Qcur-0@2147483648.txt", "Qcur-0@2147483648", -1 },
    { NULL, "@3.txt", "@3", -1 },
    { NULL, "x@y@3.txt", "x@y", 3 },
    { NULL, "x@.txt", "x@", -1 },
    { NULL, "x.bin", NULL, 0 },
    { NULL, "README.md", NULL, 0 },
    { NULL, "txt", NULL, 0 },
    { "a.dat = x", "a.dat", "x", -1 },
    { "a.dat=x", "a.dat", "x", -1 },
    { "a.dat = x@0", "a.dat", "x", 0 },
    { "a.dat = x@17", "a.dat", "x", 17 },
    { "\r\n # nothing\n\ta.dat = x # 'tis x\r\n", "a.dat", "x", -1 },
    { "a b#1.dat = x y", "a b#1.dat", "x y", -1 },
    { "a=b.dat = x", "a=b.dat", "x", -1 },
    { "a.dat = x", "b.dat", NULL, 0 },
    { "a.dat = x", "a.datx", NULL, 0 },
    { "a.dat = x", "xa.dat", NULL, 0 },
    { "{name}.dat = {name}", "a.b.dat", "a.b", -1 },
    { "{name}_{l} = {name}-{l}.rope", "K_cur_03", "K_cur-3.rope", -1 },
    { "{name}{l}.dat = {name}-{l}", "Qcur12.dat", "Qcur-12", -1 },
    { "{name}{l}.dat = {name}-{l}", "12.dat", NULL, 0 },
    { "v2{l}.dat = x-{l}", "v23.dat", NULL, 0 },
    { "{l}.{t}.dat = a{l}b{l}@{t}", "5.6.dat", "a5b5", 6 },
    { "t{t}-l{l}-{name} = {name}-{l}@{t}", "t0-l1-Kcur", "Kcur-1", 0 },
    { "blk{l}_{name}.f32 = {name}-{l}", "blk10_attn_norm.f32", "attn_norm-10", -1 },
    { "{name}-{l}-x = {name}{l}", "a-1-b-2-x", "a-1-b2", -1 },
    /* one line among several */
    { "layer_{t}.txt = embd@{t}", "layer_4.txt", "embd", 4 },
    { "{name}.txt = mine_{name}", "layer_4.txt", "mine_layer_4", -1 },
    { "{name}.dat = any\na{l}.dat = one", "a1.dat", "one", -1 },
    { "a{l}.dat = one\n{name}.dat = any", "a1.dat", "one", -1 },
    { "a{l}.dat = one\n{name}.dat = any", "b1.dat", "any", -1 },
    { "a.dat = x\na.dat = x", "a.dat", "x", -1 },
    { "{name}1.dat = x\na{l}.dat = y\na1.dat = z", "a1.dat", "z", -1 },
    { "log.txt =", "log.txt", "", 0 },
    { "log_{name} = # gone", "log_1", "", 0 },
};

static void check_place(const scene *s, const map_case *c, const char *line) {
    bool is_value = c->name && *c->name;
    assert_int_equal(s->r->n_values, is_value ? 2 : 1);
    assert_int_equal(s->r->n_ignored, c->name ? 0 : 1);
    if (!c->name) assert_non_null(strstr(s->r->first_ignored, c->file));
    if (!is_value) return;
    const recorded_value *v = recording_find(s->r, c->name);
    if (!v) fail_msg("%s: not '%s'", line, c->name);
    if (v->columns->token != c->token)
        fail_msg("%s: token %" PRId64 ", expected %" PRId64, line, v->columns->token, c->token);
    assert_int_equal(v->unsplit, c->token < 0);
    assert_non_null(strstr(v->source, c->file));
}

static void place_every_file(void **state) {
    (void)state;
    scene s = scene_new();
    for (size_t i = 0; i < ARRAY_LEN(map_cases); i++) {
        const map_case *c = &map_cases[i];
        const char *line = arena_printf(s.a, "'%s' of '%s'", c->file, c->map ? c->map : "built in");
        scene_write(&s, "other.txt", "1");
        scene_write(&s, c->file, "1\n");
        scene_open(&s, "", c->map);
        expect_opened(&s, line);
        check_place(&s, c, line);
        scene_clear(&s);
    }
    scene_free(&s);
}

static void read_a_map_from_a_file(void **state) {
    (void)state;
    scene s = scene_new();
    s.d = (diag){ .sink = scene_keep_line, .user = &s };
    scene_write(&s, "map", "# mine\nout_{l} = l_out-{l}\n");
    const char *text = recording_map_read(s.a, &s.d, scene_path(&s, "map"));
    assert_string_equal(text, "# mine\nout_{l} = l_out-{l}\n");
    scene_write(&s, "out_1", "1");
    scene_open(&s, "", arena_printf(s.a, "x = y\n%s", text));
    expect_opened(&s, "map");
    must_find(&s, "l_out-1");
    scene_free(&s);
}

static void refuse_a_map_file(void **state) {
    (void)state;
    scene s = scene_new();
    s.d = (diag){ .sink = scene_keep_line, .user = &s };
    assert_null(recording_map_read(s.a, &s.d, scene_path(&s, "map")));
    assert_string_equal(s.line, "~/map: cannot open: No such file or directory");
    assert_null(recording_map_read(s.a, &s.d, s.folder));
    assert_string_equal(s.line, "~: this is no regular file");
    scene_write(&s, "map", "# mine\nout_{l}\n");
    assert_null(recording_map_read(s.a, &s.d, scene_path(&s, "map")));
    assert_string_equal(s.line, "~/map:2: 'out_{l}' has no '=', expected PATTERN = NAME");
    scene_write_bytes(&s, "map", "a = b\0c = d", 11);
    assert_null(recording_map_read(s.a, &s.d, scene_path(&s, "map")));
    assert_string_equal(s.line, "~/map: a zero byte at offset 5, expected text");
    assert_int_equal(s.d.n_errors, 4);
    scene_free(&s);
}

/* ---- folders */

static void read_a_folder(void **state) {
    (void)state;
    static const int32_t ids[] = { 1, 442, 2147483647 };
    scene s = scene_new();
    scene_write(&s, "tokens.txt", "1\n442\n2147483647\n");
    scene_write(&s, "prompt.txt", "Once\nupon\r\n");
    scene_write(&s, "layer_1.txt", "1\n2\n3\n4\n5\n6\n");
    scene_write(&s, "layer_0.txt", "7\n8\n");
    scene_write(&s, "logits_call_10.txt", "10\n");
    scene_write(&s, "logits_call_2.txt", "2\n");
    scene_write(&s, "logits_call_0.txt", "0\n");
    scene_write(&s, "notes.md", "none");
    scene_write(&s, "a.log", "none");
    scene_write(&s, ".hidden.txt", "none");
    assert_int_equal(mkdir(scene_path(&s, "sub.txt"), 0700), 0);
    assert_int_equal(mkfifo(scene_path(&s, "pipe.txt"), 0600), 0);
    scene_open(&s, "", NULL);
    expect_opened(&s, "folder");
    const recording *r = s.r;

    assert_string_equal(r->path, s.folder);
    assert_string_equal(r->kind, "text dumps");
    assert_string_equal(r->prompt, "Once\nupon");
    assert_null(r->producer);
    assert_null(r->model);
    assert_int_equal(r->n_tokens, 3);
    assert_memory_equal(r->tokens, ids, sizeof ids);
    assert_int_equal(r->n_ignored, 2);
    assert_string_equal(r->first_ignored, scene_path(&s, "a.log"));

    assert_int_equal(r->n_values, 3);
    assert_string_equal(r->values[0].name, "l_out-0");
    assert_string_equal(r->values[0].source, scene_path(&s, "layer_0.txt"));
    assert_string_equal(r->values[1].name, "l_out-1");
    assert_string_equal(r->values[2].name, "result_output");
    assert_ptr_equal(recording_find(r, "l_out-1"), &r->values[1]);
    assert_null(recording_find(r, "l_out"));

    const recorded_value *v = &r->values[2];
    assert_false(v->unsplit);
    assert_int_equal(v->n_columns, 3);
    for (uint32_t t = 0; t < 12; t++) {
        const float *row = recording_row(v, t, 12);
        assert_true((row != NULL) == (t == 0 || t == 2 || t == 10));
        if (row) assert_int_equal((int)*row, t);
    }
    scene_free(&s);
}

static void read_a_folder_of_tokens_only(void **state) {
    (void)state;
    scene s = scene_new();
    scene_write(&s, "ids", "5, 6\n");
    scene_open(&s, "", "ids = tokens");
    expect_opened(&s, "ids");
    assert_int_equal(s.r->n_values, 0);
    assert_int_equal(s.r->n_tokens, 2);
    scene_free(&s);
}

/* ---- splitting */

static void split_values_of_tokens(void **state) {
    (void)state;
    scene s = scene_new();
    scene_write(&s, "x.txt", "1 2 3 4 5 6");
    scene_open(&s, "", NULL);
    expect_opened(&s, "x.txt");
    assert_true(split(&s, "x", 2));
    const recorded_value *v = must_find(&s, "x");
    assert_false(v->unsplit);
    assert_int_equal(v->n, 2);
    assert_int_equal(v->n_columns, 3);
    assert_null(recording_row(v, 0, 5));
    assert_null(recording_row(v, 1, 5));
    for (uint32_t t = 2; t < 5; t++) assert_int_equal((int)recording_row(v, t, 5)[1], t * 2 - 2);
    assert_null(recording_row(v, 5, 5));
    assert_int_equal((int)*recording_row(v, 1, 2), 5);
    assert_true(split(&s, "x", 2)); /* again */
    assert_true(split(&s, "x", 3)); /* of which these are the first */
    assert_false(split(&s, "x", 1));
    assert_string_equal(s.line, "~/x.txt: x: 2 values for a token, expected 1");
    scene_free(&s);
}

typedef struct split_case {
    const char *tokens; /* NULL: not told */
    uint64_t    values_per_token;
    uint32_t    n_columns; /* of 6 numbers; 0: refused */
    const char *message;
} split_case;

static const split_case split_cases[] = {
    { NULL, 6, 1, NULL },
    { NULL, 7, 1, NULL },
    { NULL, 1, 6, NULL },
    { "1 2 3", 2, 3, NULL },
    { "1 2 3 4", 2, 3, NULL },
    { "1 2", 2, 0, "~/x.txt: x: 6 numbers are those of 3 tokens, expected at most 2" },
    { NULL, 4, 0, "~/x.txt: x: 6 numbers, expected 4 for each token" },
    { "7", 5, 0, "~/x.txt: x: 6 numbers, expected 5 for each token" },
};

static void split_by_every_size(void **state) {
    (void)state;
    scene s = scene_new();
    for (size_t i = 0; i < ARRAY_LEN(split_cases); i++) {
        const split_case *c = &split_cases[i];
        scene_write(&s, "x.txt", "1\n2\n3\n4\n5\n6\n");
        if (c->tokens) scene_write(&s, "tokens.txt", c->tokens);
        scene_open(&s, "", NULL);
        expect_opened(&s, "x.txt");
        bool ok = split(&s, "x", c->values_per_token);
        const recorded_value *v = must_find(&s, "x");
        assert_int_equal(ok, c->n_columns != 0);
        if (ok) assert_int_equal(v->n_columns, c->n_columns);
        if (ok) assert_int_equal(v->columns[0].token, -(int64_t)c->n_columns);
        if (!ok) assert_string_equal(s.line, c->message);
        scene_clear(&s);
    }
    scene_free(&s);
}

typedef struct row_case {
    const char *text, *tokens; /* NULL: not told */
    uint64_t    values_per_token;
    uint32_t    n, n_columns;  /* n_columns 0: refused */
} row_case;

static const row_case row_cases[] = {
    { "1 2 3\n4 5 6\n", "7 8", 4, 3, 2 },          /* more than one token's */
    { "1 2 3\n4 5 6\n", NULL, 4, 3, 2 },
    { "1 2 3\n4 5 6\n", "7 8 9", 5, 3, 2 },        /* of the last two */
    { "1 2 3\n4 5 6\n", "7 8", 100, 3, 2 },        /* a row for each token there is */
    { "1 2 3\n4 5 6\n", NULL, 100, 6, 1 },         /* no word of two tokens */
    { "1 2 3\n4 5 6\n", "7 8 9", 100, 6, 1 },
    { "1 2 3\n4 5 6\n", "7 8", 6, 6, 1 },          /* heads of three */
    { "1 2 3\n4 5 6\n", "7 8", 3, 3, 2 },
    { "1 2 3\n4 5 6\n", "7", 4, 0, 0 },            /* two rows, one token */
    { "1 2 3\n4 5\n6\n", "7 8 9", 4, 0, 0 },      /* rows of different lengths */
    { "1\n2\n3\n", "7 8 9", 100, 3, 1 },          /* a number a line is no row */
    { "0: 1\n1: 2\n0: 3\n1: 4\n", "7 8", 100, 2, 2 }, /* counted up twice */
    { "0 1\n1 2\n0 3\n1 4\n", "7 8", 100, 2, 2 },
    { "0: 1\n1: 2\n2: 3\n3: 4\n", "7 8", 100, 4, 1 },
    { "0 1\n1 2\n2 3\n3 4\n", "7 8", 100, 4, 1 },
};

static void rows_of_first_values(void **state) {
    (void)state;
    scene s = scene_new();
    for (size_t i = 0; i < ARRAY_LEN(row_cases); i++) {
        const row_case *c = &row_cases[i];
        scene_write(&s, "x.txt", c->text);
        if (c->tokens) scene_write(&s, "tokens.txt", c->tokens);
        scene_open(&s, "", NULL);
        expect_opened(&s, "x.txt");
        bool ok = split(&s, "x", c->values_per_token);
        const recorded_value *v = must_find(&s, "x");
        if (ok != (c->n_columns > 0) || (ok && (v->n != c->n || v->n_columns != c->n_columns)))
            fail_msg("case %zu: %s, %u columns of %u", i, ok ? "split" : s.line, v->n_columns, (unsigned)v->n);
        scene_clear(&s);
    }
    scene_free(&s);
}

static const struct {
    const char *text;
    int         n_decimals, n_digits;
    double      of_one, of_a_thousandth; /* the steps there */
} precision_cases[] = {
    { "1 2 100 0", 0, 0, 0, 0 },
    { "0.500000 -12.000000", 6, 8, 1e-6, 1e-6 },      /* %f */
    { "0.123457 12.3457 1.23457e-05", 10, 6, 1e-5, 1e-8 }, /* %g */
    { "1.235e+02 -9.877e-01", 4, 4, 1e-3, 1e-4 },      /* %.3e, of which none is small */
    { "0 1.5 inf nan", 1, 2, 0.1, 0.1 },
    { "0x1.8p+3 0x1p-20", 0, 0, 0, 0 },
    { "0.000", 3, 0, 0, 0 },
    { "1.5e-99999 1.5", 1001, 2, 0.1, 1e-4 },
    { "1.5e99999999999999999999 1.5", 1, 2, 0.1, 0.1 },
    { "0: 1.25\n1: 2.5\n", 2, 3, 1e-2, 1e-2 },
};

static void tell_how_exact_numbers_are(void **state) {
    (void)state;
    scene s = scene_new();
    for (size_t i = 0; i < ARRAY_LEN(precision_cases); i++) {
        scene_write(&s, "x.txt", precision_cases[i].text);
        scene_open(&s, "", NULL);
        expect_opened(&s, "x.txt");
        const recorded_precision *p = &must_find(&s, "x")->precision;
        double one = recording_step(p, -1), small = recording_step(p, 0.001f);
        if (p->n_decimals != precision_cases[i].n_decimals || p->n_digits != precision_cases[i].n_digits ||
            fabs(one - precision_cases[i].of_one) > 1e-9 * one ||
            fabs(small - precision_cases[i].of_a_thousandth) > 1e-9 * small)
            fail_msg("'%s': %d decimals, %d digits, steps of %g and %g", precision_cases[i].text, p->n_decimals,
                     p->n_digits, one, small);
    }
    scene_free(&s);
}

static void the_most_exact_number_tells(void **state) {
    (void)state;
    scene s = scene_new();
    scene_write(&s, "x@0.txt", "0.5 1");
    scene_write(&s, "x@1.txt", "0.125 1.25");
    scene_open(&s, "", "x@{t}.txt = x@{t}");
    expect_opened(&s, "x@0.txt");
    assert_int_equal(must_find(&s, "x")->precision.n_decimals, 3);
    assert_int_equal(must_find(&s, "x")->precision.n_digits, 3);
    scene_free(&s);
}

/* ---- llama-debug */

static const float   logits[] = { 0.5f, -1.25f, INFINITY };
static const int32_t ids_of_prompt[] = { 1, 442, 439 };
#define PROMPT_LINES "n_tokens: 3\ntoken ids: 1, 442, 439\n"

static void check_logits(const scene *s) {
    assert_string_equal(s->r->kind, "llama-debug logits");
    assert_int_equal(s->r->n_values, 1);
    const recorded_value *v = must_find(s, "result_output");
    assert_string_equal(v->source, s->r->path);
    assert_int_equal(v->n, 3);
    assert_int_equal(v->n_columns, 1);
    assert_int_equal(v->columns->token, -1);
    assert_memory_equal(v->columns->data, logits, sizeof logits);
}

static void check_ids(const scene *s) {
    assert_int_equal(s->r->n_tokens, 3);
    assert_memory_equal(s->r->tokens, ids_of_prompt, sizeof ids_of_prompt);
}

static void read_logits_alone(void **state) {
    (void)state;
    scene s = scene_new();
    scene_write_bytes(&s, "mine.bin", logits, sizeof logits);
    scene_open(&s, "mine.bin", NULL);
    expect_opened(&s, "mine.bin");
    check_logits(&s);
    assert_int_equal(s.r->n_tokens, 0);
    assert_null(s.r->tokens);
    assert_null(s.r->prompt);
    assert_null(s.r->model);
    scene_write(&s, "mine.txt", "0: 0.5\n1: -1.25\n2: inf\n");
    scene_open(&s, "mine.txt", NULL);
    expect_opened(&s, "mine.txt");
    check_logits(&s);
    assert_true(split(&s, "result_output", 3));
    assert_non_null(recording_row(must_find(&s, "result_output"), 8, 9));
    scene_free(&s);
}

static void read_logits_and_what_is_beside(void **state) {
    (void)state;
    static const char *const prompts[] = { "Once upon", "", "a\nb\r\nc\n",
                                           ("prompt: a\n" PROMPT_LINES) };
    scene s = scene_new();
    scene_write_bytes(&s, "llamacpp-tiny-tokens.bin", ids_of_prompt, sizeof ids_of_prompt);
    for (size_t i = 0; i < ARRAY_LEN(prompts) * 2; i++) {
        const char *prompt = prompts[i / 2];
        const char *opened = i % 2 ? "llamacpp-tiny.txt" : "llamacpp-tiny.bin";
        scene_write_bytes(&s, "llamacpp-tiny.bin", logits, sizeof logits);
        scene_write(&s, "llamacpp-tiny.txt", "0: 0.5\n1: -1.25\n2: inf\n");
        scene_write(&s, "llamacpp-tiny-prompt.txt",
                    arena_printf(s.a, "prompt: %s\n" PROMPT_LINES, prompt));
        scene_open(&s, opened, NULL);
        expect_opened(&s, opened);
        check_logits(&s);
        check_ids(&s);
        assert_string_equal(s.r->prompt, prompt);
        assert_string_equal(s.r->model, "tiny");
        if (i >= 4) remove(scene_path(&s, "llamacpp-tiny-tokens.bin")); /* it is needed no more */
    }
    scene_write(&s, "llamacpp-tiny-prompt.txt",
                "prompt: x\r\nn_tokens: 3\r\ntoken ids: 1, 442, 439\r\n");
    scene_open(&s, "llamacpp-tiny.bin", NULL);
    expect_opened(&s, "Windows line ends");
    check_ids(&s);
    assert_string_equal(s.r->prompt, "x");
    scene_free(&s);
}

/* ---- activations GGUFs */

static void begin_activations(gguf_writer *w, const int32_t *ids, uint64_t n) {
    writer_begin(w);
    writer_kv_string(w, "general.type", "activations");
    if (ids) writer_kv_array(w, "activations.tokens", GGUF_I32, ids, n, sizeof *ids);
}

static void put_tensor(gguf_writer *w, const char *name, uint64_t n0, uint64_t n1, uint64_t n2) {
    writer_tensor(w, name, n2 ? 3 : n1 ? 2 : 1, (uint64_t[]){ n0, n1, n2 }, QUANT_F32);
}

/* Every float of the data is its position in it. */
static void finish_activations(scene *s, gguf_writer *w, const char *name) {
    uint8_t *data = writer_finish(w);
    for (uint64_t i = 0; i < w->data_bytes / sizeof(float); i++)
        memcpy(data + i * sizeof(float), &(float){ (float)i }, sizeof(float));
    scene_write_bytes(s, name, w->data, w->size);
    writer_free(w);
}

static void read_an_activations_gguf(void **state) {
    (void)state;
    scene s = scene_new();
    gguf_writer w;
    begin_activations(&w, ids_of_prompt, 3);
    writer_kv_string(&w, "activations.producer", "an engine");
    writer_kv_string(&w, "activations.model", "m.gguf");
    writer_kv_string(&w, "activations.prompt", "Once");
    put_tensor(&w, "embd", 8, 3, 0);
    put_tensor(&w, "Qcur-0.rope", 4, 2, 3);
    put_tensor(&w, "result_output", 16, 0, 0);
    finish_activations(&s, &w, "a.gguf");
    scene_open(&s, "a.gguf", "other kinds = need no map");
    expect_opened(&s, "a.gguf");

    assert_string_equal(s.r->kind, "activations GGUF");
    assert_string_equal(s.r->producer, "an engine");
    assert_string_equal(s.r->model, "m.gguf");
    assert_string_equal(s.r->prompt, "Once");
    check_ids(&s);
    assert_int_equal(s.r->n_values, 3);
    assert_string_equal(s.r->values[1].name, "Qcur-0.rope");
    const recorded_value *v = must_find(&s, "Qcur-0.rope");
    assert_false(v->unsplit);
    assert_int_equal(v->n, 8);
    assert_int_equal(v->n_columns, 3);
    for (uint32_t t = 0; t < 3; t++) {
        assert_int_equal((int)recording_row(v, t, 3)[7], 24 + t * 8 + 7);
        assert_int_equal((int)*recording_row(must_find(&s, "embd"), t, 3), t * 8);
    }
    /* in the map, not copied */
    const uint8_t *data = (const uint8_t *)recording_row(v, 0, 3);
    assert_true(data > s.r->file->data && data < s.r->file->data + s.r->file->size);

    v = must_find(&s, "result_output");
    assert_true(v->unsplit);
    assert_true(split(&s, "result_output", 16));
    assert_null(recording_row(v, 1, 3));
    assert_int_equal((int)*recording_row(v, 2, 3), 48);
    scene_free(&s);
}

/* Dimensions of a tensor and what they mean, when the activation is [4, 2] values for a token. */
typedef struct shape_case {
    uint64_t    n_tokens, n0, n1, n2;
    bool        unsplit;
    uint32_t    n_columns; /* after the split; 0: refused */
    const char *message;
} shape_case;

static const shape_case shape_cases[] = {
    { 3, 8, 3, 0, false, 3, NULL },
    { 3, 4, 2, 3, false, 3, NULL },
    { 3, 4, 2, 2, true, 2, NULL },
    { 3, 4, 2, 0, true, 1, NULL },
    { 3, 8, 0, 0, true, 1, NULL },
    { 3, 8, 1, 0, true, 1, NULL },
    { 2, 4, 2, 0, false, 1, NULL }, /* as many rows as tokens, but all of the last one's */
    { 3, 3, 0, 0, true, 1, NULL }, /* the first 3 values of the last token */
    { 3, 4, 2, 1, true, 1, NULL },
    { 1, 8, 0, 0, false, 1, NULL },
    { 1, 4, 2, 0, false, 1, NULL },
    { 1, 8, 1, 0, false, 1, NULL },
    { 0, 8, 3, 0, true, 3, NULL },
    { 0, 4, 2, 0, true, 1, NULL },
    { 3, 8, 4, 0, true, 0, "~/a.gguf: x: 32 numbers are those of 4 tokens, expected at most 3" },
    { 3, 9, 3, 0, false, 0, "~/a.gguf: x: 9 values for a token, expected 8" },
    { 3, 9, 2, 0, true, 0, "~/a.gguf: x: 18 numbers, expected 8 for each token" },
    { 1, 8, 2, 0, false, 0, "~/a.gguf: x: 16 values for a token, expected 8" },
};

static void tell_columns_by_shape(void **state) {
    (void)state;
    scene s = scene_new();
    for (size_t i = 0; i < ARRAY_LEN(shape_cases); i++) {
        const shape_case *c = &shape_cases[i];
        gguf_writer w;
        begin_activations(&w, c->n_tokens ? ids_of_prompt : NULL, c->n_tokens);
        put_tensor(&w, "x", c->n0, c->n1, c->n2);
        finish_activations(&s, &w, "a.gguf");
        scene_open(&s, "a.gguf", NULL);
        expect_opened(&s, "a.gguf");
        assert_int_equal(s.r->n_tokens, c->n_tokens);
        const recorded_value *v = must_find(&s, "x");
        if (v->unsplit != c->unsplit) fail_msg("row %zu: unsplit is %d", i, v->unsplit);
        bool ok = split(&s, "x", 8);
        if (ok != (c->n_columns != 0)) fail_msg("row %zu: split is %d: %s", i, ok, s.line);
        if (!ok) assert_string_equal(s.line, c->message);
        if (ok) assert_int_equal(v->n_columns, c->n_columns);
        if (ok) assert_non_null(recording_row(v, 2, 3));
    }
    scene_free(&s);
}

static void read_an_activations_gguf_without_tokens(void **state) {
    (void)state;
    scene s = scene_new();
    gguf_writer w;
    for (int empty = 0; empty < 2; empty++) {
        begin_activations(&w, empty ? ids_of_prompt : NULL, 0);
        put_tensor(&w, "embd", 8, 3, 0);
        finish_activations(&s, &w, "a.gguf");
        scene_open(&s, "a.gguf", NULL);
        expect_opened(&s, "a.gguf");
        assert_int_equal(s.r->n_tokens, 0);
        assert_null(s.r->tokens);
        assert_null(s.r->producer);
    }
    scene_free(&s);
}

/* ---- golden */

static void read_a_golden_recording(void **state) {
    (void)state;
    if (access(GOLDEN, R_OK)) {
        print_message(GOLDEN " is not there\n");
        skip();
    }
    arena *a = arena_new();
    diag d = { 0 };
    assert_true(recording_is(GOLDEN));
    recording *r = recording_open(a, &d, GOLDEN, NULL);
    assert_non_null(r);
    assert_string_equal(r->model, "storyteller-q8_0.gguf");
    assert_non_null(strstr(r->producer, "llama.cpp"));
    assert_int_equal(r->n_tokens, 15);
    assert_int_equal(r->tokens[0], 1);
    assert_int_equal(r->n_values, 63);
    assert_int_equal(recording_find(r, "embd")->n, 256);
    assert_int_equal(recording_find(r, "Kcur-3.rope")->n, 128);
    assert_int_equal(recording_find(r, "result_output")->n, 1024);
    for (uint32_t i = 0; i < r->n_values; i++) {
        assert_int_equal(r->values[i].n_columns, 15);
        for (uint32_t t = 0; t < 15; t++)
            for (uint64_t k = 0; k < r->values[i].n; k++)
                assert_true(isfinite(recording_row(&r->values[i], t, 15)[k]));
    }
    recording_close(r);
    arena_free(a);
}

/* ---- what is a recording */

static void tell_recordings_from_models(void **state) {
    (void)state;
    static const struct {
        const char *name;
        bool        is;
    } cases[] = {
        { "", true },           { "a.bin", true },
        { "a.txt", true },      { "activations.gguf", true },
        { "a.dat", false },     { "activations.bin", true },
        { "cut.txt", false },   { "model.gguf", false },
        { "pipe.bin", false },  { "model.bin", false },
        { "absent.txt", false },
    };
    scene s = scene_new();
    gguf_writer w;
    scene_write(&s, "a.bin", "abcd");
    scene_write(&s, "a.txt", "");
    scene_write(&s, "a.dat", "1");
    scene_write(&s, "cut.txt", "GGUF");
    assert_int_equal(mkfifo(scene_path(&s, "pipe.bin"), 0600), 0);
    for (int i = 0; i < 2; i++) {
        begin_activations(&w, ids_of_prompt, 3);
        finish_activations(&s, &w, i ? "activations.gguf" : "activations.bin");
        writer_begin(&w);
        writer_kv_string(&w, "general.type", "model");
        finish_activations(&s, &w, i ? "model.gguf" : "model.bin");
    }
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (recording_is(scene_path(&s, cases[i].name)) != cases[i].is)
            fail_msg("'%s' is %s recording", cases[i].name, cases[i].is ? "a" : "no");
    assert_false(recording_is(MODEL));
    scene_free(&s);
}

static void close_nothing(void **state) {
    (void)state;
    recording_close(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(read_every_form_of_numbers),
        cmocka_unit_test(read_numbers_in_any_locale),
        cmocka_unit_test(read_many_numbers),
        cmocka_unit_test(place_every_file),
        cmocka_unit_test(read_a_map_from_a_file),
        cmocka_unit_test(refuse_a_map_file),
        cmocka_unit_test(read_a_folder),
        cmocka_unit_test(read_a_folder_of_tokens_only),
        cmocka_unit_test(split_values_of_tokens),
        cmocka_unit_test(split_by_every_size),
        cmocka_unit_test(rows_of_first_values),
        cmocka_unit_test(tell_how_exact_numbers_are),
        cmocka_unit_test(the_most_exact_number_tells),
        cmocka_unit_test(read_logits_alone),
        cmocka_unit_test(read_logits_and_what_is_beside),
        cmocka_unit_test(read_an_activations_gguf),
        cmocka_unit_test(read_an_activations_gguf_without_tokens),
        cmocka_unit_test(tell_columns_by_shape),
        cmocka_unit_test(read_a_golden_recording),
        cmocka_unit_test(tell_recordings_from_models),
        cmocka_unit_test(close_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
