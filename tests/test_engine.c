/* Models that run in this process: names of kernels, what is refused, several at a time, and whose
 * memory is whose. Under a sanitizer this is the test that each of them is given back. */
#include "engine_fixture.h"

#include <llvm-c/Core.h>

#define DEMO "tests/models/storyteller-q8_0.gguf"

/* ---- names */

static const struct {
    const char *name, *path;
    enum engine_kernels kernels;
} names[] = {
    {"m.gguf", "m.gguf", ENGINE_COMPILED},
    {"compiled:m.gguf", "m.gguf", ENGINE_COMPILED},
    {"interpreted:m.gguf", "m.gguf", ENGINE_INTERPRETED},
    {"reference:/a/m.gguf", "/a/m.gguf", ENGINE_REFERENCE},
    {"reference:", "", ENGINE_REFERENCE},
    {"reference", "reference", ENGINE_COMPILED},
    {"references:m", "references:m", ENGINE_COMPILED},
    {"Reference:m", "Reference:m", ENGINE_COMPILED},
    {"./reference:m", "./reference:m", ENGINE_COMPILED},
    {"reference:interpreted:m", "interpreted:m", ENGINE_REFERENCE},
    {":m", ":m", ENGINE_COMPILED},
    {"", "", ENGINE_COMPILED},
};

static void names_of_kernels(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        enum engine_kernels kernels = ENGINE_INTERPRETED;
        assert_string_equal(engine_parse_name(names[i].name, &kernels), names[i].path);
        assert_int_equal(kernels, names[i].kernels);
    }
}

/* ---- what is refused */

static char said[1024];

static void keep_line(void *user, enum diag_level level, const char *line) {
    (void)user;
    if (level == DIAG_ERROR) snprintf(said, sizeof said, "%s", line);
}

static const diag keeping = {.sink = keep_line};

static engine_options options_of(enum engine_kernels kernels) {
    engine_options o = {.kernels = kernels, .layer = -1};
    ggufc_compile_defaults(&o.compile);
    o.compile.model = DEMO;
    return o;
}

static void assert_refused(const engine_options *o, const char *message) {
    engine e;
    *said = 0;
    bool opened = engine_open(&e, o, &keeping);
    engine_close(&e);
    if (opened || !strstr(said, message)) fail_msg("it said '%s', expected '%s'", said, message);
}

static void what_is_refused(void **state) {
    (void)state;
    for (int k = 0; k < 3; k++) {
        engine_options o = options_of((enum engine_kernels)k);
        o.compile.model = "no/such.gguf";
        assert_refused(&o, "no/such.gguf: cannot open");
        o.compile.model = "compile:" DEMO;
        assert_refused(&o, "'compile' is none of compiled, interpreted, reference");
        o.compile.model = NULL;
        assert_refused(&o, "no model was given");
        o = options_of((enum engine_kernels)k);
        o.compile.batch = 0;
        assert_refused(&o, "a batch of 0");
        o = options_of((enum engine_kernels)k);
        o.compile.arch = "no/such.arch";
        assert_refused(&o, "no/such.arch: ");
    }
    engine_options o = options_of(ENGINE_COMPILED);
    o.compile.cpu = "i9";
    assert_refused(&o, "--cpu=i9 is not known");
    o = options_of(ENGINE_REFERENCE);
    o.mistake = mistake_find("rope-factors");
    assert_refused(&o, "the mistake rope-factors applies to no operation");
    o.mistake = mistake_find("eps-0");
    o.layer = 4;
    assert_refused(&o, "the mistake eps-0 applies to no operation of layer 4");
}

/* ---- the calls */

/* A session hands out long ones; of the interpreter's, products. */
static void calls_say_how_long_they_take(void **state) {
    (void)state;
    for (int k = 0; k < 2; k++) {
        engine e;
        engine_options o = options_of(k ? ENGINE_INTERPRETED : ENGINE_COMPILED);
        assert_true(engine_open(&e, &o, &keeping));
        const ggufc_model *m = &e.model;
        const ggufc_calls *head = &m->head;
        assert_true(m->decode.count == m->prefill.count);
        for (uint64_t i = 0; i < m->decode.count; i++) {
            assert_int_equal(m->decode.calls[i].work, m->prefill.calls[i].work);
            if (!k) assert_true(m->decode.calls[i].work > 0);
        }
        assert_int_equal(head->calls[head->count - 1].work, m->n_vocab * m->n_embd);
        engine_close(&e);
    }
}

/* ---- several, and their memory */

/* The likeliest token after a text, by each kernel, all open at once. */
static void several_at_once(void **state) {
    (void)state;
    static const int32_t tokens[] = {1, 442, 439, 261, 441};
    engine e[4];
    for (int k = 0; k < 4; k++) {
        engine_options o = options_of((enum engine_kernels)(k % 3));
        assert_true(engine_open(&e[k], &o, &keeping));
        assert_ptr_equal(e[k].model.embedded, e[k].compilation.file->data);
        assert_int_equal(e[k].model.n_ctx, 512);
        assert_int_equal(e[k].model.n_batch, 256);
    }
    for (int k = 3; k >= 0; k--) {
        float *logits = compiled_logits(&e[k].model, NULL, tokens, 5, 5, 1);
        assert_int_equal(compiled_argmax(logits + 4 * 1024, 1024), 671);
        free(logits);
        engine_close(&e[k]);
        engine_close(&e[k]); /* twice is once */
    }
}

/* Made in memory of the caller's, which is there when the engine is not. */
static void memory_of_the_caller(void **state) {
    (void)state;
    for (int k = 0; k < 3; k++) {
        engine         e;
        arena         *memory = arena_new();
        engine_options o = options_of((enum engine_kernels)k);
        o.memory = memory;
        assert_true(engine_open(&e, &o, &keeping));
        const char *name = compilation_model_name(&e.compilation);
        engine_close(&e);
        assert_string_equal(name, "storyteller");
        arena_free(memory);
    }
}

/* What does not depend on arithmetic is the same for compiled and interpreted models. */
static void the_same_description(void **state) {
    (void)state;
    engine generated, interpreted;
    engine_options a = options_of(ENGINE_COMPILED), b = options_of(ENGINE_INTERPRETED);
    assert_true(engine_open(&generated, &a, &keeping) && engine_open(&interpreted, &b, &keeping));
    const ggufc_model *m = &generated.model, *n = &interpreted.model;
    const uint64_t numbers[][2] = {
        {m->abi, n->abi}, {m->n_vocab, n->n_vocab}, {m->n_ctx, n->n_ctx}, {m->n_ctx_train, n->n_ctx_train},
        {m->n_batch, n->n_batch}, {m->n_layer, n->n_layer}, {m->n_embd, n->n_embd},
        {m->n_params_m, n->n_params_m}, {m->weight_bytes, n->weight_bytes}, {m->file_bytes, n->file_bytes},
        {m->index_offset, n->index_offset}, {m->index_bytes, n->index_bytes}, {m->index_hash, n->index_hash},
        {m->vocab->n_tokens, n->vocab->n_tokens},
    };
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) assert_int_equal(numbers[i][0], numbers[i][1]);
    const char *const texts[][2] = {
        {m->name, n->name}, {m->arch, n->arch}, {m->types, n->types}, {m->compiler, n->compiler},
        {m->path, n->path},
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) assert_string_equal(texts[i][0], texts[i][1]);
    assert_string_equal(n->target, "interpreted");
    engine_close(&generated);
    engine_close(&interpreted);
}

/* ---- objects */

static LLVMMemoryBufferRef buffer_of(const void *data, size_t size) {
    return LLVMCreateMemoryBufferWithMemoryRangeCopy(data, size, "object");
}

static void objects_that_cannot_be_loaded(void **state) {
    (void)state;
    static const char garbage[256] = "\177ELF this is none";
    const void *address = NULL;
    diag        d = keeping;
    *said = 0;
    assert_null(jit_load(&d, buffer_of(garbage, sizeof garbage), "ggufc_compiled", &address));
    assert_true(*said != 0);
    assert_null(address);

    const char *path = compiled_path("object.o");
    compiled_file(DEMO, "--emit=obj --unroll=4", path);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    size_t size = (size_t)ftell(f);
    rewind(f);
    char *data = malloc(size);
    assert_true(data && fread(data, 1, size, f) == size);
    fclose(f);
    *said = 0;
    assert_null(jit_load(&d, buffer_of(data, size), "no_such_symbol", &address));
    assert_non_null(strstr(said, "no_such_symbol"));
    assert_null(address);
    jit *j = jit_load(&d, buffer_of(data, size), "ggufc_compiled", &address);
    assert_non_null(j);
    assert_int_equal(((const ggufc_model *)address)->abi, GGUFC_ABI);
    jit_free(j);
    jit_free(NULL);
    free(data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_kernels),
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(calls_say_how_long_they_take),
        cmocka_unit_test(several_at_once),
        cmocka_unit_test(memory_of_the_caller),
        cmocka_unit_test(the_same_description),
        cmocka_unit_test(objects_that_cannot_be_loaded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
