/* make_model, driven as a user does, and its conversions, value by value.
 *
 * The files are opened with the compiler's own reader; what should be in them is written down here
 * again, as tables, rather than taken from the tool. The tool is $GGUFC_TOOLS/make_model, or
 * out/tools/make_model. */
#include "diag.h"
#include "gguf.h"
#include "tools/make_model_values.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/test_make_model.XXXXXX";
static char tool[4096];
static char told[2][16384]; /* standard output and error of the last run */

/* ---- running the tool */

static const char *in_folder(const char *name) {
    static char paths[4][512];
    static int  turn;
    char       *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

/* Starts the tool with the words of `line`; its output goes to the files "1" and "2". */
static pid_t start_tool(const char *line, rlim_t most_bytes) {
    char  words[512];
    char *args[32] = {tool}, *rest = words;
    int   n = 1;
    snprintf(words, sizeof words, "%s", line);
    while (n < 31 && (args[n] = strtok_r(rest, " ", &rest)))
        n++;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child)
        return child;
    signal(SIGINT, SIG_DFL); /* shells ignore it in what they run in the background */
    for (int fd = 1; fd <= 2; fd++)
        if (dup2(open(in_folder(fd == 1 ? "1" : "2"), O_WRONLY | O_CREAT | O_TRUNC, 0600), fd) < 0)
            _exit(99);
    if (chdir(folder) || setrlimit(RLIMIT_FSIZE, &(struct rlimit){most_bytes, most_bytes}))
        _exit(99);
    execv(tool, args);
    _exit(99);
}

static void read_told(void) {
    for (int i = 0; i < 2; i++) {
        FILE *f = fopen(in_folder(i ? "2" : "1"), "rb");
        assert_non_null(f);
        told[i][fread(told[i], 1, sizeof told[i] - 1, f)] = 0;
        fclose(f);
    }
}

static int run_tool_limited(const char *line, rlim_t most_bytes) {
    int   status;
    pid_t child = start_tool(line, most_bytes);
    assert_int_equal(waitpid(child, &status, 0), child);
    read_told();
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int run_tool(const char *line) {
    return run_tool_limited(line, RLIM_INFINITY);
}

static void make(const char *line) {
    if (run_tool(line))
        fail_msg("make_model %s: %s", line, told[1]);
}

static void assert_one_line(const char *text) {
    const char *end = strchr(text, '\n');
    assert_int_equal(strncmp(text, "make_model: ", 12), 0);
    assert_true(end && !end[1]);
}

/* Files in the folder whose names begin with `start`. */
static int count_files(const char *start) {
    int  n = 0;
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        n += !strncmp(e->d_name, start, strlen(start));
    closedir(d);
    return n;
}

/* ---- reading what it made */

static arena *memory;

static gguf_file *open_made(const char *name) {
    diag       d = {0};
    gguf_file *f = gguf_open(memory, &d, in_folder(name));
    assert_non_null(f);
    return f;
}

static const gguf_tensor *get_tensor(const gguf_file *f, const char *name) {
    const gguf_tensor *t = gguf_find_tensor(f, name);
    if (!t)
        fail_msg("%s: no %s", f->path, name);
    return t;
}

static uint64_t get_u64(const gguf_file *f, const char *key) {
    diag     d = {0};
    uint64_t n = 0;
    if (gguf_get_u64(f, &d, key, &n) != GGUF_PRESENT)
        fail_msg("%s: no %s", f->path, key);
    return n;
}

static double decode_f16(uint16_t h) {
    int    exponent = (h >> 10) & 31, fraction = h & 1023;
    double size = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
    return h & 0x8000 ? -size : size;
}

static float decode_bf16(uint16_t h) {
    uint32_t bits = (uint32_t)h << 16;
    float    f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Value `i`, and in *step how far it may be from what was stored. */
static double decode_value(const gguf_file *f, const gguf_tensor *t, uint64_t i, double *step) {
    const uint8_t *data = f->data + t->offset;
    uint16_t       half;
    float          single;
    switch (t->type) {
    case QUANT_F16:
        memcpy(&half, data + 2 * i, 2);
        *step = fabs(decode_f16(half)) / 2048 + 0x1p-25;
        return decode_f16(half);
    case QUANT_BF16:
        memcpy(&half, data + 2 * i, 2);
        *step = fabs((double)decode_bf16(half)) / 256;
        return (double)decode_bf16(half);
    case QUANT_Q8_0:
        data += i / 32 * 34;
        memcpy(&half, data, 2);
        *step = decode_f16(half) * (0.5 + 127.0 / 2048 + 1e-4);
        return decode_f16(half) * (int8_t)data[2 + i % 32];
    default:
        memcpy(&single, data + 4 * i, 4);
        *step = 0;
        return (double)single;
    }
}

static uint64_t count_values(const gguf_tensor *t) {
    return t->dims[0] * t->dims[1];
}

/* ---- tiny, in every type */

enum { ANY_MATRIX = -1, ALWAYS_F32 = QUANT_F32 };

static const struct part {
    const char *name;
    uint64_t    columns, rows;
    int         type;
    bool        in_layer;
} tiny_parts[] = {
    {"token_embd.weight", 96, 387, ANY_MATRIX, false},
    {"output_norm.weight", 96, 1, ALWAYS_F32, false},
    {"output.weight", 96, 387, ANY_MATRIX, false},
    {"attn_norm.weight", 96, 1, ALWAYS_F32, true},
    {"attn_q.weight", 96, 96, ANY_MATRIX, true},
    {"attn_k.weight", 96, 32, ANY_MATRIX, true},
    {"attn_v.weight", 96, 32, ANY_MATRIX, true},
    {"attn_output.weight", 96, 96, ANY_MATRIX, true},
    {"ffn_norm.weight", 96, 1, ALWAYS_F32, true},
    {"ffn_gate.weight", 96, 160, ANY_MATRIX, true},
    {"ffn_up.weight", 96, 160, ANY_MATRIX, true},
    {"ffn_down.weight", 160, 96, ANY_MATRIX, true},
};
#define TINY_LAYERS 3

static void check_part(const gguf_file *f, const char *name, const struct part *p, int type) {
    const gguf_tensor *t = get_tensor(f, name);
    assert_int_equal(t->dims[0], p->columns);
    assert_int_equal(t->dims[1], p->rows);
    assert_int_equal(t->n_dims, p->rows > 1 ? 2 : 1);
    if (p->type != ANY_MATRIX)
        assert_int_equal(t->type, p->type);
    else if (type != ANY_MATRIX)
        assert_int_equal(t->type, type);
}

static void check_tiny(const gguf_file *f, int type) {
    uint64_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(tiny_parts); i++)
        for (int l = 0; l < (tiny_parts[i].in_layer ? TINY_LAYERS : 1); l++, n++) {
            char name[64];
            if (tiny_parts[i].in_layer)
                snprintf(name, sizeof name, "blk.%d.%s", l, tiny_parts[i].name);
            else
                snprintf(name, sizeof name, "%s", tiny_parts[i].name);
            check_part(f, name, &tiny_parts[i], type);
        }
    assert_int_equal(f->n_tensors, n);
    assert_int_equal(get_u64(f, "llama.block_count"), TINY_LAYERS);
    assert_int_equal(get_u64(f, "llama.embedding_length"), 96);
    assert_int_equal(get_u64(f, "llama.attention.head_count"), 6);
    assert_int_equal(get_u64(f, "llama.attention.head_count_kv"), 2);
    assert_int_equal(get_u64(f, "llama.feed_forward_length"), 160);
    assert_int_equal(get_u64(f, "llama.rope.dimension_count"), 16);
    assert_int_equal(get_u64(f, "llama.vocab_size"), 387);
    assert_int_equal(get_u64(f, "llama.context_length"), 128);
    assert_null(gguf_find_kv(f, "llama.attention.key_length"));
}

/* Every value is the F32 file's, as near as its type can tell. */
static void check_same_model(const gguf_file *exact, const gguf_file *f) {
    for (uint64_t i = 0; i < exact->n_tensors; i++) {
        const gguf_tensor *a = &exact->tensors[i], *b = &f->tensors[i];
        assert_int_equal(a->name.size, b->name.size);
        assert_memory_equal(a->name.data, b->name.data, a->name.size);
        for (uint64_t k = 0; k < count_values(a); k++) {
            double step, none;
            double found = decode_value(f, b, k, &step), meant = decode_value(exact, a, k, &none);
            if (!(fabs(found - meant) <= step))
                fail_msg("%.*s[%llu]: %g, not %g", (int)a->name.size, a->name.data,
                         (unsigned long long)k, found, meant);
        }
    }
}

static void test_tiny_in_every_type(void **state) {
    static const struct {
        const char *args;
        int         type;
    } cases[] = {
        {"tiny --type f16 -o tiny.gguf", QUANT_F16},
        {"tiny --type bf16 -o tiny.gguf", QUANT_BF16},
        {"tiny --type q8_0 -o tiny.gguf", QUANT_Q8_0},
        {"tiny -o tiny.gguf", QUANT_Q8_0},
        {"tiny --mixed -o tiny.gguf", ANY_MATRIX},
        {"tiny --type f32 -o tiny.gguf", QUANT_F32},
    };
    (void)state;
    make("tiny --type f32 -o exact.gguf");
    gguf_file *exact = open_made("exact.gguf");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        make(cases[i].args);
        gguf_file *f = open_made("tiny.gguf");
        check_tiny(f, cases[i].type);
        check_same_model(exact, f);
        gguf_close(f);
    }
    gguf_close(exact);
}

static void test_mixed_uses_every_type(void **state) {
    bool seen[QUANT_COUNT] = {0};
    (void)state;
    make("tiny --mixed -o mixed.gguf");
    gguf_file *f = open_made("mixed.gguf");
    for (uint64_t i = 0; i < f->n_tensors; i++)
        if (f->tensors[i].n_dims == 2)
            seen[f->tensors[i].type] = true;
    assert_true(seen[QUANT_F32] && seen[QUANT_F16] && seen[QUANT_BF16] && seen[QUANT_Q8_0]);
    gguf_close(f);
}

static bool same_files(const char *a, const char *b) {
    gguf_file *fa = open_made(a), *fb = open_made(b);
    bool       same = fa->size == fb->size && !memcmp(fa->data, fb->data, fa->size);
    gguf_close(fa);
    gguf_close(fb);
    return same;
}

static void test_seed_decides_every_byte(void **state) {
    (void)state;
    make("tiny --mixed --biases --seed 7 -o a.gguf");
    make("tiny --mixed --biases --seed 7 -o b.gguf");
    make("tiny --mixed --biases --seed 8 -o c.gguf");
    assert_true(same_files("a.gguf", "b.gguf"));
    assert_false(same_files("a.gguf", "c.gguf"));
}

/* ---- types that only quantizers write */

#define TYPED "--layers 1 --embd 256 --heads 4 --kv-heads 2 --ff 352 --vocab 100 --ctx 64 --biases "

/* 352 is 11 × 32: what becomes of a matrix of so many columns that a type has no blocks for. */
static uint32_t of_352_columns(uint32_t type) {
    static const struct {
        uint32_t type, instead;
    } rules[] = {
        {QUANT_Q2_K, QUANT_Q4_0},      {QUANT_Q3_K, QUANT_Q4_0},     {QUANT_Q4_K, QUANT_Q5_0},
        {QUANT_Q5_K, QUANT_Q5_1},      {QUANT_Q6_K, QUANT_Q8_0},     {QUANT_TQ1_0, QUANT_Q4_0},
        {QUANT_TQ2_0, QUANT_Q4_0},     {QUANT_Q2_0, QUANT_Q4_0},     {QUANT_IQ1_S, QUANT_IQ4_NL},
        {QUANT_IQ1_M, QUANT_IQ4_NL},   {QUANT_IQ2_S, QUANT_IQ4_NL},  {QUANT_IQ2_XS, QUANT_IQ4_NL},
        {QUANT_IQ2_XXS, QUANT_IQ4_NL}, {QUANT_IQ3_S, QUANT_IQ4_NL},  {QUANT_IQ3_XXS, QUANT_IQ4_NL},
        {QUANT_IQ4_XS, QUANT_IQ4_NL},  {QUANT_NVFP4, QUANT_F16},     {QUANT_Q1_0, QUANT_F16},
        {QUANT_Q8_K, QUANT_F16},
    };
    for (size_t i = 0; i < ARRAY_LEN(rules); i++)
        if (rules[i].type == type)
            return rules[i].instead;
    return type;
}

/* Without bias and about as large as in F32. */
static void check_blocks(const gguf_file *f, const char *name, double std) {
    const gguf_tensor *t = get_tensor(f, name);
    uint64_t           n = count_values(t);
    float             *values = malloc(n * sizeof *values);
    double             sum = 0, squares = 0;
    assert_non_null(values);
    quant_read(t->type, f->data + t->offset, n, NULL, values);
    for (uint64_t i = 0; i < n; i++) {
        sum += (double)values[i];
        squares += (double)values[i] * (double)values[i];
    }
    free(values);
    double mean = sum / (double)n / std, size = sqrt(squares / (double)n) / std;
    bool   whole = t->type >= QUANT_I8 && t->type <= QUANT_I64; /* -1 … 2 */
    if (!whole && !(fabs(mean) < 0.1 && size > 0.7 && size < 1.5))
        fail_msg("%s, %s: mean %g, size %g of what it should be", quant_find(t->type)->name, name, mean,
                 size);
}

static void test_every_type(void **state) {
    (void)state;
    for (uint32_t type = 0; type < QUANT_COUNT; type++) {
        char line[256];
        if (!quant_find(type))
            continue;
        snprintf(line, sizeof line, TYPED "--type %s -o t.gguf", quant_find(type)->name);
        make(line);
        gguf_file *f = open_made("t.gguf");
        for (uint64_t i = 0; i < f->n_tensors; i++) {
            const gguf_tensor *t = &f->tensors[i];
            uint32_t expected = t->n_dims < 2 ? QUANT_F32 : t->dims[0] == 352 ? of_352_columns(type) : type;
            if (t->type != expected)
                fail_msg("%s: %.*s is %s, not %s", line, (int)t->name.size, t->name.data,
                         quant_find(t->type)->name, quant_find(expected)->name);
        }
        check_blocks(f, "token_embd.weight", 1);
        check_blocks(f, "blk.0.ffn_up.weight", 1 / sqrt(256));
        check_blocks(f, "blk.0.ffn_down.weight", 1 / sqrt(352) / sqrt(2));
        gguf_close(f);
    }
}

/* Blocks differ from one another, and files by their seed alone. */
static void test_blocks_by_seed(void **state) {
    (void)state;
    make(TYPED "--type iq3_xxs --seed 7 -o a.gguf");
    make(TYPED "--type IQ3_XXS --seed 7 -o b.gguf");
    make(TYPED "--type iq3_xxs --seed 8 -o c.gguf");
    assert_true(same_files("a.gguf", "b.gguf"));
    assert_false(same_files("a.gguf", "c.gguf"));
    gguf_file         *f = open_made("a.gguf");
    const gguf_tensor *t = get_tensor(f, "token_embd.weight");
    for (uint64_t i = 0; i < 100; i++)
        for (uint64_t k = 0; k < i; k++)
            assert_memory_not_equal(f->data + t->offset + i * 98, f->data + t->offset + k * 98, 98);
    gguf_close(f);
}

/* ---- values */

static void check_moments(const gguf_file *f, const char *name, double mean, double std) {
    const gguf_tensor *t = get_tensor(f, name);
    double             n = (double)count_values(t), sum = 0, squares = 0, step;
    for (uint64_t i = 0; i < count_values(t); i++) {
        double v = decode_value(f, t, i, &step) - mean;
        sum += v;
        squares += v * v;
    }
    double spread = sqrt(squares / n), error = 5 / sqrt(n); /* five standard errors */
    if (fabs(sum / n) > std * error || fabs(spread / std - 1) > error)
        fail_msg("%s: mean %g, deviation %g, not %g, %g", name, sum / n + mean, spread, mean, std);
}

static void test_weights_are_scaled(void **state) {
    (void)state;
    make("tiny --type f32 -o f.gguf");
    gguf_file *f = open_made("f.gguf");
    check_moments(f, "token_embd.weight", 0, 1);
    check_moments(f, "output.weight", 0, 1 / sqrt(96));
    check_moments(f, "blk.0.attn_norm.weight", 1, 0.1);
    check_moments(f, "blk.1.attn_q.weight", 0, 1 / sqrt(96));
    check_moments(f, "blk.1.attn_output.weight", 0, 1 / sqrt(96) / sqrt(2 * TINY_LAYERS));
    check_moments(f, "blk.2.ffn_down.weight", 0, 1 / sqrt(160) / sqrt(2 * TINY_LAYERS));
    gguf_close(f);
}

/* ---- other shapes */

static void test_row_that_is_no_whole_blocks_is_f16(void **state) {
    (void)state;
    make("stories-260k -o s.gguf");
    gguf_file *f = open_made("s.gguf");
    assert_int_equal(get_tensor(f, "blk.4.ffn_down.weight")->dims[0], 172);
    assert_int_equal(get_tensor(f, "blk.4.ffn_down.weight")->type, QUANT_F16);
    assert_int_equal(get_tensor(f, "blk.4.ffn_up.weight")->type, QUANT_Q8_0);
    assert_null(gguf_find_tensor(f, "output.weight")); /* tied */
    gguf_close(f);
}

static void test_options_change_the_shape(void **state) {
    static const struct part biases[] = {
        {"blk.1.attn_q.bias", 120, 1, ALWAYS_F32, true},
        {"blk.1.attn_k.bias", 40, 1, ALWAYS_F32, true},
        {"blk.1.attn_v.bias", 40, 1, ALWAYS_F32, true},
        {"blk.1.attn_output.bias", 96, 1, ALWAYS_F32, true},
        {"blk.1.ffn_gate.bias", 160, 1, ALWAYS_F32, true},
        {"blk.1.ffn_up.bias", 160, 1, ALWAYS_F32, true},
        {"blk.1.ffn_down.bias", 96, 1, ALWAYS_F32, true},
        {"blk.1.attn_output.weight", 120, 96, QUANT_F16, true}, /* 120: no whole blocks */
        {"rope_freqs.weight", 10, 1, ALWAYS_F32, false},
    };
    (void)state;
    make("tiny --layers 2 --tied --biases --rope-freqs --head-dim 20 --rope-base 5e5 -o o.gguf");
    gguf_file *f = open_made("o.gguf");
    for (size_t i = 0; i < ARRAY_LEN(biases); i++)
        check_part(f, biases[i].name, &biases[i], ANY_MATRIX);
    assert_null(gguf_find_tensor(f, "output.weight"));
    assert_null(gguf_find_tensor(f, "blk.2.attn_q.weight"));
    assert_int_equal(get_u64(f, "llama.attention.key_length"), 20);
    assert_int_equal(get_u64(f, "llama.attention.value_length"), 20);
    assert_int_equal(get_u64(f, "llama.rope.dimension_count"), 20);

    diag   d = {0};
    double base = 0, step;
    assert_int_equal(gguf_get_number(f, &d, "llama.rope.freq_base", &base), GGUF_PRESENT);
    assert_true(base == 5e5);
    const gguf_tensor *factors = get_tensor(f, "rope_freqs.weight");
    assert_true(decode_value(f, factors, 0, &step) == 1); /* fast */
    assert_true(decode_value(f, factors, 9, &step) == 32); /* slow */
    gguf_close(f);
}

static void test_dimensions_without_a_shape(void **state) {
    (void)state;
    make("--layers 1 --embd 10 --heads 5 --kv-heads 1 --ff 3 --vocab 3 --ctx 1 -o d.gguf");
    gguf_file *f = open_made("d.gguf");
    assert_int_equal(f->n_tensors, 12);
    assert_int_equal(get_tensor(f, "blk.0.attn_k.weight")->dims[1], 2);
    assert_int_equal(get_tensor(f, "output.weight")->dims[1], 3);
    gguf_close(f);
}

/* ---- vocabulary */

static int compare_texts(const void *a, const void *b) {
    const gguf_string *x = a, *y = b;
    uint64_t           least = x->size < y->size ? x->size : y->size;
    int                order = memcmp(x->data, y->data, least);
    return order ? order : (x->size > y->size) - (x->size < y->size);
}

static void check_vocabulary(const gguf_file *f, uint64_t count) {
    diag       d = {0};
    gguf_array tokens, scores, kinds;
    assert_int_equal(gguf_get_array(f, &d, "tokenizer.ggml.tokens", GGUF_STRING, &tokens),
                     GGUF_PRESENT);
    assert_int_equal(gguf_get_array(f, &d, "tokenizer.ggml.scores", GGUF_F32, &scores),
                     GGUF_PRESENT);
    assert_int_equal(gguf_get_array(f, &d, "tokenizer.ggml.token_type", GGUF_I32, &kinds),
                     GGUF_PRESENT);
    assert_int_equal(tokens.count, count);
    assert_int_equal(scores.count, count);
    assert_int_equal(kinds.count, count);

    gguf_string   *texts = ARENA_ARRAY(memory, gguf_string, count);
    const uint8_t *cursor = tokens.data;
    for (uint64_t i = 0; i < count; i++) {
        uint32_t kind = i == 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1;
        texts[i] = gguf_string_next(&cursor);
        assert_true(texts[i].size > 0);
        assert_int_equal(gguf_array_u32(&kinds, i), kind);
        if (i > 0)
            assert_true(gguf_array_f32(&scores, i) <= gguf_array_f32(&scores, i - 1));
        if (i > 259)
            assert_true(gguf_array_f32(&scores, i) < gguf_array_f32(&scores, i - 1));
    }
    if (count > 69)
        assert_memory_equal(texts[3 + 'A'].data, "<0x41>", 6);
    qsort(texts, count, sizeof *texts, compare_texts);
    for (uint64_t i = 1; i < count; i++)
        assert_true(compare_texts(&texts[i - 1], &texts[i]) < 0);
}

static void test_vocabulary_of_any_size(void **state) {
    static const unsigned sizes[] = {3, 100, 259, 260, 300, 354, 355, 1000, 40000};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        char args[64];
        snprintf(args, sizeof args, "tiny --vocab %u -o v.gguf", sizes[i]);
        make(args);
        gguf_file *f = open_made("v.gguf");
        check_vocabulary(f, sizes[i]);
        assert_int_equal(get_tensor(f, "token_embd.weight")->dims[1], sizes[i]);
        gguf_close(f);
    }
}

/* The parts have the tensors of the whole, in order, each in its place. */
static void test_split_has_all_in_parts(void **state) {
    static const uint64_t counts[] = {11, 11, 8};
    (void)state;
    make("tiny --mixed -o whole.gguf");
    make("tiny --mixed --split 11 -o parts.gguf");
    gguf_file *whole = open_made("whole.gguf"), *parts = open_made("parts-00001-of-00003.gguf");
    assert_int_equal(count_files("parts"), 3);
    assert_int_equal(parts->n_parts, 3);
    assert_int_equal(parts->n_tensors, whole->n_tensors);
    for (uint64_t i = 0; i < whole->n_tensors; i++) {
        const gguf_tensor *a = &whole->tensors[i], *b = &parts->tensors[i];
        assert_memory_equal(a->name.data, b->name.data, a->name.size);
        assert_true(a->name.size == b->name.size && a->type == b->type && a->bytes == b->bytes);
        assert_memory_equal(whole->data + a->offset, parts->data + b->offset, a->bytes);
        const gguf_part *in = gguf_find_part(parts, b->offset);
        assert_true(in == &parts->parts[i / 11]);
    }
    for (uint32_t i = 0, at = 0; i < 3; at += (uint32_t)counts[i++])
        assert_ptr_equal(gguf_find_part(parts, parts->tensors[at].offset), &parts->parts[i]);
    assert_int_equal(get_u64(parts, "split.count"), 3);
    assert_int_equal(get_u64(parts, "split.tensors.count"), whole->n_tensors);
    gguf_close(whole);
    gguf_close(parts);
    assert_int_equal(run_tool_limited("tiny --split 1 --vocab 260 --ff 3200 -o half.gguf", 100000), 1);
    assert_one_line(told[1]);
    assert_int_equal(count_files("half"), 0); /* the first was written */
}

/* ---- conversions */

/* Between each f16 and the next: the midpoint goes to the even one, all else to the nearer. */
static void test_f16_rounds_to_nearest_even(void **state) {
    (void)state;
    for (uint16_t h = 0; h < 0x7bff; h++) {
        float here = (float)decode_f16(h), next = (float)decode_f16(h + 1);
        float middle = here + (next - here) / 2;
        assert_int_equal(value_to_f16(here), h);
        assert_int_equal(value_to_f16(-here), h | 0x8000);
        assert_int_equal(value_to_f16(middle), h + (h & 1));
        assert_int_equal(value_to_f16(nextafterf(middle, 0)), h);
        assert_int_equal(value_to_f16(nextafterf(middle, next)), h + 1);
    }
    assert_int_equal(value_to_f16(65504), 0x7bff);
    assert_int_equal(value_to_f16(nextafterf(65520, 0)), 0x7bff);
    assert_int_equal(value_to_f16(65520), 0x7c00);
    assert_int_equal(value_to_f16(-1e30f), 0xfc00);
    assert_int_equal(value_to_f16(INFINITY), 0x7c00);
    assert_int_equal(value_to_f16(NAN) & 0x7fff, 0x7e00);
}

static void test_bf16_rounds_to_nearest_even(void **state) {
    (void)state;
    for (uint16_t h = 0; h < 0x7f7f; h++) {
        float here = decode_bf16(h), next = decode_bf16(h + 1);
        float middle = here + (next - here) / 2;
        assert_int_equal(value_to_bf16(here), h);
        assert_int_equal(value_to_bf16(-here), h | 0x8000);
        assert_int_equal(value_to_bf16(middle), h + (h & 1));
        assert_int_equal(value_to_bf16(nextafterf(middle, 0)), h);
        assert_int_equal(value_to_bf16(nextafterf(middle, next)), h + 1);
    }
    assert_int_equal(value_to_bf16(INFINITY), 0x7f80);
    assert_true(isnan(decode_bf16(value_to_bf16(NAN))));
}

static void test_q8_0_is_the_reference(void **state) {
    float   in[Q8_0_LEN] = {0};
    uint8_t out[Q8_0_BYTES], zeros[Q8_0_BYTES] = {0};
    (void)state;
    value_to_q8_0(out, in);
    assert_memory_equal(out, zeros, sizeof out);

    in[3] = -127; /* the scale is 1: quants are the rounded values, halves away from zero */
    in[4] = 2.5f;
    in[5] = -2.5f;
    in[6] = nextafterf(0.5f, 0);
    in[31] = 126.5f;
    value_to_q8_0(out, in);
    assert_int_equal(out[0] | out[1] << 8, 0x3c00);
    assert_int_equal((int8_t)out[2 + 3], -127);
    assert_int_equal((int8_t)out[2 + 4], 3);
    assert_int_equal((int8_t)out[2 + 5], -3);
    assert_int_equal((int8_t)out[2 + 6], 0);
    assert_int_equal((int8_t)out[2 + 31], 127);
}

/* ---- refusals */

static void test_wrong_usage_is_one_line(void **state) {
    static const struct {
        const char *args, *told;
    } cases[] = {
        {"", "name a shape"},
        {"-o u.gguf", "name a shape"},
        {"tiny", "-o OUT.gguf is missing"},
        {"tiny -o", "-o needs a value"},
        {"huge -o u.gguf", "\"huge\""},
        {"tiny tiny -o u.gguf", "name one shape"},
        {"--layers 2 tiny -o u.gguf", "before the flags"},
        {"tiny --frobnicate -o u.gguf", "\"--frobnicate\""},
        {"tiny --type q4_9 -o u.gguf", "\"q4_9\""},
        {"tiny --layers 0 -o u.gguf", "--layers"},
        {"tiny --layers 2x -o u.gguf", "\"2x\""},
        {"tiny --layers -2 -o u.gguf", "\"-2\""},
        {"tiny --vocab 99999999999999999999 -o u.gguf", "--vocab"},
        {"tiny --heads 5 -o u.gguf", "no multiple of 2"},
        {"tiny --embd 97 -o u.gguf", "--head-dim"},
        {"tiny --head-dim 15 -o u.gguf", "even"},
        {"tiny --seed x -o u.gguf", "--seed"},
        {"tiny --split 0 -o u.gguf", "--split"},
        {"tiny --split -o u.gguf", "--split"},
        {"tiny --rope-base 0 -o u.gguf", "--rope-base"},
        {"tiny --rope-base nan -o u.gguf", "--rope-base"},
        {"--layers 2 --embd 64 -o u.gguf", "--heads is missing"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(run_tool(cases[i].args), 2);
        assert_one_line(told[1]);
        assert_string_equal(told[0], "");
        if (!strstr(told[1], cases[i].told))
            fail_msg("make_model %s: \"%s\" is not in: %s", cases[i].args, cases[i].told, told[1]);
    }
    assert_int_equal(count_files("u.gguf"), 0);
}

static void test_help_lists_the_shapes(void **state) {
    static const char *const names[] = {"tiny ",           "stories-260k ", "stories-15m ",
                                        "tinyllama-1.1b ", "llama3.2-1b ",  "llama3-8b "};
    (void)state;
    assert_int_equal(run_tool("--help"), 0);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        assert_non_null(strstr(told[0], names[i]));
    assert_string_equal(told[1], "");
}

static void test_what_cannot_be_written_leaves_nothing(void **state) {
    (void)state;
    assert_int_equal(run_tool("tiny -o nowhere/n.gguf"), 1);
    assert_one_line(told[1]);
    assert_non_null(strstr(told[1], "nowhere/n.gguf: No such file"));
    assert_int_equal(run_tool_limited("tiny -o n.gguf", 100000), 1); /* as a full disk does */
    assert_one_line(told[1]);
    assert_int_equal(run_tool_limited("stories-15m -o n.gguf", 9000000), 1);
    assert_one_line(told[1]);
    assert_int_equal(count_files("n.gguf"), 0);
}

static void test_failure_keeps_what_was_there(void **state) {
    (void)state;
    make("tiny -o kept.gguf");
    assert_int_equal(run_tool_limited("tiny --seed 2 -o kept.gguf", 100000), 1);
    make("tiny -o again.gguf");
    assert_true(same_files("kept.gguf", "again.gguf"));
}

static void test_interrupt_leaves_nothing(void **state) {
    int status, waited = 0;
    (void)state;
    pid_t child = start_tool("tinyllama-1.1b -o i.gguf", RLIM_INFINITY);
    for (; !count_files("i.gguf.tmp-") && waited < 10000; waited++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    kill(child, SIGINT);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(waited < 10000);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
    assert_int_equal(count_files("i.gguf"), 0);
}

/* ---- the folder */

static int set_up(void **state) {
    const char *tools = getenv("GGUFC_TOOLS");
    char        path[3500];
    (void)state;
    snprintf(path, sizeof path, "%s/make_model", tools ? tools : "out/tools");
    if (!realpath(path, tool)) {
        fprintf(stderr, "test_make_model: no %s\n", path);
        return -1;
    }
    memory = arena_new();
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.')
            unlink(in_folder(e->d_name));
    if (d)
        closedir(d);
    arena_free(memory);
    return rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiny_in_every_type),
        cmocka_unit_test(test_mixed_uses_every_type),
        cmocka_unit_test(test_seed_decides_every_byte),
        cmocka_unit_test(test_every_type),
        cmocka_unit_test(test_blocks_by_seed),
        cmocka_unit_test(test_weights_are_scaled),
        cmocka_unit_test(test_row_that_is_no_whole_blocks_is_f16),
        cmocka_unit_test(test_options_change_the_shape),
        cmocka_unit_test(test_dimensions_without_a_shape),
        cmocka_unit_test(test_vocabulary_of_any_size),
        cmocka_unit_test(test_split_has_all_in_parts),
        cmocka_unit_test(test_f16_rounds_to_nearest_even),
        cmocka_unit_test(test_bf16_rounds_to_nearest_even),
        cmocka_unit_test(test_q8_0_is_the_reference),
        cmocka_unit_test(test_wrong_usage_is_one_line),
        cmocka_unit_test(test_help_lists_the_shapes),
        cmocka_unit_test(test_what_cannot_be_written_leaves_nothing),
        cmocka_unit_test(test_failure_keeps_what_was_there),
        cmocka_unit_test(test_interrupt_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
