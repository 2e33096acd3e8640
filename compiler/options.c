#include "options.h"

#include "base.h"
#include "driver.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef bool option_reader(ggufc_compile_options *o, const char *name, const char *text);

/* A flag is `--name=VALUE` or `--name VALUE`; one of a single letter `-x VALUE`. */
typedef struct option {
    const char    *name, *value; /* value: what --help calls it; NULL: takes none */
    option_reader *read;
    const char    *help;
} option;

static bool wrong(const char *name, const char *text, const char *expected) {
    fprintf(stderr, "ggufc: error: %s: '%s' is not %s\n", name, text, expected);
    return false;
}

/* The position of `text` in a list that ends with NULL, or -1. */
static int find_word(const char *const *words, const char *text, size_t size) {
    for (int i = 0; words[i]; i++)
        if (strlen(words[i]) == size && !strncmp(words[i], text, size)) return i;
    return -1;
}

static bool read_u32(const char *name, const char *text, uint32_t least, uint32_t *out) {
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || n < least || n > GGUFC_MAX_TOKENS)
        return wrong(name, text, "a number in range");
    *out = (uint32_t)n;
    return true;
}

static bool read_output(ggufc_compile_options *o, const char *name, const char *text) {
    if (!*text) return wrong(name, text, "a file name");
    o->output = text;
    return true;
}

static bool read_emit(ggufc_compile_options *o, const char *name, const char *text) {
    static const char *const words[] = {"exe", "obj", "lib", "llvm-ir", "asm", NULL};
    int i = find_word(words, text, strlen(text));
    if (i < 0) return wrong(name, text, "one of exe, obj, lib, llvm-ir, asm");
    o->emit = (enum ggufc_emit)i;
    return true;
}

static bool read_target(ggufc_compile_options *o, const char *name, const char *text) {
    (void)name;
    o->target = text;
    return true;
}

static bool read_cpu(ggufc_compile_options *o, const char *name, const char *text) {
    (void)name;
    o->cpu = text;
    return true;
}

static bool read_features(ggufc_compile_options *o, const char *name, const char *text) {
    for (const char *at = text; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (*at != '+' && *at != '-') return wrong(name, text, "a list like +avx2,-avx512f");
    o->features = text;
    return true;
}

static bool read_arch(ggufc_compile_options *o, const char *name, const char *text) {
    (void)name;
    o->arch = text;
    return true;
}

static bool read_runtime(ggufc_compile_options *o, const char *name, const char *text) {
    (void)name;
    o->runtime = text;
    return true;
}

static bool read_symbol(ggufc_compile_options *o, const char *name, const char *text) {
    const char *lacks = driver_symbol_lacks(text);
    if (lacks) return wrong(name, text, lacks);
    o->symbol = text;
    return true;
}

static bool read_ctx(ggufc_compile_options *o, const char *name, const char *text) {
    return read_u32(name, text, 1, &o->ctx);
}

static bool read_batch(ggufc_compile_options *o, const char *name, const char *text) {
    return read_u32(name, text, 1, &o->batch);
}

static bool read_unroll(ggufc_compile_options *o, const char *name, const char *text) {
    o->unroll = 0;
    if (!strcmp(text, "full")) return true;
    if (!read_u32(name, text, 1, &o->unroll)) return false;
    return o->unroll % 4 == 0 || wrong(name, text, "'full' or a multiple of 4");
}

static bool read_dump(ggufc_compile_options *o, const char *name, const char *text) {
    static const char *const words[] = {"graph", "plan", "llvm-ir", "asm", NULL};
    for (;;) {
        size_t n = strcspn(text, ",");
        int    i = find_word(words, text, n);
        if (i < 0) return wrong(name, text, "a list of graph, plan, llvm-ir, asm");
        o->dump |= 1u << i;
        if (!text[n]) return true;
        text += n + 1;
    }
}

static bool read_stop(ggufc_compile_options *o, const char *name, const char *text) {
    for (int s = 0; driver_stage_name((enum ggufc_stage)s); s++)
        if (!strcmp(driver_stage_name((enum ggufc_stage)s), text)) {
            o->stop_after = (enum ggufc_stage)s;
            return true;
        }
    return wrong(name, text, "one of gguf, arch, resolve, fuse, plan, emit, target, link");
}

static bool read_trace(ggufc_compile_options *o, const char *name, const char *text) {
    (void)name, (void)text;
    o->trace = true;
    return true;
}

static bool read_verbose(ggufc_compile_options *o, const char *name, const char *text) {
    (void)name, (void)text;
    o->verbose = true;
    return true;
}

static const option table[] = {
    {"-o", "FILE", read_output, "where the result goes"},
    {"--emit", "KIND", read_emit, "exe (default), obj, lib (FILE.a with FILE.h), llvm-ir, asm"},
    {"--target", "TRIPLE", read_target, "compile for this machine type (default: this one)"},
    {"--cpu", "NAME", read_cpu, "and this CPU: x86-64-v3, znver4, … (default: native)"},
    {"--features", "LIST", read_features, "CPU features to add or remove: +avx512vnni,-avx512f"},
    {"--ctx", "N", read_ctx, "positions in the key-value cache (default: as trained, at most 4096)"},
    {"--batch", "N", read_batch, "most tokens of a prompt at a time (default 256)"},
    {"--unroll", "full|N", read_unroll, "blocks of a row that stand straight-line: all (default), or N, a multiple of 4"},
    {"--arch", "FILE", read_arch, "an architecture template instead of the built-in one"},
    {"--symbol", "NAME", read_symbol, "of the model, unless it is an exe (default ggufc_compiled)"},
    {"--runtime", "FILE", read_runtime, "the runtime library (default: beside this program)"},
    {"--dump", "WHAT,…", read_dump, "print graph, plan, llvm-ir or asm to standard output"},
    {"--stop-after", "STAGE", read_stop, "gguf, arch, resolve, fuse, plan, emit, target or link"},
    {"--trace", NULL, read_trace, "keep every named activation: the executable then has --trace=FILE"},
    {"-v", NULL, read_verbose, "say what each stage took"},
};

static void print_help(void) {
    puts("usage: ggufc MODEL.gguf -o FILE [options]\n\n"
         "Compiles a GGUF model to native code, linked into an executable that maps the weights.\n");
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char flag[40];
        snprintf(flag, sizeof flag, "%s%s%s", table[i].name,
                 !table[i].value ? "" : table[i].name[1] == '-' ? "=" : " ",
                 table[i].value ? table[i].value : "");
        printf("  %-22s %s\n", flag, table[i].help);
    }
    puts("  --help, --version");
}

static const option *find_option(const char *arg, const char **value) {
    size_t n = strcspn(arg, "=");
    if (!strcmp(arg, "--verbose")) return find_option("-v", value);
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        const char *name = table[i].name;
        if (strlen(name) != n || strncmp(arg, name, n)) continue;
        if (arg[n] && name[1] != '-') return NULL;
        *value = arg[n] ? arg + n + 1 : NULL;
        return &table[i];
    }
    return NULL;
}

static bool read_option(ggufc_compile_options *o, int argc, char **argv, int *at) {
    const char   *value = NULL;
    const option *found = find_option(argv[*at], &value);
    if (!found) {
        fprintf(stderr, "ggufc: error: unknown option '%s'; ggufc --help lists them\n", argv[*at]);
        return false;
    }
    if (!found->value && value) return wrong(found->name, value, "expected: it takes no value");
    if (found->value && !value) {
        if (*at + 1 == argc) {
            fprintf(stderr, "ggufc: error: %s needs a value: %s\n", found->name, found->value);
            return false;
        }
        value = argv[++*at];
    }
    return found->read(o, found->name, value);
}

static bool complete(const ggufc_compile_options *o) {
    const char *missing = NULL;
    if (!o->model)
        missing = "no model given; usage: ggufc MODEL.gguf -o FILE";
    else if (!o->output && o->stop_after == GGUFC_STAGE_LINK)
        missing = "no output given; say -o FILE, or --stop-after=STAGE to write none";
    if (missing) fprintf(stderr, "ggufc: error: %s\n", missing);
    return !missing;
}

enum options_result options_parse(ggufc_compile_options *o, int argc, char **argv) {
    ggufc_compile_defaults(o);
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            print_help();
            return OPTIONS_DONE;
        }
        if (!strcmp(argv[i], "--version")) {
            puts("ggufc " GGUFC_VERSION);
            return OPTIONS_DONE;
        }
        if (argv[i][0] == '-' && argv[i][1]) {
            if (!read_option(o, argc, argv, &i)) return OPTIONS_WRONG;
        } else if (o->model) {
            fprintf(stderr, "ggufc: error: '%s': one model at a time\n", argv[i]);
            return OPTIONS_WRONG;
        } else {
            o->model = argv[i];
        }
    }
    return complete(o) ? OPTIONS_COMPILE : OPTIONS_WRONG;
}
