/* Which types tensors get under each TYPE of `ggufc quantize`: the tables of mixture_rules.c say nothing
 * that is not known, and for models of several kinds they say what llama-quantize does
 * (tests/golden/mixtures.txt). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "gguf_writer.h"
#include "mixture.h"

#define GOLDEN "tests/golden/mixtures.txt"

static gguf_string string(const char *text) {
    return (gguf_string){ text, strlen(text) };
}

/* ---- the tables */

typedef bool word_test(const char *word);

static bool is_mixture(const char *word) {
    for (const mixture *m = mixtures; m->name; m++)
        if (!strcmp(m->name, word)) return true;
    return false;
}

static bool is_role(const char *word) {
    for (int i = 0; i < ROLE_COUNT; i++)
        if (!strcmp(mixture_role_name((enum mixture_role)i), word)) return true;
    return false;
}

static bool is_condition(const char *word) {
    for (const mixture_condition *c = mixture_conditions; c->name; c++)
        if (!strcmp(c->name, word)) return true;
    return false;
}

static void assert_words(const char *list, word_test *is_known, bool may_be_all, size_t row) {
    char words[256], *rest = words;
    if (may_be_all && !strcmp(list, "*")) return;
    assert_true(strlen(list) < sizeof words);
    strcpy(words, list);
    for (char *word; (word = strtok_r(rest, " ", &rest));)
        if (!is_known(word)) fail_msg("rule %zu: '%s' is not known", row, word);
}

static void rules_say_only_what_is_known(void **state) {
    (void)state;
    size_t n = 0;
    for (const mixture_rule *r = mixture_rules; r->mixtures; r++, n++) {
        assert_words(r->mixtures, is_mixture, true, n);
        assert_words(r->roles, is_role, true, n);
        assert_words(r->when, is_condition, false, n);
        assert_true(r->quant == QUANT_COUNT || quant_writable(r->quant));
    }
    const mixture_rule *last = &mixture_rules[n - 1];
    assert_string_equal(last->mixtures, "*"); /* so that every question has an answer */
    assert_string_equal(last->roles, "*");
    assert_string_equal(last->when, "");
}

static void every_condition_is_asked(void **state) {
    (void)state;
    for (const mixture_condition *c = mixture_conditions; c->name; c++) {
        bool asked = false;
        for (const mixture_rule *r = mixture_rules; r->mixtures; r++)
            asked |= mixture_has_word(r->when, c->name);
        if (!asked) fail_msg("no rule asks for '%s'", c->name);
    }
}

static void mixtures_are_found_by_name_alias_and_number(void **state) {
    (void)state;
    static const struct {
        const char *asked, *name; /* NULL: there is none */
    } rows[] = {
        { "Q4_K_M", "Q4_K_M" }, { "q4_k_m", "Q4_K_M" }, { "q4_k", "Q4_K_M" }, { "Q3_K", "Q3_K_M" },
        { "15", "Q4_K_M" },     { "7", "Q8_0" },        { "0", "F32" },       { "38", "MXFP4_MOE" },
        { "copy", "COPY" },     { "Q8_1", NULL },       { "Q4_K_", NULL },    { "", NULL },
        { "4", NULL },          { "15x", NULL },        { "-1", NULL },       { "Q8_K", NULL },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const mixture *m = mixture_find(rows[i].asked);
        if (!m != !rows[i].name || (m && strcmp(m->name, rows[i].name)))
            fail_msg("'%s': %s", rows[i].asked, m ? m->name : "none");
    }
    for (const mixture *m = mixtures; m->name; m++) {
        assert_ptr_equal(mixture_find(m->name), m);
        assert_true(m->base == QUANT_COUNT || quant_writable(m->base));
        assert_true((m->base == QUANT_COUNT) == !strcmp(m->name, MIXTURE_COPY));
    }
}

/* Every type that can be written has a mixture of its own name, or one that begins with it. */
static void every_type_can_be_asked_for(void **state) {
    (void)state;
    for (uint32_t i = 0; i < QUANT_COUNT; i++) {
        if (!quant_writable(i)) continue;
        const mixture *m = mixture_find(quant_find(i)->name);
        if (!m) fail_msg("%s is no mixture", quant_find(i)->name);
        assert_int_equal(mixture_find_type(quant_find(i)->name), i);
    }
    assert_int_equal(mixture_find_type("q6_K"), QUANT_Q6_K);
    assert_int_equal(mixture_find_type("Q4_K_M"), QUANT_COUNT);
}

/* ---- names */

static void names_have_roles(void **state) {
    (void)state;
    static const struct {
        const char       *name;
        enum mixture_role role;
    } rows[] = {
        { "output.weight", ROLE_OUTPUT },
        { "output_norm.weight", ROLE_OTHER },
        { "token_embd.weight", ROLE_TOKEN_EMBD },
        { "per_layer_token_embd.weight", ROLE_TOKEN_EMBD },
        { "blk.3.attn_qkv.weight", ROLE_ATTN_V },
        { "blk.3.attn_kv_b.weight", ROLE_ATTN_V },
        { "blk.3.attn_v.weight", ROLE_ATTN_V },
        { "blk.3.attn_v.bias", ROLE_OTHER },
        { "blk.30.attn_output.weight", ROLE_ATTN_OUTPUT },
        { "blk.0.ffn_down_exps.weight", ROLE_FFN_DOWN },
        { "blk.0.ffn_gate_up_exps.weight", ROLE_FFN_GATE },
        { "blk.0.ssm_in.weight", ROLE_OTHER },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (mixture_role(string(rows[i].name)) != rows[i].role) fail_msg("%s", rows[i].name);
}

static void matrices_are_quantized_and_little_else(void **state) {
    (void)state;
    static const struct {
        const char *name;
        uint64_t    dims[3];
        bool        quantized;
    } rows[] = {
        { "blk.0.attn_q.weight", { 256, 256, 1 }, true },
        { "blk.0.ffn_up_exps.weight", { 256, 1, 8 }, true },
        { "output.weight", { 256, 8, 1 }, true },
        { "blk.0.attn_q.weight", { 256, 1, 1 }, false },
        { "blk.0.attn_q.bias", { 256, 256, 1 }, false },
        { "blk.0.attn_norm.weight", { 256, 256, 1 }, false },
        { "blk.0.ffn_gate_inp.weight", { 256, 8, 1 }, false },
        { "position_embd.weight", { 256, 8, 1 }, false },
        { "token_types.weight", { 256, 2, 1 }, false },
        { "blk.0.ssm_conv1d.weight", { 4, 256, 1 }, false },
        { "blk.0.time_mix_decay_w2.weight", { 64, 256, 1 }, false },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const uint64_t *dims = rows[i].dims;
        gguf_tensor t = { .name = string(rows[i].name), .n_dims = 3,
                          .dims = { dims[0], dims[1], dims[2], 1 } };
        if (mixture_quantizes(&t) != rows[i].quantized) fail_msg("%s", rows[i].name);
    }
}

static void tensors_are_in_order_of_layers(void **state) {
    (void)state;
    static const char *const rows[] = {
        "blk.x.a", "output.weight", "output_norm.weight", "token_embd.weight", "blk.0.attn_k.weight",
        "blk.0.attn_norm.weight", "blk.0.ffn_up", "blk.0.ffn_up.weight", "blk.2.attn_k.weight",
        "blk.10.attn_k.weight",
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        for (size_t j = 0; j < ARRAY_LEN(rows); j++) {
            int order = mixture_compare(string(rows[i]), string(rows[j]));
            if ((order > 0) - (order < 0) != (i > j) - (i < j))
                fail_msg("%s, %s: %d", rows[i], rows[j], order);
        }
}

static void odd_rows_have_fallbacks(void **state) {
    (void)state;
    static const struct {
        uint32_t quant;
        uint64_t row;
        uint32_t becomes;
    } rows[] = {
        { QUANT_Q4_K, 512, QUANT_Q4_K }, { QUANT_Q4_K, 96, QUANT_Q5_0 },     { QUANT_Q5_K, 96, QUANT_Q5_1 },
        { QUANT_Q6_K, 96, QUANT_Q8_0 },  { QUANT_Q2_K, 96, QUANT_Q4_0 },     { QUANT_Q3_K, 32, QUANT_Q4_0 },
        { QUANT_IQ1_S, 96, QUANT_IQ4_NL }, { QUANT_IQ4_XS, 96, QUANT_IQ4_NL },
        { QUANT_TQ1_0, 96, QUANT_Q4_0 },
        { QUANT_Q8_0, 40, QUANT_F16 },   { QUANT_Q4_K, 40, QUANT_F16 },      { QUANT_MXFP4, 48, QUANT_F16 },
        { QUANT_Q2_0, 96, QUANT_Q4_0 },  { QUANT_Q2_0, 64, QUANT_Q2_0 },     { QUANT_F16, 3, QUANT_F16 },
        { QUANT_NVFP4, 96, QUANT_Q4_0 }, { QUANT_Q1_0, 96, QUANT_Q4_0 },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (mixture_fallback(rows[i].quant, rows[i].row) != rows[i].becomes)
            fail_msg("%s, rows of %d", quant_find(rows[i].quant)->name, (int)rows[i].row);
    for (uint32_t i = 0; i < QUANT_COUNT; i++) { /* larger blocks become such of 32, not F16 */
        if (!quant_writable(i) || quant_find(i)->block_len <= 32) continue;
        assert_int_equal(quant_find(mixture_fallback(i, 32))->block_len, 32);
    }
}

/* ---- whole models, against what llama-quantize says */

typedef struct golden_model {
    char     architecture[32];
    unsigned layers, heads, kv_heads, experts;
    bool     has_output; /* the lines say nothing of it where it is the embedding */
} golden_model;

static void put_tensor(gguf_writer *w, const char *name, uint64_t n_matrices) {
    writer_tensor(w, name, 3, (uint64_t[]){ 256, 2, n_matrices }, QUANT_F32);
}

static void put_layer(gguf_writer *w, const golden_model *m, unsigned layer) {
    static const char *const apart[] = { "attn_q", "attn_k", "attn_v", "attn_output" };
    static const char *const joined[] = { "attn_qkv", "attn_output" };
    static const char *const ffn[] = { "ffn_gate", "ffn_up", "ffn_down" };
    bool is_falcon = !strcmp(m->architecture, "falcon");
    char name[64];
    for (size_t i = 0; i < (is_falcon ? ARRAY_LEN(joined) : ARRAY_LEN(apart)); i++) {
        snprintf(name, sizeof name, "blk.%u.%s.weight", layer, is_falcon ? joined[i] : apart[i]);
        put_tensor(w, name, 1);
    }
    for (size_t i = 0; i < ARRAY_LEN(ffn); i++) {
        snprintf(name, sizeof name, "blk.%u.%s%s.weight", layer, ffn[i], m->experts ? "_exps" : "");
        put_tensor(w, name, m->experts ? m->experts : 1);
    }
}

static gguf_writer make_model(const golden_model *m) {
    const struct {
        const char *key;
        uint32_t    n;
    } rows[] = {
        { "block_count", m->layers }, { "attention.head_count", m->heads },
        { "attention.head_count_kv", m->kv_heads }, { "expert_count", m->experts },
    };
    gguf_writer w;
    char        key[80];
    writer_begin(&w);
    writer_kv_string(&w, "general.architecture", m->architecture);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        snprintf(key, sizeof key, "%s.%s", m->architecture, rows[i].key);
        writer_kv_u32(&w, key, rows[i].n);
    }
    put_tensor(&w, "token_embd.weight", 1);
    if (m->has_output) put_tensor(&w, "output.weight", 1);
    for (unsigned l = 0; l < m->layers; l++) put_layer(&w, m, l);
    writer_finish(&w);
    return w;
}

static int compare_tensors(const void *a, const void *b) {
    return mixture_compare(((const gguf_tensor *)a)->name, ((const gguf_tensor *)b)->name);
}

/* "12*Q4_K 4*Q6_K" at place n; QUANT_COUNT beyond its end. */
static uint32_t read_run(const char *runs, const char *end, unsigned n) {
    while (runs < end) {
        char     word[32];
        size_t   size = strcspn(runs, " ;\n");
        unsigned count = 1;
        snprintf(word, sizeof word, "%.*s", (int)size, runs);
        char *star = strchr(word, '*');
        if (star) count = (unsigned)atoi(word);
        if (n < count) return mixture_find_type(star ? star + 1 : word);
        n -= count;
        runs += size + strspn(runs + size, " ");
    }
    return QUANT_COUNT;
}

/* What the line says of a tensor. */
static uint32_t read_expected(const char *line, const char *name) {
    unsigned layer = 0;
    char     part[64];
    int      skipped = 0;
    uint32_t others = QUANT_COUNT;
    if (sscanf(name, "blk.%u.%n", &layer, &skipped) != 1) skipped = 0;
    snprintf(part, sizeof part, "%.*s", (int)strcspn(name + skipped, "."), name + skipped);
    for (const char *at = line + strcspn(line, " ") + 1; *at && *at != '\n';) {
        size_t      size = strcspn(at, ";\n"), word = strcspn(at, " ");
        const char *runs = at + word + 1, *end = at + size;
        if (word == 6 && !strncmp(at, "others", 6)) others = read_run(runs, end, 0);
        if (word == strlen(part) && !strncmp(at, part, word)) return read_run(runs, end, layer);
        at += size + strspn(at + size, "; ");
    }
    return others;
}

static void check_line(const gguf_file *f, const char *line, unsigned number) {
    char          name[32], tensor[64];
    size_t        size = strcspn(line, " ");
    bool          has_importance = line[size - 1] == '+';
    snprintf(name, sizeof name, "%.*s", (int)(size - has_importance), line);
    const mixture *mix = mixture_find(name);
    if (!mix) fail_msg(GOLDEN ":%u: %s", number, name);
    mixture_state s = mixture_begin(mix, f, has_importance);
    gguf_tensor  *tensors = calloc(f->n_tensors, sizeof *tensors);
    assert_non_null(tensors);
    memcpy(tensors, f->tensors, f->n_tensors * sizeof *tensors);
    qsort(tensors, f->n_tensors, sizeof *tensors, compare_tensors);
    for (uint64_t i = 0; i < f->n_tensors; i++) {
        snprintf(tensor, sizeof tensor, "%.*s", (int)tensors[i].name.size, tensors[i].name.data);
        uint32_t is = mixture_choose(&s, &tensors[i]), expected = read_expected(line, tensor);
        if (expected == QUANT_COUNT || is != expected)
            fail_msg(GOLDEN ":%u: %s: %s is %s, expected %s", number, name, tensor, quant_find(is)->name,
                     expected == QUANT_COUNT ? "something" : quant_find(expected)->name);
    }
    free(tensors);
}

static bool is_line(const char *line) {
    return *line >= 'A' && *line <= 'Z';
}

static void types_are_those_of_llama_quantize(void **state) {
    (void)state;
    FILE    *golden = fopen(GOLDEN, "r");
    char     line[1024];
    unsigned n_models = 0, n_lines = 0;
    arena   *memory = arena_new();
    diag     d = { 0 };
    gguf_writer  w = { 0 };
    gguf_file   *f = NULL;
    golden_model m;
    assert_non_null(golden);
    for (unsigned number = 1; fgets(line, sizeof line, golden); number++) {
        assert_non_null(strchr(line, '\n'));
        if (sscanf(line, "model architecture=%31s layers=%u heads=%u kv_heads=%u experts=%u", m.architecture,
                   &m.layers, &m.heads, &m.kv_heads, &m.experts) == 5) {
            writer_free(&w);
            m.has_output = !strstr(line, " tied");
            w = make_model(&m);
            f = gguf_parse(memory, &d, "made", w.data, w.size);
            assert_non_null(f);
            n_models++;
        } else if (is_line(line)) {
            check_line(f, line, number);
            n_lines++;
        }
    }
    assert_true(n_models == 6 && n_lines > 200);
    fclose(golden);
    writer_free(&w);
    arena_free(memory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_say_only_what_is_known),
        cmocka_unit_test(every_condition_is_asked),
        cmocka_unit_test(mixtures_are_found_by_name_alias_and_number),
        cmocka_unit_test(every_type_can_be_asked_for),
        cmocka_unit_test(names_have_roles),
        cmocka_unit_test(matrices_are_quantized_and_little_else),
        cmocka_unit_test(tensors_are_in_order_of_layers),
        cmocka_unit_test(odd_rows_have_fallbacks),
        cmocka_unit_test(types_are_those_of_llama_quantize),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
