/* Comparisons: engines that are broken in one way each are found out, at the right operation and by
 * the right mistake; right ones are not accused.
 *
 * Broken engines are the interpreter with a mistake (mistake.h) and, so that not only our own
 * arithmetic judges itself, reference_graph.h. What needs ../shared is skipped without it. */
#include "compare_fixture.h"

#include "reference_graph.h"

/* ---- broken engines */

#define Q4_0 SHARED "demo-model/storyteller-q4_0.gguf"

typedef struct broken {
    const char *mistake;
    const char *name;    /* of layer %d */
    const char *verdict;
    const char *model;   /* NULL: the demo */
} broken;

static const broken broken_engines[] = {
    { "transposed", "Qcur-%d", "attn_q.weight is read transposed", NULL },
    { "sibling-1", "Qcur-%d", "attn_output.weight is read in place of attn_q.weight", NULL },
    { "scale-bf16", "Qcur-%d", "block scales of attn_q.weight are read as bf16", NULL },
    { "norm-weight", "attn_norm-%d", "attn_norm.weight is not multiplied in", NULL },
    { "norm-weight-plus-1", "attn_norm-%d", "attn_norm.weight + 1 is multiplied in", NULL },
    { "eps-1e-3", "attn_norm-%d", "eps is 0.001 instead of 1e-05", NULL },
    { "rope-pairing", "Qcur-%d.rope",
      "half-split pairs (i, i + 16) are rotated instead of interleaved ones", NULL },
    { "rope-base-500000", "Qcur-%d.rope", "the rope base is 500000 instead of 10000", NULL },
    { "rope-missing", "Qcur-%d.rope", "nothing is rotated", NULL },
    { "rope-from-1", "Qcur-%d.rope", "positions are counted from 1", NULL },
    { "heads-modulo", "kqv_out-%d", "query head h reads kv head h % 4 instead of h / 2", NULL },
    { "attn-scale", "kqv_out-%d", "scores are not scaled by 0.176777", NULL },
    { "mask-later", "kqv_out-%d", "a token sees the one after it too", NULL },
    { "mask-earlier", "kqv_out-%d", "a token does not see itself", NULL },
    { "gate-up", "ffn_swiglu-%d", "gate and up are exchanged", NULL },
    { "first-operand", "ffn_inp-%d", "attn_out-%d is not added", NULL },
    { "nibbles-swapped", "Qcur-%d", "of two nibbles of attn_q.weight the high one is taken first", Q4_0 },
    { "nibbles-adjacent", "Qcur-%d", "the nibbles of a byte of attn_q.weight are taken for neighbours", Q4_0 },
    { "nibbles-adjacent-swapped", "Qcur-%d",
      "the nibbles of a byte of attn_q.weight are taken for neighbours, the high one first", Q4_0 },
    { "scale-bf16", "Qcur-%d", "block scales of attn_q.weight are read as bf16", Q4_0 },
};

/* `layer` in place of %d; a text may hold other percent signs. */
static const char *with_layer(arena *a, const char *text, int32_t layer) {
    const char *at = strstr(text, "%d");
    if (!at) return text;
    return arena_printf(a, "%.*s%d%s", (int)(at - text), text, layer, at + 2);
}

/* Made everywhere, a mistake is found where it is made first: in reading blocks that is the embedding. */
static void expect(arena *a, const broken *b, int32_t layer, const char **name, const char **what) {
    const mistake     *m = mistake_find(b->mistake);
    const char        *weight = strstr(b->verdict, "attn_q.weight");
    static const mistake none;
    *name = with_layer(a, b->name, layer < 0 ? 0 : layer);
    *what = with_layer(a, b->verdict, layer < 0 ? 0 : layer);
    if (layer >= 0 || !memcmp(&m->reading, &none.reading, sizeof none.reading)) return;
    *name = "embd";
    *what = arena_printf(a, "%.*stoken_embd.weight%s", (int)(weight - b->verdict), b->verdict,
                         weight + strlen("attn_q.weight"));
}

static void find_broken(const broken *b, int32_t layer, enum engine_kernels kernels, bool swap) {
    const char  *acts = in_folder("broken.gguf"), *name, *what;
    engine_setup e = { .model = b->model ? b->model : DEMO, .kernels = kernels, .mistake = b->mistake,
                       .layer = layer };
    arena       *a = arena_new();
    const char  *right = arena_printf(a, "%s%s", b->model || layer == 3 ? "interpreted:" : "", e.model);
    engine_write(&e, story, STORY, acts);
    compared c = compared_pair(swap ? acts : right, swap ? right : acts);
    expect(a, b, layer, &name, &what);
    assert_found(&c, name, what);
    assert_string_equal(c.r.suspect, swap ? "A" : "B");
    compared_free(&c);
    arena_free(a);
}

static void broken_engines_are_found(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(broken_engines); i++) {
        const broken *b = &broken_engines[i];
        if (b->model && !exists(b->model)) continue;
        find_broken(b, 0, ENGINE_INTERPRETED, false);
        find_broken(b, 3, ENGINE_REFERENCE, false);
        find_broken(b, -1, i % 2 ? ENGINE_INTERPRETED : ENGINE_REFERENCE, true);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_engines_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
