/* test_memory.c - tokenizer and sampler when memory runs out.
 *
 * Both are compiled into this test with an allocator that refuses the n-th request, for every n up
 * to the last: each refusal must come back as an error, with everything given back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vocab_fixture.h"

static int until_refusal; /* requests still granted; negative: all */
static long n_live;

static bool is_refused(void) {
    return until_refusal >= 0 && until_refusal-- == 0;
}

static void *counted_calloc(size_t count, size_t size) {
    if (is_refused()) return NULL;
    n_live++;
    return calloc(count, size);
}

static void *counted_malloc(size_t size) {
    return counted_calloc(1, size);
}

static void *counted_realloc(void *old, size_t size) {
    if (!old) return counted_malloc(size);
    return is_refused() ? NULL : realloc(old, size);
}

static void counted_free(void *memory) {
    n_live -= memory != NULL;
    free(memory);
}

#define malloc  counted_malloc
#define calloc  counted_calloc
#define realloc counted_realloc
#define free    counted_free
#include "sampler.c"
#include "tokenizer.c"
#undef malloc
#undef calloc
#undef realloc
#undef free

static void test_encode(void **state) {
    (void)state;
    const char *text = "Once upon a time,<s> there was a sleepy boy named \xff Hugo.";
    int32_t ids[200];
    int64_t n = TOKENIZER_NO_MEMORY;
    int refusals = 0;
    fixture x;
    assert_true(fixture_open(&x, FIXTURE_DEMO));
    for (; n == TOKENIZER_NO_MEMORY; refusals++) {
        assert_true(refusals < 1000);
        until_refusal = refusals;
        n = tokenizer_encode(&x.tables.vocab, text, strlen(text), TOKENIZER_PARSE_SPECIAL, ids,
                             200);
        assert_int_equal(n_live, 0);
    }
    assert_true(n > 10 && until_refusal >= 0);
    assert_true(refusals > 8);
    fixture_close(&x);
}

static void test_sampler_new(void **state) {
    (void)state;
    sampler_options o = sampler_defaults();
    sampler *s = NULL;
    int refusals = 0;
    for (; !s; refusals++) {
        assert_true(refusals < 100);
        assert_int_equal(n_live, 0);
        until_refusal = refusals;
        s = sampler_new(100, &o);
    }
    assert_true(refusals > 5);
    sampler_free(s);
    sampler_free(NULL);
    assert_int_equal(n_live, 0);
}

/* Nothing is allocated while generating. */
static void test_sampler_pick(void **state) {
    (void)state;
    float logits[1000];
    sampler_options o = sampler_defaults();
    o.repeat_penalty = 1.1f;
    until_refusal = -1;
    sampler *s = sampler_new(1000, &o);
    long before = n_live;
    until_refusal = 0;
    for (int i = 0; i < 1000; i++) logits[i] = (float)(i * 7 % 100);
    for (int i = 0; i < 1000; i++) sampler_accept(s, sampler_pick(s, logits));
    assert_int_equal(until_refusal, 0); /* not asked once */
    assert_int_equal(n_live, before);
    sampler_free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encode),
        cmocka_unit_test(test_sampler_new),
        cmocka_unit_test(test_sampler_pick),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
