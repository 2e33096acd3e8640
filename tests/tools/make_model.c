/* make_model - GGUF files of any Llama shape, with random weights.
 *
 * For tests and measurements that need a shape rather than a model: every named shape below has
 * the speed, size and tensor list of the model it is called after, and talks nonsense. Weights are
 * scaled so that nothing overflows or dies out on the way through the layers, because subnormals
 * and infinities would be measured instead.
 *
 *     make_model tinyllama-1.1b -o tinyllama.gguf
 *     make_model tiny --mixed --biases --seed 7 -o odd.gguf
 *     make_model tiny --split 10 -o tiny.gguf         tiny-00001-of-00003.gguf and so on
 *
 * One pass: metadata and index are built in memory, tensors are streamed a few thousand values at a
 * time. The headers beside this file say how: _values (random numbers, storage types), random_blocks
 * (types that only quantizers write: blocks of random bits, as large on average), _vocab (a
 * vocabulary the tokenizer's merging can reach), _llama (tensors and metadata), _file (a file that
 * exists only complete).
 *
 * Exit status: 0; 1 the file could not be written; 2 usage. */
#include "make_model_llama.h"

#include <stdarg.h>
#include <strings.h>

static const shape shapes[] = {
    {.name = "tiny", .layers = 3, .embd = 96, .heads = 6, .kv_heads = 2, .ff = 160, .vocab = 387,
     .ctx = 128, .rope_base = 10000},
    {.name = "stories-260k", .layers = 5, .embd = 64, .heads = 8, .kv_heads = 4, .ff = 172,
     .vocab = 512, .ctx = 512, .rope_base = 10000, .tied = true},
    {.name = "stories-15m", .layers = 6, .embd = 288, .heads = 6, .kv_heads = 6, .ff = 768,
     .vocab = 32000, .ctx = 256, .rope_base = 10000, .tied = true},
    {.name = "tinyllama-1.1b", .layers = 22, .embd = 2048, .heads = 32, .kv_heads = 4, .ff = 5632,
     .vocab = 32000, .ctx = 2048, .rope_base = 10000},
    {.name = "llama3.2-1b", .layers = 16, .embd = 2048, .heads = 32, .kv_heads = 8, .ff = 8192,
     .vocab = 128256, .ctx = 131072, .head_dim = 64, .rope_base = 500000, .tied = true,
     .rope_freqs = true},
    {.name = "llama3-8b", .layers = 32, .embd = 4096, .heads = 32, .kv_heads = 8, .ff = 14336,
     .vocab = 128256, .ctx = 8192, .rope_base = 500000},
};

/* The numbers of a shape; least and most keep every product of them far from 2^64. */
static const struct dimension {
    const char *flag;
    size_t      field;
    uint32_t    least, most;
    bool        optional;
} dimensions[] = {
    {"--layers", offsetof(shape, layers), 1, 4096, false},
    {"--embd", offsetof(shape, embd), 1, 1 << 20, false},
    {"--heads", offsetof(shape, heads), 1, 1 << 12, false},
    {"--kv-heads", offsetof(shape, kv_heads), 1, 1 << 12, false},
    {"--ff", offsetof(shape, ff), 1, 1 << 22, false},
    {"--vocab", offsetof(shape, vocab), 3, 1 << 22, false},
    {"--ctx", offsetof(shape, ctx), 1, 1 << 30, false},
    {"--head-dim", offsetof(shape, head_dim), 2, 1 << 12, true},
};

static const struct {
    const char *flag;
    size_t      field;
    bool        value;
} switches[] = {
    {"--tied", offsetof(shape, tied), true},
    {"--untied", offsetof(shape, tied), false},
    {"--rope-freqs", offsetof(shape, rope_freqs), true},
    {"--biases", offsetof(shape, biases), true},
};

#define EACH(i, table) size_t i = 0; i < sizeof(table) / sizeof *(table); i++

typedef struct options {
    shape       shape;
    making      making;
    bool        shaped; /* a shape, or part of one, was given */
    uint64_t    split;  /* tensors in a file; 0: one file has all */
    const char *out;
} options;

/* ---- the command line */

static void print_help(void) {
    puts("usage: make_model SHAPE | DIMENSIONS [options] -o OUT.gguf\n"
         "Makes a GGUF file of a Llama with random weights.\n\n"
         "shapes              layers  embd heads/kv    ff  vocab    ctx");
    for (EACH(i, shapes)) {
        const shape *s = &shapes[i];
        printf("  %-16s  %6u %5u %5u/%-2u %6u %6u %6u %s%s\n", s->name, s->layers, s->embd,
               s->heads, s->kv_heads, s->ff, s->vocab, s->ctx, s->tied ? "tied" : "untied",
               s->rope_freqs ? ", rope-freqs" : "");
    }
    puts("\ndimensions, instead of a shape or after it to change it\n"
         "  --layers N --embd N --heads N --kv-heads N --ff N --vocab N --ctx N\n"
         "  --head-dim N        embd / heads unless given\n"
         "  --rope-base F       10000 unless given\n"
         "  --tied, --untied    whether the output matrix is the embedding\n"
         "  --rope-freqs        with the rope factors of Llama 3.2\n"
         "  --biases            with a bias for every matrix of a layer\n\n"
         "options\n"
         "  --type TYPE         a type of GGUF, as iq4_xs; q8_0 unless given\n"
         "  --mixed             each matrix of another type than the one before\n"
         "  --seed N            1 unless given; the same seed makes the same file\n"
         "  --split N           files of N tensors each, OUT-00001-of-00003.gguf and so on\n"
         "  -o OUT.gguf         written under another name, and renamed when complete");
}

__attribute__((format(printf, 1, 2))) static bool usage(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("make_model: ", stderr);
    vfprintf(stderr, format, args);
    fputs(" (see --help)\n", stderr);
    va_end(args);
    return false;
}

static bool parse_whole(const char *text, uint64_t least, uint64_t most, uint64_t *out) {
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    *out = n;
    return *text >= '0' && *text <= '9' && !*end && !errno && n >= least && n <= most;
}

static bool parse_shape(options *o, const char *name) {
    if (o->shaped)
        return usage("\"%s\": name one shape, before the flags that change it", name);
    for (EACH(i, shapes))
        if (!strcmp(name, shapes[i].name)) {
            o->shape = shapes[i];
            return o->shaped = true;
        }
    return usage("no shape is called \"%s\"", name);
}

/* ---- flags that take a value: each reads its own */

static bool parse_type(options *o, const char *name) {
    for (uint32_t t = 0; t < QUANT_COUNT; t++)
        if (quant_find(t) && !strcasecmp(name, quant_find(t)->name)) {
            o->making.type = t;
            return true;
        }
    return usage("--type: \"%s\" is no type of GGUF, as q8_0, f16, q4_k or iq2_xxs are", name);
}

static bool parse_rope_base(options *o, const char *text) {
    char *end;
    o->shape.rope_base = strtof(text, &end);
    o->shaped = true;
    if (end == text || *end || !(o->shape.rope_base > 0) || isinf(o->shape.rope_base))
        return usage("--rope-base: expected a number above 0, found \"%s\"", text);
    return true;
}

static bool parse_seed(options *o, const char *text) {
    if (!parse_whole(text, 0, UINT64_MAX, &o->making.seed))
        return usage("--seed: expected a whole number, found \"%s\"", text);
    return true;
}

static bool parse_split(options *o, const char *text) {
    if (!parse_whole(text, 1, UINT32_MAX, &o->split))
        return usage("--split: expected a number of tensors, found \"%s\"", text);
    return true;
}

static bool parse_out(options *o, const char *path) {
    o->out = path;
    return true;
}

static const struct valued {
    const char *flag;
    bool (*parse)(options *o, const char *value);
} valued[] = {
    {"--type", parse_type}, {"--rope-base", parse_rope_base}, {"--seed", parse_seed},
    {"--split", parse_split}, {"-o", parse_out},
};

static bool parse_dimension(options *o, const struct dimension *d, const char *text) {
    uint64_t n;
    if (!parse_whole(text, d->least, d->most, &n))
        return usage("%s: expected a number from %u to %u, found \"%s\"", d->flag, d->least,
                     d->most, text);
    *(uint32_t *)((char *)&o->shape + d->field) = (uint32_t)n;
    return o->shaped = true;
}

static bool parse_switch(options *o, const char *flag) {
    for (EACH(i, switches))
        if (!strcmp(flag, switches[i].flag)) {
            *(bool *)((char *)&o->shape + switches[i].field) = switches[i].value;
            return o->shaped = true;
        }
    if (strcmp(flag, "--mixed"))
        return usage("no flag is called \"%s\"", flag);
    return o->making.mixed = true;
}

/* One argument, and its value where it has one: *args is left at the last one used. */
static bool parse_argument(options *o, char ***args) {
    const char *flag = **args, *value = (*args)[1];
    if (flag[0] != '-')
        return parse_shape(o, flag);
    const struct dimension *d = NULL;
    const struct valued    *v = NULL;
    for (EACH(i, dimensions))
        if (!strcmp(flag, dimensions[i].flag))
            d = &dimensions[i];
    for (EACH(i, valued))
        if (!strcmp(flag, valued[i].flag))
            v = &valued[i];
    if (!d && !v)
        return parse_switch(o, flag);
    if (!value)
        return usage("%s needs a value", flag);
    ++*args;
    return d ? parse_dimension(o, d, value) : v->parse(o, value);
}

static bool check_shape(const shape *s) {
    for (EACH(i, dimensions)) {
        const struct dimension *d = &dimensions[i];
        if (!d->optional && !*(const uint32_t *)((const char *)s + d->field))
            return usage("%s is missing", d->flag);
    }
    if (s->heads % s->kv_heads)
        return usage("%u heads are no multiple of %u kv-heads", s->heads, s->kv_heads);
    if (!s->head_dim && s->embd % s->heads)
        return usage("embd %u is no multiple of %u heads: give --head-dim", s->embd, s->heads);
    if (llama_head_dim(s) % 2)
        return usage("a head of %u cannot be rotated: its length must be even", llama_head_dim(s));
    return true;
}

static bool parse_arguments(options *o, char **args) {
    *o = (options){
        .shape = {.name = "random llama", .rope_base = 10000},
        .making = {.type = VALUE_Q8_0, .seed = 1},
    };
    for (; *args; args++)
        if (!parse_argument(o, &args))
            return false;
    if (!o->shaped)
        return usage("name a shape or give its dimensions");
    if (!check_shape(&o->shape))
        return false;
    return o->out ? true : usage("-o OUT.gguf is missing");
}

/* ---- the file */

#define CHUNK 8192 /* values at a time: stays in the first cache; whole blocks */

/* What a file holds: all of the model, or a part of it. */
typedef struct portion {
    uint32_t    first, count; /* tensors */
    uint64_t    n_kv;
    const char *pairs;
    size_t      pairs_size;
    char        path[4096];
} portion;

static void write_header(file_out *f, const tensor_list *list, const portion *p) {
    const uint32_t version = 3;
    const uint64_t n_tensors = p->count;
    file_write(f, "GGUF", 4);
    file_write(f, &version, 4);
    file_write(f, &n_tensors, 8);
    file_write(f, &p->n_kv, 8);
    file_write(f, p->pairs, p->pairs_size);
    for (uint32_t i = p->first; i < p->first + p->count; i++) {
        const tensor  *t = &list->items[i];
        const uint64_t length = strlen(t->name), dims[] = {t->columns, t->rows};
        const uint64_t offset = t->offset - list->items[p->first].offset;
        const uint32_t n_dims = t->rows ? 2 : 1, type = t->type;
        file_write(f, &length, 8);
        file_write(f, t->name, length);
        file_write(f, &n_dims, 4);
        file_write(f, dims, n_dims * sizeof *dims);
        file_write(f, &type, 4);
        file_write(f, &offset, 8);
    }
    file_pad(f, LLAMA_ALIGNMENT);
}

/* Of a type that only quantizers write. */
static void write_blocks(file_out *f, const tensor *t, uint64_t seed) {
    const random_blocks blocks = random_blocks_of_size(t->type, (double)t->std);
    const uint32_t      len = blocks.info->block_len, bytes = blocks.info->block_bytes;
    const uint64_t      key = random_key(seed, t->name), total = tensor_count_values(t) / len;
    uint8_t             stored[CHUNK * sizeof(double)];
    for (uint64_t i = 0; i < total && !f->error; i += CHUNK / len) {
        uint64_t n = total - i < CHUNK / len ? total - i : CHUNK / len;
        random_blocks_fill(&blocks, key, i, n, stored);
        file_write(f, stored, (size_t)(n * bytes));
    }
    file_pad(f, LLAMA_ALIGNMENT);
}

static void write_tensor(file_out *f, const tensor *t, const shape *s, uint64_t seed) {
    float          values[CHUNK];
    uint8_t        stored[CHUNK * sizeof(float)];
    const uint64_t key = random_key(seed, t->name), total = tensor_count_values(t);
    for (uint64_t i = 0; i < total && !f->error; i += CHUNK) {
        size_t n = total - i < CHUNK ? (size_t)(total - i) : CHUNK;
        if (t->rope_factors)
            llama_fill_rope_factors(values, s);
        else
            random_fill(values, n, key, i, t->centre, t->std);
        value_store(stored, t->type, values, n);
        file_write(f, stored, (size_t)quant_row_bytes(t->type, n));
    }
    file_pad(f, LLAMA_ALIGNMENT);
}

static uint32_t count_parts(const options *o, const tensor_list *list) {
    return o->split ? (uint32_t)((list->count + o->split - 1) / o->split) : 1;
}

/* The key-value pairs of file `part`, in memory to be freed; NULL without memory. The first has all
   that is told of the model. */
static char *build_metadata(const options *o, const tensor_list *list, uint32_t part, uint64_t *n_kv,
                            size_t *size) {
    char *pairs = NULL;
    vocab v;
    meta  m = {.stream = open_memstream(&pairs, size)};
    bool  good = m.stream && (part || vocab_make(&v, o->shape.vocab, o->making.seed));
    if (good && !part) {
        llama_add_metadata(&m, &o->shape, &o->making, &v);
        vocab_free(&v);
    }
    if (good && o->split)
        meta_add_split(&m, part, count_parts(o, list), list->count);
    good = m.stream && !ferror(m.stream) && good;
    if (m.stream && fclose(m.stream))
        good = false;
    if (good) {
        *n_kv = m.count;
        return pairs;
    }
    free(pairs);
    return NULL;
}

/* OUT.gguf's part is OUT-00001-of-00003.gguf. */
static void name_part(const options *o, uint32_t part, uint32_t n_parts, portion *p) {
    size_t stem = strlen(o->out);
    if (stem > 5 && !strcmp(o->out + stem - 5, ".gguf"))
        stem -= 5;
    if (!o->split)
        snprintf(p->path, sizeof p->path, "%s", o->out);
    else
        snprintf(p->path, sizeof p->path, "%.*s-%05u-of-%05u.gguf", (int)stem, o->out, part + 1, n_parts);
}

static bool write_portion(const options *o, const tensor_list *list, uint64_t data_bytes, const portion *p) {
    file_out       f;
    const uint32_t end = p->first + p->count;
    const uint64_t to = end < list->count ? list->items[end].offset : data_bytes;
    if (!file_begin(&f, p->path))
        return false;
    write_header(&f, list, p);
    f.expected = f.written + to - list->items[p->first].offset;
    for (uint32_t i = p->first; i < end && !f.error; i++) {
        const tensor *t = &list->items[i];
        if (value_has(t->type))
            write_tensor(&f, t, &o->shape, o->making.seed);
        else
            write_blocks(&f, t, o->making.seed);
    }
    return file_finish(&f);
}

static bool write_part(const options *o, const tensor_list *list, uint64_t data_bytes, uint32_t part) {
    uint32_t n_parts = count_parts(o, list), each = o->split < list->count ? (uint32_t)o->split : list->count;
    portion  p = {.first = part * each, .count = each};
    if (!o->split)
        p.count = list->count;
    if (p.count > list->count - p.first)
        p.count = list->count - p.first;
    char *pairs = build_metadata(o, list, part, &p.n_kv, &p.pairs_size);
    if (!pairs) {
        fputs("make_model: out of memory\n", stderr);
        return false;
    }
    p.pairs = pairs;
    name_part(o, part, n_parts, &p);
    bool good = write_portion(o, list, data_bytes, &p);
    free(pairs);
    return good;
}

/* Some parts alone would be of no use to anybody. */
static void remove_parts(const options *o, uint32_t n, uint32_t n_parts) {
    portion p;
    for (uint32_t i = 0; i < n; i++) {
        name_part(o, i, n_parts, &p);
        unlink(p.path);
    }
}

static bool write_model(const options *o) {
    tensor_list list;
    uint64_t    data_bytes;
    if (!llama_list_tensors(&list, &o->shape, &o->making, &data_bytes)) {
        fputs("make_model: out of memory\n", stderr);
        return false;
    }
    uint32_t n_parts = count_parts(o, &list), done = 0;
    bool good = n_parts <= UINT16_MAX; /* as many as the key can say */
    if (!good)
        fprintf(stderr, "make_model: %u parts, at most %d can be\n", n_parts, UINT16_MAX);
    while (good && done < n_parts && write_part(o, &list, data_bytes, done))
        done++;
    if (done < n_parts)
        remove_parts(o, done, n_parts);
    free(list.items);
    return done == n_parts;
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            print_help();
            return 0;
        }
    options o;
    if (!parse_arguments(&o, argv + 1))
        return 2;
    return write_model(&o) ? 0 : 1;
}
