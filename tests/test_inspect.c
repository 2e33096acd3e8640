/* test_inspect.c - `ggufc inspect`, driven as a user does: what it tells of a file is what is in it; what it
 * says that compiling would make is what compiling makes; what cannot be compiled is told of with the
 * reason that compiling gives. */
#include "split_fixture.h"

#include "strict_json.h"

#include <fcntl.h>

/* ---- reading what it wrote */

/* What stands at a place, and all behind it. */
static const char *find(const char *json, const char *where) {
    size_t      size;
    const char *found = json_find(json, where, &size);
    if (!found) fail_msg("no %s in\n%s", where, json);
    return found;
}

static void expect_number(const char *json, const char *where, double expected) {
    double found = strtod(find(json, where), NULL);
    if (found != expected) fail_msg("%s: %.17g, expected %.17g", where, found, expected);
}

static void expect_word(const char *json, const char *where, const char *expected) {
    const char *at = find(json, where);
    size_t      n = strlen(expected);
    if (*at != '"' || strncmp(at + 1, expected, n) || at[n + 1] != '"')
        fail_msg("%s: %.60s, expected \"%s\"", where, at, expected);
}

static void expect_text(const char *text, const char *part) {
    if (!strstr(text, part)) fail_msg("'%s' is not in:\n%s", part, text);
}

#define AT(...) (snprintf(where, sizeof where, __VA_ARGS__), where)

/* To be freed. */
static char *inspect_json(const char *model, const char *flag) {
    char *json = text_of(RUN(compiler, "inspect", (char *)model, "--json", (char *)flag));
    if (json_error(json)) fail_msg("no JSON from here: %.60s", json_error(json));
    return json;
}

/* ---- a file */

static void demo_is_told_of(void **state) {
    (void)state;
    char      *json = inspect_json(DEMO, "--tensors"), where[64], key[128];
    arena     *memory = arena_new();
    diag       d = {0};
    gguf_file *f = gguf_open(memory, &d, DEMO);
    uint64_t   n_q8_0 = 0, bytes_f32 = 0;
    expect_word(json, "file", DEMO);
    expect_number(json, "version", f->version);
    expect_number(json, "bytes", (double)f->size);
    expect_number(json, "parts.0.tensors", (double)f->n_tensors);
    for (uint64_t i = 0; i < f->n_kv; i++) {
        snprintf(key, sizeof key, "%.*s", (int)f->kv[i].key.size, f->kv[i].key.data);
        expect_word(json, AT("metadata.%d.key", (int)i), key);
        expect_word(json, AT("metadata.%d.type", (int)i), gguf_type_name(f->kv[i].type));
        if (f->kv[i].type == GGUF_U32)
            expect_number(json, AT("metadata.%d.value", (int)i), (double)f->kv[i].value.u);
        if (f->kv[i].type == GGUF_F32)
            expect_number(json, AT("metadata.%d.value", (int)i), f->kv[i].value.f);
        if (f->kv[i].type != GGUF_ARRAY) continue;
        const gguf_array *array = &f->kv[i].value.array;
        expect_number(json, AT("metadata.%d.count", (int)i), (double)array->count);
        expect_word(json, AT("metadata.%d.element", (int)i), gguf_type_name(array->type));
        if (array->type == GGUF_I32)
            expect_number(json, AT("metadata.%d.values.5", (int)i), (int32_t)gguf_array_u32(array, 5));
    }
    for (uint64_t i = 0; i < f->n_tensors; i++) {
        const gguf_tensor *t = &f->tensors[i];
        snprintf(key, sizeof key, "%.*s", (int)t->name.size, t->name.data);
        expect_word(json, AT("tensors.%d.name", (int)i), key);
        expect_word(json, AT("tensors.%d.type", (int)i), quant_find(t->type)->name);
        expect_number(json, AT("tensors.%d.shape.0", (int)i), (double)t->dims[0]);
        expect_number(json, AT("tensors.%d.bytes", (int)i), (double)t->bytes);
        expect_number(json, AT("tensors.%d.offset", (int)i), (double)t->offset);
        n_q8_0 += t->type == QUANT_Q8_0;
        bytes_f32 += t->type == QUANT_F32 ? t->bytes : 0;
    }
    expect_word(json, "types.0.type", "Q8_0");
    expect_number(json, "types.0.tensors", (double)n_q8_0);
    expect_word(json, "types.1.type", "F32");
    expect_number(json, "types.1.bytes", (double)bytes_f32);
    assert_true(!strncmp(find(json, "refusal"), "null", 4));
    gguf_close(f);
    arena_free(memory);
    free(json);
}

static void parts_are_told_of(void **state) {
    (void)state;
    char *folder = new_folder("parts"), *first = demo_part(folder, 1), *second = demo_part(folder, 2);
    char *json = inspect_json(second, "--tensors");
    char *text = text_of(RUN(compiler, "inspect", second, "--tensors"));
    expect_word(json, "file", first);
    expect_word(json, "parts.1.file", second);
    expect_number(json, "parts.1.bytes", (double)size_of(second));
    expect_number(json, "parts.2.tensors", 38 - 2 * EACH);
    expect_number(json, "tensors.12.part", 0);
    expect_number(json, "tensors.13.part", 1);
    expect_number(json, "compiled.context", 512);
    expect_text(text, ": GGUF version 3, 3 parts, ");
    expect_text(text, "\n  demo-00002-of-00003.gguf: 13 tensors, ");
    expect_text(text, " of part 3\n");
    char *all[] = {first, second, json, text};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) free(all[i]);
    remove_folder(folder);
}

/* ---- what it would compile to */

/* The executable says the same of itself. */
static void compiling_makes_what_it_says(void **state) {
    (void)state;
    char *folder = new_folder("promise"), *exe = join(folder, "exe"), line[128];
    char *json = text_of(RUN(compiler, "inspect", DEMO, "--json", "--ctx=96", "--batch=32", "--cpu=x86-64-v3"));
    assert_silent(RUN(compiler, DEMO, "-o", exe, "--ctx=96", "--batch=32", "--cpu=x86-64-v3"));
    char *info = text_of(RUN(exe, "--info"));
    static const struct {
        const char *where, *key;
    } numbers[] = {
        {"compiled.layers", "layers:"},         {"compiled.embedding", "embedding:"},
        {"compiled.vocabulary", "vocabulary:"}, {"compiled.context", "context:"},
        {"compiled.batch", "batch:"},           {"compiled.arena_bytes", "arena:"},
        {"compiled.kv_bytes", "kv cache:"},     {"compiled.weight_bytes", "weights:"},
    };
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        double n = strtod(find(json, numbers[i].where), NULL);
        snprintf(line, sizeof line, "\n%-15s %.0f", numbers[i].key, n);
        expect_text(info, line);
    }
    expect_number(json, "compiled.context", 96);
    expect_number(json, "compiled.batch", 32);
    const char *target = find(json, "compiled.target") + 1;
    snprintf(line, sizeof line, "\ntarget:         %.*s\n", (int)strcspn(target, "\""), target);
    expect_text(info, line);
    expect_word(json, "compiled.tokenizer", "llama");
    char *text = text_of(RUN(compiler, "inspect", DEMO, "--ctx=96", "--cpu=x86-64-v3"));
    expect_text(text, "\ncompiled\n  architecture   llama, 4 layers, 256 wide\n");
    expect_text(text, "\n  context        96 tokens (trained for 512), batches of 96\n");
    char *all[] = {exe, json, info, text};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) free(all[i]);
    remove_folder(folder);
}

/* A file of nothing but such metadata. */
static char *write_metadata(const char *folder, const char *arch) {
    gguf_writer w;
    char       *path = join(folder, "m.gguf");
    writer_begin(&w);
    writer_kv_string(&w, "general.architecture", arch);
    writer_kv_string(&w, "odd.text", "a\x1b[31mb\nc");
    writer_kv_bool(&w, "odd.flag", true);
    writer_kv_i32(&w, "odd.below", -7);
    writer_kv_f32(&w, "odd.tenth", 0.1f);
    writer_kv_array(&w, "odd.bytes", GGUF_I8, (int8_t[]){-1, 2, -3, 4, -5}, 5, 1);
    writer_kv_strings(&w, "odd.words", (const char *[]){"ein", "zw\xf6lf", ""}, 3);
    writer_finish(&w);
    FILE *f = fopen(path, "wb");
    assert_true(f && fwrite(w.data, 1, w.size, f) == w.size && !fclose(f));
    writer_free(&w);
    return path;
}

static void reasons_are_those_of_compiling(void **state) {
    (void)state;
    char *folder = new_folder("reasons"), *out = join(folder, "out");
    static const struct {
        const char *arch, *reason;
    } cases[] = {
        {"gpt9", "architecture 'gpt9' has no template"},
        {"llama", "key 'llama."},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *model = write_metadata(folder, cases[i].arch);
        char *json = inspect_json(model, "--tensors"), *text = text_of(RUN(compiler, "inspect", model));
        child c = RUN(compiler, model, "-o", out);
        assert_int_equal(c.exit_code, 1);
        expect_text(c.err, cases[i].reason);
        const char *reason = strstr(c.err, "error: ") + 7;
        expect_text(text, "\ncannot be compiled\n  ");
        expect_text(text, reason); /* its newline, too */
        assert_null(strstr(text, "\ncompiled\n"));
        expect_text(find(json, "refusal"), cases[i].reason);
        assert_true(!strncmp(find(json, "compiled"), "null", 4));
        child_free(&c);
        char *all[] = {model, json, text};
        for (size_t k = 0; k < ARRAY_LEN(all); k++) free(all[k]);
    }
    free(out);
    remove_folder(folder);
}

/* Nothing in a file drives a terminal, and numbers are shown as they are read back. */
static void values_of_every_kind(void **state) {
    (void)state;
    char *folder = new_folder("values"), *model = write_metadata(folder, "gpt9");
    char *text = text_of(RUN(compiler, "inspect", model)), *json = inspect_json(model, "--tensors");
    assert_null(strchr(text, '\x1b'));
    expect_text(text, "string  a\\x1B[31mb\\nc\n");
    expect_text(text, "bool    true\n");
    expect_text(text, "i32     -7\n");
    expect_text(text, "f32     0.1\n");
    expect_text(text, "5 × i8  -1, 2, -3, 4, …\n");
    expect_text(text, "3 × string  \"ein\", \"zw\\xF6lf\", \"\"\n");
    expect_number(json, "metadata.3.value", -7);
    expect_number(json, "metadata.4.value", (double)0.1f);
    expect_number(json, "metadata.5.values.4", -5);
    expect_word(json, "metadata.6.values.0", "ein");
    expect_text(text, "  all      0 tensors, 0 values, 0 bytes, 0.00 bits a value\n");
    char *all[] = {model, text, json};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) free(all[i]);
    remove_folder(folder);
}

static void wrong_lines(void **state) {
    (void)state;
    assert_refused(RUN(compiler, "inspect", "/nowhere/m.gguf"), "/nowhere/m.gguf: cannot open",
                   "No such file", "no file");
    assert_refused(RUN(compiler, "inspect", "tests/test_inspect.c"), "not a GGUF file", "'/* t'", "no GGUF");
    assert_refused_with(RUN(compiler, "inspect"), 2, "no model given", "usage: ggufc inspect", "no model");
    assert_refused_with(RUN(compiler, "inspect", DEMO, "--row=2"), 2, "--row", "unknown option", "unknown");
    assert_refused(RUN(compiler, "inspect", DEMO, "--cpu=foo"), "--cpu=foo", "not", "a CPU");
    assert_refused(RUN(compiler, "inspect", DEMO, "--arch=/nowhere/a.arch"), "/nowhere/a.arch", "No such file",
                   "no template");
    int full = open("/dev/full", O_WRONLY);
    if (full < 0) return;
    char *argv[] = {compiler, "inspect", DEMO, NULL};
    child c = child_run((child_setup){.argv = argv, .out_fd = full});
    close(full);
    assert_refused(c, "standard output", "No space", "a full disk");
}

int main(void) {
    split_find_compiler();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(demo_is_told_of),
        cmocka_unit_test(parts_are_told_of),
        cmocka_unit_test(compiling_makes_what_it_says),
        cmocka_unit_test(reasons_are_those_of_compiling),
        cmocka_unit_test(values_of_every_kind),
        cmocka_unit_test(wrong_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
