/* What can be wrong with a recording, and the whole of the one message that tells it: "~" stands
 * for the folder. A new way to be wrong is a new row. */
#include "recording_fixture.h"

#include <inttypes.h>

#include "gguf_writer.h"

static void expect_refused(const scene *s, const char *name, const char *message) {
    if (s->r) fail_msg("%s: not refused, expected: %s", name, message);
    if (strcmp(s->line, message))
        fail_msg("%s\n  expected: %s\n  found:    %s", name, message, s->line);
}

/* ---- text */

typedef struct text_case {
    const char *text, *message; /* "~/FILE" goes before it */
    size_t      size;           /* 0: that of the text */
} text_case;

static const text_case number_cases[] = {
    { "", ": no number in this file", 0 },
    { "\n# 1\n", ": no number in this file", 0 },
    { "x", ":1: 'x' is no number", 0 },
    { "1\n2\n\nnone\n", ":4: 'none' is no number", 0 },
    { "1\n2.5f\n", ":2: '2.5f' is no number", 0 },
    { "1 2 x3 4\n", ":1: 'x3' is no number", 0 },
    { "1,,2\n", ":1: ',2' is no number", 0 },
    { ",1\n", ":1: ',1' is no number", 0 },
    { "1;2\n", ":1: '1;2' is no number", 0 },
    { "[1, 2]\n", ":1: '[1' is no number", 0 },
    { "1 - 2\n", ":1: '-' is no number", 0 },
    { "0x\n", ":1: '0x' is no number", 0 },
    { "1\n\xff\xfe\n", ":2: '\\xff\\xfe' is no number", 0 },
    { "1\n2\0\n", ":2: '2\\x00' is no number", 5 },
    { "\0", ":1: '\\x00' is no number", 1 },
    { "value_1234567890123456789012345678901234567890123456789012345678901234567890",
      ":1: 'value_1234567890123456789012345678901234567890123456789012345678…' is no number", 0 },
    { "0: x\n", ":1: 'x' is no number", 0 },
    { "0: 1\n1: \n", ":2: '1:' has no number after it", 0 },
    { "0: 1\n2: 1\n", ":2: '2:' is not the next index: they count up from 0 or 1", 0 },
    { "2: 1\n3: 1\n", ":1: '2:' is not the next index: they count up from 0 or 1", 0 },
    { "0: 1\n0: 1\n", ":2: '0:' is not the next index: they count up from 0 or 1", 0 },
    { "0: 1\n1: 1\n0: 1\n1: 1\n2: 1\n",
      ":5: '2:' is not the next index: they count up from 0 or 1", 0 },
    { "0: 1\n1: 1\n2: 1\n0: 1\n1: 1\n", ": the last index is 1, expected rows of 3 like the first",
      0 },
    { "99999999999999999999999: 1\n", ":1: '99999999999999999999999:' is not the next index: they"
      " count up from 0 or 1", 0 },
    { "0: 1\n1\n", ":2: '1' has no index, which lines before have", 0 },
    { "1\n1: 1\n", ":2: '1:' has an index, which lines before have not", 0 },
    { "0: 1: 2\n", ":1: '1:' is no number", 0 },
    { ": 1\n", ":1: ':' is no number", 0 },
};

#define NO_ID " is no token id, which is an integer from 0 to 2147483647"

static const text_case id_cases[] = {
    { "", ": no number in this file", 0 },
    { "1\n-1\n", ":2: '-1'" NO_ID, 0 },
    { "1 2.0\n", ":1: '2.0'" NO_ID, 0 },
    { "2147483648\n", ":1: '2147483648'" NO_ID, 0 },
    { "99999999999999999999999\n", ":1: '99999999999999999999999'" NO_ID, 0 },
    { "Once\n", ":1: 'Once'" NO_ID, 0 },
    { "1,,2\n", ":1: ',2'" NO_ID, 0 },
    { "nan\n", ":1: 'nan'" NO_ID, 0 },
};

static void refuse_texts(const text_case *cases, size_t n, const char *file) {
    scene s = scene_new();
    for (size_t i = 0; i < n; i++) {
        const text_case *c = &cases[i];
        scene_write_bytes(&s, file, c->text, c->size ? c->size : strlen(c->text));
        scene_open(&s, "", NULL);
        expect_refused(&s, c->text, arena_printf(s.a, "~/%s%s", file, c->message));
    }
    scene_free(&s);
}

static void refuse_every_bad_number(void **state) {
    (void)state;
    refuse_texts(number_cases, ARRAY_LEN(number_cases), "x.txt");
}

static void refuse_every_bad_id(void **state) {
    (void)state;
    refuse_texts(id_cases, ARRAY_LEN(id_cases), "tokens.txt");
}

/* ---- maps */

typedef struct map_case {
    const char *map, *message;
} map_case;

static const map_case map_cases[] = {
    { "a.txt", "map:1: 'a.txt' has no '=', expected PATTERN = NAME" },
    { "# one\n\na.txt = x\nb.txt\n", "map:4: 'b.txt' has no '=', expected PATTERN = NAME" },
    { "a.txt # = x", "map:1: 'a.txt' has no '=', expected PATTERN = NAME" },
    { "= x", "map:1: the pattern is empty, expected PATTERN = NAME" },
    { "a/b.txt = x", "map:1: 'a/b.txt' has a '/', expected the name of a file in the folder" },
    { "{x}.txt = x", "map:1: '{x}.txt' is none of {l}, {t} and {name}" },
    { "{l.txt = x", "map:1: '{l.txt' is none of {l}, {t} and {name}" },
    { "{l}{l}.txt = x", "map:1: {l} is twice in '{l}{l}.txt'" },
    { "{name}-{name}.txt = x", "map:1: {name} is twice in '{name}-{name}.txt'" },
    { "a.txt = {x}", "map:1: '{x}' is none of {l}, {t} and {name}" },
    { "a.txt = x-{l}", "map:1: {l} is in 'x-{l}' but not in the pattern 'a.txt'" },
    { "a.txt = {name}", "map:1: {name} is in '{name}' but not in the pattern 'a.txt'" },
    { "a.txt = x@{t}", "map:1: {t} is in 'x@{t}' but not in the pattern 'a.txt'" },
    { "{t}.txt = x-{t}", "map:1: {t} in 'x-{t}' is not in '@{t}' at its end" },
    { "{t}.txt = {t}@{t}", "map:1: {t} in '{t}@{t}' is not in '@{t}' at its end" },
    { "{t}.txt = x@{t}y", "map:1: '@{t}y' is not '@' and the number of a token, nor '@{t}'" },
    { "{l}.txt = x@{l}", "map:1: '@{l}' is not '@' and the number of a token, nor '@{t}'" },
    { "a.txt = x@", "map:1: '@' is not '@' and the number of a token, nor '@{t}'" },
    { "a.txt = x@-1", "map:1: '@-1' is not '@' and the number of a token, nor '@{t}'" },
    { "a.txt = x@2147483648", "map:1: '@2147483648' is not '@' and the number of a token, nor"
      " '@{t}'" },
    { "a.txt = @3", "map:1: '@3' has no name before '@'" },
    { "a.txt = tokens@3", "map:1: 'tokens' and 'prompt' are of all tokens, found '@3'" },
    { "{t}.txt = prompt@{t}", "map:1: 'tokens' and 'prompt' are of all tokens, found '@{t}'" },
    { "a.txt = x\na.txt = y",
      "~/a.txt: the map takes it for two things: line 1 'a.txt = x', line 2 'a.txt = y'" },
    { "a.txt = x\na.txt = x@0",
      "~/a.txt: the map takes it for two things: line 1 'a.txt = x', line 2 'a.txt = x@0'" },
    { "{name}.txt = {name}\na.tx{name} = y",
      "~/a.txt: the map takes it for two things: line 1 '{name}.txt = {name}', line 2 'a.tx{name} ="
      " y'" },
};

static void refuse_every_bad_map(void **state) {
    (void)state;
    scene s = scene_new();
    scene_write(&s, "a.txt", "1");
    for (size_t i = 0; i < ARRAY_LEN(map_cases); i++) {
        scene_open(&s, "", map_cases[i].map);
        expect_refused(&s, map_cases[i].map, map_cases[i].message);
    }
    /* a map is looked at even where it is of no use */
    scene_open(&s, "a.txt", "a.txt");
    expect_refused(&s, "a.txt", "map:1: 'a.txt' has no '=', expected PATTERN = NAME");
    scene_free(&s);
}

/* ---- files of a folder, and llama-debug's */

typedef struct made_file {
    const char *name, *text;
    size_t      size; /* 0: that of the text */
} made_file;

typedef struct file_case {
    const char *name;
    made_file   files[3];
    const char *open, *map, *message; /* open: a file, "" for the folder */
} file_case;

#define LLAMA   "llamacpp-m"
#define LOGITS  { LLAMA ".bin", "abcd", 0 }
#define PROMPT  LLAMA "-prompt.txt"
#define TOKENS  LLAMA "-tokens.bin"
#define NO_LINES ": expected the lines 'prompt: …', 'n_tokens: …' and 'token ids: …'"

static const file_case file_cases[] = {
    { "nothing there", { { 0 } }, "x", NULL, "~/x: cannot open: No such file or directory" },
    { "no kind", { { "x.dat", "1", 0 } }, "x.dat", NULL,
      "~/x.dat: this is no recording, expected an activations GGUF, a folder of text dumps, or a"
      " .bin or .txt of logits" },
    { "empty folder", { { 0 } }, "", NULL, "~: neither activations nor token ids in it" },
    { "all ignored", { { "x.dat", "1", 0 } }, "", NULL,
      "~: neither activations nor token ids in it" },
    { "all left out", { { "x.txt", "?", 0 } }, "", "x.txt =",
      "~: neither activations nor token ids in it" },
    { "twice a layer", { { "layer_0.txt", "1", 0 }, { "layer_00.txt", "1", 0 } }, "", NULL,
      "~/layer_00.txt: a second file of l_out-0, after ~/layer_0.txt" },
    { "twice a name", { { "l_out-0.txt", "1", 0 }, { "layer_0.txt", "1", 0 } }, "", NULL,
      "~/layer_0.txt: a second file of l_out-0, after ~/l_out-0.txt" },
    { "twice a token", { { "x@1.txt", "1", 0 }, { "x@01.txt", "1", 0 }, { "x@0.txt", "1", 0 } }, "",
      NULL, "~/x@1.txt: a second file of x for token 1, after ~/x@01.txt" },
    { "a token and all", { { "x.txt", "1 2", 0 }, { "x@1.txt", "1", 0 } }, "", NULL,
      "~/x@1.txt: x for token 1, and ~/x.txt has x for no token in particular" },
    { "columns unlike", { { "x@0.txt", "1 2", 0 }, { "x@1.txt", "1 2 3", 0 } }, "", NULL,
      "~/x@1.txt: 3 numbers, expected 2 as in ~/x@0.txt" },
    { "twice the tokens", { { "ids.txt", "1", 0 }, { "tokens.txt", "1", 0 } }, "", "ids.txt=tokens",
      "~/tokens.txt: a second file of token ids, after ~/ids.txt" },
    { "twice the prompt", { { "a", "1", 0 }, { "prompt.txt", "1", 0 } }, "", "a = prompt",
      "~/prompt.txt: a second file of the prompt, after ~/a" },
    { "a zero byte in the prompt", { { "prompt.txt", "a\0b", 3 } }, "", NULL,
      "~/prompt.txt: a zero byte at offset 1, expected text" },
    { "llama-debug's in a folder", { LOGITS, { PROMPT, "prompt: x\n", 0 } }, "", NULL,
      "~/" PROMPT ": llama-debug's, no text dump: give the .bin or .txt of logits itself, or say in"
      " a map what it is" },
    { "odd bytes", { { "x.bin", "abcde", 0 } }, "x.bin", NULL,
      "~/x.bin: 5 bytes are no whole number of 32-bit floats" },
    { "no bytes", { { "x.bin", "", 0 } }, "x.bin", NULL,
      "~/x.bin: 0 bytes are no whole number of 32-bit floats" },
    { "no text", { { "x.txt", "", 0 } }, "x.txt", NULL, "~/x.txt: no number in this file" },
    { "bad text", { { "x.txt", "0: 1\n1: ?\n", 0 } }, "x.txt", NULL,
      "~/x.txt:2: '?' is no number" },
    { "embeddings", { { LLAMA "-embeddings.bin", "abcd", 0 } }, LLAMA "-embeddings.bin", NULL,
      "~/" LLAMA "-embeddings.bin: by its name this holds embeddings, expected a file of logits" },
    { "embeddings as text", { { "-embeddings.txt", "0: 1", 0 } }, "-embeddings.txt", NULL,
      "~/-embeddings.txt: by its name this holds embeddings, expected a file of logits" },
    { "tokens given", { { TOKENS, "abcd", 0 } }, TOKENS, NULL,
      "~/" TOKENS ": by its name this holds token ids, expected a file of logits" },
    { "prompt given", { { PROMPT, "prompt: x", 0 } }, PROMPT, NULL,
      "~/" PROMPT ": by its name this holds a prompt, expected a file of logits" },
    { "odd tokens", { LOGITS, { TOKENS, "abc", 0 } }, LLAMA ".bin", NULL,
      "~/" TOKENS ": 3 bytes are no whole number of 32-bit token ids" },
    { "no tokens", { LOGITS, { TOKENS, "", 0 } }, LLAMA ".bin", NULL,
      "~/" TOKENS ": 0 bytes are no whole number of 32-bit token ids" },
    { "token below 0", { LOGITS, { TOKENS, "\1\0\0\0\xff\xff\xff\xff", 8 } }, LLAMA ".bin", NULL,
      "~/" TOKENS ": number 1 is -1, expected a token id, which is 0 or more" },
    { "empty prompt file", { LOGITS, { PROMPT, "", 0 } }, LLAMA ".bin", NULL,
      "~/" PROMPT NO_LINES },
    { "prompt without ids", { LOGITS, { PROMPT, "prompt: x\nn_tokens: 1\n", 0 } }, LLAMA ".bin",
      NULL, "~/" PROMPT NO_LINES },
    { "prompt without prompt", { LOGITS, { PROMPT, "n_tokens: 1\ntoken ids: 1\n", 0 } },
      LLAMA ".bin", NULL, "~/" PROMPT NO_LINES },
    { "prompt without count", { LOGITS, { PROMPT, "prompt: x\ntoken ids: 1\n", 0 } }, LLAMA ".bin",
      NULL, "~/" PROMPT NO_LINES },
    { "a zero byte in llama-debug's prompt",
      { LOGITS, { PROMPT, "prompt: \0\nn_tokens: 1\ntoken ids: 1\n", 36 } }, LLAMA ".bin", NULL,
      "~/" PROMPT ": a zero byte at offset 8, expected text" },
    { "prompt's bad id", { LOGITS, { PROMPT, "prompt: x\ny\nn_tokens: 2\ntoken ids: 1, -2\n", 0 } },
      LLAMA ".bin", NULL, "~/" PROMPT ":4: '-2'" NO_ID },
    { "prompt's count", { LOGITS, { PROMPT, "prompt: x\nn_tokens: 12\ntoken ids: 1, 2\n", 0 } },
      LLAMA ".bin", NULL, "~/" PROMPT ": '12' tokens by 'n_tokens: ', but 2 ids" },
    { "two runs",
      { LOGITS,
        { TOKENS, "\1\0\0\0", 4 },
        { PROMPT, "prompt: x\nn_tokens: 1\ntoken ids: 2\n", 0 } },
      LLAMA ".bin", NULL,
      "~/" TOKENS ": other token ids than in ~/" PROMPT ": they are of different runs" },
};

static void refuse_every_bad_folder(void **state) {
    (void)state;
    scene s = scene_new();
    for (size_t i = 0; i < ARRAY_LEN(file_cases); i++) {
        const file_case *c = &file_cases[i];
        for (size_t k = 0; k < ARRAY_LEN(c->files) && c->files[k].name; k++) {
            const made_file *f = &c->files[k];
            scene_write_bytes(&s, f->name, f->text, f->size ? f->size : strlen(f->text));
        }
        scene_open(&s, c->open, c->map);
        expect_refused(&s, c->name, c->message);
        scene_clear(&s);
    }
    scene_free(&s);
}

static void refuse_what_cannot_be_read(void **state) {
    (void)state;
    scene s = scene_new();
    assert_int_equal(symlink("nowhere", scene_path(&s, "x.txt")), 0);
    scene_open(&s, "", NULL);
    expect_refused(&s, "a link to nothing", "~/x.txt: cannot open: No such file or directory");
    scene_open(&s, "x.txt", NULL);
    expect_refused(&s, "it alone", "~/x.txt: cannot open: No such file or directory");
    scene_clear(&s);

    assert_int_equal(mkfifo(scene_path(&s, "x.txt"), 0600), 0);
    scene_open(&s, "x.txt", NULL);
    expect_refused(&s, "a pipe", "~/x.txt: this is no recording, expected an activations GGUF, a"
                   " folder of text dumps, or a .bin or .txt of logits");
    scene_clear(&s);

    scene_write(&s, "x.bin", "abcd");
    assert_int_equal(mkdir(scene_path(&s, "x-tokens.bin"), 0700), 0);
    scene_open(&s, "x.bin", NULL);
    expect_refused(&s, "a folder beside", "~/x-tokens.bin: this is no regular file");
    scene_free(&s);
}

/* ---- GGUFs */

static void put_type(gguf_writer *w) {
    writer_kv_string(w, "general.type", "activations");
}

static void put_x(gguf_writer *w, uint32_t type) {
    writer_tensor(w, "x", 1, (uint64_t[]){ 32 }, type);
}

static void no_type(gguf_writer *w) {
    put_x(w, QUANT_F32);
}

static void type_of_model(gguf_writer *w) {
    writer_kv_string(w, "general.type", "model");
}

static void type_with_more(gguf_writer *w) {
    writer_kv_string(w, "general.type", "activations2");
}

static void type_a_number(gguf_writer *w) {
    writer_kv_u32(w, "general.type", 1);
}

static void tensor_f16(gguf_writer *w) {
    put_type(w);
    put_x(w, QUANT_F16);
}

static void tensor_q8_0(gguf_writer *w) {
    put_type(w);
    put_x(w, QUANT_Q8_0);
}

static void tokens_below_0(gguf_writer *w) {
    put_type(w);
    writer_kv_array(w, "activations.tokens", GGUF_I32, (int32_t[]){ 1, 2, -3 }, 3, 4);
}

static void tokens_u32(gguf_writer *w) {
    put_type(w);
    writer_kv_array(w, "activations.tokens", GGUF_U32, (uint32_t[]){ 1 }, 1, 4);
}

static void tokens_a_string(gguf_writer *w) {
    put_type(w);
    writer_kv_string(w, "activations.tokens", "1, 2");
}

static void producer_a_number(gguf_writer *w) {
    put_type(w);
    writer_kv_u32(w, "activations.producer", 1);
}

static void zero_byte_in_name(gguf_writer *w) {
    put_type(w);
    put_x(w, QUANT_F32);
    w->data[w->size - 4 - 8 - 8 - 4 - 1] = 0; /* the name's only letter */
}

static void nothing(gguf_writer *w) {
    put_type(w);
}

static const struct {
    void (*write)(gguf_writer *w);
    const char *message;
} gguf_cases[] = {
    { no_type, "~/a.gguf: no key 'general.type', expected 'activations'" },
    { type_of_model, "~/a.gguf: key 'general.type' is 'model', expected 'activations'" },
    { type_with_more, "~/a.gguf: key 'general.type' is 'activations2', expected 'activations'" },
    { type_a_number, "~/a.gguf: offset 24: key 'general.type': the type is u32, expected string" },
    { tensor_f16, "~/a.gguf: tensor 'x': the type is F16, expected F32" },
    { tensor_q8_0, "~/a.gguf: tensor 'x': the type is Q8_0, expected F32" },
    { tokens_below_0,
      "~/a.gguf: key 'activations.tokens': token 2 is -3, expected an id of 0 or more" },
    { tokens_u32, "~/a.gguf: offset 67: key 'activations.tokens': the type is array of u32,"
                  " expected array of i32" },
    { tokens_a_string, "~/a.gguf: offset 67: key 'activations.tokens': the type is string, expected"
                       " array of i32" },
    { producer_a_number, "~/a.gguf: offset 67: key 'activations.producer': the type is u32,"
                         " expected string" },
    { zero_byte_in_name, "~/a.gguf: tensor '\\x00': a zero byte in the name" },
    { nothing, "~/a.gguf: neither activations nor token ids in it" },
};

static void refuse_every_bad_gguf(void **state) {
    (void)state;
    scene s = scene_new();
    for (size_t i = 0; i < ARRAY_LEN(gguf_cases); i++) {
        gguf_writer w;
        writer_begin(&w);
        gguf_cases[i].write(&w);
        writer_finish(&w);
        scene_write_bytes(&s, "a.gguf", w.data, w.size);
        writer_free(&w);
        scene_open(&s, "a.gguf", NULL);
        expect_refused(&s, gguf_cases[i].message, gguf_cases[i].message);
    }
    scene_write(&s, "a.gguf", "GGUF");
    scene_open(&s, "a.gguf", NULL);
    expect_refused(&s, "cut",
                   "~/a.gguf: offset 4: header: version needs 4 bytes, 0 are left in the file");
    scene_free(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuse_every_bad_number),
        cmocka_unit_test(refuse_every_bad_id),
        cmocka_unit_test(refuse_every_bad_map),
        cmocka_unit_test(refuse_every_bad_folder),
        cmocka_unit_test(refuse_what_cannot_be_read),
        cmocka_unit_test(refuse_every_bad_gguf),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
