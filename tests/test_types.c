/* Every type of weights, from its blocks to logits: make_model makes a model of random blocks, which
 * interpreted in both ways and compiled is the same op by op. */
#include "child.h"
#include "compare_fixture.h"

#include "quant.h"

/* Rows of 256 columns, long ones of 1280, and some of 320, where types with longer blocks fall back to
   others. */
#define SHAPE "--layers", "2", "--embd", "256", "--heads", "4", "--kv-heads", "1", "--head-dim", "80", \
              "--ff", "1280", "--vocab", "300", "--ctx", "64"

/* More than are multiplied row by row. */
static const int32_t ids[] = { 1, 17, 260, 99, 280, 4, 17, 45, 200, 3, 77 };

static const char *make(const char *type) {
    const char *tools = getenv("GGUFC_TOOLS");
    const char *path = in_folder(arena_printf(folder_paths, "%s.gguf", type));
    const char *tool = arena_printf(folder_paths, "%s/make_model", tools && *tools ? tools : "out/tools");
    const char *argv[] = { tool, SHAPE, "--type", type, "-o", path, NULL };
    child c = child_run((child_setup){ .argv = (char *const *)(uintptr_t)argv });
    if (c.exit_code) fail_msg("%s: %s", type, c.err);
    child_free(&c);
    return path;
}

static void assert_same(const char *a, const char *b) {
    compare_options o = compared_options(a, b);
    o.tokens = ids;
    o.n_tokens = ARRAY_LEN(ids);
    compared c = compared_run(&o);
    assert_same_engines(&c);
    assert_int_equal(c.r.logits.n_tokens, ARRAY_LEN(ids));
    compared_free(&c);
}

/* What activations become says which types are of weights. */
static bool is_of_weights(uint32_t type) {
    return quant_find(type) && (type == QUANT_F32 || quant_find(type)->activation != QUANT_F32) &&
           type != QUANT_Q8_1;
}

static void every_type_is_the_same_in_any_way(void **state) {
    (void)state;
    uint32_t n = 0;
    in_folder("");
    for (uint32_t t = 0; t < QUANT_COUNT; t++) {
        if (!is_of_weights(t)) continue;
        const char *model = make(quant_find(t)->name);
        const char *interpreted = arena_printf(folder_paths, "interpreted:%s", model);
        assert_same(interpreted, arena_printf(folder_paths, "reference:%s", model));
        n++;
        assert_same(model, interpreted);
    }
    assert_int_equal(n, 28);
}

/* Makes all quants of a model alike, and all scales within a block: their bytes are `byte`. */
static void fill_blocks(const char *path, int byte) {
    arena     *memory = arena_new();
    diag       d = { 0 };
    gguf_file *f = gguf_open(memory, &d, path);
    FILE      *to = fopen(path, "r+b");
    assert_true(f && to);
    for (uint64_t i = 0; i < f->n_tensors; i++) {
        const gguf_tensor *t = &f->tensors[i];
        const quant_info  *info = quant_find(t->type);
        for (uint64_t at = 0; info->block_len > 1 && at < t->bytes; at += info->block_bytes)
            for (uint32_t k = 0; k < info->n_fields; k++) {
                const quant_field *field = &info->fields[k];
                if (field->role == QUANT_ROLE_SCALE || field->role == QUANT_ROLE_MIN) continue;
                assert_int_equal(fseeko(to, (off_t)(t->offset + at + field->offset), SEEK_SET), 0);
                for (uint32_t n = quant_field_bytes(field); n; n--) fputc(byte, to);
            }
    }
    assert_int_equal(fclose(to), 0);
    gguf_close(f);
    arena_free(memory);
}

/* Blocks of activations become alike as well, ±127 all of them, so that sums are as large as they can be:
   products that are added as i16 (isa.dot_pairs) reach its end. All bits set are the largest number of a
   type, 7 is the largest of f4. */
static void the_largest_sums_are_the_same(void **state) {
    (void)state;
    static const int bytes[] = { 0xff, 0x77, 0x80 };
    uint32_t n = 0;
    for (uint32_t t = 0; t < QUANT_COUNT; t++) {
        if (!is_of_weights(t) || quant_find(t)->block_len == 1 || !quant_find_scale(t)) continue;
        const char *model = make(quant_find(t)->name);
        for (size_t i = 0; i < ARRAY_LEN(bytes); i++) {
            fill_blocks(model, bytes[i]);
            assert_same(model, arena_printf(folder_paths, "interpreted:%s", model));
        }
        n++;
    }
    assert_int_equal(n, 24);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_is_the_same_in_any_way),
        cmocka_unit_test(the_largest_sums_are_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
