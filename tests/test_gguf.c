/* That a GGUF is read as it stands, and that what is wrong with one is refused by its message.
 *
 * Files are made in memory (tools/gguf_bytes.h, tools/broken_gguf.h) and handed over so that they
 * end where a page ends and no page follows: whoever reads a byte too many dies of it, with or
 * without a sanitizer. Three sweeps leave no byte out: every row of the table of broken files,
 * every prefix of a valid file, and every byte of a valid file spoiled in some ways. */
#include "gguf.h"

#include "tools/broken_gguf.h"

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MODEL "tests/models/storyteller-q8_0.gguf"

/* ---- help ---- */

typedef struct outcome {
    arena *a;
    diag d;
    gguf_file *f;
    char line[2048]; /* the last message */
} outcome;

static void keep_line(void *user, enum diag_level level, const char *line) {
    outcome *o = user;
    assert_int_equal(level, DIAG_ERROR);
    snprintf(o->line, sizeof o->line, "%s", line);
}

static void prepare(outcome *o) {
    memset(o, 0, sizeof *o);
    o->a = arena_new();
    o->d = (diag){ .sink = keep_line, .user = o };
}

/* Either a file or exactly one message, one line, that begins with the path. */
static void check_outcome(const outcome *o, const char *path) {
    assert_int_equal(o->d.n_errors, o->f ? 0 : 1);
    if (o->f) return;
    assert_memory_equal(o->line, path, strlen(path));
    assert_memory_equal(o->line + strlen(path), ": ", 2);
    assert_null(strchr(o->line, '\n'));
}

static void parse(outcome *o, const void *data, uint64_t size) {
    prepare(o);
    o->f = gguf_parse(o->a, &o->d, "made.gguf", data, size);
    check_outcome(o, "made.gguf");
}

static void open_path(outcome *o, const char *path) {
    prepare(o);
    o->f = gguf_open(o->a, &o->d, path);
    check_outcome(o, path);
}

static void finish(outcome *o) {
    gguf_close(o->f);
    arena_free(o->a);
}

static void expect_refused(const outcome *o, const char *message) {
    if (o->f || !strstr(o->line, message))
        fail_msg("expected '%s', found '%s'", message, o->f ? "no refusal" : o->line);
}

static void expect_parsed(const outcome *o) {
    if (!o->f) fail_msg("refused: %s", o->line);
}

/* Pages followed by one that must not be touched. */
typedef struct guard {
    uint8_t *map;
    size_t size, page;
} guard;

static guard guard_new(size_t size) {
    guard g = { .page = (size_t)sysconf(_SC_PAGESIZE) };
    g.size = round_up(size, g.page);
    g.map = mmap(NULL, g.size + g.page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(g.map != MAP_FAILED);
    assert_int_equal(mprotect(g.map + g.size, g.page, PROT_NONE), 0);
    return g;
}

static void guard_free(guard *g) {
    munmap(g->map, g->size + g->page);
}

/* Where `size` bytes that end at the guarded page begin. */
static uint8_t *guard_place(const guard *g, const void *data, size_t size) {
    uint8_t *at = g->map + g->size - size;
    if (size) memcpy(at, data, size);
    return at;
}

static void read_model(bytes *b) {
    static uint8_t chunk[1 << 16];
    FILE *in = fopen(MODEL, "rb");
    if (!in) fail_msg("%s is not there: run the tests from the repository's root", MODEL);
    for (size_t n; (n = fread(chunk, 1, sizeof chunk, in)) > 0;) bytes_put(b, chunk, n);
    fclose(in);
}

/* ---- what is refused ---- */

static void refuse_every_broken_file(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(broken_ggufs); i++) {
        const broken_gguf *row = &broken_ggufs[i];
        bytes b = { 0 };
        places p = broken_make(&b, row);
        guard g = guard_new(b.size);
        outcome o;
        parse(&o, guard_place(&g, b.data, b.size), b.size);

        char at[64] = "";
        if (row->offset.place != AT_NONE)
            snprintf(at, sizeof at, ": offset %zu: ", broken_find(&p, row->offset));
        if (o.f || !strstr(o.line, row->message) || !strstr(o.line, at))
            fail_msg("%s: expected '%s%s', found '%s'", row->name, at, row->message,
                     o.f ? "no refusal" : o.line);
        finish(&o);
        guard_free(&g);
        bytes_free(&b);
    }
}

static void name_every_broken_file_once(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(broken_ggufs); i++) {
        assert_true(strlen(broken_ggufs[i].message) > 0);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(broken_ggufs[i].name, broken_ggufs[j].name);
    }
}

static void refuse_prefixes(const bytes *b, size_t n) {
    guard g = guard_new(n);
    for (size_t size = 0; size < n; size++) {
        outcome o;
        parse(&o, guard_place(&g, b->data, size), size);
        if (o.f) fail_msg("the first %zu of %zu bytes were taken for a file", size, b->size);
        finish(&o);
    }
    guard_free(&g);
}

static void refuse_every_prefix_of_small_file(void **state) {
    (void)state;
    bytes b = { 0 };
    broken_make_valid(&b, 2);
    refuse_prefixes(&b, b.size);
    bytes_free(&b);
}

static void refuse_every_prefix_of_model(void **state) {
    (void)state;
    bytes b = { 0 };
    read_model(&b);
    outcome o;
    parse(&o, b.data, b.size);
    expect_parsed(&o);
    refuse_prefixes(&b, o.f->data_offset + 1);

    uint64_t end = 0;
    for (uint64_t i = 0; i < o.f->n_tensors; i++) {
        const gguf_tensor *t = &o.f->tensors[i];
        if (t->offset + t->bytes > end) end = t->offset + t->bytes;
    }
    finish(&o);
    parse(&o, b.data, end - 1);
    expect_refused(&o, "bytes of data end beyond the file's");
    finish(&o);
    parse(&o, b.data, end);
    expect_parsed(&o);
    finish(&o);
    bytes_free(&b);
}

static void touch_everything(const gguf_file *f) {
    for (uint64_t i = 0; i < f->n_kv; i++) {
        const gguf_kv *kv = &f->kv[i];
        assert_in_range(kv->key.size, 1, f->size);
        if (kv->type != GGUF_ARRAY || kv->value.array.type != GGUF_STRING) continue;
        const uint8_t *cursor = kv->value.array.data;
        for (uint64_t n = kv->value.array.count; n; n--) gguf_string_next(&cursor);
        assert_true(cursor <= f->data + f->size);
    }
    for (uint64_t i = 0; i < f->n_tensors; i++) {
        const gguf_tensor *t = &f->tensors[i];
        assert_true(t->bytes > 0 && t->offset <= f->size && t->bytes <= f->size - t->offset);
        assert_int_equal(t->offset % f->alignment, 0);
    }
}

static void survive_every_spoiled_byte(void **state) {
    (void)state;
    static const uint8_t masks[] = { 0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff, 0x7f };
    bytes b = { 0 };
    places p = broken_make_valid(&b, 2);
    guard g = guard_new(b.size);
    uint8_t *data = guard_place(&g, b.data, b.size);
    for (size_t at = 0; at < p.of[AT_A_DATA]; at++)
        for (size_t m = 0; m < ARRAY_LEN(masks); m++) {
            outcome o;
            data[at] ^= masks[m];
            parse(&o, data, b.size);
            if (o.f) touch_everything(o.f);
            finish(&o);
            data[at] ^= masks[m];
        }
    guard_free(&g);
    bytes_free(&b);
}

/* ---- memory ---- */

static size_t address_space(void) {
    size_t pages = 0;
    FILE *in = fopen("/proc/self/statm", "r");
    if (!in) skip();
    assert_int_equal(fscanf(in, "%zu", &pages), 1);
    fclose(in);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* Parses `size` bytes of zeros after a header of such counts: no entry is really there, so what it
   may cost must not depend on how many are claimed. */
static void expect_cheap_refusal(uint64_t n_tensors, uint64_t n_kv, size_t size) {
    uint8_t *data = mmap(NULL, size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(data != MAP_FAILED);
    bytes b = { 0 };
    bytes_put_header(&b, 3, n_tensors, n_kv);
    memcpy(data, b.data, b.size);
    outcome o;
    size_t before = address_space();
    parse(&o, data, size);
    size_t after = address_space();
    assert_null(o.f);
    assert_in_range(after > before ? after - before : 0, 0, (size_t)8 << 20);
    finish(&o);
    bytes_free(&b);
    munmap(data, size);
}

static void allocate_nothing_for_claims(void **state) {
    (void)state;
    const size_t gib = (size_t)1 << 30;
    expect_cheap_refusal(BIT(60), 0, 4096);
    expect_cheap_refusal(0, BIT(60), 4096);
    expect_cheap_refusal(UINT64_MAX, UINT64_MAX, 4096);
    expect_cheap_refusal(gib / 64, 0, gib); /* there is room for so many, but none */
    expect_cheap_refusal(0, gib / 64, gib);
}

/* ---- what is read ---- */

static void put_scalars(bytes *b) {
    bytes_put_key(b, "u8", GGUF_U8), bytes_put_number(b, 1, 255);
    bytes_put_key(b, "i8", GGUF_I8), bytes_put_number(b, 1, 0x80);
    bytes_put_key(b, "u16", GGUF_U16), bytes_put_number(b, 2, 65535);
    bytes_put_key(b, "i16", GGUF_I16), bytes_put_number(b, 2, 0x8000);
    bytes_put_key(b, "u32", GGUF_U32), bytes_put_u32(b, UINT32_MAX);
    bytes_put_key(b, "i32", GGUF_I32), bytes_put_u32(b, 0x80000000);
    bytes_put_key(b, "u64", GGUF_U64), bytes_put_u64(b, UINT64_MAX);
    bytes_put_key(b, "i64", GGUF_I64), bytes_put_u64(b, BIT(63));
    bytes_put_key(b, "i64+", GGUF_I64), bytes_put_u64(b, 77);
    bytes_put_key(b, "f32", GGUF_F32), bytes_put_u32(b, 0x3fc00000);         /* 1.5 */
    bytes_put_key(b, "f64", GGUF_F64), bytes_put_u64(b, 0xc004000000000000); /* -2.5 */
    bytes_put_key(b, "true", GGUF_BOOL), bytes_put_number(b, 1, 1);
    bytes_put_key(b, "false", GGUF_BOOL), bytes_put_number(b, 1, 0);
    bytes_put_key(b, "string", GGUF_STRING), bytes_put_string(b, "once upon");
    bytes_put_key(b, "", GGUF_STRING);
    bytes_set(b, b->size - 12, 8, 5); /* a key of five bytes, one of them NUL */
    b->size -= 4;
    bytes_put(b, "a\0b\nc", 5);
    bytes_put_u32(b, GGUF_STRING), bytes_put_string(b, "");
}

static void read_every_scalar_type(void **state) {
    (void)state;
    bytes b = { 0 };
    bytes_put_header(&b, 3, 0, 15);
    put_scalars(&b);
    outcome o;
    parse(&o, b.data, b.size);
    expect_parsed(&o);

    static const struct {
        const char *key;
        uint64_t u;
    } naturals[] = { { "u8", 255 },
                     { "u16", 65535 },
                     { "u32", UINT32_MAX },
                     { "u64", UINT64_MAX },
                     { "i64+", 77 } };
    for (size_t i = 0; i < ARRAY_LEN(naturals); i++) {
        uint64_t u = 0;
        assert_int_equal(gguf_get_u64(o.f, &o.d, naturals[i].key, &u), GGUF_PRESENT);
        assert_true(u == naturals[i].u);
    }
    static const struct {
        const char *key;
        double n;
    } numbers[] = { { "u8", 255 },  { "i8", -128 },  { "i16", -32768 },  { "i32", -2147483648.0 },
                    { "f32", 1.5 }, { "f64", -2.5 }, { "i64", -0x1p63 }, { "u64", 0x1p64 } };
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        double n = NAN;
        assert_int_equal(gguf_get_number(o.f, &o.d, numbers[i].key, &n), GGUF_PRESENT);
        assert_true(n == numbers[i].n);
    }
    bool yes = false, no = true;
    assert_int_equal(gguf_get_bool(o.f, &o.d, "true", &yes), GGUF_PRESENT);
    assert_int_equal(gguf_get_bool(o.f, &o.d, "false", &no), GGUF_PRESENT);
    assert_true(yes && !no);
    gguf_string text;
    assert_int_equal(gguf_get_string(o.f, &o.d, "string", &text), GGUF_PRESENT);
    assert_int_equal(text.size, 9);
    assert_memory_equal(text.data, "once upon", 9);
    assert_int_equal(o.f->kv[14].key.size, 5);
    assert_null(gguf_find_kv(o.f, "a"));
    assert_int_equal(o.d.n_errors, 0);
    finish(&o);
    bytes_free(&b);
}

static void report_absent_and_mistyped(void **state) {
    (void)state;
    bytes b = { 0 };
    bytes_put_header(&b, 3, 0, 15);
    put_scalars(&b);
    outcome o;
    parse(&o, b.data, b.size);
    expect_parsed(&o);

    uint64_t u = 5;
    double n = 5;
    bool yes = true;
    gguf_string text = { "x", 1 };
    gguf_array array = { GGUF_U8, 5, NULL };
    assert_int_equal(gguf_get_u64(o.f, &o.d, "none", &u), GGUF_ABSENT);
    assert_int_equal(gguf_get_number(o.f, &o.d, "none", &n), GGUF_ABSENT);
    assert_int_equal(gguf_get_bool(o.f, &o.d, "none", &yes), GGUF_ABSENT);
    assert_int_equal(gguf_get_string(o.f, &o.d, "none", &text), GGUF_ABSENT);
    assert_int_equal(gguf_get_array(o.f, &o.d, "none", GGUF_F32, &array), GGUF_ABSENT);
    assert_int_equal(o.d.n_errors, 0);

    static const struct {
        const char *key, *message;
    } not_naturals[] = { { "i8", "key 'i8': the value is -128, expected an integer of 0 or more" },
                         { "f32", "key 'f32': the type is f32, expected an integer" },
                         { "true", "key 'true': the type is bool, expected an integer" },
                         { "string", "key 'string': the type is string, expected an integer" } };
    for (size_t i = 0; i < ARRAY_LEN(not_naturals); i++) {
        assert_int_equal(gguf_get_u64(o.f, &o.d, not_naturals[i].key, &u), GGUF_MISTYPED);
        assert_non_null(strstr(o.line, not_naturals[i].message));
    }
    assert_int_equal(gguf_get_number(o.f, &o.d, "true", &n), GGUF_MISTYPED);
    assert_non_null(strstr(o.line, "key 'true': the type is bool, expected a number"));
    assert_int_equal(gguf_get_bool(o.f, &o.d, "u8", &yes), GGUF_MISTYPED);
    assert_non_null(strstr(o.line, "key 'u8': the type is u8, expected bool"));
    assert_int_equal(gguf_get_string(o.f, &o.d, "u8", &text), GGUF_MISTYPED);
    assert_non_null(strstr(o.line, "key 'u8': the type is u8, expected string"));
    assert_int_equal(gguf_get_array(o.f, &o.d, "f64", GGUF_F32, &array), GGUF_MISTYPED);
    assert_non_null(strstr(o.line, "key 'f64': the type is f64, expected array of f32"));
    assert_int_equal(o.d.n_errors, 8);
    assert_true(u == 5 && n == 5 && yes && text.size == 1 && array.count == 5);
    finish(&o);
    bytes_free(&b);
}

static void read_arrays_of_every_type(void **state) {
    (void)state;
    bytes b = { 0 };
    bytes_put_header(&b, 3, 0, GGUF_TYPE_COUNT * 2);
    for (int type = 0; type < GGUF_TYPE_COUNT; type++)
        for (uint64_t count = 0; count <= 3; count += 3) {
            char key[32];
            snprintf(key, sizeof key, "%s%" PRIu64, gguf_type_name((enum gguf_type)type), count);
            bytes_put_key(&b, key, GGUF_ARRAY);
            bytes_put_array(&b, (enum gguf_type)type, count);
            static const uint8_t bytes_of[GGUF_TYPE_COUNT] = { 1, 1, 2,  2, 4, 4, 4,
                                                               1, 8, 12, 8, 8, 8 };
            bytes_put_zeros(&b, count * bytes_of[type]);
        }
    outcome o;
    parse(&o, b.data, b.size);
    expect_parsed(&o);
    for (int type = 0; type < GGUF_TYPE_COUNT; type++) {
        char key[32];
        gguf_array array;
        snprintf(key, sizeof key, "%s3", gguf_type_name((enum gguf_type)type));
        assert_int_equal(gguf_get_array(o.f, &o.d, key, (enum gguf_type)type, &array),
                         GGUF_PRESENT);
        assert_int_equal(array.type, type);
        assert_int_equal(array.count, 3);
        enum gguf_type other = type == GGUF_U8 ? GGUF_I8 : GGUF_U8;
        assert_int_equal(gguf_get_array(o.f, &o.d, key, other, &array), GGUF_MISTYPED);
        snprintf(key, sizeof key, "the type is array of %s", gguf_type_name((enum gguf_type)type));
        assert_non_null(strstr(o.line, key));
    }
    finish(&o);
    bytes_free(&b);
}

static void read_elements_unaligned(void **state) {
    (void)state;
    bytes b = { 0 };
    bytes_put_header(&b, 3, 0, 4);
    for (int i = 0; i < 2; i++) { /* keys of 1 and 2 bytes: one of both stands at an odd address */
        bytes_put_key(&b, i ? "uu" : "u", GGUF_ARRAY), bytes_put_array(&b, GGUF_U32, 2);
        bytes_put_u32(&b, 0x04030201), bytes_put_u32(&b, 0xfffffffe);
    }
    bytes_put_key(&b, "f", GGUF_ARRAY), bytes_put_array(&b, GGUF_F32, 2);
    bytes_put_u32(&b, 0xbe800000), bytes_put_u32(&b, 1);
    bytes_put_key(&b, "s", GGUF_ARRAY), bytes_put_array(&b, GGUF_STRING, 3);
    bytes_put_string(&b, "once"), bytes_put_string(&b, ""), bytes_put_string(&b, "upon");
    outcome o;
    parse(&o, b.data, b.size);
    expect_parsed(&o);

    gguf_array array;
    for (int i = 0; i < 2; i++) {
        gguf_get_array(o.f, &o.d, i ? "uu" : "u", GGUF_U32, &array);
        assert_int_equal(gguf_array_u32(&array, 0), 0x04030201);
        assert_int_equal(gguf_array_u32(&array, 1), 0xfffffffe);
    }
    gguf_get_array(o.f, &o.d, "f", GGUF_F32, &array);
    assert_true(gguf_array_f32(&array, 0) == -0.25f);
    assert_true(gguf_array_f32(&array, 1) == 0x1p-149f);
    gguf_get_array(o.f, &o.d, "s", GGUF_STRING, &array);
    const uint8_t *cursor = array.data;
    static const char *const words[] = { "once", "", "upon" };
    for (int i = 0; i < 3; i++) {
        gguf_string word = gguf_string_next(&cursor);
        assert_int_equal(word.size, strlen(words[i]));
        assert_memory_equal(word.data, words[i], word.size);
    }
    assert_ptr_equal(cursor, b.data + b.size);
    finish(&o);
    bytes_free(&b);
}

static void read_arrays_nested_8_deep(void **state) {
    (void)state;
    for (unsigned nesting = 2; nesting <= 8; nesting++) {
        bytes b = { 0 };
        outcome o;
        broken_make_valid(&b, nesting);
        parse(&o, b.data, b.size);
        expect_parsed(&o);
        assert_non_null(gguf_find_tensor(o.f, "b.weight"));
        finish(&o);
        bytes_free(&b);
    }
}

static void read_versions_2_and_3(void **state) {
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        bytes b = { 0 };
        places p = broken_make_valid(&b, 2);
        outcome o;
        bytes_set(&b, p.of[AT_VERSION], 4, version);
        parse(&o, b.data, b.size);
        expect_parsed(&o);
        assert_int_equal(o.f->version, version);
        assert_int_equal(o.f->n_kv, 6);
        assert_int_equal(o.f->n_tensors, 2);
        assert_int_equal(o.f->alignment, 32);
        assert_int_equal(o.f->index_offset, p.of[AT_A]);
        assert_int_equal(o.f->index_bytes, p.of[AT_PADDING] - p.of[AT_A]);
        assert_int_equal(o.f->data_offset, p.of[AT_A_DATA]);
        assert_int_equal(gguf_find_kv(o.f, "demo.count")->offset, p.of[AT_COUNTS]);
        const gguf_tensor *t = gguf_find_tensor(o.f, "b.weight");
        assert_int_equal(t->offset, p.of[AT_B_DATA]);
        assert_int_equal(t->bytes, 48);
        assert_int_equal(t->n_dims, 2);
        assert_true(t->dims[0] == 4 && t->dims[1] == 3 && t->dims[2] == 1 && t->dims[3] == 1);
        assert_null(gguf_find_tensor(o.f, "b.weigh"));
        assert_null(gguf_find_tensor(o.f, ""));
        finish(&o);
        bytes_free(&b);
    }
}

static void read_every_alignment(void **state) {
    (void)state;
    for (uint32_t alignment = 8; alignment <= 1 << 16; alignment *= 2) {
        bytes b = { 0 };
        bytes_put_header(&b, 3, 2, 1);
        bytes_put_key(&b, "general.alignment", GGUF_U32), bytes_put_u32(&b, alignment);
        bytes_put_tensor(&b, "t", 1, (uint64_t[]){ 1 }, QUANT_F32, alignment);
        bytes_put_tensor(&b, "u", 1, (uint64_t[]){ 2 }, QUANT_F32, 0);
        bytes_pad(&b, alignment);
        size_t data = b.size;
        bytes_put_zeros(&b, alignment + 4);
        outcome o;
        parse(&o, b.data, b.size);
        expect_parsed(&o);
        assert_int_equal(o.f->alignment, alignment);
        assert_int_equal(o.f->data_offset, data);
        assert_int_equal(gguf_find_tensor(o.f, "t")->offset, data + alignment);
        assert_int_equal(gguf_find_tensor(o.f, "u")->offset, data);
        finish(&o);
        bytes_free(&b);
    }
}

/* Of every tensor type, a tensor of 1, 2, 3 and 4 dimensions. */
static void read_every_tensor_type(void **state) {
    (void)state;
    for (uint32_t type = 0; type < QUANT_COUNT; type++) {
        const quant_info *q = quant_find(type);
        for (uint32_t n_dims = 1; q && n_dims <= GGUF_MAX_DIMS; n_dims++) {
            const uint64_t dims[] = { 2 * q->block_len, 3, 5, 7 };
            uint64_t expected = 2 * q->block_bytes;
            for (uint32_t i = 1; i < n_dims; i++) expected *= dims[i];
            bytes b = { 0 };
            bytes_put_header(&b, 3, 1, 0);
            bytes_put_tensor(&b, "t", n_dims, dims, type, 0);
            bytes_pad(&b, 32);
            bytes_put_zeros(&b, expected);
            outcome o;
            parse(&o, b.data, b.size);
            expect_parsed(&o);
            const gguf_tensor *t = gguf_find_tensor(o.f, "t");
            assert_int_equal(t->type, type);
            assert_int_equal(t->n_dims, n_dims);
            assert_int_equal(t->bytes, expected);
            for (uint32_t i = 0; i < GGUF_MAX_DIMS; i++)
                assert_int_equal(t->dims[i], i < n_dims ? dims[i] : 1);
            finish(&o);
            parse(&o, b.data, b.size - 1);
            expect_refused(&o, "bytes of data end beyond the file's");
            finish(&o);
            bytes_free(&b);
        }
    }
}

static void find_each_of_many(void **state) {
    (void)state;
    enum { N = 4096 }; /* tables of a power of two would be full without room to spare */
    bytes b = { 0 };
    char name[32];
    bytes_put_header(&b, 3, N, N);
    for (uint32_t i = 0; i < N; i++) {
        snprintf(name, sizeof name, "k.%" PRIu32, i);
        bytes_put_key(&b, name, GGUF_U32), bytes_put_u32(&b, i);
    }
    for (uint32_t i = 0; i < N; i++) { /* the data in the opposite order */
        snprintf(name, sizeof name, "t.%" PRIu32, i);
        bytes_put_tensor(&b, name, 1, (uint64_t[]){ 8 }, QUANT_F32, (N - 1 - i) * 32);
    }
    bytes_pad(&b, 32);
    bytes_put_zeros(&b, N * 32);
    outcome o;
    parse(&o, b.data, b.size);
    expect_parsed(&o);
    for (uint32_t i = 0; i < N; i++) {
        uint64_t u;
        snprintf(name, sizeof name, "k.%" PRIu32, i);
        assert_int_equal(gguf_get_u64(o.f, &o.d, name, &u), GGUF_PRESENT);
        assert_int_equal(u, i);
        assert_null(gguf_find_tensor(o.f, name));
        snprintf(name, sizeof name, "t.%" PRIu32, i);
        assert_ptr_equal(gguf_find_tensor(o.f, name), &o.f->tensors[i]);
        assert_null(gguf_find_kv(o.f, name));
    }
    finish(&o);
    bytes_free(&b);
}

static void read_nothing_at_all(void **state) {
    (void)state;
    bytes b = { 0 };
    bytes_put_header(&b, 3, 0, 0);
    outcome o;
    parse(&o, b.data, b.size);
    expect_parsed(&o);
    assert_null(gguf_find_kv(o.f, "x"));
    assert_null(gguf_find_tensor(o.f, "x"));
    assert_int_equal(o.f->data_offset, b.size);
    finish(&o);
    bytes_free(&b);
}

static void name_every_value_type(void **state) {
    (void)state;
    for (int i = 0; i < GGUF_TYPE_COUNT; i++)
        for (int j = 0; j < i; j++)
            assert_string_not_equal(gguf_type_name((enum gguf_type)i),
                                    gguf_type_name((enum gguf_type)j));
    assert_string_equal(gguf_type_name(GGUF_U32), "u32");
    assert_string_equal(gguf_type_name(GGUF_STRING), "string");
}

/* ---- files ---- */

static void open_model(void **state) {
    (void)state;
    outcome o;
    open_path(&o, MODEL);
    expect_parsed(&o);
    assert_non_null(o.f->map);
    assert_string_equal(o.f->path, MODEL);
    gguf_string arch;
    assert_int_equal(gguf_get_string(o.f, &o.d, "general.architecture", &arch), GGUF_PRESENT);
    assert_int_equal(arch.size, 5);
    assert_memory_equal(arch.data, "llama", 5);
    gguf_array tokens;
    assert_int_equal(gguf_get_array(o.f, &o.d, "tokenizer.ggml.tokens", GGUF_STRING, &tokens),
                     GGUF_PRESENT);
    assert_int_equal(gguf_find_tensor(o.f, "token_embd.weight")->dims[1], tokens.count);
    touch_everything(o.f);
    gguf_close(o.f);
    assert_null(o.f->map);
    finish(&o); /* a second close does nothing */
    gguf_close(NULL);
}

static void make_directory(char *path, size_t size) {
    const char *base = getenv("TMPDIR");
    snprintf(path, size, "%s/test_gguf.XXXXXX", base && *base ? base : "/tmp");
    assert_non_null(mkdtemp(path));
}

static void expect_not_opened(const char *path, const char *message) {
    outcome o;
    open_path(&o, path);
    expect_refused(&o, message);
    finish(&o);
}

static void write_file(const char *path, const void *data, size_t size) {
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(data, 1, size, out), size);
    assert_int_equal(fclose(out), 0);
}

static void refuse_what_cannot_be_mapped(void **state) {
    (void)state;
    char directory[256], path[300];
    make_directory(directory, sizeof directory);
    expect_not_opened(directory, "this is a directory, expected a GGUF file");

    snprintf(path, sizeof path, "%s/x", directory);
    expect_not_opened(path, "cannot open: No such file or directory");
    assert_int_equal(mkfifo(path, 0600), 0);
    expect_not_opened(path, "this is no regular file");
    unlink(path);
    write_file(path, "", 0);
    expect_not_opened(path, "the file is empty, expected a GGUF");
    write_file(path, "GGUF\3\0\0", 7);
    expect_not_opened(path, "offset 4: header: version needs 4 bytes, 3 are left");
    if (geteuid() != 0) { /* whom no mode keeps out */
        assert_int_equal(chmod(path, 0), 0);
        expect_not_opened(path, "cannot open: Permission denied");
    }
    unlink(path);
    rmdir(directory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuse_every_broken_file),
        cmocka_unit_test(name_every_broken_file_once),
        cmocka_unit_test(refuse_every_prefix_of_small_file),
        cmocka_unit_test(refuse_every_prefix_of_model),
        cmocka_unit_test(survive_every_spoiled_byte),
        cmocka_unit_test(allocate_nothing_for_claims),
        cmocka_unit_test(read_every_scalar_type),
        cmocka_unit_test(report_absent_and_mistyped),
        cmocka_unit_test(read_arrays_of_every_type),
        cmocka_unit_test(read_elements_unaligned),
        cmocka_unit_test(read_arrays_nested_8_deep),
        cmocka_unit_test(read_versions_2_and_3),
        cmocka_unit_test(read_every_alignment),
        cmocka_unit_test(read_every_tensor_type),
        cmocka_unit_test(find_each_of_many),
        cmocka_unit_test(read_nothing_at_all),
        cmocka_unit_test(name_every_value_type),
        cmocka_unit_test(open_model),
        cmocka_unit_test(refuse_what_cannot_be_mapped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
