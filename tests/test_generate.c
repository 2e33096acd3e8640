/* test_generate.c - generating, prompts, flags and the command line over a model written by hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "child.h"
#include "cli.h"
#include "cli_bench.h"
#include "cli_flags.h"
#include "cli_prompt.h"
#include "fake_model.h"
#include "generate.h"
#include "utf8.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

static char weights_path[64];
static ggufc_model model;
static ggufc_error error;

static int make_weights(void **state) {
    (void)state;
    snprintf(weights_path, sizeof weights_path, "/tmp/ggufc-test-%d.gguf", (int)getpid());
    fake_write_weights(weights_path);
    model = fake_model(weights_path);
    return 0;
}

static int remove_weights(void **state) {
    (void)state;
    return unlink(weights_path);
}

/* ---- a vocabulary: token i is 'a' + i, but for a few */

enum { TOKEN_EOS = 26, TOKEN_BYTE = 30 }; /* from there on byte tokens: ee 82 82 repeated */

static char vocab_text[FAKE_VOCAB];
static uint32_t vocab_offsets[FAKE_VOCAB + 1];
static float vocab_scores[FAKE_VOCAB];
static uint8_t vocab_types[FAKE_VOCAB];
static int32_t vocab_bytes[256], vocab_special[1];
static uint32_t vocab_slots[128];
static ggufc_vocab vocab;

/* A character has one token, and bytes without one have none: the tokenizer gives `unk` for them.
 */
static void make_vocab(void) {
    for (int i = 0; i < 256; i++) vocab_bytes[i] = -1;
    memset(vocab_slots, 0, sizeof vocab_slots);
    for (int i = 0; i < FAKE_VOCAB; i++) {
        vocab_text[i] = (char)(i < 26 ? 'a' + i : '#');
        vocab_offsets[i] = (uint32_t)i;
        vocab_types[i] = i == TOKEN_EOS ? GGUFC_TOKEN_CONTROL : GGUFC_TOKEN_NORMAL;
        if (i >= 26) continue;
        uint32_t slot = ggufc_vocab_hash(&vocab_text[i], 1) & 127;
        while (vocab_slots[slot]) slot = (slot + 1) & 127;
        vocab_slots[slot] = (uint32_t)i + 1;
    }
    vocab_offsets[FAKE_VOCAB] = FAKE_VOCAB;
    vocab = (ggufc_vocab){
        .kind = GGUFC_VOCAB_SPM,
        .n_tokens = FAKE_VOCAB,
        .text = vocab_text,
        .offsets = vocab_offsets,
        .scores = vocab_scores,
        .types = vocab_types,
        .byte_tokens = vocab_bytes,
        .slots = vocab_slots,
        .slot_mask = 127,
        .special = vocab_special,
        .bos = -1,
        .eos = TOKEN_EOS,
        .eot = -1,
        .unk = 0,
    };
}

/* ---- generating into a socket that keeps every write apart */

typedef struct generated {
    ggufc_model model;
    generate_request request;
    generate_report report;
    sampler_options sampling;
    stream out;
    ggufc_status status;
    char text[4096];
} generated;

static void drain(int fd, char *text, size_t size) {
    size_t used = 0;
    for (ssize_t n; (n = recv(fd, text + used, size - 1 - used, MSG_DONTWAIT)) > 0;) {
        assert_int_equal(utf8_incomplete_tail(text + used, (size_t)n), 0);
        used += (size_t)n;
    }
    text[used] = '\0';
}

/* For all tokens, one by one. */
static void replace_head(ggufc_model *m, const ggufc_call *call) {
    m->head.calls = call;
    m->heads = (ggufc_calls){ 0 };
}

static void run_once(generated *r) {
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
    ggufc_session *session;
    ggufc_session_options options = { .model = &r->model, .n_threads = 2 };
    assert_int_equal(ggufc_session_open(&session, &options, &error), GGUFC_OK);
    sampler *choose = sampler_new(FAKE_VOCAB, &r->sampling);
    r->out = (stream){ .fd = ends[1] };
    r->status = generate_run(session, choose, &r->request, &r->out, &r->report, &error);
    sampler_free(choose);
    ggufc_session_close(session);
    drain(ends[0], r->text, sizeof r->text);
    close(ends[0]);
    close(ends[1]);
}

/* As it is asked for, and again with drafts, which nothing may show of. */
static void run_model(generated *r) {
    generated ahead = *r;
    run_once(r);
    ahead.request.look_ahead = ahead.request.always_draft = true;
    ahead.request.max_draft = LOOKUP_MAX_DRAFT;
    run_once(&ahead);
    assert_int_equal(ahead.status, r->status);
    assert_string_equal(ahead.text, r->text);
    assert_int_equal(ahead.report.end, r->report.end);
    assert_int_equal(ahead.report.n_prompt, r->report.n_prompt);
    assert_int_equal(ahead.report.n_generated, r->report.n_generated);
    assert_int_equal(ahead.report.n_evaluated, r->report.n_evaluated);
}

/* What greedy choosing gives: the first largest logit each time. */
static uint32_t expect_greedy(int32_t *tokens, uint32_t n_prompt, uint32_t n_predict) {
    uint32_t n = n_prompt;
    for (; n < n_prompt + n_predict; n++) {
        float logits[FAKE_VOCAB];
        fake_expect(tokens, n, logits);
        tokens[n] = 0;
        for (int32_t v = 1; v < FAKE_VOCAB; v++)
            if (logits[v] > logits[tokens[n]]) tokens[n] = v;
    }
    return n;
}

static void print_ids(char *text, size_t size, const int32_t *tokens, uint32_t n) {
    size_t used = 0;
    for (uint32_t i = 0; i < n; i++)
        used += (size_t)snprintf(text + used, size - used, i ? ",%d" : "%d", tokens[i]);
    snprintf(text + used, size - used, "\n");
}

static generated greedy_run(const int32_t *tokens, size_t n_tokens, int64_t n_predict) {
    return (generated){
        .model = model,
        .request = { .tokens = tokens, .n_tokens = n_tokens, .n_predict = n_predict },
        .sampling = { .temp = 0, .repeat_penalty = 1 },
    };
}

static void test_ids(void **state) {
    (void)state;
    int32_t tokens[FAKE_CTX + 1] = { 3, 1, 4, 1, 5, 9, 2, 6, 5, 3 };
    char expected[1024];
    generated r = greedy_run(tokens, 10, 20);
    run_model(&r);
    print_ids(expected, sizeof expected, tokens, expect_greedy(tokens, 10, 20));
    assert_int_equal(r.status, GGUFC_OK);
    assert_string_equal(r.text, expected);
    assert_int_equal(r.report.end, GENERATE_END_COUNT);
    assert_int_equal(r.report.n_prompt, 10);
    assert_int_equal(r.report.n_generated, 20);
    assert_int_equal(r.report.n_evaluated, 19);

    r.request.hide_prompt = true;
    run_model(&r);
    print_ids(expected, sizeof expected, tokens + 10, 20);
    assert_string_equal(r.text, expected);
}

static void test_no_tokens_wanted(void **state) {
    (void)state;
    int32_t tokens[] = { 1, 2 };
    generated r = greedy_run(tokens, 2, 0);
    run_model(&r);
    assert_string_equal(r.text, "1,2\n");
    assert_int_equal(r.report.end, GENERATE_END_COUNT);
    assert_int_equal(r.report.n_prompt, 2);
}

/* The last position's token is generated, too: it need not be read. */
static void test_context_full(void **state) {
    (void)state;
    int32_t tokens[FAKE_CTX + 1] = { 7, 8, 9 };
    char expected[1024];
    generated r = greedy_run(tokens, 3, -1);
    run_model(&r);
    print_ids(expected, sizeof expected, tokens, expect_greedy(tokens, 3, FAKE_CTX - 3 + 1));
    assert_string_equal(r.text, expected);
    assert_int_equal(r.report.end, GENERATE_END_CONTEXT);
    assert_int_equal(r.report.n_generated, FAKE_CTX - 3 + 1);

    r = greedy_run(tokens, FAKE_CTX, 1); /* a prompt that fills it, and one more */
    run_model(&r);
    assert_int_equal(r.report.end, GENERATE_END_COUNT);
    assert_int_equal(r.report.n_generated, 1);
}

static void test_bad_prompts(void **state) {
    (void)state;
    int32_t tokens[FAKE_CTX + 1] = { 0 };
    generated r = greedy_run(tokens, FAKE_CTX + 1, 1);
    run_model(&r);
    assert_int_equal(r.status, GGUFC_ERROR_CONTEXT);
    assert_string_equal(error.text, "the prompt has 65 tokens, the context has room for 64");
    assert_string_equal(r.text, "");

    tokens[9] = FAKE_VOCAB;
    r = greedy_run(tokens, 10, 1);
    run_model(&r);
    assert_int_equal(r.status, GGUFC_ERROR_TOKEN);
    assert_string_equal(r.text, "");

    r = greedy_run(tokens, 0, 1);
    run_model(&r);
    assert_int_equal(r.status, GGUFC_ERROR_OPTIONS);
}

static void test_stop(void **state) {
    (void)state;
    int32_t tokens[] = { 1, 2, 3 };
    volatile sig_atomic_t stop = 1;
    generated r = greedy_run(tokens, 3, -1);
    r.request.stop = &stop;
    run_model(&r);
    assert_int_equal(r.status, GGUFC_OK);
    assert_int_equal(r.report.end, GENERATE_END_STOP);
    assert_string_equal(r.text, "1,2,3\n");
}

static int32_t always;

static void head_always(const ggufc_state *s, const uint64_t *args, uint32_t begin, uint32_t end) {
    float *logits = (float *)(void *)(s->arena + args[0]);
    for (uint32_t v = begin; v < end; v++) logits[v] = v == (uint32_t)always ? 9 : 1;
}

static const ggufc_call head_always_call = { head_always, fake_head_args, FAKE_VOCAB, 0, 0, 0, 0 };

static generated text_run(const int32_t *tokens, size_t n_tokens, int64_t n_predict) {
    make_vocab();
    generated r = greedy_run(tokens, n_tokens, n_predict);
    r.model.vocab = &vocab;
    replace_head(&r.model, &head_always_call);
    return r;
}

static void test_text(void **state) {
    (void)state;
    int32_t tokens[] = { 7, 4 };
    always = 24;
    generated r = text_run(tokens, 2, 3);
    run_model(&r);
    assert_string_equal(r.text, "heyyy\n");
    r.request.text = "As given: ";
    r.request.text_size = 10;
    run_model(&r);
    assert_string_equal(r.text, "As given: yyy\n");
}

static void test_end_token(void **state) {
    (void)state;
    int32_t tokens[] = { 7, 4 };
    always = TOKEN_EOS;
    generated r = text_run(tokens, 2, 5);
    run_model(&r);
    assert_int_equal(r.report.end, GENERATE_END_TOKEN);
    assert_int_equal(r.report.n_generated, 0);
    assert_string_equal(r.text, "he\n");
}

static void test_forbidden_end_token(void **state) {
    (void)state;
    make_vocab();
    float logits[FAKE_VOCAB] = { 0 };
    logits[TOKEN_EOS] = 9;
    logits[5] = 1;
    sampler *choose = sampler_new(FAKE_VOCAB, &(sampler_options){ .repeat_penalty = 1 });
    assert_int_equal(sampler_pick(choose, logits), TOKEN_EOS);
    generate_forbid_end(choose, NULL);
    assert_int_equal(sampler_pick(choose, logits), TOKEN_EOS);
    generate_forbid_end(choose, &vocab);
    assert_int_equal(sampler_pick(choose, logits), 5);
    sampler_free(choose);
}

/* A character in three byte tokens leaves in one write (see drain); what stays incomplete leaves at
   the end. */
static volatile sig_atomic_t stop_asked;

/* 1 2 3 4 5 over and over; an interrupt comes while the token at position 20 is chosen, a token that
   ends at position 25. */
static void head_circle(const ggufc_state *s, const uint64_t *args, uint32_t begin, uint32_t end) {
    uint32_t position = s->pos + s->out_token;
    float *logits = (float *)(void *)(s->arena + args[0]);
    uint32_t next = position == 25 ? TOKEN_EOS : 1 + position % 5;
    if (position == 20) stop_asked = 1;
    for (uint32_t v = begin; v < end; v++) logits[v] = v == next ? 9 : 1;
}

static const ggufc_call head_circle_call = { head_circle, fake_head_args, FAKE_VOCAB, 0, 0, 0, 0 };

/* Both in the middle of a draft. */
static void test_stop_and_end_while_drafting(void **state) {
    (void)state;
    int32_t tokens[] = { 1, 2, 3, 4, 5, 1, 2, 3, 4, 5 };
    generated r = text_run(tokens, COUNT(tokens), -1);
    replace_head(&r.model, &head_circle_call);
    run_model(&r);
    assert_int_equal(r.report.end, GENERATE_END_TOKEN);
    assert_int_equal(r.report.n_generated, 16);
    assert_string_equal(r.text, "bcdefbcdeffbcdefbcdefbcdef\n");
    for (int ahead = 0; ahead < 2; ahead++) {
        r.request.stop = &stop_asked;
        r.request.look_ahead = r.request.always_draft = ahead;
        r.request.max_draft = LOOKUP_MAX_DRAFT;
        stop_asked = 0;
        run_once(&r);
        assert_int_equal(r.report.end, GENERATE_END_STOP);
        assert_int_equal(r.report.n_generated, 11);
        assert_int_equal(r.report.n_accepted > 0, ahead);
    }
}

static void test_characters_are_whole(void **state) {
    (void)state;
    static const char *const texts[] = { "<0xE2>", "<0x82>", "<0xAC>" };
    static char text[FAKE_VOCAB + 18];
    int32_t tokens[] = { 0, TOKEN_BYTE, TOKEN_BYTE + 1, TOKEN_BYTE + 2, 1 };
    always = 25;
    generated r = text_run(tokens, COUNT(tokens), 1);
    memcpy(text, vocab_text, FAKE_VOCAB);
    for (int i = 0; i < 3; i++) {
        memcpy(text + TOKEN_BYTE + 6 * i, texts[i], 6);
        vocab_types[TOKEN_BYTE + i] = GGUFC_TOKEN_BYTE;
    }
    for (uint32_t i = TOKEN_BYTE + 1; i <= FAKE_VOCAB; i++)
        vocab_offsets[i] = i <= TOKEN_BYTE + 3 ? TOKEN_BYTE + 6 * (i - TOKEN_BYTE) : i + 15;
    vocab.text = text;
    run_model(&r);
    assert_string_equal(r.text, "a€bz\n");
}

/* ---- output */

static void test_output_fails(void **state) {
    (void)state;
    int32_t tokens[] = { 1, 2, 3 };
    ggufc_session *session;
    ggufc_session_options options = { .model = &model, .n_threads = 1 };
    assert_int_equal(ggufc_session_open(&session, &options, &error), GGUFC_OK);
    sampler *choose = sampler_new(FAKE_VOCAB, &(sampler_options){ .repeat_penalty = 1 });
    generate_request request = { .tokens = tokens, .n_tokens = 3, .n_predict = -1 };
    generate_report report;
    stream full = { .fd = open("/dev/full", O_WRONLY) };
    assert_int_equal(generate_run(session, choose, &request, &full, &report, &error), GGUFC_OK);
    assert_int_equal(report.end, GENERATE_END_OUTPUT);
    assert_int_equal(full.failure, ENOSPC);
    assert_false(stream_is_closed(&full));
    close(full.fd);
    sampler_free(choose);
    ggufc_session_close(session);
}

static void test_stream_without_blocking(void **state) {
    (void)state;
    int ends[2];
    static char block[200000], seen[sizeof block];
    for (size_t i = 0; i < sizeof block; i++) block[i] = (char)(i * 7 + i / 300);
    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    pid_t writer = fork();
    if (writer == 0) {
        stream s = { .fd = ends[1] };
        _exit(stream_write(&s, block, sizeof block) ? 0 : 1);
    }
    close(ends[1]);
    size_t used = 0;
    while (used < sizeof seen) {
        size_t  room = sizeof seen - used;
        ssize_t n = read(ends[0], seen + used, room < 5000 ? room : 5000);
        if (n == 0) break;
        if (n > 0) used += (size_t)n;
    }
    int status = -1;
    waitpid(writer, &status, 0);
    close(ends[0]);
    assert_int_equal(status, 0);
    assert_int_equal(used, sizeof block);
    assert_memory_equal(seen, block, sizeof block);
}

/* ---- prompts */

static void test_token_lists(void **state) {
    (void)state;
    static const char *const bad[] = { "",
                                       ",",
                                       "1,",
                                       "1,,2",
                                       ",1",
                                       "x",
                                       "1 2",
                                       "-1",
                                       "1,2x,",
                                       "1, ",
                                       "4294967296",
                                       "0x10",
                                       "99999999999999999999" };
    for (size_t i = 0; i < COUNT(bad); i++) {
        cli_prompt p = { 0 };
        assert_int_equal(cli_prompt_parse_tokens(&p, bad[i], &error), GGUFC_ERROR_OPTIONS);
        assert_non_null(strstr(error.text, "is not a list of token ids"));
        cli_prompt_free(&p);
    }
    cli_prompt p = { 0 };
    assert_int_equal(cli_prompt_parse_tokens(&p, " 0, 12 ,2147483647", &error), GGUFC_OK);
    assert_int_equal(p.n_tokens, 3);
    int32_t expected[] = { 0, 12, INT32_MAX };
    assert_memory_equal(p.tokens, expected, sizeof expected);
    cli_prompt_free(&p);
}

static void check_prompt_file(const char *content, size_t size, const char *expected) {
    char path[80];
    snprintf(path, sizeof path, "%s.txt", weights_path);
    fake_write(path, (const uint8_t *)content, size);
    cli_prompt p = { 0 };
    ggufc_status status = cli_prompt_read_file(&p, path, &error);
    unlink(path);
    if (expected) {
        assert_int_equal(status, GGUFC_OK);
        assert_int_equal(p.text_size, strlen(expected));
        assert_memory_equal(p.text, expected, p.text_size);
    } else {
        assert_int_equal(status, GGUFC_ERROR_OPTIONS);
        assert_non_null(strstr(error.text, ".txt: the prompt is empty"));
    }
    cli_prompt_free(&p);
}

static void test_prompt_files(void **state) {
    (void)state;
    check_prompt_file("one", 3, "one");
    check_prompt_file("one\n", 4, "one");
    check_prompt_file("one\n\n", 5, "one\n");
    check_prompt_file("", 0, NULL);
    check_prompt_file("\n", 1, NULL);
    static char large[300001];
    memset(large, 'x', sizeof large - 1);
    check_prompt_file(large, sizeof large - 1, large);

    cli_prompt p = { 0 };
    assert_int_equal(cli_prompt_read_file(&p, "/no/file", &error), GGUFC_ERROR_OPTIONS);
    assert_string_equal(error.text, "/no/file: No such file or directory");
    assert_int_equal(cli_prompt_read_file(&p, "/tmp", &error), GGUFC_ERROR_OPTIONS);
    assert_string_equal(error.text, "/tmp: Is a directory");
    cli_prompt_free(&p);
}

/* ---- flags */

typedef struct flags_case {
    const char *arguments[7]; /* ends with NULL */
    const char *message; /* NULL: accepted */
} flags_case;

static const flags_case flags_cases[] = {
    { { "-p", "a", "-n", "5" }, NULL },
    { { "--temp=0.5", "--top-k", "-1", "--n-predict=7" }, NULL },
    { { "--prompt", "-n" }, NULL }, /* a value may look like an option */
    { { "-n", "-2", "-s", "-1", "-c", "0" }, NULL },
    { { "-s", "4294967295", "-t", "1" }, NULL },
    { { "-x" }, "unknown option '-x' (see --help)" },
    { { "--" }, "unknown option '--' (see --help)" },
    { { "-p=a" }, "unknown option '-p=a' (see --help)" },
    { { "hello" }, "unexpected argument 'hello' (a prompt is given with -p)" },
    { { "" }, "unexpected argument '' (a prompt is given with -p)" },
    { { "-p" }, "-p needs a value: -p TEXT" },
    { { "-v", "--seed" }, "--seed needs a value: --seed N" },
    { { "--info=1" }, "--info takes no value" },
    { { "-n", "x" }, "-n: 'x' is not a whole number from -2 to 2147483647" },
    { { "-n", "" }, "-n: '' is not a whole number" },
    { { "-n", " 1" }, "-n: ' 1' is not a whole number" },
    { { "-n", "1.5" }, "-n: '1.5' is not a whole number" },
    { { "-n", "-3" }, "-n: '-3' is not a whole number" },
    { { "-n", "99999999999999999999" }, "is not a whole number" },
    { { "-t", "0" }, "-t: '0' is not a whole number from 1 to 1024" },
    { { "-t", "1025" }, "-t: '1025' is not a whole number" },
    { { "-s", "4294967296" }, "-s: '4294967296' is not a whole number" },
    { { "--temp", "hot" }, "--temp: 'hot' is not a number from 0 to 1000" },
    { { "--temp", "nan" }, "--temp: 'nan' is not a number" },
    { { "--temp", "1e999" }, "--temp: '1e999' is not a number" },
    { { "--temp", "-0.1" }, "--temp: '-0.1' is not a number" },
    { { "--top-p=1.01" }, "--top-p: '1.01' is not a number from 0 to 1" },
    { { "--min-p", "-inf" }, "--min-p: '-inf' is not a number" },
    { { "--repeat-penalty", "0" }, "--repeat-penalty: '0' is not a number" },
    { { "-p", "a", "-f", "b" }, "give only one of -p, -f and --tokens" },
    { { "--lookup", "--no-lookup", "--lookup-always", "--draft-max", "6" }, NULL },
    { { "--draft-max=7" }, "--draft-max: '7' is not a whole number from 0 to 6" },
    { { "--lookup=1" }, "--lookup takes no value" },
    { { "--tokens", "1", "-p", "" }, "give only one of -p, -f and --tokens" },
};

static void test_flags(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(flags_cases); i++) {
        const flags_case *c = &flags_cases[i];
        char *argv[9] = { "program" };
        for (int k = 0; c->arguments[k]; k++) argv[k + 1] = (char *)c->arguments[k];
        cli_flags flags;
        ggufc_status status = cli_flags_parse(&flags, child_argc(argv), argv, &error);
        if (!c->message && status == GGUFC_OK) continue;
        if (!c->message || status != GGUFC_ERROR_OPTIONS || !strstr(error.text, c->message))
            fail_msg("case %zu: status %d, '%s'", i, status, error.text);
    }
}

static void test_flags_values(void **state) {
    (void)state;
    char *argv[] = { "program", "-p",          "text", "--temp=0.25", "--top-k",      "7",
                     "-n",      "12",          "-s",   "34",          "--ignore-eos", "-c",
                     "9",       "--no-prompt", "-t",   "3",           "-t",           "2",
                     "-v",      "-m",          "file", NULL };
    cli_flags f;
    assert_int_equal(cli_flags_parse(&f, child_argc(argv), argv, &error), GGUFC_OK);
    assert_string_equal(f.prompt, "text");
    assert_string_equal(f.model_path, "file");
    assert_true(f.sampling.temp == 0.25f && f.sampling.top_p == sampler_defaults().top_p);
    assert_int_equal(f.sampling.top_k, 7);
    assert_int_equal(f.n_predict, 12);
    assert_int_equal(f.seed, 34);
    assert_int_equal(f.n_ctx, 9);
    assert_int_equal(f.n_threads, 2);
    assert_true(f.ignore_eos && f.hide_prompt && f.verbose);
    assert_false(f.bench || f.info || f.help || f.version);

    char *none[] = { NULL };
    assert_int_equal(cli_flags_parse(&f, 0, none, &error), GGUFC_OK);
    assert_int_equal(f.n_predict, -1);
    assert_true(f.look_ahead && !f.always_draft && f.max_draft == LOOKUP_MAX_DRAFT);
    char *without[] = { "program", "--no-lookup", "--draft-max", "2", NULL };
    assert_int_equal(cli_flags_parse(&f, 4, without, &error), GGUFC_OK);
    assert_true(!f.look_ahead && f.max_draft == 2);
}

/* ---- the command line, as a process of its own */

static int fake_main(int argc, char **argv) {
    return cli_main(&model, argc, argv);
}

typedef struct cli_case {
    const char *arguments[9]; /* ends with NULL */
    int exit_code;
    const char *out, *err; /* all of one, part of the other; NULL: empty */
} cli_case;

static const cli_case cli_cases[] = {
    { { "--tokens", "1,2", "-n", "0" }, 0, "1,2\n", NULL },
    { { "--tokens", "1,2", "-n", "0", "--no-display-prompt" }, 0, "\n", NULL },
    { { "--tokens", "1,x" }, 2, NULL, "fake: --tokens: '1,x' is not a list" },
    { { "--tokens", "1,50" }, 1, NULL, "fake: token 50 at position 1 is not in the vocabulary" },
    { { "--tokens", "1,2,3", "-c", "2" },
      1,
      NULL,
      "the prompt has 3 tokens, the context has room" },
    { { "-p", "text" }, 1, NULL, "no tokenizer that is supported: give token ids with --tokens" },
    { { "-f", "/etc/passwd" }, 1, NULL, "no tokenizer that is supported" },
    { { NULL }, 1, NULL, "no tokenizer that is supported" },
    { { "-c", "65" }, 2, NULL, "compiled for at most 64" },
    { { "--tokens", "1", "-m", "/no/file" }, 1, NULL, "fake: /no/file: No such file" },
    { { "--bench", "--bench-prompt", "65" }, 1, NULL, "65 tokens cannot be measured" },
    { { "--bench", "-n", "65" }, 1, NULL, "65 tokens cannot be measured" },
    { { "--bench", "-n", "5", "--bench-depth", "60" },
      1,
      NULL,
      "fake: 5 tokens behind 60 cannot be measured, the context has room for 64" },
    { { "--bench", "--bench-depth", "64" }, 1, NULL, "1 tokens behind 64 cannot be measured" },
};

static void test_cli(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(cli_cases); i++) {
        const cli_case *c = &cli_cases[i];
        char *argv[11] = { "/some/where/fake" };
        for (int k = 0; c->arguments[k]; k++) argv[k + 1] = (char *)c->arguments[k];
        child run = child_run((child_setup){ .argv = argv, .function = fake_main });
        bool right = run.exit_code == c->exit_code && strcmp(run.out, c->out ? c->out : "") == 0 &&
                     (c->err ? strstr(run.err, c->err) != NULL : run.err_size == 0);
        if (!right) fail_msg("case %zu: exit %d, '%s', '%s'", i, run.exit_code, run.out, run.err);
        child_free(&run);
    }
}

static void test_cli_search_fails(void **state) {
    (void)state;
    ggufc_model before = model;
    model.path = "/no/such/weights.gguf";
    char *argv[] = { "fake", "--tokens", "1", NULL };
    child run = child_run((child_setup){ .argv = argv, .function = fake_main });
    assert_int_equal(run.exit_code, 1);
    assert_string_equal(run.err, "fake: weights.gguf: weights not found, neither beside the "
                                 "executable nor at /no/such/weights.gguf (name the GGUF file with "
                                 "-m)\n");
    child_free(&run);

    argv[1] = "--info"; /* says so, which is no error */
    argv[2] = NULL;
    run = child_run((child_setup){ .argv = argv, .function = fake_main });
    assert_int_equal(run.exit_code, 0);
    assert_non_null(strstr(run.out, "none: weights.gguf: weights not found"));
    assert_int_equal(run.err_size, 0);
    child_free(&run);
    model = before;
}

/* Counts what the body is given, and from where on. */
static uint32_t bench_before, bench_end, bench_behind;

static void bench_watch(const ggufc_state *s, const uint64_t *args, uint32_t begin, uint32_t end) {
    (void)args, (void)begin, (void)end;
    if (s->pos + s->n_tokens > bench_end) bench_end = s->pos + s->n_tokens;
    if (s->pos < 20) bench_before += s->n_tokens;
    if (s->pos >= 20) bench_behind += s->n_tokens;
}

static void test_bench_depth(void **state) {
    (void)state;
    static const ggufc_call watch = { bench_watch, NULL, 1, 0, 0, 0, 0 };
    ggufc_model watched = model;
    watched.decode = watched.prefill = (ggufc_calls){ &watch, 1 };
    ggufc_session *session;
    ggufc_session_options options = { .model = &watched, .n_threads = 1 };
    assert_int_equal(ggufc_session_open(&session, &options, &error), GGUFC_OK);
    stream out = { .fd = open("/dev/null", O_WRONLY) };
    cli_bench_request request = { .n_prompt = 9, .n_generate = 10, .depth = 20, .n_runs = 3 };
    assert_int_equal(cli_bench_run(session, &request, &out, &error), GGUFC_OK);
    assert_int_equal(bench_before, 20); /* filled once */
    assert_int_equal(bench_behind, 4 * (9 + 10));
    assert_int_equal(bench_end, 30);
    assert_int_equal(ggufc_session_n_past(session), 0);
    close(out.fd);
    ggufc_session_close(session);
}

static void test_bench(void **state) {
    (void)state;
    char *argv[] = { "fake", "--bench", "-n", "10", "--bench-runs", "2", "-t", "1", NULL };
    child run = child_run((child_setup){ .argv = argv, .function = fake_main });
    assert_int_equal(run.exit_code, 0);
    double ms, speed;
    unsigned n_prompt, n_generate, runs, threads;
    const char *second = strchr(run.out, '\n') + 1;
    const char *format = "%*s %u tokens %lf ms %lf tokens/s (median of %u, %u threads)";
    assert_int_equal(sscanf(run.out, format, &n_prompt, &ms, &speed, &runs, &threads), 5);
    assert_int_equal(n_prompt, FAKE_CTX);
    assert_int_equal(sscanf(second, format, &n_generate, &ms, &speed, &runs, &threads), 5);
    assert_int_equal(n_generate, 10);
    assert_int_equal(runs, 2);
    assert_int_equal(threads, 1);
    assert_memory_equal(run.out, "prefill ", 8);
    assert_memory_equal(second, "decode ", 7);
    child_free(&run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_no_tokens_wanted),
        cmocka_unit_test(test_context_full),
        cmocka_unit_test(test_bad_prompts),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_end_token),
        cmocka_unit_test(test_forbidden_end_token),
        cmocka_unit_test(test_stop_and_end_while_drafting),
        cmocka_unit_test(test_characters_are_whole),
        cmocka_unit_test(test_output_fails),
        cmocka_unit_test(test_stream_without_blocking),
        cmocka_unit_test(test_token_lists),
        cmocka_unit_test(test_prompt_files),
        cmocka_unit_test(test_flags),
        cmocka_unit_test(test_flags_values),
        cmocka_unit_test(test_cli),
        cmocka_unit_test(test_cli_search_fails),
        cmocka_unit_test(test_bench),
        cmocka_unit_test(test_bench_depth),
    };
    return cmocka_run_group_tests_name("generate", tests, make_weights, remove_weights);
}
