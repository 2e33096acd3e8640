/* vocab.c - see vocab.h.
 *
 * In the order of a run: the token texts are joined into one block with offsets; scores and types
 * are copied or defaulted; every text gets a slot of the look-up table; the ids of special tokens
 * are read; tokens known by their text are given their roles; and from the types, final only now,
 * comes the list of special tokens by which the tokenizer splits a text.
 */
#include "vocab.h"

#include <stdlib.h>
#include <string.h>

#define KEY(name)  "tokenizer.ggml." name
#define MAX_TOKENS ((uint64_t)1 << 30)

/* The arrays while they can be written; out->vocab points to the same. */
typedef struct reader {
    arena *a;
    diag *d;
    const gguf_file *f;
    ggufc_vocab *vocab;
    uint32_t text_bytes;
    float *scores;
    uint8_t *types;
} reader;

/* ---- tokens known by their text */

enum role { ROLE_CONTROL = 1, ROLE_ENDS = 2, ROLE_EOT = 4 };

/* A role that one token has: the one of the key, else the first of the texts that is a token. A
   token found by its text becomes a control token. */
typedef struct role_row {
    const char *key;
    unsigned role;
    const char *texts[13];
} role_row;

static const role_row roles[] = {
    { .key = KEY("eot_token_id"),
      .role = ROLE_ENDS | ROLE_EOT,
      .texts = { "<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>",
                 "<|end_of_text|>", "<EOT>", "_<EOT>", "[EOT]", "<｜end▁of▁sentence｜>",
                 "<end_of_utterance>" } },
    { .key = KEY("eom_token_id"), .role = ROLE_ENDS, .texts = { "<|eom_id|>" } },
    { .key = KEY("fim_pre_token_id"),
      .role = ROLE_CONTROL,
      .texts = { "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>",
                 "▁<PRE>", "<|code_prefix|>", "<|prefix|>" } },
    { .key = KEY("fim_suf_token_id"),
      .role = ROLE_CONTROL,
      .texts = { "<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>",
                 "▁<SUF>", "<|code_suffix|>", "<|suffix|>" } },
    { .key = KEY("fim_mid_token_id"),
      .role = ROLE_CONTROL,
      .texts = { "<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>",
                 "▁<MID>", "<|code_middle|>", "<|middle|>" } },
    { .key = KEY("fim_pad_token_id"),
      .role = ROLE_ENDS,
      .texts = { "<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]" } },
    { .key = KEY("fim_rep_token_id"),
      .role = ROLE_ENDS,
      .texts = { "<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>" } },
    { .key = KEY("fim_sep_token_id"), .role = ROLE_ENDS, .texts = { "<|file_sep|>" } },
};

/* Each of these that is a token ends generation and is a control token. */
static const char *const end_texts[] = {
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
};

/* In a model named Phi-3 special tokens swallow white space behind them, but for these. */
static const char *const phi3_plain_texts[] = { "<unk>", "<s>", "<|endoftext|>" };

static int32_t find_token(const reader *r, const char *text) {
    return ggufc_vocab_find(r->vocab, text, (uint32_t)strlen(text));
}

static void make_control(reader *r, int32_t id) {
    r->types[id] = (uint8_t)((r->types[id] & ~GGUFC_TOKEN_TYPE) | GGUFC_TOKEN_CONTROL);
}

/* ---- arrays */

static bool read_tokens(reader *r) {
    gguf_array tokens;
    enum gguf_found found = gguf_get_array(r->f, r->d, KEY("tokens"), GGUF_STRING, &tokens);
    if (found == GGUF_MISTYPED) return false;
    if (found == GGUF_ABSENT)
        return diag_error(r->d, "%s: " KEY("tokens") " is missing, expected an array of strings",
                          r->f->path);
    if (tokens.count == 0 || tokens.count > MAX_TOKENS)
        return diag_error(r->d, "%s: " KEY("tokens") " has %llu elements, expected 1 to %llu",
                          r->f->path, (unsigned long long)tokens.count,
                          (unsigned long long)MAX_TOKENS);

    const uint8_t *cursor = tokens.data;
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < tokens.count; i++) bytes += gguf_string_next(&cursor).size;
    if (bytes > UINT32_MAX)
        return diag_error(r->d,
                          "%s: the texts of " KEY("tokens") " have %llu bytes, expected "
                                                            "less than 4 GiB",
                          r->f->path, (unsigned long long)bytes);

    uint32_t *offsets = ARENA_ARRAY(r->a, uint32_t, tokens.count + 1);
    char *text = arena_alloc(r->a, bytes ? bytes : 1);
    uint32_t at = 0;
    cursor = tokens.data;
    for (uint64_t i = 0; i < tokens.count; i++) {
        gguf_string s = gguf_string_next(&cursor);
        if (s.size) memcpy(text + at, s.data, s.size);
        offsets[i] = at;
        at += (uint32_t)s.size;
    }
    offsets[tokens.count] = at;
    r->text_bytes = at;
    r->vocab->n_tokens = (uint32_t)tokens.count;
    r->vocab->text = text;
    r->vocab->offsets = offsets;
    return true;
}

static bool check_count(reader *r, const char *key, uint64_t count) {
    if (count == r->vocab->n_tokens) return true;
    return diag_error(r->d, "%s: %s has %llu elements, expected %u as " KEY("tokens"), r->f->path,
                      key, (unsigned long long)count, r->vocab->n_tokens);
}

/* Scores may be floats or, in some converters' files, integers. */
static bool read_scores(reader *r) {
    const char *key = KEY("scores");
    const gguf_kv *kv = gguf_find_kv(r->f, key);
    bool integers = kv && kv->type == GGUF_ARRAY && kv->value.array.type == GGUF_I32;
    gguf_array scores;
    r->vocab->scores = r->scores = ARENA_ARRAY(r->a, float, r->vocab->n_tokens);
    enum gguf_found found =
        gguf_get_array(r->f, r->d, key, integers ? GGUF_I32 : GGUF_F32, &scores);
    if (found == GGUF_ABSENT) return true;
    if (found == GGUF_MISTYPED || !check_count(r, key, scores.count)) return false;
    for (uint32_t i = 0; i < r->vocab->n_tokens; i++) {
        float score =
            integers ? (float)(int32_t)gguf_array_u32(&scores, i) : gguf_array_f32(&scores, i);
        if (score != score)
            return diag_error(r->d, "%s: %s[%u] is NaN, expected a number", r->f->path, key, i);
        r->scores[i] = score;
    }
    return true;
}

static bool read_types(reader *r) {
    const char *key = KEY("token_type");
    gguf_array types;
    r->vocab->types = r->types = ARENA_ARRAY(r->a, uint8_t, r->vocab->n_tokens);
    memset(r->types, GGUFC_TOKEN_NORMAL, r->vocab->n_tokens);
    enum gguf_found found = gguf_get_array(r->f, r->d, key, GGUF_I32, &types);
    if (found == GGUF_ABSENT) return true;
    if (found == GGUF_MISTYPED || !check_count(r, key, types.count)) return false;
    for (uint32_t i = 0; i < r->vocab->n_tokens; i++) {
        uint32_t type = gguf_array_u32(&types, i);
        r->types[i] = type <= GGUFC_TOKEN_BYTE ? (uint8_t)type : 0;
    }
    return true;
}

/* ---- look-up tables */

static void build_slots(reader *r) {
    ggufc_vocab *v = r->vocab;
    uint32_t n_slots = 4;
    while (n_slots < 2 * (uint64_t)v->n_tokens) n_slots *= 2;
    uint32_t *slots = ARENA_ARRAY(r->a, uint32_t, n_slots);
    v->slots = slots;
    v->slot_mask = n_slots - 1;
    for (uint32_t i = 0; i < v->n_tokens; i++) {
        const char *text = v->text + v->offsets[i];
        uint32_t size = v->offsets[i + 1] - v->offsets[i];
        if (ggufc_vocab_find(v, text, size) >= 0) continue;
        uint32_t slot = ggufc_vocab_hash(text, size) & v->slot_mask;
        while (slots[slot]) slot = (slot + 1) & v->slot_mask;
        slots[slot] = i + 1;
    }
}

/* The token of byte b reads <0x0A>, or is the byte itself. */
static void build_byte_tokens(reader *r) {
    static const char hex[] = "0123456789ABCDEF";
    int32_t *bytes = ARENA_ARRAY(r->a, int32_t, 256);
    for (int b = 0; b < 256; b++) {
        char text[] = { '<', '0', 'x', hex[b >> 4], hex[b & 15], '>' }, byte = (char)b;
        bytes[b] = ggufc_vocab_find(r->vocab, text, sizeof text);
        if (bytes[b] < 0) bytes[b] = ggufc_vocab_find(r->vocab, &byte, 1);
    }
    r->vocab->byte_tokens = bytes;
}

typedef struct special_entry {
    uint32_t size;
    int32_t id;
} special_entry;

static int compare_special(const void *a, const void *b) {
    const special_entry *x = a, *y = b;
    if (x->size != y->size) return x->size > y->size ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

static bool is_special(uint8_t type) {
    type &= GGUFC_TOKEN_TYPE;
    return type == GGUFC_TOKEN_CONTROL || type == GGUFC_TOKEN_UNKNOWN ||
           type == GGUFC_TOKEN_USER_DEFINED;
}

static void build_special(reader *r) {
    ggufc_vocab *v = r->vocab;
    uint32_t n = 0;
    for (uint32_t i = 0; i < v->n_tokens; i++) n += is_special(r->types[i]);
    special_entry *entries = ARENA_ARRAY(r->a, special_entry, n ? n : 1);
    n = 0;
    for (uint32_t i = 0; i < v->n_tokens; i++)
        if (is_special(r->types[i]))
            entries[n++] = (special_entry){ v->offsets[i + 1] - v->offsets[i], (int32_t)i };
    qsort(entries, n, sizeof *entries, compare_special);
    int32_t *special = ARENA_ARRAY(r->a, int32_t, n ? n : 1);
    for (uint32_t i = 0; i < n; i++) special[i] = entries[i].id;
    v->special = special;
    v->n_special = n;
}

/* ---- ids and flags */

/* *id stays as it is where the key is absent. */
static enum gguf_found read_id(reader *r, const char *key, int32_t *id) {
    uint64_t value;
    enum gguf_found found = gguf_get_u64(r->f, r->d, key, &value);
    if (found != GGUF_PRESENT) return found;
    if (value < r->vocab->n_tokens) {
        *id = (int32_t)value;
        return GGUF_PRESENT;
    }
    diag_error(r->d, "%s: %s is %llu, expected less than %u, the number of tokens", r->f->path, key,
               (unsigned long long)value, r->vocab->n_tokens);
    return GGUF_MISTYPED;
}

static bool read_ids(reader *r) {
    ggufc_vocab *v = r->vocab;
    v->unk = 0;
    v->bos = v->n_tokens > 1 ? 1 : -1;
    v->eos = v->n_tokens > 2 ? 2 : -1;
    v->eot = -1;
    return read_id(r, KEY("bos_token_id"), &v->bos) != GGUF_MISTYPED &&
           read_id(r, KEY("eos_token_id"), &v->eos) != GGUF_MISTYPED &&
           read_id(r, KEY("unknown_token_id"), &v->unk) != GGUF_MISTYPED;
}

static bool read_role(reader *r, const role_row *row) {
    int32_t id = -1;
    enum gguf_found found = read_id(r, row->key, &id);
    if (found == GGUF_MISTYPED) return false;
    for (size_t i = 0; id < 0 && row->texts[i]; i++) id = find_token(r, row->texts[i]);
    if (id < 0) return true;
    if (found == GGUF_ABSENT) make_control(r, id);
    if (row->role & ROLE_ENDS) r->types[id] |= GGUFC_TOKEN_ENDS;
    if (row->role & ROLE_EOT) r->vocab->eot = id;
    return true;
}

static bool read_roles(reader *r) {
    for (size_t i = 0; i < ARRAY_LEN(roles); i++)
        if (!read_role(r, &roles[i])) return false;
    for (size_t i = 0; i < ARRAY_LEN(end_texts); i++) {
        int32_t id = find_token(r, end_texts[i]);
        if (id < 0) continue;
        make_control(r, id);
        r->types[id] |= GGUFC_TOKEN_ENDS;
    }
    if (r->vocab->eos >= 0) r->types[r->vocab->eos] |= GGUFC_TOKEN_ENDS;
    return true;
}

static bool read_flag(reader *r, const char *key, bool absent, uint8_t *flag) {
    bool value = absent;
    if (gguf_get_bool(r->f, r->d, key, &value) == GGUF_MISTYPED) return false;
    *flag = value;
    return true;
}

static bool read_flags(reader *r) {
    ggufc_vocab *v = r->vocab;
    return read_flag(r, KEY("add_bos_token"), true, &v->add_bos) &&
           read_flag(r, KEY("add_eos_token"), false, &v->add_eos) &&
           read_flag(r, KEY("add_space_prefix"), true, &v->add_space_prefix);
}

static bool contains(gguf_string s, const char *lower) {
    size_t size = strlen(lower), same;
    for (uint64_t at = 0; at + size <= s.size; at++) {
        for (same = 0; same < size; same++) {
            char c = s.data[at + same];
            if (c >= 'A' && c <= 'Z') c = (char)(c - 'A' + 'a');
            if (c != lower[same]) break;
        }
        if (same == size) return true;
    }
    return false;
}

static void set_strips(reader *r) {
    const gguf_kv *kv = gguf_find_kv(r->f, "general.name");
    if (!kv || kv->type != GGUF_STRING) return;
    if (!contains(kv->value.string, "phi-3") && !contains(kv->value.string, "phi3")) return;
    for (uint32_t i = 0; i < r->vocab->n_special; i++)
        r->types[r->vocab->special[i]] |= GGUFC_TOKEN_STRIPS;
    for (size_t i = 0; i < ARRAY_LEN(phi3_plain_texts); i++) {
        int32_t id = find_token(r, phi3_plain_texts[i]);
        if (id >= 0) r->types[id] &= (uint8_t)~GGUFC_TOKEN_STRIPS;
    }
}

enum vocab_result vocab_read(arena *a, diag *d, const gguf_file *f, vocab_tables *out) {
    *out = (vocab_tables){ .model = NULL };
    gguf_string model;
    enum gguf_found found = gguf_get_string(f, d, KEY("model"), &model);
    if (found == GGUF_MISTYPED) return VOCAB_BAD;
    if (found == GGUF_ABSENT) return VOCAB_UNSUPPORTED;
    out->model = arena_copy_text(a, model.data, model.size);
    if (strcmp(out->model, "llama") != 0) return VOCAB_UNSUPPORTED;

    reader r = { .a = a, .d = d, .f = f, .vocab = &out->vocab };
    r.vocab->kind = GGUFC_VOCAB_SPM;
    if (!read_tokens(&r) || !read_scores(&r) || !read_types(&r)) return VOCAB_BAD;
    build_slots(&r);
    build_byte_tokens(&r);
    if (!read_ids(&r) || !read_flags(&r) || !read_roles(&r)) return VOCAB_BAD;
    build_special(&r);
    set_strips(&r);
    out->text_bytes = r.text_bytes;
    return VOCAB_READ;
}
