/* That .arch text is read as templates/arch/README.md specifies it, and that no text whatsoever
 * brings down the compiler: the errors by table, then numbers and names, then texts made to hurt
 * and seeded mutations of llama.arch. GGUFC_MUTATIONS sets how many. */
#include "arch_fixture.h"
#include "pass.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* ---- errors of the text; snippets begin on line 6 */

#define HEAD                                \
    "arch llama\n"                          \
    "param n_embd embedding_length\n"       \
    "param n_ctx_train context_length\n"    \
    "tensor e token_embd.weight [n_embd, let n_vocab]\n" \
    "tensor w blk.{l}.ffn_norm.weight [n_embd] f32\n"
#define LAYERS "x = get_rows(e, tokens)\nlayers l < 2\n"
#define TAIL   "output\nlogits = matmul(e, x)\n"
#define TOP(snippet)    HEAD snippet LAYERS TAIL
#define LAYER(snippet)  HEAD LAYERS snippet TAIL /* from line 8 */
#define OUTPUT(snippet) HEAD LAYERS "output\n" snippet /* from line 9 */

typedef struct bad_text {
    const char *text, *message;
} bad_text;

static const bad_text bad_texts[] = {
    { "", "t.arch:1:1: expected 'arch NAME' first, found the end of the file" },
    { "\n\n  # nothing\n", "t.arch:4:1: expected 'arch NAME' first" },
    { "param n k\n", "t.arch:1:1: expected 'arch NAME' first, found 'param'" },
    { "arch\n", "t.arch:1:5: expected the architecture's name, found the end of the line" },
    { "arch ll{a}\n", "t.arch:1:6: expected the architecture's name, found 'll{a}'" },
    { "arch llama llama\n", "t.arch:1:12: expected the end of the line, found 'llama'" },
    { "arch llama\n", "t.arch:2:1: the file has no 'layers'" },
    { HEAD LAYERS, "t.arch:8:1: the file has no 'output'" },
    { HEAD LAYERS "output\n", "t.arch:9:1: the last statement of 'output' has to name" },
    { HEAD LAYERS TAIL "let a = 1\n", "the last statement of 'output' has to name" },
    { "arch a\nx = tokens\nlayers l < 1\noutput\ny = x\n",
      "t.arch:6:1: the file does not name 'n_embd', an integer" },
    { "arch a\nlet n_embd = 1.5\nx = tokens\nlayers l < 1\noutput\ny = x\n",
      "does not name 'n_embd', an integer" },

    /* tokens */
    { TOP("let a = 1 $ 2\n"), "t.arch:6:11: '$' is not part of the language" },
    { TOP("let a = \x01\n"), "t.arch:6:9: byte 0x01 is not part of the language" },
    { TOP("let a = \xc3\xa4\n"), "t.arch:6:9: byte 0xc3 is not part of the language" },
    { TOP("let a = 99999999999999999999\n"), "t.arch:6:9: the number is out of range" },
    { TOP("let a = 1e999\n"), "t.arch:6:9: the number is out of range" },
    { TOP("let a = 1.2.3\n"), "t.arch:6:9: this is no number" },
    { TOP("let a = 0x10\n"), "t.arch:6:9: this is no number" },
    { TOP("let a = 12abc\n"), "t.arch:6:9: this is no number" },
    { TOP("let a = 1e+\n"), "t.arch:6:9: this is no number" },
    { TOP("check true : \"no end\n"), "t.arch:6:14: the string has no closing '\"' on its line" },
    { TOP("check true : \"a\\\"\n"), "t.arch:6:14: the string has no closing" },

    /* statements */
    { TOP("(1)\n"), "t.arch:6:1: expected a statement, found '('" },
    { TOP("nonsense\n"), "t.arch:6:1: expected a statement or 'nonsense = …'" },
    { TOP("let = 1\n"), "t.arch:6:5: expected a name, found '='" },
    { TOP("let if = 1\n"), "t.arch:6:5: 'if' is a word of the language, not a name" },
    { TOP("let n_embd = 1\n"), "t.arch:6:5: 'n_embd' is named already, on line 2" },
    { TOP("let n_vocab = 1\n"), "t.arch:6:5: 'n_vocab' is named already, on line 4" },
    { TOP("let tokens = 1\n"), "t.arch:6:5: 'tokens' has a meaning in the language" },
    { TOP("let l = 1\n"), "t.arch:6:5: 'l' is named already, on line 5" },
    { TOP("let a 1\n"), "t.arch:6:7: expected '=', found '1'" },
    { TOP("let a = 1 2\n"), "t.arch:6:11: expected the end of the line, found '2'" },
    { TOP("let a = e\n"), "t.arch:6:9: 'let' is for numbers" },
    { TOP("param a\n"), "t.arch:6:8: expected a metadata key, found the end of the line" },
    { TOP("param a b{c\n"), "t.arch:6:9: expected a metadata key, found 'b{c'" },
    { TOP("param a b real\n"), "t.arch:6:11: expected a type (count, int, float, bool, string)" },
    { TOP("param a b = 1.5\n"), "t.arch:6:13: the default needs an integer, found a float" },
    { TOP("param a b string = 1\n"), "t.arch:6:20: the default needs a string, found an integer" },
    { TOP("param a b = e\n"), "t.arch:6:13: the default needs an integer, found a value" },
    { TOP("check 1 : \"m\"\n"), "t.arch:6:7: 'check' needs a bool, found an integer" },
    { TOP("check true\n"), "t.arch:6:11: expected ':', found the end of the line" },
    { TOP("check true : m\n"), "t.arch:6:14: expected the message as a string, found 'm'" },
    { TOP("check true : \"{n_emb}\"\n"),
      "t.arch:6:14: the message names 'n_emb', which is unknown (did you mean 'n_embd'?)" },
    { TOP("check true : \"{n_embd\"\n"), "t.arch:6:14: the message has a '{' without '}'" },
    { TOP("check true : \"{e}\"\n"), "t.arch:6:14: the message names 'e', which is no number" },
    { TOP("check true : \"{l}\"\n"), "t.arch:6:14: the message names 'l', which is no number" },

    /* tensors */
    { TOP("tensor\n"), "t.arch:6:7: expected a name, found the end of the line" },
    { TOP("tensor a\n"), "t.arch:6:9: expected a tensor's name, found the end of the line" },
    { TOP("tensor a b\n"), "t.arch:6:11: expected '[', found the end of the line" },
    { TOP("tensor a b []\n"), "t.arch:6:13: expected an expression, found ']'" },
    { TOP("tensor a b [1\n\n"), "expected ',' or ']', found 'x'" },
    { TOP("tensor a b [1, 2, 3, 4, 5]\n"), "t.arch:6:25: a tensor has at most 4 dimensions" },
    { TOP("tensor a b [1.0]\n"), "t.arch:6:13: a dimension needs an integer, found a float" },
    { TOP("tensor a b.{l [1]\n"), "t.arch:6:12: expected one '{NAME}' in the tensor's name" },
    { TOP("tensor a b.{} [1]\n"), "t.arch:6:12: expected one '{NAME}'" },
    { TOP("tensor a b.{l}.{l} [1]\n"), "t.arch:6:12: expected one '{NAME}'" },
    { TOP("tensor a b.{n} [1]\n"), "t.arch:6:13: the layer's number is called 'l', found 'n'" },
    { TOP("tensor a b.{l} [let n]\n"), "t.arch:6:17: 'let' cannot name a dimension that may" },
    { TOP("tensor a b [let n] optional\n"), "t.arch:6:20: a tensor that may be absent cannot" },
    { TOP("tensor a b [1] or n_embd\n"), "t.arch:6:19: expected a tensor's name after 'or'" },
    { TOP("tensor a b [1] or w\n"), "t.arch:6:19: 'w' is known only in the layers" },
    { TOP("tensor a b [1] or a\n"), "t.arch:6:19: expected a tensor's name after 'or'" },
    { TOP("tensor a b [1] optional optional\n"), "t.arch:6:25: expected the end of the line" },
    { TOP("tensor a b [l]\n"), "t.arch:6:13: 'l' is known only in the layers" },
    { TOP("tensor a b [let a]\n"), "t.arch:6:8: 'a' is named already, on line 6" },

    /* names */
    { TOP("y = x\n"), "t.arch:6:5: nothing is called 'x'" },
    { TOP("let a = n_embed + 1\n"),
      "t.arch:6:9: nothing is called 'n_embed' (did you mean 'n_embd'?)" },
    { TOP("y = get_row(e, tokens)\n"),
      "t.arch:6:5: no function is called 'get_row' (did you mean 'get_rows'?)" },
    { TOP("y = rope_table(e)\n"), "t.arch:6:5: no function is called 'rope_table'" },
    { TOP("y = w\n"), "t.arch:6:5: 'w' is known only in the layers" },
    { LAYER("y = z\nz = x\n"), "t.arch:8:5: nothing is called 'z'" },
    { LAYER("x = n_embd\n"), "t.arch:8:5: 'x' is to be a value of the graph, found an integer" },
    { LAYER("n_embd = x + x\n"), "t.arch:8:1: 'n_embd' is named already, on line 2" },
    { LAYER("y = x + x\ny = x + x\n"), "t.arch:9:1: 'y' names an activation already" },
    { LAYER("param a b\n"), "t.arch:8:1: 'param' belongs before 'layers'" },
    { LAYER("tensor a b [1]\n"), "t.arch:8:1: 'tensor' belongs before 'layers'" },
    { LAYER("layers l < 2\n"), "t.arch:8:1: 'layers' comes once, before 'output'" },
    { TOP("output\n"), "t.arch:6:1: 'output' comes once, after 'layers'" },
    { OUTPUT("y = x * w\n"), "t.arch:9:9: 'w' is known only in the layers" },
    { HEAD "layers < 2\n", "t.arch:6:8: expected a name for the layer's number, found '<'" },
    { HEAD "layers n < 2\n", "t.arch:6:8: the layer's number is called 'l', found 'n'" },
    { HEAD "layers l = 2\n", "t.arch:6:10: expected '<', found '='" },
    { HEAD "layers l < 2.0\n",
      "t.arch:6:12: the number of layers needs an integer, found a float" },

    /* expressions */
    { TOP("let a =\n"), "t.arch:6:8: expected an expression, found the end of the line" },
    { TOP("let a = 1 +\n"), "t.arch:6:12: expected an expression, found the end of the line" },
    { TOP("let a = (1 + 2\n\n"), "expected the ')' of 6:9, found 'x'" },
    { TOP("let a = 1)\n"), "t.arch:6:10: expected the end of the line, found ')'" },
    { TOP("let a = 1 + true\n"), "t.arch:6:11: '+' needs two numbers or two values of the graph" },
    { TOP("let a = 1 - \"a\"\n"),
      "t.arch:6:11: '-' needs two numbers, found an integer and a str" },
    { TOP("let a = 2.0 % 2\n"), "t.arch:6:13: '%' needs two integers" },
    { TOP("let a = -true\n"), "t.arch:6:10: '-' needs a number, found a bool" },
    { TOP("let a = not 1\n"), "t.arch:6:13: 'not' needs a bool, found an integer" },
    { TOP("let a = 1 and true\n"), "t.arch:6:9: and needs a bool, found an integer" },
    { TOP("let a = true or 1\n"), "t.arch:6:17: or needs a bool, found an integer" },
    { TOP("let a = 1 < \"a\"\n"), "t.arch:6:11: '<' cannot compare an integer with a string" },
    { TOP("let a = \"a\" < \"b\"\n"), "t.arch:6:13: '<' cannot compare a string with a string" },
    { TOP("let a = e == e\n"), "t.arch:6:11: '==' cannot compare" },
    { TOP("let a = 1 < 2 < 3\n"), "t.arch:6:15: expected the end of the line, found '<'" },
    { TOP("let a = 1 if 2 else 3\n"), "t.arch:6:14: 'if' needs a bool, found an integer" },
    { TOP("let a = 1 if true\n"), "t.arch:6:18: expected 'else', found the end of the line" },
    { TOP("let a = 1 if true else \"b\"\n"), "t.arch:6:24: 'else' needs an integer, found a str" },
    { TOP("let a = has 1\n"), "t.arch:6:13: 'has' needs a tensor's name, found '1'" },
    { TOP("let a = has n_embd\n"), "t.arch:6:13: 'has' needs a tensor's name, found 'n_embd'" },
    { TOP("let a = has w\n"), "t.arch:6:13: 'w' is known only in the layers" },
    { TOP("let a = sqrt(true)\n"), "t.arch:6:14: sqrt needs a number, found a bool" },
    { TOP("let a = sqrt 2\n"), "t.arch:6:14: expected '(', found '2'" },
    { TOP("let a = n_embd.x\n"), "t.arch:6:9: nothing is called 'n_embd.x'" },
    { LAYER("y = x - x\n"), "t.arch:8:7: '-' needs two numbers, found a value of the graph and" },
    { LAYER("y = x * 2.0\n"), "t.arch:8:7: '*' needs two numbers or two values of the graph" },

    /* calls */
    { LAYER("y = matmul(e, x\n\n"),
      "t.arch:10:1: expected ',' or the ')' of 8:11, found 'output'" },
    { LAYER("y = matmul(e x)\n"), "t.arch:8:14: expected ',' or the ')' of 8:11, found 'x'" },
    { LAYER("y = matmul(e, x, x)\n"), "t.arch:8:18: matmul takes 2 arguments" },
    { LAYER("y = matmul(e)\n"), "t.arch:8:5: matmul needs its argument 'x'" },
    { LAYER("y = matmul()\n"), "t.arch:8:5: matmul needs its argument 'weight'" },
    { LAYER("y = matmul(e, weight=e)\n"), "t.arch:8:15: weight of matmul is given twice" },
    { LAYER("y = matmul(e, y=x)\n"), "t.arch:8:15: matmul has no argument 'y', only: weight, x" },
    { LAYER("y = matmul(e, 1)\n"), "t.arch:8:15: x needs a value of the graph, found an integer" },
    { LAYER("y = rms_norm(x, w)\n"), "t.arch:8:5: rms_norm needs its argument 'eps'" },
    { LAYER("y = rms_norm(x, w, true)\n"), "t.arch:8:20: eps needs a float, found a bool" },
    { LAYER("y = rope(x, head_dim=8.0, dims=8, base=1, pairing=adjacent)\n"),
      "t.arch:8:22: head_dim needs an integer, found a float" },
    { LAYER("y = rope(x, head_dim=8, dims=8, base=1, pairing=beside)\n"),
      "t.arch:8:49: pairing is 'adjacent' or 'halves', found 'beside'" },
    { LAYER("y = rope(x, head_dim=8, dims=8, base=1, pairing=1)\n"), "found '1'" },
};

static arch *parse(fixture *f, const char *text, size_t size) {
    return arch_parse(f->memory, &f->diag, "t.arch", text, size);
}

static void test_bad_texts(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad_texts); i++) {
        fixture f;
        fixture_begin(&f);
        const arch *t = parse(&f, bad_texts[i].text, strlen(bad_texts[i].text));
        if (t || f.diag.n_errors != 1 || !strstr(f.said.text, bad_texts[i].message))
            fail_msg("%s\nexpected %s\nfound %s", bad_texts[i].text, bad_texts[i].message,
                     f.said.text);
        fixture_end(&f);
    }
}

/* ---- errors of evaluation, and of what only a graph shows */

static const bad_text bad_builds[] = {
    { TOP("let a = 1 / (n_embd - 32)\n"), "t.arch:6:11: division of 1 by zero (model m.gguf)" },
    { TOP("let a = 1 % (n_embd - 32)\n"), "t.arch:6:11: division of 1 by zero (model m.gguf)" },
    { TOP("let a = 1.5 / (n_embd - 32)\n"), "t.arch:6:13: division of 1.5 by zero" },
    { TOP("let a = n_embd / 5\n"), "t.arch:6:16: 32 / 5 is no whole number" },
    { TOP("let a = 9223372036854775807 + 1\n"), "t.arch:6:29: the result is out of range" },
    { TOP("let a = -9223372036854775807 - 2\n"), "t.arch:6:30: the result is out of range" },
    { TOP("let a = 4294967296 * 4294967296\n"), "t.arch:6:20: the result is out of range" },
    { TOP("let a = (-9223372036854775807 - 1) / -1\n"), "t.arch:6:36: the result is out of range" },
    { TOP("let a = (-9223372036854775807 - 1) % -1\n"), "t.arch:6:36: the result is out of range" },
    { TOP("let a = -(-9223372036854775807 - 1)\n"), "t.arch:6:9: the result is out of range" },
    { TOP("let a = 1e308 * 10\n"), "t.arch:6:15: the result is out of range" },
    { TOP("let a = sqrt(0 - n_embd)\n"), "t.arch:6:9: sqrt of -32, which is negative" },
    { TOP("check n_embd == 1 : \"a {n_embd}, {n_vocab}\"\n"), "error: m.gguf: a 32, 100\n" },
    { TOP("tensor a output.weight [0]\n"), "t.arch:6:25: dimension 0 of 'a' is 0, expected 1 to" },
    { TOP("tensor a output.weight [2147483648]\n"), "dimension 0 of 'a' is 2147483648" },
    { HEAD "x = get_rows(e, tokens)\nlayers l < 0\n" TAIL, "t.arch:7:12: 0 layers, expected 1 to" },
    { HEAD "x = get_rows(e, tokens)\nlayers l < 1025\n" TAIL, "t.arch:7:12: 1025 layers" },
    { "arch llama\nlet n_embd = 0\nlet n_ctx_train = 1\nx = tokens\nlayers l < 1\noutput\ny = x\n",
      "t.arch:2:5: n_embd is 0 (model m.gguf)" },

    { LAYER("y = matmul(x, x)\n"), "t.arch:8:5: weight of matmul cannot be an activation" },
    { LAYER("y = matmul(e, e)\n"), "t.arch:8:5: x of matmul cannot be a tensor of the model" },
    { LAYER("y = x + tokens\n"), "t.arch:8:7: b of add cannot be the tokens ('tokens')" },
    { LAYER("y = e + w\n"), "t.arch:8:7: a of add cannot be a tensor" },
    { LAYER("y = x + matmul(e, x)\n"), "t.arch:8:7: add for 'y-0': operands of 32 and 100 values" },
    { LAYER("y = rms_norm(x, w, 0)\n"), "t.arch:8:20: eps of rms_norm is 0, which is not above" },
    { LAYER("y = rms_norm(x, w, 1e300)\n"),
      "t.arch:8:20: eps of rms_norm is 1e+300, which is out" },
    { LAYER("y = rms_norm(x, w, 1e-300)\n"), "t.arch:8:20: eps of rms_norm is 1e-300, which is " },
    { LAYER("y = rope(x, x, head_dim=32, dims=32, base=1e4, pairing=halves)\n"),
      "t.arch:8:5: rope for 'y-0': the factors must be a weight" },
    { LAYER("y = attention(x, x, x, 0, 1)\n"), "t.arch:8:24: head_dim of attention is 0" },
    { LAYER("y = attention(x, x, x, 4294967296, 1)\n"), "t.arch:8:24: head_dim of attention is" },

    { OUTPUT("y = rope(x, head_dim=8, dims=8, base=1e4, pairing=halves)\n"),
      "t.arch:9:5: rope cannot stand in the output" },
    { OUTPUT("y = attention(x, x, x, 8, 1)\n"), "t.arch:9:5: attention cannot stand in the output" },
    { OUTPUT("y = get_rows(e, tokens)\n"), "t.arch:9:17: 'output' can read one value that was" },
    { OUTPUT("y = e\n"), "t.arch:8:1: 'output' reads no value made before it" },
    { OUTPUT("y = x\n"), "t.arch:8:1: the last value of 'output', 'x', is no vector of logits" },
    { HEAD "h = get_rows(e, tokens)\nx = h + h\nlayers l < 1\noutput\ny = x + h\n",
      "t.arch:10:9: 'output' can read one value that was made before it, and 'h' is not it" },
    { TOP("tensor a absent [1] optional\ny = a\n"), "t.arch:7:1: nothing is left of 'y' without" },
    { TOP("tensor a absent [n_embd, 1] optional\ny = matmul(a, get_rows(e, tokens)) * a + a\n"),
      "t.arch:7:1: nothing is left of 'y' without" },
};

static void test_bad_builds(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad_builds); i++) {
        fixture f;
        fixture_begin(&f);
        const arch *t = parse(&f, bad_builds[i].text, strlen(bad_builds[i].text));
        if (!t) fail_msg("%s\nshould parse: %s", bad_builds[i].text, f.said.text);
        const graph *g = arch_build(f.memory, &f.diag, t, fixture_model(&f, NULL));
        if (g || f.diag.n_errors != 1 || !strstr(f.said.text, bad_builds[i].message))
            fail_msg("%s\nexpected %s\nfound %s", bad_builds[i].text, bad_builds[i].message,
                     f.said.text);
        fixture_end(&f);
    }
}

/* ---- what holds */

static const char *const truths[] = {
    "1 + 2 * 3 == 7", "(1 + 2) * 3 == 9", "7 % 4 == 3", "-7 % 4 == -3", "10 - 3 - 2 == 5",
    "8 / 4 / 2 == 1", "2 - -2 == 4", "1 / 4.0 == 0.25", "1.5e1 == 15", "sqrt(16) == 4",
    "not false and not (1 > 2)", "true or 1 / 0 == 1", "not (false and 1 / 0 == 1)",
    "false and false or true", "1 < 2 and 2 <= 2 and 3 > 2 and 3 >= 3 and 1 != 2",
    "\"a\" == \"a\" and \"a\" != \"b\" and \"\" == \"\"", "true == true", "\"\\\"\" != \"\\\\\"",
    "(1 if true else 1 / 0) == 1", "(1 if false else 2.5) == 2.5",
      "(1 if true else 2.5) / 2 == 0.5",
    "(1 if false else 2 if false else 3) == 3", "has e", "9223372036854775807 > 0",
    "9007199254740993 != 9007199254740992", "n_embd == 32 and n_vocab == 100",
};

static void test_truths(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(truths); i++) {
        char text[1024];
        fixture f;
        fixture_begin(&f);
        snprintf(text, sizeof text, TOP("check %s : \"it does not hold\"\n"), truths[i]);
        const arch *t = parse(&f, text, strlen(text));
        if (!t || !arch_build(f.memory, &f.diag, t, fixture_model(&f, NULL)))
            fail_msg("%s: %s", truths[i], f.said.text);
        fixture_end(&f);
    }
}

/* Text, and lines of the graph it makes of the small model; '!': that it must not have. */
static const struct {
    const char *text, *lines[4];
} graphs[] = {
    { LAYER("y = matmul(e, rms_norm(x + x, w, 1e-5))\n"),
      { "\ny-0.add: F32 [32, T] = add(x, x)\n", "\ny-1.rms_norm: ", "\ny-0: F32 [100, T] = " } },
    { LAYER("y = (x + x) + (x + x)\n"),
      { "\ny-0.add: ", "\ny-0.add.2: ", "\ny-0: ", "!add.3" } },
    { LAYER("y = (x + x) * (x + x)\ny.add = x * x\n"),
      { "\ny-0.add.1: ", "\ny-0.add.2: ", "\ny-0.add: F32 [32, T] = mul(x, x)\n" } },
    { LAYER("a.b = w * x\n"), { "\na-1.b: F32 [32, T] = mul(x, blk.1.ffn_norm.weight)\n" } },
    { LAYER("y = x + x\nx = y\n"),
      { "\ny-1: F32 [32, T] = add(y-0, y-0)\n", "matmul(token_embd.weight, y-1)" } },
    { LAYER("y = x + x if l % 2 == 0 else x\n"), { "\ny-0: ", "!\ny-1: " } },
    { LAYER("let f = 1.0 + l\ny = rms_norm(x, w, f)\n"),
      { "\ny-1: F32 [32, T] = rms_norm(x, blk.1.ffn_norm.weight) {eps=2}\n" } },
    { LAYER("y = rms_norm(eps=1,\r\n weight=w, # why\r\n\n x=x)\r\n"),
      { "\ny-0: F32 [32, T] = rms_norm(x, blk.0.ffn_norm.weight) {eps=1}\n" } },
    { TOP("tensor a absent [n_embd] optional\nh = get_rows(e, tokens) * a\n"),
      { "h: F32 [32, T] = get_rows(token_embd.weight, tokens)\n", "!= mul(" } },
    { TOP("tensor a absent [n_embd] optional\n"
          "g = get_rows(e, tokens)\nh = rms_norm(g, a, 1) if has a else g\n"), { "!rms_norm" } },
    { TOP("tensor a absent [n_embd] optional\n"
          "g = get_rows(e, tokens)\nh = rms_norm(g, a, 1)\n"),
      { "\nh: F32 [32, T] = rms_norm(g) {eps=1}\n" } },
    { TOP("tensor a absent [n_embd] optional\n"
          "g = get_rows(e, tokens)\nh = matmul(a, rms_norm(g, eps=1)) + g\n"),
      { "!rms_norm", "!\nh: ", "!= add(" } },
    { TOP("tensor a absent [n_embd, n_vocab] or e\nh = get_rows(a, tokens)\n"),
      { "h: F32 [32, T] = get_rows(token_embd.weight, tokens)\n" } },
    { HEAD "x = get_rows(e, tokens)\nlayers l < 1\nr = x + x\noutput\no = r\np = matmul(e, o)\n",
      { "\np: F32 [100, T] = matmul(token_embd.weight, r-0) head\n" } },
    { "# CRLF\r\narch llama\r\nlet n_embd = 32\r\nlet n_ctx_train = 1\r\n"
      "tensor e token_embd.weight[32,100]\r\nx = get_rows(e, tokens)\r\nlayers l < 1\r\n\r\n"
      "output\r\ny = matmul(e, x)",
      { "\ny: F32 [100, T] = matmul(token_embd.weight, x) head\n" } },
};

static void test_graphs(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(graphs); i++) {
        fixture f;
        fixture_begin(&f);
        const arch *t = parse(&f, graphs[i].text, strlen(graphs[i].text));
        const graph *g = t ? arch_build(f.memory, &f.diag, t, fixture_model(&f, NULL)) : NULL;
        if (!g) fail_msg("%s\n%s", graphs[i].text, f.said.text);
        pass_check(g, STAGE_ARCH);
        char *text = fixture_print(g);
        for (size_t k = 0; k < ARRAY_LEN(graphs[i].lines) && graphs[i].lines[k]; k++) {
            const char *line = graphs[i].lines[k];
            bool wanted = *line != '!';
            if (wanted != (strstr(text, line + !wanted) != NULL))
                fail_msg("%s\n%s\nin the graph\n%s", graphs[i].text, line, text);
        }
        free(text);
        fixture_end(&f);
    }
}

/* Each row of op_infos that has a function can be called, by names the parser can read. */
static void test_functions(void **state) {
    (void)state;
    for (int k = 0; k < OP_KIND_COUNT; k++) {
        const op_info *info = &op_infos[k];
        if (!info->function) continue;
        char text[1024], message[128];
        fixture f;
        fixture_begin(&f);
        snprintf(text, sizeof text, LAYER("y = %s()\n"), info->function);
        snprintf(message, sizeof message, "t.arch:8:5: %s needs its argument '%s'", info->function,
                 info->inputs[0].name);
        assert_null(parse(&f, text, strlen(text)));
        if (!strstr(f.said.text, message)) fail_msg("%s: %s", info->function, f.said.text);
        assert_int_equal(graph_find_function(info->function), k);
        fixture_end(&f);
    }
}

static void test_builtin(void **state) {
    (void)state;
    bool found = false;
    size_t size = 0;
    for (const char *const *name = arch_builtin_names(); *name; name++) {
        fixture f;
        fixture_begin(&f);
        const char *text = arch_builtin(*name, &size);
        assert_non_null(text);
        assert_int_equal(strlen(text), size);
        if (!parse(&f, text, size)) fail_msg("%s: %s", *name, f.said.text);
        found = found || !strcmp(*name, "llama");
        fixture_end(&f);
    }
    assert_true(found);
    assert_null(arch_builtin("lama", &size));
    assert_null(arch_builtin("", &size));
}

/* ---- texts made to hurt */

static void expect_refused(const char *text, size_t size, const char *message) {
    fixture f;
    fixture_begin(&f);
    const arch *t = parse(&f, text, size);
    const graph *g = t ? arch_build(f.memory, &f.diag, t, fixture_model(&f, NULL)) : NULL;
    if (g || f.diag.n_errors != 1 || !strstr(f.said.text, message))
        fail_msg("expected %s, found %s", message, f.said.text);
    fixture_end(&f);
}

/* `before`, then `unit` until `size` bytes are full. */
static void expect_repeated_refused(const char *before, const char *unit, size_t size,
                                    const char *message) {
    char *text = malloc(size + 256);
    assert_non_null(text);
    size_t n = (size_t)sprintf(text, "%s%s", HEAD, before);
    while (n + strlen(unit) < size) n += (size_t)sprintf(text + n, "%s", unit);
    expect_refused(text, n, message);
    free(text);
}

static void test_hostile_texts(void **state) {
    (void)state;
    const char *deep = "the expression has more than 100 levels";
    expect_repeated_refused("let a = ", "(", 60000, deep);
    expect_repeated_refused("let a = ", "-", 60000, deep);
    expect_repeated_refused("let a = ", "not ", 60000, deep);
    expect_repeated_refused("let a = 1", "+1", 60000, deep);
    expect_repeated_refused("let a = true", " and true", 60000, deep);
    expect_repeated_refused("let a = ", "1 if true else ", 60000, deep);
    expect_repeated_refused("let a = ", "sqrt(", 60000, deep);
    expect_repeated_refused("y = ", "rms_norm(", 60000, deep);
    expect_repeated_refused("y = ", "[", 60000, "expected an expression, found '['");
    expect_repeated_refused("let ", "a", 60000, "expected '=', found the end of the file");
    expect_repeated_refused("let a = ", "9", 60000, "a number of too many digits");
    expect_repeated_refused("let a = ", "a", 60000, "nothing is called 'aaaa");
    expect_repeated_refused("let a = \"", "a", 60000, "the string has no closing");
    expect_repeated_refused("", "\n", 70000, "bytes of text, at most 65536 are taken");
    expect_repeated_refused("x = get_rows(e, tokens)\nlayers l < 1024\nx = ((((x+x)+x)+x)+x)\n",
                            " x = x\n", 60000, "the file has no 'output'");
    expect_refused("arch llama\0", 11, "t.arch:1:11: byte 0x00 is not part of the language");
    expect_refused(HEAD "let a\0b = 1", sizeof(HEAD) + 10, "byte 0x00");
    expect_refused(HEAD "check true : \"a\0b\"", sizeof(HEAD) + 17, "no closing");
}

/* Every op count is finite; this one is too many. */
static void test_many_ops(void **state) {
    (void)state;
    char text[4096];
    size_t n = (size_t)sprintf(text, "arch llama\nlet n_embd = 32\nlet n_ctx_train = 1\n"
                                     "tensor e token_embd.weight [32, 100]\n"
                                     "x = get_rows(e, tokens)\nlayers l < 1024\n");
    for (int i = 0; i < 40; i++) n += (size_t)sprintf(text + n, "x%d = x + x\n", i);
    sprintf(text + n, TAIL);
    expect_refused(text, strlen(text), "the graph has more than 32768 ops");
}

/* ---- mutations */

static uint32_t random_below(uint64_t *seed, uint32_t n) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((*seed >> 33) % n);
}

static const char *const pieces[] = {
    "\n", " ", "(", ")", "[", "]", ",", ":", "=", "<", "+", "*", "-", "/", "%", "\"", "{l}", "#",
    "let ", "param ", "tensor ", "check ", "layers ", "output\n", " if ", " else ", " has ", " or ",
    "x", "l", "embd", "tokens", "n_layer", "n_embd", "0", "1", "2.5", "true", "9223372036854775807",
    "matmul(", "rms_norm(", "rope(", "sqrt(", "optional", "f32", "x = x\n", "\xff", "\r", "{", "}",
};

static size_t mutate(uint64_t *seed, char *text, size_t size, size_t capacity) {
    size_t at = random_below(seed, (uint32_t)size), from = random_below(seed, (uint32_t)size);
    size_t n = random_below(seed, 40);
    const char *piece = pieces[random_below(seed, ARRAY_LEN(pieces))];
    switch (random_below(seed, 5)) {
    case 0: text[at] = (char)random_below(seed, 256); break;
    case 1: /* leave out */
        if (n > size - at) n = size - at;
        memmove(text + at, text + at + n, size - at - n);
        return size - n;
    case 2: /* copy from elsewhere */
        if (n > size - at) n = size - at;
        if (n > size - from) n = size - from;
        memmove(text + at, text + from, n);
        break;
    default: /* insert a piece */
        n = strlen(piece);
        if (size + n > capacity) break;
        memmove(text + at + n, text + at, size - at);
        memcpy(text + at, piece, n);
        return size + n;
    }
    return size ? size : 1;
}

static void test_mutations(void **state) {
    (void)state;
    const char *wanted = getenv("GGUFC_MUTATIONS");
    unsigned n = wanted ? (unsigned)strtoul(wanted, NULL, 10) : 20000, parsed = 0, built = 0;
    size_t base_size = 0;
    const char *base = arch_builtin("llama", &base_size);
    size_t capacity = base_size + 1024;
    uint64_t seed = 20240607;
    fixture model;
    fixture_begin(&model);
    const gguf_file *file = fixture_model(&model, NULL);
    for (unsigned i = 0; i < n; i++) {
        fixture f;
        fixture_begin(&f);
        char *text = malloc(capacity);
        assert_non_null(text);
        size_t size = base_size;
        memcpy(text, base, size);
        for (uint32_t k = 1 + random_below(&seed, 4); k; k--)
            size = mutate(&seed, text, size, capacity);
        text = realloc(text, size); /* so that a sanitizer sees a read past the end */
        const arch *t = parse(&f, text, size);
        assert_int_equal(f.diag.n_errors, t ? 0 : 1);
        const graph *g = t ? arch_build(f.memory, &f.diag, t, file) : NULL;
        assert_int_equal(f.diag.n_errors, g ? 0 : 1);
        if (g) pass_check(g, STAGE_ARCH);
        parsed += t != NULL;
        built += g != NULL;
        free(text);
        fixture_end(&f);
    }
    fixture_end(&model);
    if (n >= 1000) assert_true(parsed > n / 100 && built > n / 100 && built < parsed && parsed < n);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_texts),     cmocka_unit_test(test_bad_builds),
        cmocka_unit_test(test_truths),        cmocka_unit_test(test_graphs),
        cmocka_unit_test(test_functions),     cmocka_unit_test(test_builtin),
        cmocka_unit_test(test_hostile_texts), cmocka_unit_test(test_many_ops),
        cmocka_unit_test(test_mutations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
