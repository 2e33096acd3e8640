/* What `ggufc quantize` makes: types, metadata, values, the same bytes by any number of threads, and of
 * the demo model in F32, where ../shared has it, the files that llama.cpp made of it. */
#include "quantize_fixture.h"

#include <fcntl.h>

/* ---- a model that runs */

static uint64_t count_of_type(const model *m, uint32_t quant) {
    uint64_t n = 0;
    for (uint64_t i = 0; i < m->file->n_tensors; i++) n += m->file->tensors[i].type == quant;
    return n;
}

static void a_model_in_q8_0_generates(void **state) {
    (void)state;
    child c = quantize("{narrow} {out} q8_0");
    assert_int_equal(c.exit_code, 0);
    assert_int_equal(c.out_size, 0);
    assert_non_null(strstr(c.err, "bits per weight"));
    assert_non_null(strstr(c.err, "23 x Q8_0, 7 x F32"));
    child_free(&c);
    model m = open_model(out);
    assert_int_equal(count_of_type(&m, QUANT_Q8_0), 23);
    assert_int_equal(count_of_type(&m, QUANT_F32), 7);
    close_model(&m);
    char *argv[] = { compiler, "run", out, "--tokens", "1,2,3", "-n", "4", "--ignore-eos", NULL };
    c = child_run((child_setup){ .argv = argv });
    if (c.exit_code || c.out_size < 4) fail_msg("exit %d: %s%s", c.exit_code, c.out, c.err);
    child_free(&c);
    assert_int_equal(unlink(out), 0);
}

/* ---- types by flags and rows */

typedef struct expected_type {
    const char *words;
    const char *types; /* "NAME=TYPE …" */
} expected_type;

static void check_types(const expected_type *rows, size_t n) {
    char words[600], copy[600];
    for (size_t i = 0; i < n; i++) {
        snprintf(words, sizeof words, "%s", rows[i].words);
        assert_made(words);
        model m = open_model(out);
        snprintf(copy, sizeof copy, "%s", rows[i].types);
        for (char *rest = copy, *word; (word = strtok_r(rest, " ", &rest));) {
            char *equal = strchr(word, '=');
            *equal = 0;
            if (strcmp(type_of(&m, word), equal + 1))
                fail_msg("quantize %s: %s is %s, expected %s", words, word, type_of(&m, word), equal + 1);
        }
        close_model(&m);
        assert_int_equal(unlink(out), 0);
    }
}

static void odd_rows_get_a_fallback(void **state) {
    (void)state;
    static const expected_type rows[] = {
        { "{narrow} {out} Q4_K_M",
          "output.weight=Q8_0 token_embd.weight=Q5_0 blk.0.attn_q.weight=Q5_0 blk.2.ffn_down.weight=Q8_0 "
          "blk.2.attn_v.weight=Q8_0 blk.0.ffn_norm.weight=F32" },
        { "{narrow} {out} Q2_K", "output.weight=Q8_0 blk.0.attn_q.weight=Q4_0 blk.1.ffn_down.weight=Q4_0" },
        { "{narrow} {out} Q5_K_S", "blk.1.ffn_up.weight=Q5_1" },
        { "{narrow} {out} IQ4_XS", "blk.1.ffn_up.weight=IQ4_NL" },
        { "{narrow} {out} NVFP4", "blk.1.ffn_up.weight=Q4_0 token_embd.weight=Q8_0" },
        { "{narrow} {out} F16 --tensor-type ffn_up=q6_k",
          "blk.1.ffn_up.weight=Q8_0 blk.1.ffn_gate.weight=F16" },
    };
    check_types(rows, ARRAY_LEN(rows));
    child c = quantize("{narrow} {out} Q4_K_M");
    assert_non_null(strstr(c.err, "22 of 30 tensors are in another type than Q4_K_M has for them"));
    child_free(&c);
    c = quantize("{narrow} {out} Q4_K_M -v");
    assert_non_null(strstr(c.err, "(rows of 160 are no whole blocks of Q6_K)"));
    child_free(&c);
    assert_int_equal(unlink(out), 0);
}

static void flags_choose_types(void **state) {
    (void)state;
    static const expected_type rows[] = {
        { "{wide} {out} Q4_K", "output.weight=Q6_K token_embd.weight=Q4_K blk.0.attn_v.weight=Q4_K "
                               "blk.1.attn_v.weight=Q6_K" },
        { "{wide} {out} 15", "output.weight=Q6_K blk.1.attn_v.weight=Q6_K blk.0.attn_q.weight=Q4_K" },
        { "{wide} {out} Q4_K_M --pure", "output.weight=Q4_K blk.1.attn_v.weight=Q4_K" },
        { "{wide} {out} Q4_K_M --leave-output-tensor", "output.weight=F32 token_embd.weight=Q4_K" },
        { "--output-tensor-type q5_1 --token-embedding-type=Q8_0 {wide} {out} Q4_K_M",
          "output.weight=Q5_1 token_embd.weight=Q8_0 blk.0.attn_q.weight=Q4_K" },
        { "--tensor-type attn_v=q8_0 {wide} {out} Q4_K_M",
          "blk.0.attn_v.weight=Q8_0 blk.1.attn_v.weight=Q8_0 blk.0.attn_k.weight=Q4_K" },
        { "--tensor-type blk\\.[1-9]\\.ffn_(up|gate)=iq4_nl {wide} {out} Q6_K",
          "blk.0.ffn_up.weight=Q6_K blk.1.ffn_up.weight=IQ4_NL blk.1.ffn_gate.weight=IQ4_NL "
          "blk.1.ffn_down.weight=Q6_K" },
        { "--tensor-type blk\\.\\d+\\.ffn_(?:up)=f16 --tensor-type FFN_=bf16 {wide} {out} Q6_K",
          "blk.1.ffn_up.weight=F16 blk.1.ffn_gate.weight=BF16" },
        { "--tensor-type blk[.\\]]0[^\\s]attn_[\\w\\-]=q5_0 {wide} {out} Q6_K",
          "blk.0.attn_v.weight=Q5_0 blk.0.attn_q.weight=Q5_0 blk.1.attn_v.weight=Q6_K" },
        { "--tensor-type ffn_norm=q8_0 {wide} {out} Q6_K", "blk.0.ffn_norm.weight=F32" },
        { "{wide} {out} mxfp4", "output.weight=Q8_0 token_embd.weight=Q8_0 blk.0.attn_q.weight=MXFP4" },
        { "{wide} {out} MXFP4_MOE", "output.weight=Q8_0 blk.0.attn_q.weight=Q8_0" },
        { "{wide} {out} bf16", "output.weight=BF16 blk.0.attn_q.weight=BF16 blk.0.ffn_norm.weight=F32" },
    };
    check_types(rows, ARRAY_LEN(rows));
}

static void types_may_be_in_a_file(void **state) {
    (void)state;
    char words[400];
    snprintf(words, sizeof words, "--tensor-type-file %s {wide} {out} Q8_0", importance);
    static const char list[] = "attn_q=q4_0\n  attn_k=q5_0\tffn=q4_1\n";
    write_whole(importance, list, strlen(list));
    expected_type row = { words, "blk.1.attn_q.weight=Q4_0 blk.1.attn_k.weight=Q5_0 blk.0.ffn_up.weight=Q4_1 "
                                 "blk.0.attn_v.weight=Q8_0" };
    check_types(&row, 1);
}

/* A pattern that says nothing is told of. */
static void an_idle_pattern_is_a_warning(void **state) {
    (void)state;
    child c = quantize("--tensor-type attn_w=q8_0 {wide} {out} Q4_0");
    assert_int_equal(c.exit_code, 0);
    assert_non_null(strstr(c.err, "warning: --tensor-type attn_w=q8_0: "));
    child_free(&c);
}

/* An importance matrix that is about other tensors than those quantized. */
static void an_idle_importance_is_a_warning(void **state) {
    (void)state;
    make_importance(wide, (oddities){ 0 });
    child c = quantize("--imatrix {importance} --include-weights 0.attn_q --tensor-type 0.attn_q=f32 {wide} {out} "
                       "Q4_0");
    assert_int_equal(c.exit_code, 0);
    assert_non_null(strstr(c.err, "none of its entries is about a tensor that is quantized"));
    child_free(&c);
}

/* ---- metadata */

static bool is_key(gguf_string key, const char *name) {
    return key.size == strlen(name) && !memcmp(key.data, name, key.size);
}

static uint64_t number_of(const model *m, const char *key) {
    uint64_t n = UINT64_MAX;
    diag     d = { 0 };
    gguf_get_u64(m->file, &d, key, &n);
    return n;
}

static uint64_t entry_bytes(const gguf_file *f, uint64_t i) {
    return (i + 1 < f->n_kv ? f->kv[i + 1].offset : f->index_offset) - f->kv[i].offset;
}

/* All of a's entries but those named are b's, byte for byte, in the same order. */
static void assert_same_entries(const gguf_file *a, const gguf_file *b, const char *const *but) {
    uint64_t n = 0;
    for (uint64_t i = 0; i < a->n_kv; i++) {
        bool skipped = false;
        for (const char *const *name = but; *name; name++) skipped |= is_key(a->kv[i].key, *name);
        if (skipped) continue;
        assert_true(n < b->n_kv);
        assert_int_equal(entry_bytes(a, i), entry_bytes(b, n));
        assert_memory_equal(a->data + a->kv[i].offset, b->data + b->kv[n].offset, entry_bytes(a, i));
        n++;
    }
    assert_true(n > 10);
}

static void metadata_is_kept_and_told_of(void **state) {
    (void)state;
    static const char *const anew[] = {
        "general.file_type", "general.quantization_version", "general.name", NULL,
    };
    diag        d = { 0 };
    gguf_string text;
    make_importance(wide, (oddities){ 0 });
    assert_made("{wide} {out} Q3_K_M --override-kv general.name=str:other --override-kv x.n=int:7 "
                "--override-kv x.f=float:0.5 --override-kv x.b=bool:true --override-kv x.n=int:8 "
                "--imatrix {importance}");
    model a = open_model(wide), b = open_model(out);
    assert_same_entries(a.file, b.file, anew);
    assert_int_equal(number_of(&b, "general.file_type"), 12);
    assert_int_equal(number_of(&b, "general.quantization_version"), 2);
    assert_int_equal(number_of(&b, "x.n"), 8);
    assert_int_equal(number_of(&b, "quantize.imatrix.entries_count"), 15);
    assert_int_equal(number_of(&b, "quantize.imatrix.chunks_count"), 5);
    const gguf_kv *real = gguf_find_kv(b.file, "x.f"), *truth = gguf_find_kv(b.file, "x.b");
    assert_true(real && real->type == GGUF_F32 && real->value.f == 0.5);
    assert_true(truth && truth->type == GGUF_BOOL && truth->value.u);
    assert_int_equal(gguf_get_string(b.file, &d, "quantize.imatrix.dataset", &text), GGUF_PRESENT);
    assert_true(is_key(text, "stories.txt"));
    assert_int_equal(gguf_get_string(b.file, &d, "quantize.imatrix.file", &text), GGUF_PRESENT);
    assert_true(is_key(text, importance));
    assert_int_equal(gguf_get_string(b.file, &d, "general.name", &text), GGUF_PRESENT);
    assert_true(is_key(text, "other"));
    close_model(&a);
    close_model(&b);
}

static void copy_changes_nothing(void **state) {
    (void)state;
    static const char *const none[] = { NULL };
    assert_made("{wide} {out} COPY");
    model a = open_model(wide), b = open_model(out);
    assert_same_entries(a.file, b.file, none);
    assert_int_equal(a.file->n_kv, b.file->n_kv);
    assert_int_equal(a.file->n_tensors, b.file->n_tensors);
    for (uint64_t i = 0; i < a.file->n_tensors; i++) {
        char name[80];
        const gguf_tensor *x = &a.file->tensors[i];
        snprintf(name, sizeof name, "%.*s", (int)x->name.size, x->name.data);
        const gguf_tensor *y = tensor_of(&b, name);
        assert_true(x->type == y->type && x->bytes == y->bytes);
        assert_memory_equal(a.file->data + x->offset, b.file->data + y->offset, x->bytes);
    }
    close_model(&a);
    close_model(&b);
}

/* ---- values */

static void fill(uint8_t *to, uint64_t n) {
    uint32_t state = 12345;
    for (uint64_t i = 0; i < n; i++) {
        state = state * 1664525 + 1013904223;
        float x = (float)((int32_t)(state >> 8) - (1 << 23)) * 0x1p-24f;
        memcpy(to + i * 4, &x, sizeof x);
    }
}

#define EXPERTS "blk.0.ffn_up_exps.weight"

static void make_experts(const char *path, uint32_t alignment) {
    gguf_writer w;
    writer_begin(&w);
    writer_kv_string(&w, "general.architecture", "llama");
    if (alignment != WRITER_ALIGNMENT) writer_kv_u32(&w, "general.alignment", alignment);
    writer_tensor(&w, EXPERTS, 3, (uint64_t[]){ 256, 2, 3 }, QUANT_F32);
    while (alignment != WRITER_ALIGNMENT && w.size % alignment) writer_put(&w, "", 1);
    fill(writer_finish(&w), 256 * 2 * 3);
    write_whole(path, w.data, w.size);
    writer_free(&w);
}

/* Each expert's rows are made with the importances of that expert. */
static void each_expert_has_its_importance(void **state) {
    (void)state;
    static const char *const names[] = { "IQ2_XS", "Q4_K_S" };
    char    *model_path = strdup(compiled_path("experts.gguf")), words[400];
    float    weights[3 * 256];
    uint8_t  block[256];
    for (uint64_t i = 0; i < ARRAY_LEN(weights); i++) weights[i] = made_importance(i);
    make_experts(model_path, WRITER_ALIGNMENT);
    make_importance(model_path, (oddities){ 0 });
    for (size_t k = 0; k < ARRAY_LEN(names); k++) {
        snprintf(words, sizeof words, "%s {out} %s --imatrix {importance}", model_path, names[k]);
        assert_made(words);
        model a = open_model(model_path), b = open_model(out);
        const gguf_tensor *x = tensor_of(&a, EXPERTS), *y = tensor_of(&b, EXPERTS);
        uint64_t bytes = quant_row_bytes(y->type, 256);
        assert_int_equal(y->type, mixture_find(names[k])->base);
        for (uint64_t row = 0; row < 6; row++) {
            const void *from = a.file->data + x->offset + row * 1024;
            quant_write(y->type, from, 256, weights + row / 2 * 256, block);
            assert_memory_equal(block, b.file->data + y->offset + row * bytes, bytes);
        }
        close_model(&a);
        close_model(&b);
    }
    free(model_path);
}

static void weights_may_be_left_out(void **state) {
    (void)state;
    model m;
    make_importance(wide, (oddities){ 0 });
    assert_made("--include-weights attn_ --include-weights blk.1.ffn_up {wide} {out} Q4_K_S "
                "--imatrix {importance}");
    m = open_model(out);
    assert_int_equal(number_of(&m, "quantize.imatrix.entries_count"), 9);
    close_model(&m);
    assert_made("--exclude-weights attn_ --exclude-weights output {wide} {out} Q4_K_S "
                "--imatrix {importance}");
    m = open_model(out);
    assert_int_equal(number_of(&m, "quantize.imatrix.entries_count"), 6);
    close_model(&m);
    assert_made("--include-weights nothing {wide} {out} Q4_K_S --imatrix {importance}");
    m = open_model(out);
    assert_int_equal(number_of(&m, "quantize.imatrix.entries_count"), UINT64_MAX);
    close_model(&m);
}

static void alignment_is_kept(void **state) {
    (void)state;
    char *path = strdup(compiled_path("aligned.gguf")), words[400];
    make_experts(path, 128);
    snprintf(words, sizeof words, "%s {out} Q5_0", path);
    assert_made(words);
    model m = open_model(out); /* which checks it */
    assert_int_equal(m.file->alignment, 128);
    assert_int_equal(m.file->size % 128, 0);
    close_model(&m);
    free(path);
}

static void threads_make_the_same_bytes(void **state) {
    (void)state;
    static const char *const names[] = { "Q8_0", "Q4_K_M", "IQ4_XS", "TQ1_0", "F16" };
    char *first = strdup(compiled_path("first.gguf")), words[400];
    make_importance(wide, (oddities){ 0 });
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        for (int with = 0; with < 2; with++) {
            const char *flag = with ? "--imatrix {importance}" : "";
            snprintf(words, sizeof words, "%s -t 1 {wide} %s %s", flag, first, names[i]);
            assert_made(words);
            snprintf(words, sizeof words, "%s --threads=3 {wide} {out} %s", flag, names[i]);
            assert_made(words);
            assert_true(same_file(first, out));
            snprintf(words, sizeof words, "%s {wide} {out} %s 8", flag, names[i]);
            assert_made(words);
            assert_true(same_file(first, out));
        }
    free(first);
}

static void quantized_weights_can_be_again(void **state) {
    (void)state;
    expected_type row = { "--allow-requantize " DEMO " {out} Q4_0 --token-embedding-type q8_0",
                          "blk.0.attn_q.weight=Q4_0 token_embd.weight=Q8_0" };
    check_types(&row, 1);
}

/* The parts of a model make the file that the model in one makes. */
static void a_split_model_becomes_one(void **state) {
    (void)state;
    static const odd_model split = { "split", "tiny --type f32 --split 12", "", "" };
    char *whole = strdup(compiled_path("whole.gguf")), words[400], part[300];
    snprintf(part, sizeof part, "%s", odd_model_make(&split, 902));
    snprintf(part + strlen(part) - strlen(".gguf"), 40, "-00002-of-00003.gguf");
    assert_true(exists(part));
    snprintf(words, sizeof words, "{narrow} %s Q4_1", whole);
    assert_made(words);
    snprintf(words, sizeof words, "%s {out} Q4_1", part);
    assert_made(words);
    assert_true(same_file(whole, out));
    snprintf(words, sizeof words, "%s %.*s3-of-00003.gguf Q4_1", part, (int)(strlen(part) - 15), part);
    child c = quantize(words); /* over another part */
    assert_int_equal(c.exit_code, 1);
    assert_non_null(strstr(c.err, "is read to make it"));
    child_free(&c);
    free(whole);
}

/* ---- dry runs */

static void a_dry_run_writes_nothing(void **state) {
    (void)state;
    static const char *const lines[] = {
        "--dry-run {wide} Q4_K_M", "--dry-run {wide} {out} Q4_K_M", "{wide} Q4_K_M 2 --dry-run",
    };
    unlink(out);
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        child c = quantize(lines[i]);
        assert_int_equal(c.exit_code, 0);
        assert_int_equal(c.err_size, 0);
        assert_non_null(strstr(c.out, "blk.1.attn_v.weight          256 x 128      F32  -> Q6_K"));
        assert_non_null(strstr(c.out, "bits per weight"));
        child_free(&c);
        assert_false(exists(out) || has_temporary());
    }
    child c = quantize("--dry-run {wide} IQ2_XXS");
    assert_int_equal(c.exit_code, 0);
    assert_non_null(strstr(c.out, "need an importance matrix"));
    child_free(&c);
}

/* ---- against llama.cpp's files */

static void assert_same_types(const char *path, const char *name) {
    model a = open_model(path), b = open_model(out);
    assert_int_equal(a.file->n_tensors, b.file->n_tensors);
    for (uint64_t i = 0; i < a.file->n_tensors; i++) {
        const gguf_tensor *x = &a.file->tensors[i], *y = &b.file->tensors[i];
        assert_true(x->name.size == y->name.size && !memcmp(x->name.data, y->name.data, x->name.size));
        if (x->type != y->type || x->bytes != y->bytes)
            fail_msg("%s: %.*s is %s, expected %s", name, (int)x->name.size, x->name.data,
                     quant_find(y->type)->name, quant_find(x->type)->name);
    }
    close_model(&a);
    close_model(&b);
}

static void the_demo_is_as_llama_cpp_makes_it(void **state) {
    (void)state;
    static const struct {
        const char *name;
        bool        same_bytes, importance;
    } rows[] = {
        { "f16", true, false },     { "bf16", true, false },    { "q8_0", true, false },
        { "q4_0", false, false },   { "q4_1", false, false },   { "q5_0", false, false },
        { "q5_1", false, false },   { "q2_k", false, false },   { "q3_k_m", false, false },
        { "q4_k_m", false, false }, { "q5_k_m", false, false }, { "q6_k", false, false },
        { "iq4_nl", false, false }, { "iq4_xs", false, false }, { "iq3_s", false, false },
        { "tq1_0", false, false },  { "tq2_0", false, false },  { "mxfp4", false, false },
        { "nvfp4", false, false },  { "q1_0", false, false },   { "q2_0", false, false },
        { "iq1_s", false, true },   { "iq1_m", false, true },   { "iq2_xxs", false, true },
        { "iq2_xs", false, true },  { "iq2_s", false, true },   { "iq3_xxs", false, true },
    };
    char words[400], path[200];
    if (access(SHARED "storyteller-f32.gguf", R_OK)) {
        print_message(SHARED "storyteller-f32.gguf is not here\n");
        skip();
    }
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        snprintf(words, sizeof words, SHARED "storyteller-f32.gguf {out} %s%s", rows[i].name,
                 rows[i].importance ? " --imatrix " SHARED "imatrix.gguf" : "");
        snprintf(path, sizeof path, SHARED "storyteller-%s.gguf", rows[i].name);
        assert_made(words);
        assert_same_types(path, rows[i].name);
        if (rows[i].same_bytes && !same_file(path, out)) fail_msg("%s: other bytes", rows[i].name);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_in_q8_0_generates),
        cmocka_unit_test(odd_rows_get_a_fallback),
        cmocka_unit_test(flags_choose_types),
        cmocka_unit_test(types_may_be_in_a_file),
        cmocka_unit_test(an_idle_pattern_is_a_warning),
        cmocka_unit_test(an_idle_importance_is_a_warning),
        cmocka_unit_test(metadata_is_kept_and_told_of),
        cmocka_unit_test(copy_changes_nothing),
        cmocka_unit_test(each_expert_has_its_importance),
        cmocka_unit_test(weights_may_be_left_out),
        cmocka_unit_test(alignment_is_kept),
        cmocka_unit_test(threads_make_the_same_bytes),
        cmocka_unit_test(quantized_weights_can_be_again),
        cmocka_unit_test(a_split_model_becomes_one),
        cmocka_unit_test(a_dry_run_writes_nothing),
        cmocka_unit_test(the_demo_is_as_llama_cpp_makes_it),
    };
    return cmocka_run_group_tests(tests, make_models, NULL);
}
