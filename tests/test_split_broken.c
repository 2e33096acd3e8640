/* test_split_broken.c - each way in which the parts of a split model can be wrong, by name: to the compiler,
 * and to an executable that was compiled from right ones. */
#include "split_fixture.h"

/* ---- what is wrong with parts */

enum fault { FAULT_NONE, FAULT_MISSING, FAULT_CUT, FAULT_EMPTY, FAULT_FOLDER, FAULT_SWAP, FAULT_NAME,
             FAULT_OTHER };

#define PART(n) "b-0000" #n "-of-00003.gguf"

/* Three parts of which one lies, or is spoiled as a file: it is given by the name `given`, and the one
   line names `named` and holds `message`. */
static const struct broken_split {
    const char   *name;
    split_recipe  lie;
    enum fault    fault;
    uint32_t      part; /* that the fault spoils, from 1 */
    const char   *given, *named, *message;
} broken_splits[] = {
    {"missing-first", .fault = FAULT_MISSING, .part = 1, .given = PART(2), .named = PART(1),
     .message = "cannot open: No such file or directory (part 1 of the 3 of b-00001-of-00003.gguf)"},
    {"missing-second", .fault = FAULT_MISSING, .part = 2, .given = PART(1), .named = PART(2),
     .message = "cannot open: No such file or directory (part 2 of the 3 of b-00001-of-00003.gguf)"},
    {"missing-last", .fault = FAULT_MISSING, .part = 3, .given = PART(2), .named = PART(3),
     .message = "(part 3 of the 3 of"},
    {"cut-in-data", .fault = FAULT_CUT, .part = 2, .given = PART(1), .named = PART(2),
     .message = "bytes of data end beyond the file's"},
    {"empty", .fault = FAULT_EMPTY, .part = 3, .given = PART(1), .named = PART(3),
     .message = "the file is empty, expected a GGUF (part 3 of the 3 of"},
    {"folder", .fault = FAULT_FOLDER, .part = 3, .given = PART(1), .named = PART(3),
     .message = "this is a directory, expected a GGUF file (part 3 of the 3 of"},
    {"swapped", .fault = FAULT_SWAP, .part = 2, .given = PART(1), .named = PART(2),
     .message = "is part 3 by its key 'split.no', but part 2 by its name"},
    {"swapped-and-given", .fault = FAULT_SWAP, .part = 2, .given = PART(2), .named = PART(2),
     .message = "is part 3 of 3 by its keys 'split.no' and 'split.count', but part 2 of 3 by its name"},
    {"renamed", .fault = FAULT_NAME, .part = 1, .given = "model.gguf", .named = "model.gguf",
     .message = "is part 1 of 3, so its name must end in -00001-of-00003.gguf"},
    {"of-another-model", .fault = FAULT_OTHER, .part = 3, .given = PART(1), .named = PART(3),
     .message = "is a part of another model: key 'split.tensors.count' is 5, "
                "that of b-00001-of-00003.gguf is 38"},
    {"no-is-the-next", {.lie = SPLIT_NO, .part = 1, .number = 2}, .given = PART(1), .named = PART(2),
     .message = "is part 3 by its key 'split.no', but part 2 by its name"},
    {"no-is-the-first-twice", {.lie = SPLIT_NO, .part = 2, .number = 0}, .given = PART(1), .named = PART(3),
     .message = "is part 1 by its key 'split.no'"},
    {"no-beyond-the-count", {.lie = SPLIT_NO, .part = 0, .number = 3}, .given = PART(1), .named = PART(1),
     .message = "key 'split.no' is 3, expected less than the 3 of 'split.count'"},
    {"no-is-absent", {.lie = SPLIT_NO_ABSENT, .part = 1}, .given = PART(1), .named = PART(2),
     .message = "one of 3 parts, but key 'split.no' is missing"},
    {"no-is-text", {.lie = SPLIT_NO_TEXT, .part = 1}, .given = PART(1), .named = PART(2),
     .message = "key 'split.no': the type is string, expected an integer"},
    {"count-of-the-first", {.lie = SPLIT_COUNT, .part = 0, .number = 4}, .given = PART(1), .named = PART(1),
     .message = "is part 1 of 4 by its keys 'split.no' and 'split.count', but part 1 of 3 by its name"},
    {"count-of-the-first-by-the-second", {.lie = SPLIT_COUNT, .part = 0, .number = 4}, .given = PART(2),
     .named = PART(1), .message = "is of a model of 4 parts by its key 'split.count'"},
    {"count-of-a-later-part", {.lie = SPLIT_COUNT, .part = 2, .number = 4}, .given = PART(1),
     .named = PART(3),
     .message = "is of a model of 4 parts by its key 'split.count', b-00001-of-00003.gguf of one of 3"},
    {"count-is-absent", {.lie = SPLIT_COUNT_ABSENT, .part = 2}, .given = PART(1), .named = PART(3),
     .message = "is of a model of 1 part by its key 'split.count'"},
    {"count-is-text", {.lie = SPLIT_COUNT_TEXT, .part = 0}, .given = PART(1), .named = PART(1),
     .message = "key 'split.count': the type is string, expected an integer"},
    {"tensors-too-many", {.lie = SPLIT_TENSORS, .part = 1, .number = 39}, .given = PART(1), .named = PART(2),
     .message = "key 'split.tensors.count' is 39, that of b-00001-of-00003.gguf is 38"},
    {"tensor-twice", {.lie = SPLIT_TWIN, .part = 2}, .given = PART(1), .named = PART(1),
     .message = "key 'split.tensors.count' is 38, but its 3 parts have 39 tensors"},
    {"tensor-missing", {.lie = SPLIT_LACKS, .part = 1}, .given = PART(3), .named = PART(1),
     .message = "key 'split.tensors.count' is 38, but its 3 parts have 37 tensors"},
};

static void spoil(const char *folder, const struct broken_split *row) {
    char *stem = join(folder, "b"), *part = split_path(stem, row->part, N_PARTS);
    char *next = split_path(stem, row->part + 1, N_PARTS), *aside = join(folder, "model.gguf");
    int   failed = 0;
    switch (row->fault) {
    case FAULT_NONE: break;
    case FAULT_MISSING: failed = unlink(part); break;
    case FAULT_CUT: failed = truncate(part, size_of(part) - 64); break;
    case FAULT_EMPTY: failed = truncate(part, 0); break;
    case FAULT_FOLDER: failed = unlink(part) | mkdir(part, 0777); break;
    case FAULT_SWAP: failed = rename(part, aside) | rename(next, part) | rename(aside, next); break;
    case FAULT_NAME: failed = rename(part, aside); break;
    case FAULT_OTHER: {
        gguf_writer w;
        writer_begin(&w);
        split_put_keys(&w, &(split_recipe){.lie = SPLIT_HONEST}, row->part - 1, N_PARTS, 5);
        writer_tensor(&w, "another.weight", 1, (uint64_t[]){32}, QUANT_F32);
        writer_finish(&w);
        FILE *f = fopen(part, "wb");
        failed = !f || fwrite(w.data, 1, w.size, f) != w.size || fclose(f);
        writer_free(&w);
    }
    }
    assert_false(failed);
    char *all[] = {stem, part, next, aside};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) free(all[i]);
}

static void broken_parts(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(broken_splits); i++) {
        const struct broken_split *row = &broken_splits[i];
        char        *folder = new_folder("broken"), *stem = join(folder, "b");
        split_recipe recipe = row->lie;
        recipe.each = EACH;
        assert_int_equal(split_write(DEMO, stem, &recipe), N_PARTS);
        if (row->fault) spoil(folder, row);
        char *given = join(folder, row->given), *out = join(folder, "out"), *named;
        assert_true(asprintf(&named, "error: %s/%s: ", folder, row->named) > 0);
        assert_refused(RUN(compiler, given, "-o", out), named, row->message, row->name);
        assert_int_equal(size_of(out), -1);
        char *all[] = {stem, given, named, out};
        for (size_t k = 0; k < ARRAY_LEN(all); k++) free(all[k]);
        remove_folder(folder);
    }
}

/* Where no key says how many there are, two parts may both be honest and have one tensor. */
static void tensor_in_two_parts(void **state) {
    (void)state;
    char *folder = new_folder("twins"), *stem = join(folder, "b"), *out = join(folder, "out");
    char *first = split_path(stem, 1, N_PARTS), *last = split_path(stem, N_PARTS, N_PARTS);
    split_write(DEMO, stem, &(split_recipe){.each = EACH, .lie = SPLIT_TENSORS_ABSENT, .part = 0});
    char *kept = join(folder, "kept");
    assert_int_equal(rename(first, kept), 0);
    split_write(DEMO, stem, &(split_recipe){.each = EACH, .lie = SPLIT_TWIN, .part = 2});
    assert_int_equal(rename(kept, first), 0);
    assert_refused(RUN(compiler, first, "-o", out), last, "stands twice: it is in ", "twins");
    char *all[] = {stem, out, first, last, kept};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) free(all[i]);
    remove_folder(folder);
}

static void outputs_that_are_parts(void **state) {
    (void)state;
    char *folder = new_folder("outputs"), *first = demo_part(folder, 1), *last = demo_part(folder, 3);
    int64_t size = size_of(last);
    assert_refused(RUN(compiler, first, "-o", last), last, "is read to make it", "compiling");
    assert_refused(RUN(compiler, "trace", first, "-p", "a", "-o", last), last,
                   "is the weights file", "trace");
    assert_refused_with(RUN(compiler, "compare", first, DEMO, "--html", last), 2, last, "is read to make it",
                        "compare");
    assert_int_equal(size_of(last), size);
    free(first);
    free(last);
    remove_folder(folder);
}

/* ---- the executable */

static void swap_bytes(const char *path, const char *from, const char *to) {
    FILE  *f = fopen(path, "r+b");
    size_t size = (size_t)size_of(path);
    char  *data = malloc(size), *at;
    assert_true(f && data && fread(data, 1, size, f) == size);
    at = memmem(data, size, from, strlen(from));
    assert_non_null(at);
    fseek(f, at - data, SEEK_SET);
    assert_true(fwrite(to, 1, strlen(to), f) == strlen(to) && !fclose(f));
    free(data);
}

static void executable_refuses_others(void **state) {
    (void)state;
    char *folder = new_folder("refuses"), *exe = join(folder, "exe"), *other = join(folder, "other.gguf");
    char *part[N_PARTS];
    for (uint32_t i = 0; i < N_PARTS; i++) part[i] = demo_part(folder, i + 1);
    assert_silent(RUN(compiler, part[0], "-o", exe));

    assert_refused(RUN(exe, "-m", DEMO, ASK), DEMO ": not a part of what this was compiled from",
                   "-00001-of-00003.gguf", "the unsplit file");
    assert_refused(RUN(exe, "-m", "x-00001-of-00004.gguf", ASK), "x-00001-of-00004.gguf: not a part",
                   "-00001-of-00003.gguf", "another count");
    assert_refused(RUN(exe, "-m", "x-00002-of-00003.gguf", ASK), "x-00001-of-00003.gguf: No such file",
                   "part 1 of the 3 this was compiled from", "parts that are not there");

    assert_int_equal(rename(part[1], other), 0);
    assert_refused(RUN(exe, ASK), "demo-00002-of-00003.gguf: No such file or directory",
                   "part 2 of the 3 this was compiled from", "a missing part");
    assert_refused(RUN(exe, "--no-mmap", ASK), "demo-00002-of-00003.gguf: No such file or directory",
                   "part 2 of the 3 this was compiled from", "a missing part, read");
    assert_int_equal(rename(other, part[1]), 0);

    assert_int_equal(truncate(part[2], size_of(part[2]) - 1), 0);
    assert_refused(RUN(exe, ASK), "demo-00003-of-00003.gguf: not part 3 of the 3 this was compiled from",
                   " bytes, expected ", "a cut part");
    assert_int_equal(truncate(part[2], size_of(part[2]) + 1), 0);
    assert_story(text_of(RUN(exe, ASK))); /* what was cut was padding */

    swap_bytes(part[1], "blk.1", "blk.7");
    assert_refused(RUN(exe, ASK), "demo-00002-of-00003.gguf: not part 2 of the 3 this was compiled from",
                   "its index hashes to", "another tensor");
    swap_bytes(part[1], "blk.7", "blk.1");
    assert_int_equal(rename(part[1], other) | rename(part[2], part[1]) | rename(other, part[2]), 0);
    assert_refused(RUN(exe, ASK), "demo-00002-of-00003.gguf: not part 2 of the 3 this was compiled from",
                   "bytes, expected", "swapped parts");
    for (uint32_t i = 0; i < N_PARTS; i++) free(part[i]);
    free(exe);
    free(other);
    remove_folder(folder);
}

int main(void) {
    split_find_compiler();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_parts),
        cmocka_unit_test(tensor_in_two_parts),
        cmocka_unit_test(outputs_that_are_parts),
        cmocka_unit_test(executable_refuses_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
