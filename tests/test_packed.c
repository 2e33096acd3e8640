/* test_packed.c - weights laid out for the CPU (--pack): the logits are those of the model's own file,
 * for any batch and number of threads; the file has the layout that packed.h says; what cannot be is
 * refused and leaves nothing.
 *
 * The compiler is $GGUFC, or out/ggufc. */
#include "odd_models.h"

#include "child.h"
#include "packed.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define DEMO   "tests/models/storyteller-q8_0.gguf"
#define PROMPT "Once upon a time,"

enum { COUNT = 40 };

/* Sums of another order, and activations rounded to 8 bits after them. Of SSSE3 one model has 2.1e-5. */
static double most_nmse(const compiled_variant *v) {
    return strcmp(v->name, "ssse3") ? 2e-5 : 4e-5;
}

static char compiler[4096];

/* Rows of this machine that have --pack; none elsewhere. */
static const compiled_variant packers[] = {
    {"avx512", "", "avx512f avx512bw avx512vl avx512dq avx512_vnni"},
    {"avx-vnni", "--cpu=x86-64-v3 --features=+avxvnni", X86_V3 " avx_vnni"},
    {"avx2", "--cpu=x86-64-v3", X86_V3},
    {"ssse3", "--cpu=x86-64-v2", X86_V2},
};

/* Whether the CPU at hand has it. */
static bool has_pack(void) {
    if (compiled_can_run(packers[ARRAY_LEN(packers) - 1].needs)) return true;
    print_message("skipped: this machine has no SSSE3\n");
    return false;
}

static bool same_rows(const float *a, const float *b, const ggufc_model *m) {
    return !memcmp(a, b, (size_t)COUNT * m->n_vocab * sizeof *a);
}

static void check_model(const char *gguf, const char *arch, const compiled_variant *v, const char *name) {
    char    plain[512], packed[600];
    int32_t tokens[COUNT];
    snprintf(plain, sizeof plain, "--ctx=64 %s %s", v->flags, arch);
    snprintf(packed, sizeof packed, "--pack %s", plain);
    const ggufc_model *a = compiled_model(gguf, plain), *b = compiled_model(gguf, packed);
    for (uint32_t i = 0; i < COUNT; i++) tokens[i] = (int32_t)((i + 3) * UINT64_C(2654435761) % a->n_vocab);
    float *expected = compiled_logits(a, gguf, tokens, COUNT, 1, 1);
    float *one = compiled_logits(b, NULL, tokens, COUNT, 1, 1);
    float *few = compiled_logits(b, NULL, tokens, COUNT, 7, 3);
    float *many = compiled_logits(b, NULL, tokens, COUNT, COUNT, 2);
    double nmse = compiled_nmse(one, expected, (size_t)COUNT * a->n_vocab);
    if (!(nmse <= most_nmse(v))) fail_msg("%s, %s: NMSE %.3g against the GGUF file", name, v->name, nmse);
    nmse = compiled_nmse(many, one, (size_t)COUNT * a->n_vocab);
    if (!(nmse <= most_nmse(v))) fail_msg("%s, %s: NMSE %.3g of a batch", name, v->name, nmse);
    if (!same_rows(one, few, a)) fail_msg("%s, %s: batches of 7 differ from single tokens", name, v->name);
    free(expected);
    free(one);
    free(few);
    free(many);
}

static void logits_are_the_same(void **state) {
    (void)state;
    if (!has_pack()) skip();
    for (size_t v = 0; v < ARRAY_LEN(packers); v++) {
        if (!compiled_can_run(packers[v].needs)) continue;
        check_model(DEMO, "", &packers[v], "demo");
        for (size_t i = 0; i < ARRAY_LEN(odd_models); i++)
            check_model(odd_model_make(&odd_models[i], i), odd_model_arch(&odd_models[i]), &packers[v],
                        odd_models[i].name);
    }
}

/* ---- the file */

static char *in_folder(const char *name) {
    return strdup(compiled_path(name));
}

static child run(char *const *argv) {
    return child_run((child_setup){.argv = argv});
}

#define RUN(...) run((char *[]){__VA_ARGS__, NULL})

static void assert_silent(child c) {
    if (c.exit_code || c.err_size) fail_msg("exit %d; it said: %s%s", c.exit_code, c.out, c.err);
    child_free(&c);
}

static void assert_refused(child c, const char *message) {
    const char *newline = strchr(c.err, '\n');
    if (c.exit_code != 1 || !newline || newline[1] || !strstr(c.err, message))
        fail_msg("exit %d, expected 1 with \"%s\"; it said: %s", c.exit_code, message, c.err);
    child_free(&c);
}

static uint8_t *read_whole(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    uint8_t *data = malloc(*size);
    assert_true(data && fread(data, 1, *size, f) == *size);
    fclose(f);
    return data;
}

/* Whether the blocks of a row of a GGUF's tensor stand, byte by byte, as row r of a tile at `tile`. */
static bool tile_holds_row(const uint8_t *tile, const packed_header *h, uint32_t r, const uint8_t *row,
                           uint64_t blocks) {
    uint32_t rows = 2 * h->lanes;
    for (uint64_t b = 0; b < blocks; b++) {
        const uint8_t *block = row + 34 * b, *at = tile + 34ull * rows * b;
        for (uint32_t c = 0; c < 32; c++)
            if (at[(c / 4 * rows + r) * 4 + c % 4] != (uint8_t)(block[2 + c] + h->bias)) return false;
        if (memcmp(at + 32 * rows + 2 * r, block, 2)) return false;
    }
    return true;
}

static void check_layout(const gguf_file *f, const uint8_t *packed, size_t size, const packed_header *h) {
    const gguf_tensor *t = gguf_find_tensor(f, "blk.1.ffn_down.weight");
    uint32_t           rows = 2 * h->lanes;
    assert_true(t && t->dims[0] % 32 == 0 && t->dims[1] % rows == 0);
    uint64_t blocks = t->dims[0] / 32, row_bytes = 34 * blocks, found = 0;
    for (uint64_t at = PACKED_BEGIN; at + t->bytes <= size && !found; at += 64)
        if (tile_holds_row(packed + at, h, 0, f->data + t->offset, blocks)) found = at;
    assert_true(found);
    for (uint32_t r = 0; r < t->dims[1]; r++)
        assert_true(tile_holds_row(packed + found + r / rows * rows * row_bytes, h, r % rows,
                                   f->data + t->offset + r * row_bytes, blocks));
}

/* For whichever CPU: nothing has to be run. */
static void file_is_as_documented(void **state) {
    (void)state;
    static const struct {
        const char *cpu, *option;
        uint32_t    lanes, bias;
    } layouts[] = {
        {"--cpu=znver4", "-v", 16, 128},
        {"--cpu=x86-64-v3", "--features=+avxvnni", 8, 128},
        {"--cpu=x86-64-v3", "-v", 8, 0},
        {"--cpu=cortex-a76", "--target=aarch64-linux-gnu", 4, 0},
    };
    char      *out = in_folder("laid"), *weights = in_folder("laid.weights");
    arena     *memory = arena_new();
    diag       quiet = {.sink = NULL};
    gguf_file *f = gguf_open(memory, &quiet, DEMO);
    for (size_t i = 0; i < ARRAY_LEN(layouts); i++) {
        size_t        size;
        packed_header h;
        child c = RUN(compiler, DEMO, "-o", out, "--emit=obj", "--pack", (char *)layouts[i].cpu,
                      (char *)layouts[i].option);
        if (c.exit_code) fail_msg("%s: %s", layouts[i].cpu, c.err);
        child_free(&c);
        uint8_t *packed = read_whole(weights, &size);
        memcpy(&h, packed, sizeof h);
        assert_string_equal(h.magic, PACKED_MAGIC);
        assert_int_equal(h.version, PACKED_VERSION);
        assert_int_equal(h.bytes, size);
        assert_int_equal(h.gguf_bytes, f->size);
        assert_int_equal(h.lanes, layouts[i].lanes);
        assert_int_equal(h.bias, layouts[i].bias);
        check_layout(f, packed, size, &h);
        free(packed);
    }
    gguf_close(f);
    arena_free(memory);
    free(out);
    free(weights);
}

static void executables_read_it(void **state) {
    (void)state;
    if (!has_pack()) skip();
    char *plain = in_folder("plain"), *packed = in_folder("packed"), *weights = in_folder("packed.weights");
    assert_silent(RUN(compiler, DEMO, "-o", plain));
    assert_silent(RUN(compiler, DEMO, "-o", packed, "--pack"));
    child a = RUN(plain, "-p", PROMPT, "-n", "60", "--temp", "0");
    child b = RUN(packed, "-p", PROMPT, "-n", "60", "--temp", "0");
    assert_string_equal(a.out, b.out);
    assert_true(a.out_size > 100);
    child_free(&a);
    child_free(&b);
    assert_refused(RUN(packed, "-p", PROMPT, "-m", DEMO), "not the file this was compiled from");
    assert_int_equal(unlink(weights), 0);
    assert_refused(RUN(packed, "-p", PROMPT), "packed.weights: weights not found");
    free(plain);
    free(packed);
    free(weights);
}

/* ---- refusals */

static bool exists(const char *path) {
    struct stat s;
    return lstat(path, &s) == 0;
}

static int run_with_little_disk(int argc, char **argv) {
    struct rlimit most = {200000, 200000};
    (void)argc;
    signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &most)) return 99;
    execv(argv[0], argv);
    return 98;
}

static void what_cannot_be_is_refused(void **state) {
    (void)state;
    char *out = in_folder("refused"), *weights = in_folder("refused.weights");
    assert_refused(RUN(compiler, DEMO, "-o", out, "--pack", "--target=aarch64-linux-gnu", "--emit=obj"),
                   "--pack is for x86-64 from SSSE3 on");
    assert_refused(RUN(compiler, DEMO, "-o", out, "--pack", "--cpu=x86-64"), "--pack is for x86-64 from SSSE3 on");
    if (!has_pack()) skip();
    assert_int_equal(mkdir(weights, 0777), 0);
    assert_refused(RUN(compiler, DEMO, "-o", out, "--pack"), "refused.weights: is no regular file");
    assert_int_equal(rmdir(weights), 0);
    char *argv[] = {compiler, DEMO, "-o", out, "--pack", NULL};
    assert_refused(child_run((child_setup){.argv = argv, .function = run_with_little_disk}), "File too large");
    assert_refused(RUN(compiler, DEMO, "-o", out, "--pack", "--runtime=/dev/null/none"), "/dev/null/none");
    assert_false(exists(out) || exists(weights));
    free(out);
    free(weights);
}

int main(void) {
    const char *path = getenv("GGUFC");
    snprintf(compiler, sizeof compiler, "%s", path && *path ? path : "out/ggufc");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_the_same),
        cmocka_unit_test(file_is_as_documented),
        cmocka_unit_test(executables_read_it),
        cmocka_unit_test(what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
