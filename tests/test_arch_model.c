/* That a model becomes the graph its architecture describes, and that what is wrong with it is
 * refused by its message. The golden graph is rewritten by UPDATE_GOLDEN=1. */
#include "arch_fixture.h"
#include "pass.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define MODEL  "tests/models/storyteller-q8_0.gguf"
#define GOLDEN "tests/golden/llama.graph.txt"

/* ---- refusals */

typedef struct bad_model {
    edit        edits[4];
    const char *message; /* a part of what is said */
} bad_model;

#define KEY(key)        "llama." key
#define DROP(key)       { { .name = key, .kind = EDIT_DROP } }
#define NUMBER(key, x)  { { KEY(key), EDIT_U32, .number = x } }
#define FLOAT(key, x)   { { KEY(key), EDIT_F32, .number = x } }
#define STRING(key, x)  { { KEY(key), EDIT_STRING, .text = x } }

static const bad_model bad_models[] = {
    { { { "general.architecture", EDIT_STRING, .text = "qwen2" } },
      "m.gguf: general.architecture is 'qwen2', and llama.arch describes 'llama'" },
    { DROP("general.architecture"), "m.gguf: key 'general.architecture' is missing" },
    { { { "general.architecture", EDIT_U32, .number = 3 } }, "general.architecture" },

    { DROP("llama.block_count"),
      "m.gguf: key 'llama.block_count' is missing (llama.arch:9:7 needs it)" },
    { DROP("llama.attention.layer_norm_rms_epsilon"),
      "m.gguf: key 'llama.attention.layer_norm_rms_epsilon' is missing" },
    { STRING("block_count", "two"), "llama.block_count" },
    { FLOAT("block_count", 2), "llama.block_count" },
    { { { KEY("block_count"), EDIT_I32, .number = -2 } }, "llama.block_count" },
    { { { KEY("block_count"), EDIT_BOOL, .number = 1 } }, "llama.block_count" },
    { STRING("attention.layer_norm_rms_epsilon", "small"), "layer_norm_rms_epsilon" },
    { { { KEY("rope.scaling.type"), EDIT_U32, .number = 1 } }, "llama.rope.scaling.type" },
    { NUMBER("block_count", 0),
      "m.gguf: key 'llama.block_count' is 0, expected 1 to 2147483647" },
    { NUMBER("block_count", 4e9),
      "m.gguf: key 'llama.block_count' is 4000000000, expected 1 to 2147483647" },
    { NUMBER("block_count", 2e9),
      "llama.arch:77:12: 2000000000 layers, expected 1 to 1024 (model m.gguf)" },
    { NUMBER("block_count", 3), "m.gguf: tensor 'blk.2.attn_norm.weight' is missing" },
    { NUMBER("attention.head_count", 0), "'llama.attention.head_count' is 0, expected 1 to" },
    { FLOAT("rope.freq_base", INFINITY),
      "m.gguf: key 'llama.rope.freq_base' is infinite or no number, expected a finite number" },
    { FLOAT("rope.freq_base", NAN), "is infinite or no number" },

    { { { KEY("attention.head_count_kv"), EDIT_U32S, .numbers = { 2, 1 }, .n = 2 } },
      "m.gguf: key 'llama.attention.head_count_kv' differs from layer to layer (2 at first, 1 in "
      "layer 1): only one number for all is supported" },
    { { { KEY("attention.head_count_kv"), EDIT_U32S, .n = 0 } }, "is an empty array" },
    { { { KEY("attention.head_count_kv"), EDIT_I32S, .numbers = { -1, -1 }, .n = 2 } },
      "is -1, expected 1 to" },
    { { { KEY("attention.head_count_kv"), EDIT_F32S, .numbers = { 2, 2 }, .n = 2 } },
      "is an array of f32, expected an integer" },
    { { { KEY("attention.head_count_kv"), EDIT_STRINGS, .text = "2" } },
      "is an array of string, expected a number" },
    { { { KEY("rope.freq_base"), EDIT_F32S, .numbers = { NAN, NAN }, .n = 2 } },
      "is infinite or no number" },

    { NUMBER("expert_count", 8),
      "m.gguf: mixture of experts is not supported yet (llama.expert_count is 8)" },
    { NUMBER("attention.head_count_kv", 3),
      "m.gguf: attention.head_count (4) is no multiple of attention.head_count_kv (3)" },
    { { { KEY("attention.head_count"), EDIT_U32, .number = 6 } },
      "m.gguf: embedding_length (32) is no multiple of attention.head_count (6)" },
    { NUMBER("attention.value_length", 16),
      "m.gguf: attention.value_length (16) other than the keys' 8 is not supported" },
    { NUMBER("rope.dimension_count", 10), "rope.dimension_count is 10, expected an even number" },
    { NUMBER("rope.dimension_count", 5), "rope.dimension_count is 5, expected an even number" },
    { FLOAT("attention.layer_norm_rms_epsilon", 0), "layer_norm_rms_epsilon is 0.0, expected" },
    { FLOAT("attention.scale", -1), "attention.scale is -1.0, expected a number above 0" },
    { FLOAT("rope.freq_base", 0), "rope.freq_base is 0.0, expected a number above 0" },
    { FLOAT("rope.scaling.factor", -4), "rope.scaling.factor is -4.0, expected" },
    { STRING("rope.scaling.type", "yarn"),
      "m.gguf: rope.scaling.type \"yarn\" is not supported, only \"none\" and \"linear\" are" },
    { STRING("rope.scaling.type", "longrope\n"), "rope.scaling.type \"longrope\\x0a\" is not" },

    { DROP("token_embd.weight"),
      "m.gguf: tensor 'token_embd.weight' is missing, expected [32, any] (llama.arch:" },
    { DROP("blk.1.ffn_up.weight"),
      "m.gguf: tensor 'blk.1.ffn_up.weight' is missing, expected [32, 64] (llama.arch:" },
    { { FIXTURE_TENSOR("blk.0.attn_q.weight", 32, 16, QUANT_Q8_0) },
      "m.gguf: tensor 'blk.0.attn_q.weight' is [32, 16], expected [32, 32] (llama.arch:" },
    { { FIXTURE_TENSOR("token_embd.weight", 64, 100, QUANT_Q8_0) },
      "tensor 'token_embd.weight' is [64, 100], expected [32, any]" },
    { { FIXTURE_TENSOR("output.weight", 32, 101, QUANT_Q8_0) },
      "tensor 'output.weight' is [32, 101], expected [32, 100]" },
    { { FIXTURE_TENSOR("blk.0.attn_norm.weight", 32, 2, QUANT_F32) },
      "tensor 'blk.0.attn_norm.weight' is [32, 2], expected [32]" },
    { { FIXTURE_TENSOR("blk.0.attn_norm.weight", 32, 1, QUANT_F16) },
      "m.gguf: tensor 'blk.0.attn_norm.weight' has type F16, expected F32 (llama.arch:" },
    { { FIXTURE_VECTOR("blk.1.attn_q.bias", 16) },
      "tensor 'blk.1.attn_q.bias' is [16], expected [32]" },
    { { FIXTURE_VECTOR("rope_freqs.weight", 8) },
      "tensor 'rope_freqs.weight' is [8], expected [4]" },
};

static void test_bad_models(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad_models); i++) {
        fixture f;
        fixture_begin(&f);
        gguf_file *model = fixture_model(&f, bad_models[i].edits);
        arch *t = fixture_llama(&f);
        if (!model || !t) fail_msg("model %zu: %s", i, f.said.text);
        const graph *g = arch_build(f.memory, &f.diag, t, model);
        if (g || f.diag.n_errors != 1 || !strstr(f.said.text, bad_models[i].message))
            fail_msg("model %zu: expected %s\nfound %s", i, bad_models[i].message, f.said.text);
        fixture_end(&f);
    }
}

/* ---- graphs */

typedef struct good_model {
    const char *about;
    edit        edits[8];
    const char *lines[8]; /* each stands in the graph; one that begins with '!' does not */
} good_model;

static const good_model good_models[] = {
    { "no changes", { { 0 } },
      { "\nQcur-0: F32 [32, T] = matmul(blk.0.attn_q.weight, attn_norm-0)\n",
        "\nKcur-1.rope: F32 [8, 2, T] = rope(Kcur-1) {head_dim=8, dims=8, base=10000, scale=1, "
        "pairing=adjacent}\n",
        "\nresult_output: F32 [100, T] = matmul(output.weight, result_norm) head\n", "!.matmul" } },
    { "tied embeddings", { { .name = "output.weight", .kind = EDIT_DROP } },
      { "\nresult_output: F32 [100, T] = matmul(token_embd.weight, result_norm) head\n" } },
    { "a bias in one layer makes a term there only", { FIXTURE_VECTOR("blk.1.attn_q.bias", 32) },
      { "\nQcur-0: F32 [32, T] = matmul(blk.0.attn_q.weight, attn_norm-0)\n",
        "\nQcur-1.matmul: F32 [32, T] = matmul(blk.1.attn_q.weight, attn_norm-1)\n",
        "\nQcur-1: F32 [32, T] = add(Qcur-1.matmul, blk.1.attn_q.bias)\n",
        "\nQcur-1.rope: F32 [8, 4, T] = rope(Qcur-1) " } },
    { "biases",
      { FIXTURE_VECTOR("blk.0.attn_k.bias", 16), FIXTURE_VECTOR("blk.0.attn_v.bias", 16),
        FIXTURE_VECTOR("blk.0.attn_output.bias", 32), FIXTURE_VECTOR("blk.0.ffn_gate.bias", 64),
        FIXTURE_VECTOR("blk.0.ffn_up.bias", 64), FIXTURE_VECTOR("blk.0.ffn_down.bias", 32) },
      { "\nKcur-0: F32 [16, T] = add(Kcur-0.matmul, blk.0.attn_k.bias)\n",
        "\nVcur-0: F32 [16, T] = add(Vcur-0.matmul, blk.0.attn_v.bias)\n",
        "\nattn_out-0: F32 [32, T] = add(attn_out-0.matmul, blk.0.attn_output.bias)\n",
        "\nffn_gate-0: F32 [64, T] = add(ffn_gate-0.matmul, blk.0.ffn_gate.bias)\n",
        "\nffn_up-0: F32 [64, T] = add(ffn_up-0.matmul, blk.0.ffn_up.bias)\n",
        "\nffn_out-0: F32 [32, T] = add(ffn_out-0.matmul, blk.0.ffn_down.bias)\n" } },
    { "rotation with factors", { FIXTURE_VECTOR("rope_freqs.weight", 4) },
      { "\nQcur-0.rope: F32 [8, 4, T] = rope(Qcur-0, rope_freqs.weight) {" } },
    { "heads of another size than n_embd / n_head",
      { { KEY("attention.key_length"), EDIT_U32, .number = 16 },
        FIXTURE_TENSOR("blk.0.attn_q.weight", 32, 64, QUANT_Q8_0),
        FIXTURE_TENSOR("blk.1.attn_q.weight", 32, 64, QUANT_Q8_0),
        FIXTURE_TENSOR("blk.0.attn_output.weight", 64, 32, QUANT_Q8_0),
        FIXTURE_TENSOR("blk.1.attn_output.weight", 64, 32, QUANT_Q8_0),
        { KEY("attention.head_count_kv"), EDIT_U32, .number = 1 } },
      { "\nQcur-0.rope: F32 [16, 4, T] = rope(Qcur-0) {head_dim=16, dims=16, ",
        "\nKcur-1.rope: F32 [16, T] = ",
        "\nkqv_out-0: F32 [64, T] = attention(Qcur-0.rope, Kcur-0.rope, Vcur-0) {head_dim=16, "
        "scale=0.25}\n" } },
    { "every head has its own keys",
      { { .name = KEY("attention.head_count_kv"), .kind = EDIT_DROP },
        FIXTURE_TENSOR("blk.0.attn_k.weight", 32, 32, QUANT_F16),
        FIXTURE_TENSOR("blk.1.attn_k.weight", 32, 32, QUANT_F16),
        FIXTURE_TENSOR("blk.0.attn_v.weight", 32, 32, QUANT_F32),
        FIXTURE_TENSOR("blk.1.attn_v.weight", 32, 32, QUANT_F32) },
      { "\nKcur-0.rope: F32 [8, 4, T] = " } },
    { "an array of equal numbers",
      { { KEY("attention.head_count_kv"), EDIT_I32S, .numbers = { 2, 2 }, .n = 2 },
        { KEY("rope.freq_base"), EDIT_F32S, .numbers = { 5e5, 5e5 }, .n = 2 } },
      { "\nKcur-0.rope: F32 [8, 2, T] = rope(Kcur-0) {head_dim=8, dims=8, base=500000, " } },
    { "linear scaling is the default",
      { { KEY("rope.scaling.factor"), EDIT_F32, .number = 4 },
        { KEY("rope.scale_linear"), EDIT_F32, .number = 8 } },
      { "\nQcur-0.rope: F32 [8, 4, T] = rope(Qcur-0) {head_dim=8, dims=8, base=10000, "
        "scale=0.25, pairing=adjacent}\n" } },
    { "the older key", { { KEY("rope.scale_linear"), EDIT_F32, .number = 8 } },
      { "scale=0.125, pairing" } },
    { "no scaling",
      { { KEY("rope.scaling.factor"), EDIT_F32, .number = 4 },
        { KEY("rope.scaling.type"), EDIT_STRING, .text = "none" } },
      { "scale=1, pairing", "!scale=0.25, " } },
    { "a part of the head is rotated", { { KEY("rope.dimension_count"), EDIT_U32, .number = 4 } },
      { "rope(Kcur-1) {head_dim=8, dims=4, " } },
    { "integers and floats of other widths",
      { { KEY("block_count"), EDIT_I32, .number = 2 },
        { KEY("rope.freq_base"), EDIT_U32, .number = 100 },
        { KEY("expert_count"), EDIT_I32, .number = 0 } },
      { "base=100, " } },
    { "a trailing dimension of 1",
      { FIXTURE_TENSOR("output_norm.weight", 32, 1, QUANT_F32) },
      { "\nresult_norm: F32 [32, T] = rms_norm(l_out-1, output_norm.weight) {eps=1e-05} head\n" } },
};

static void check_lines(const good_model *m, const char *text) {
    for (size_t i = 0; i < ARRAY_LEN(m->lines) && m->lines[i]; i++) {
        bool wanted = m->lines[i][0] != '!';
        if (wanted != (strstr(text, m->lines[i] + !wanted) != NULL))
            fail_msg("%s: %s\nin the graph\n%s", m->about, m->lines[i], text);
    }
}

static void test_good_models(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good_models); i++) {
        fixture f;
        fixture_begin(&f);
        gguf_file *model = fixture_model(&f, good_models[i].edits);
        arch *t = fixture_llama(&f);
        const graph *g = model && t ? arch_build(f.memory, &f.diag, t, model) : NULL;
        if (!g || f.said.size) fail_msg("%s: %s", good_models[i].about, f.said.text);
        pass_check(g, STAGE_ARCH);
        char *text = fixture_print(g);
        check_lines(&good_models[i], text);
        free(text);
        fixture_end(&f);
    }
}

static void test_facts(void **state) {
    (void)state;
    fixture f;
    fixture_begin(&f);
    const graph *g = arch_build(f.memory, &f.diag, fixture_llama(&f), fixture_model(&f, NULL));
    assert_non_null(g);
    assert_string_equal(g->arch, "llama");
    assert_int_equal(g->n_vocab, 100);
    assert_int_equal(g->n_embd, 32);
    assert_int_equal(g->n_layer, 2);
    assert_int_equal(g->n_ctx_train, 128);
    assert_string_equal(g->head_input->name, "l_out-1");
    assert_string_equal(g->output->name, "result_output");
    for (uint32_t i = 0; i < g->n_ops; i++) {
        const op *o = g->ops[i];
        const char *number = strchr(o->name, '-');
        assert_int_equal(o->layer, number ? atoi(number + 1) : -1);
        assert_int_equal(o->head, !strncmp(o->name, "result_", 7));
        assert_string_equal(o->name, o->out->name);
    }
    fixture_end(&f);
}

static void test_unused_tensors(void **state) {
    (void)state;
    const edit edits[] = { FIXTURE_VECTOR("a", 1), FIXTURE_VECTOR("blk.0.attn_rot_embd", 4),
                           FIXTURE_VECTOR("blk.2.x", 1), FIXTURE_VECTOR("b", 1), { 0 } };
    fixture f;
    fixture_begin(&f);
    assert_non_null(arch_build(f.memory, &f.diag, fixture_llama(&f), fixture_model(&f, edits)));
    assert_string_equal(f.said.text,
                        "warning: m.gguf: 4 tensors are not used by architecture 'llama': 'a', "
                        "'blk.0.attn_rot_embd', 'blk.2.x', …\n");
    fixture_end(&f);
}

/* ---- the golden graph */

static char *read_text(const char *path) {
    FILE *stream = fopen(path, "rb");
    if (!stream) fail_msg("%s cannot be read", path);
    char *text = calloc(1, 1 << 16);
    assert_true(fread(text, 1, (1 << 16) - 1, stream) > 0);
    fclose(stream);
    return text;
}

static void write_text(const char *path, const char *text) {
    FILE *stream = fopen(path, "wb");
    if (!stream) fail_msg("%s cannot be written", path);
    fputs(text, stream);
    fclose(stream);
}

static void test_golden_graph(void **state) {
    (void)state;
    fixture f;
    fixture_begin(&f);
    gguf_file *model = gguf_open(f.memory, &f.diag, MODEL);
    assert_non_null(model);
    const graph *g = arch_build(f.memory, &f.diag, fixture_llama(&f), model);
    assert_string_equal(f.said.text, "");
    char *text = fixture_print(g);
    if (getenv("UPDATE_GOLDEN")) write_text(GOLDEN, text);
    char *golden = read_text(GOLDEN);
    assert_string_equal(text, golden);
    free(golden);
    free(text);
    gguf_close(model);
    fixture_end(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_models),     cmocka_unit_test(test_good_models),
        cmocka_unit_test(test_facts),          cmocka_unit_test(test_unused_tensors),
        cmocka_unit_test(test_golden_graph),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
