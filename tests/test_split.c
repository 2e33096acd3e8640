/* test_split.c - split models (NAME-00001-of-00003.gguf) are read as one: the same tensors, logits and
 * text as of the file they were split from, given any part, to every command; executables find all
 * parts, wherever they are. */
#include "split_fixture.h"

#include "ggufc/model.h"

enum { COUNT = 40 };

/* ---- reading */

static bool is_split_key(gguf_string key) {
    return key.size > 6 && !memcmp(key.data, "split.", 6);
}

/* All metadata but for split.*, in its order. */
static void same_metadata(const gguf_file *a, const gguf_file *b) {
    uint64_t at = 0;
    for (uint64_t i = 0; i < a->n_kv; i++) {
        while (at < b->n_kv && is_split_key(b->kv[at].key)) at++;
        assert_true(at < b->n_kv);
        const gguf_kv *x = &a->kv[i], *y = &b->kv[at++];
        assert_int_equal(x->key.size, y->key.size);
        assert_memory_equal(x->key.data, y->key.data, x->key.size);
        assert_int_equal(x->type, y->type);
    }
}

static void same_tensors(const gguf_file *a, const gguf_file *b) {
    assert_int_equal(a->n_tensors, b->n_tensors);
    for (uint64_t i = 0; i < a->n_tensors; i++) {
        char               name[64];
        const gguf_tensor *x = &a->tensors[i], *y = &b->tensors[i];
        snprintf(name, sizeof name, "%.*s", (int)x->name.size, x->name.data);
        assert_ptr_equal(gguf_find_tensor(b, name), y);
        assert_memory_equal(x->dims, y->dims, sizeof x->dims);
        assert_true(x->n_dims == y->n_dims && x->type == y->type && x->bytes == y->bytes);
        assert_memory_equal(a->data + x->offset, b->data + y->offset, x->bytes);
    }
}

static void check_layout(const gguf_file *f) {
    uint64_t end = 0;
    for (uint32_t i = 0; i < f->n_parts; i++) {
        const gguf_part *p = &f->parts[i];
        assert_int_equal(p->offset, round_up(end, GGUFC_PART_ALIGNMENT));
        for (; end < p->offset; end += 997) assert_int_equal(f->data[end], 0);
        assert_int_equal(p->bytes, size_of(p->path));
        end = p->offset + p->bytes;
        assert_ptr_equal(gguf_find_part(f, p->offset), p);
        assert_ptr_equal(gguf_find_part(f, end - 1), p);
    }
    assert_int_equal(f->size, end);
}

static void reads_as_one(void **state) {
    (void)state;
    static const split_recipe recipes[] = {
        {.each = 1},  {.each = 7},  {.each = EACH}, {.each = 37}, {.each = EACH, .bare_first = true},
        {.each = EACH, .lie = SPLIT_TENSORS_ABSENT, .part = 0},
        {.each = EACH, .lie = SPLIT_TENSORS_ABSENT, .part = 2},
        {.each = 38}, /* one part of one is a file like any */
    };
    arena     *memory = arena_new();
    diag       d = {0};
    gguf_file *whole = gguf_open(memory, &d, DEMO);
    assert_int_equal(whole->n_parts, 1);
    for (size_t i = 0; i < ARRAY_LEN(recipes); i++) {
        char    *folder = new_folder("reads"), *stem = join(folder, "m");
        uint32_t n = split_write(DEMO, stem, &recipes[i]);
        for (uint32_t given = 1; given <= n; given += given < n && n > 3 ? n - 1 : 1) {
            char      *path = split_path(stem, given, n), *first = split_path(stem, 1, n);
            gguf_file *f = gguf_open(memory, &d, path);
            assert_non_null(f);
            assert_int_equal(f->n_parts, n);
            assert_string_equal(f->path, first);
            same_metadata(whole, f);
            same_tensors(whole, f);
            check_layout(f);
            gguf_close(f);
            free(path);
            free(first);
        }
        free(stem);
        remove_folder(folder);
    }
    gguf_close(whole);
    arena_free(memory);
}

/* A model of one file has the fingerprint that it had before there were parts. */
static void hash_of_one_file(void **state) {
    (void)state;
    arena     *memory = arena_new();
    diag       d = {0};
    char      *folder = new_folder("hash"), *first = demo_part(folder, 1);
    gguf_file *f = gguf_open(memory, &d, DEMO), *parts = gguf_open(memory, &d, first);
    assert_int_equal(gguf_hash_index(f), ggufc_index_hash(f->data + f->index_offset, f->index_bytes));
    assert_true(gguf_hash_index(f) != gguf_hash_index(parts));
    uint64_t h = GGUFC_HASH_BASIS;
    for (uint32_t i = 0; i < parts->n_parts; i++)
        h = ggufc_hash(h, parts->data + parts->parts[i].index_offset, parts->parts[i].index_bytes);
    assert_int_equal(gguf_hash_index(parts), h);
    const ggufc_model *m = compiled_model(DEMO, "--ctx=64");
    assert_true(!m->parts && !m->n_parts && m->file_bytes == f->size && m->index_hash == gguf_hash_index(f));
    gguf_close(f);
    gguf_close(parts);
    arena_free(memory);
    free(first);
    remove_folder(folder);
}

/* ---- evaluating */

static void same_logits(const float *a, float *b, const ggufc_model *m, const char *what) {
    if (memcmp(a, b, (size_t)COUNT * m->n_vocab * sizeof *a)) fail_msg("%s: other logits", what);
    free(b);
}

/* To the bit; mapped, read, and where the parts are in memory already. */
static void logits_are_the_same(void **state) {
    (void)state;
    char    *folder = new_folder("logits"), *first = demo_part(folder, 1), *last = demo_part(folder, N_PARTS);
    int32_t  tokens[COUNT];
    const ggufc_model *one = compiled_model(DEMO, "--ctx=64"), *split = compiled_model(first, "--ctx=64");
    for (uint32_t i = 0; i < COUNT; i++) tokens[i] = (int32_t)((i + 3) * UINT64_C(2654435761) % one->n_vocab);
    float *expected = compiled_logits(one, DEMO, tokens, COUNT, COUNT, 2);
    assert_int_equal(split->n_parts, N_PARTS);
    assert_string_equal(strrchr(split->path, '/'), strrchr(first, '/'));
    same_logits(expected, compiled_logits(split, first, tokens, COUNT, COUNT, 2), one, "mapped");
    same_logits(expected, compiled_logits(split, last, tokens, COUNT, COUNT, 1), one, "by the last part");
    same_logits(expected, compiled_logits(split, NULL, tokens, COUNT, COUNT, 1), one, "where they were");

    arena      *memory = arena_new();
    diag        d = {0};
    gguf_file  *f = gguf_open(memory, &d, first);
    ggufc_model embedded = *split;
    embedded.embedded = f->data;
    assert_int_equal(unlink(last), 0);
    same_logits(expected, compiled_logits(&embedded, NULL, tokens, COUNT, COUNT, 1), one, "embedded");
    gguf_close(f);
    arena_free(memory);
    free(expected);
    free(first);
    free(last);
    remove_folder(folder);
}

static void every_command_takes_any_part(void **state) {
    (void)state;
    char *folder = new_folder("commands"), *acts = join(folder, "acts.gguf"), *kernels;
    for (uint32_t i = 1; i <= N_PARTS; i++) {
        char *part = demo_part(folder, i);
        assert_true(asprintf(&kernels, "interpreted:%s", part) > 0);
        assert_story(text_of(RUN(compiler, "run", kernels, ASK)));
        free(kernels);
        free(part);
    }
    char *part = demo_part(folder, 2);
    assert_story(text_of(RUN(compiler, "run", part, ASK)));
    free(text_of(RUN(compiler, "compare", DEMO, part, "-p", PROMPT)));
    free(text_of(RUN(compiler, "trace", part, "-p", PROMPT, "-o", acts)));
    free(text_of(RUN(compiler, "compare", DEMO, acts)));
    assert_true(asprintf(&kernels, "interpreted:%s", part) > 0);
    char *bench = text_of(RUN(compiler, "bench", kernels, "-p", "8", "-n", "2", "-r", "1", "-t", "1"));
    assert_non_null(strstr(bench, "2.62 million parameters"));
    free(bench);
    free(kernels);
    free(part);
    free(acts);
    remove_folder(folder);
}

/* The same blocks as of the unsplit file, and where they really are. */
static void dump_says_which_part(void **state) {
    (void)state;
    char  *folder = new_folder("dump"), *first = demo_part(folder, 1), *second = demo_part(folder, 2);
    char   tensor[64];
    arena *memory = arena_new();
    diag   d = {0};
    gguf_file         *f = gguf_open(memory, &d, first);
    const gguf_tensor *t = &f->tensors[EACH + 3];
    snprintf(tensor, sizeof tensor, "%.*s", (int)t->name.size, t->name.data);
    char *one = text_of(RUN(compiler, "dump", DEMO, tensor));
    char *here = text_of(RUN(compiler, "dump", first, tensor));
    char *json = text_of(RUN(compiler, "dump", first, tensor, "--json"));
    char  expected[128];
    snprintf(expected, sizeof expected, " bytes at offset %llu of demo-00002-of-00003.gguf\n",
             (unsigned long long)(t->offset - f->parts[1].offset));
    assert_non_null(strstr(here, expected));
    assert_non_null(strstr(json, second));
    FILE   *file = fopen(second, "rb");
    uint8_t bytes[32];
    assert_int_equal(fseek(file, (long)(t->offset - f->parts[1].offset), SEEK_SET), 0);
    assert_true(t->bytes >= sizeof bytes && fread(bytes, 1, sizeof bytes, file) == sizeof bytes);
    assert_memory_equal(bytes, f->data + t->offset, sizeof bytes);
    fclose(file);
    assert_string_equal(strstr(one, "\n  "), strstr(here, "\n  ")); /* from the first block's fields on */
    gguf_close(f);
    arena_free(memory);
    char *all[] = {first, second, one, here, json};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) free(all[i]);
    remove_folder(folder);
}

/* ---- the executable and its parts */

static void executable_finds_its_parts(void **state) {
    (void)state;
    char *here = new_folder("here"), *there = new_folder("there"), *exe = join(there, "exe");
    char *first = demo_part(here, 1), *name[N_PARTS], *moved[N_PARTS];
    assert_silent(RUN(compiler, first, "-o", exe));
    assert_story(text_of(RUN(exe, ASK)));
    assert_story(text_of(RUN(exe, "--no-mmap", ASK)));
    for (uint32_t i = 0; i < N_PARTS; i++) {
        name[i] = demo_part(here, i + 1);
        assert_story(text_of(RUN(exe, "-m", name[i], ASK)));
        moved[i] = join(there, strrchr(name[i], '/') + 1);
    }
    char *info = text_of(RUN(exe, "--info"));
    assert_non_null(strstr(info, "parts:          3\n"));
    assert_non_null(strstr(info, first));
    free(info);

    for (uint32_t i = 0; i < N_PARTS; i++) assert_int_equal(rename(name[i], moved[i]), 0);
    assert_story(text_of(RUN(exe, ASK)));
    assert_story(text_of(RUN(exe, "-m", moved[1], "--no-mmap", ASK)));
    assert_int_equal(unlink(moved[0]), 0);
    assert_refused(RUN(exe, ASK), "demo-00001-of-00003.gguf: weights not found",
                   "(name the GGUF file", "moved");
    for (uint32_t i = 0; i < N_PARTS; i++) {
        free(name[i]);
        free(moved[i]);
    }
    free(exe);
    free(first);
    remove_folder(here);
    remove_folder(there);
}

/* As a cache of downloads has it: names are links to files that are called after their contents. */
static void links_to_parts(void **state) {
    (void)state;
    char *folder = new_folder("links"), *exe = join(folder, "exe"), *blobs = new_folder("blobs");
    for (uint32_t i = 1; i <= N_PARTS; i++) {
        char *part = demo_part(folder, i), number[8];
        snprintf(number, sizeof number, "%u", i);
        char *blob = join(blobs, number);
        assert_int_equal(rename(part, blob), 0);
        assert_int_equal(symlink(blob, part), 0);
        free(part);
        free(blob);
    }
    char *first = demo_part(folder, 1);
    assert_silent(RUN(compiler, first, "-o", exe));
    assert_story(text_of(RUN(exe, ASK)));
    free(first);
    free(exe);
    remove_folder(folder);
    remove_folder(blobs);
}

/* Packed weights are one file, whatever they were made from. */
static void packed_from_parts(void **state) {
    (void)state;
    char *folder = new_folder("packs"), *exe = join(folder, "exe"), *one = join(folder, "one");
    char *part[N_PARTS];
    for (uint32_t i = 0; i < N_PARTS; i++) part[i] = demo_part(folder, i + 1);
    child c = RUN(compiler, part[0], "-o", exe, "--pack");
    bool  has = c.exit_code == 0;
    if (!has) assert_non_null(strstr(c.err, "--pack is for CPUs that"));
    child_free(&c);
    for (uint32_t i = 0; i < N_PARTS; i++) {
        unlink(part[i]);
        free(part[i]);
    }
    if (has) {
        assert_silent(RUN(compiler, DEMO, "-o", one, "--pack"));
        char *text = text_of(RUN(one, ASK)), *same = text_of(RUN(exe, ASK));
        assert_string_equal(text, same);
        free(text);
        free(same);
    }
    free(exe);
    free(one);
    remove_folder(folder);
}

int main(void) {
    split_find_compiler();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_as_one),
        cmocka_unit_test(hash_of_one_file),
        cmocka_unit_test(logits_are_the_same),
        cmocka_unit_test(every_command_takes_any_part),
        cmocka_unit_test(dump_says_which_part),
        cmocka_unit_test(executable_finds_its_parts),
        cmocka_unit_test(links_to_parts),
        cmocka_unit_test(packed_from_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
