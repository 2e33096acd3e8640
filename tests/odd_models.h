/* odd_models.h - Llamas of odd shapes for tests of kernels, made by make_model ($GGUFC_TOOLS, or
 * out/tools), and templates that ask of the compiler what no real architecture does. */
#ifndef GGUFC_TESTS_ODD_MODELS_H
#define GGUFC_TESTS_ODD_MODELS_H

#include "compiled_model.h"

typedef struct odd_model {
    const char *name, *shape;    /* shape: flags of make_model */
    const char *template, *text; /* "": the built-in one */
} odd_model;

/* Heads of 4 … 128, rows that no vector divides, rows of one block, primes as row counts. */
static const odd_model odd_models[] = {
    {"embd 20, heads of 4", "--layers 2 --embd 20 --heads 5 --kv-heads 1 --ff 28 --vocab 300 "
     "--ctx 300 --type f32", "", ""},
    {"embd 40, heads of 8", "--layers 1 --embd 40 --heads 5 --kv-heads 5 --ff 172 --vocab 301 "
     "--ctx 300 --type f16", "", ""},
    {"embd 100, heads of 20", "--layers 2 --embd 100 --heads 5 --kv-heads 1 --ff 172 --vocab 307 "
     "--ctx 300 --type bf16 --biases", "", ""},
    {"embd 66, heads of 22", "--layers 1 --embd 66 --heads 3 --kv-heads 3 --ff 97 --vocab 300 "
     "--ctx 300 --type f32 --rope-freqs", "", ""},
    {"embd 288, heads of 48", "--layers 1 --embd 288 --heads 6 --kv-heads 2 --ff 768 --vocab 301 "
     "--ctx 300 --tied", "", ""},
    {"embd 160, heads of 80", "--layers 2 --embd 160 --heads 2 --kv-heads 1 --ff 96 --vocab 300 "
     "--ctx 300", "", ""},
    {"embd 192, heads of 96, mixed", "--layers 2 --embd 192 --heads 2 --kv-heads 1 --ff 224 "
     "--vocab 300 --ctx 300 --mixed --biases --rope-freqs", "", ""},
    {"embd 96, heads of 80", "--layers 2 --embd 96 --heads 4 --kv-heads 2 --head-dim 80 --ff 416 "
     "--vocab 301 --ctx 300 --biases", "", ""},
    {"embd 64, ff 172, mixed", "--layers 3 --embd 64 --heads 8 --kv-heads 4 --ff 172 --vocab 300 "
     "--ctx 300 --mixed --tied", "", ""},
    {"embd 32, heads of 2", "--layers 1 --embd 32 --heads 1 --kv-heads 1 --head-dim 2 --ff 32 "
     "--vocab 300 --ctx 300", "", ""},
    {"embd 256, heads of 20", "--layers 1 --embd 256 --heads 4 --kv-heads 2 --head-dim 20 --ff 64 "
     "--vocab 300 --ctx 300", "", ""},
    {"embd 128, heads of 128", "--layers 1 --embd 128 --heads 3 --kv-heads 3 --head-dim 128 "
     "--ff 1408 --vocab 300 --ctx 300 --rope-base 500000", "", ""},
    /* Rows of chained dots, their ends of 1 and 9 blocks; all logits by tiles, and nothing rounds these. */
    {"embd 1056, ff 1312", "--layers 1 --embd 1056 --heads 8 --kv-heads 2 --ff 1312 --vocab 320 "
     "--ctx 300", "", ""},

/* Norms after, and of heads; rotation of a part of a head, by halves; no rotation before the cache
   of values but after a norm; residuals of two kinds; products of activations. Nothing here can be
   fused as in llama.arch, so that every op stands alone somewhere. */
#define ODD_HEAD "arch llama\nparam n_ctx_train context_length\nparam n_embd embedding_length\n" \
    "param n_layer block_count\nparam n_head attention.head_count\n" \
    "param n_kv attention.head_count_kv\nparam eps attention.layer_norm_rms_epsilon float\n" \
    "let d = n_embd / n_head\n" \
    "tensor embd_w token_embd.weight [n_embd, let n_vocab]\n" \
    "tensor out_w output.weight [n_embd, n_vocab] or embd_w\n" \
    "tensor norm_w output_norm.weight [n_embd]\n" \
    "tensor wq blk.{l}.attn_q.weight [n_embd, n_embd]\n" \
    "tensor first_q blk.0.attn_q.weight [n_embd, n_embd]\n" \
    "tensor bq blk.{l}.attn_q.bias [n_embd] optional\n" \
    "tensor wk blk.{l}.attn_k.weight [n_embd, n_kv * d]\n" \
    "tensor wv blk.{l}.attn_v.weight [n_embd, n_kv * d]\n" \
    "tensor wo blk.{l}.attn_output.weight [n_embd, n_embd]\n" \
    "tensor wn blk.{l}.ffn_norm.weight [n_embd]\n" \
    "embd = get_rows(embd_w, tokens)\nx = embd\n"
    {"every op alone", "--layers 2 --embd 96 --heads 4 --kv-heads 2 --ff 32 --vocab 300 --ctx 300 "
     "--mixed --biases", "alone.arch", ODD_HEAD
     "layers l < n_layer\n"
     "a = rms_norm(x, wn, eps)\n"
     "q0 = rms_norm(matmul(wq, a), eps=eps)\n"
     "q = rope(q0, head_dim=d, dims=d - 6, base=1000.0, scale=0.5, pairing=halves)\n"
     "k0 = rms_norm(matmul(wk, a), eps=eps)\n"
     "k = rope(k0, head_dim=d, dims=d - 6, base=1000.0, scale=0.5, pairing=halves)\n"
     "v = rms_norm(matmul(wv, a), eps=eps)\n"
     "kqv = attention(q, k, v, head_dim=d, scale=0.3)\n"
     "o = rms_norm(matmul(wo, kqv), wn, eps) * kqv\n"
     "s = swiglu(o, a) * wn\n"
     "x = s + x + bq\n"
     "output\nn = rms_norm(x, norm_w, eps)\nresult_output = matmul(out_w, n)\n"},
    {"norms of heads", "--layers 1 --embd 128 --heads 4 --kv-heads 2 --ff 32 --vocab 300 "
     "--ctx 300", "heads.arch", ODD_HEAD
     "layers l < n_layer\n"
     "q = rope(matmul(wq, x), head_dim=d, dims=d, base=1000.0, pairing=halves)\n"
     "qn = rms_norm(q, eps=eps)\n"
     "k = rope(matmul(wk, x), head_dim=d, dims=d, base=1000.0, pairing=adjacent)\n"
     "v = matmul(wv, x)\n"
     "kqv = attention(qn, k, v, head_dim=d, scale=0.2)\n"
     "o = matmul(wo, kqv) * x\n"
     "x = o + x\n"
     "output\nresult_output = matmul(out_w, x)\n"},
    {"a head of several ops", "--layers 1 --embd 64 --heads 4 --kv-heads 2 --ff 32 --vocab 300 "
     "--ctx 300", "head.arch", ODD_HEAD
     "layers l < n_layer\n"
     "kqv = attention(matmul(wq, x), matmul(wk, x), matmul(wv, x), head_dim=d, scale=0.2)\n"
     "x = matmul(wo, kqv) + x\n"
     "output\n"
     "n1 = rms_norm(x, norm_w, eps)\nn2 = rms_norm(n1, norm_w, eps)\n"
     "y1 = n2 + x\ny2 = matmul(first_q, y1) + x\ny3 = y2 + n1\n"
     "result_output = matmul(out_w, y3)\n"},
    {"a residual after a rotation", "--layers 1 --embd 64 --heads 4 --kv-heads 2 --ff 32 "
     "--vocab 300 --ctx 300 --type f32", "turned.arch", ODD_HEAD
     "layers l < n_layer\n"
     "q0 = rope(matmul(wq, x), head_dim=d, dims=d, base=1000.0, pairing=adjacent)\n"
     "q = q0 + x\n"
     "kqv = attention(q, matmul(wk, x), matmul(wv, x), head_dim=d, scale=0.2)\n"
     "x = matmul(wo, kqv) + x\n"
     "output\nresult_output = matmul(out_w, x)\n"},
    /* Units of fewer rows than a tile has. */
    {"embd 60, heads of 12", "--layers 1 --embd 60 --heads 5 --kv-heads 1 --ff 90 --vocab 309 "
     "--ctx 300 --type f16", "", ""},
};

/* Makes the model's files in the test's folder; the path of the GGUF, good until the next call. */
static inline const char *odd_model_make(const odd_model *m, size_t number) {
    static char path[256];
    char        tool[512], words[768], name[32], *argv[48] = {tool}, *rest = words;
    const char *tools = getenv("GGUFC_TOOLS");
    int         n = 1;
    snprintf(name, sizeof name, "odd%zu.gguf", number);
    snprintf(path, sizeof path, "%s", compiled_path(name));
    snprintf(tool, sizeof tool, "%s/make_model", tools && *tools ? tools : "out/tools");
    snprintf(words, sizeof words, "%s -o %s", m->shape, path);
    while (n < 47 && (argv[n] = strtok_r(rest, " ", &rest))) n++;
    argv[n] = NULL;
    if (access(path, R_OK) && compiled_run(argv)) fail_msg("%s failed for \"%s\"", tool, m->shape);
    return path;
}

/* The flag for the model's template, or "". */
static inline const char *odd_model_arch(const odd_model *m) {
    static char flag[300];
    if (!*m->template) return "";
    const char *path = compiled_path(m->template);
    FILE       *f = fopen(path, "w");
    assert_true(f && fputs(m->text, f) >= 0);
    assert_int_equal(fclose(f), 0);
    snprintf(flag, sizeof flag, "--arch=%s", path);
    return flag;
}

#endif
