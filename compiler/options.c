#include "options.h"

#include "base.h"
#include "driver.h"

#include <stdio.h>
#include <string.h>

static bool read_output(void *target, const char *name, const char *text) {
    ggufc_compile_options *o = target;
    if (!*text) return option_wrong(name, text, "a file name");
    o->output = text;
    return true;
}

static bool read_emit(void *target, const char *name, const char *text) {
    ggufc_compile_options *o = target;
    static const char *const words[] = {"exe", "obj", "lib", "so", "llvm-ir", "asm", NULL};
    int i = option_find_word(words, text, strlen(text));
    if (i < 0) return option_wrong(name, text, "one of exe, obj, lib, so, llvm-ir, asm");
    o->emit = (enum ggufc_emit)i;
    return true;
}

static bool read_target(void *target, const char *name, const char *text) {
    ggufc_compile_options *o = target;
    (void)name;
    o->target = text;
    return true;
}

static bool read_cpu(void *target, const char *name, const char *text) {
    ggufc_compile_options *o = target;
    (void)name;
    o->cpu = text;
    return true;
}

static bool read_features(void *target, const char *name, const char *text) {
    ggufc_compile_options *o = target;
    for (const char *at = text; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (*at != '+' && *at != '-') return option_wrong(name, text, "a list like +avx2,-avx512f");
    o->features = text;
    return true;
}

static bool read_arch(void *target, const char *name, const char *text) {
    ggufc_compile_options *o = target;
    (void)name;
    o->arch = text;
    return true;
}

static bool read_runtime(void *target, const char *name, const char *text) {
    ggufc_compile_options *o = target;
    (void)name;
    o->runtime = text;
    return true;
}

static bool read_symbol(void *target, const char *name, const char *text) {
    ggufc_compile_options *o = target;
    const char *lacks = driver_symbol_lacks(text);
    if (lacks) return option_wrong(name, text, lacks);
    o->symbol = text;
    return true;
}

static bool read_ctx(void *target, const char *name, const char *text) {
    ggufc_compile_options *o = target;
    return option_read_u32(name, text, 1, GGUFC_MAX_TOKENS, &o->ctx);
}

static bool read_batch(void *target, const char *name, const char *text) {
    ggufc_compile_options *o = target;
    return option_read_u32(name, text, 1, GGUFC_MAX_TOKENS, &o->batch);
}

static bool read_unroll(void *target, const char *name, const char *text) {
    ggufc_compile_options *o = target;
    o->unroll = 0;
    if (!strcmp(text, "full")) return true;
    if (!option_read_u32(name, text, 1, GGUFC_MAX_TOKENS, &o->unroll)) return false;
    return o->unroll % 4 == 0 || option_wrong(name, text, "'full' or a multiple of 4");
}

static bool read_no_fuse(void *target, const char *name, const char *text) {
    ggufc_compile_options *o = target;
    (void)name, (void)text;
    o->no_fuse = true;
    return true;
}

static bool read_dump(void *target, const char *name, const char *text) {
    ggufc_compile_options *o = target;
    static const char *const words[] = {"graph", "plan", "llvm-ir", "asm", NULL};
    for (;;) {
        size_t n = strcspn(text, ",");
        int    i = option_find_word(words, text, n);
        if (i < 0) return option_wrong(name, text, "a list of graph, plan, llvm-ir, asm");
        o->dump |= 1u << i;
        if (!text[n]) return true;
        text += n + 1;
    }
}

static bool read_stop(void *target, const char *name, const char *text) {
    ggufc_compile_options *o = target;
    for (int s = 0; driver_stage_name((enum ggufc_stage)s); s++)
        if (!strcmp(driver_stage_name((enum ggufc_stage)s), text)) {
            o->stop_after = (enum ggufc_stage)s;
            return true;
        }
    return option_wrong(name, text, "one of gguf, arch, resolve, fuse, plan, emit, target, link");
}

static bool read_trace(void *target, const char *name, const char *text) {
    ggufc_compile_options *o = target;
    (void)name, (void)text;
    o->trace = true;
    return true;
}

static bool read_pack(void *target, const char *name, const char *text) {
    ggufc_compile_options *o = target;
    (void)name, (void)text;
    o->pack = true;
    return true;
}

static bool read_embed(void *target, const char *name, const char *text) {
    ggufc_compile_options *o = target;
    (void)name, (void)text;
    o->embed_weights = true;
    return true;
}

static bool read_verbose(void *target, const char *name, const char *text) {
    ggufc_compile_options *o = target;
    (void)name, (void)text;
    o->verbose = true;
    return true;
}

static const option output_rows[] = {
    {"-o", NULL, "FILE", read_output, "where the result goes; -: to standard output (not exe, lib or so)"},
    {"--emit", NULL, "KIND", read_emit, "exe (default), obj, lib (FILE.a with FILE.h), so (FILE.so with FILE.h), llvm-ir, asm"},
    {"--target", NULL, "TRIPLE", read_target, "compile for this machine type (default: this one)"},
    {"--symbol", NULL, "NAME", read_symbol, "of the model, unless it is an exe (default ggufc_compiled)"},
    {"--runtime", NULL, "FILE", read_runtime, "the runtime library (default: beside this program)"},
    {"--pack", NULL, NULL, read_pack, "lay the weights out for the CPU, in a file OUTPUT.weights beside the result"},
    {"--embed-weights", NULL, NULL, read_embed, "make the weights part of the result, which then needs no GGUF file"},
    {"--trace", NULL, NULL, read_trace, "keep every named activation: the executable then has --trace=FILE"},
    {"--dump", NULL, "WHAT[,WHAT]", read_dump, "print graph, plan, llvm-ir or asm to standard output"},
    {"--stop-after", NULL, "STAGE", read_stop, "gguf, arch, resolve, fuse, plan, emit, target or link"},
    {0},
};

const option options_of_model[] = {
    {"--cpu", NULL, "NAME", read_cpu, "generate for this CPU: x86-64-v3, znver4, … (default: native)"},
    {"--features", NULL, "LIST", read_features, "CPU features to add or remove: +avx512vnni,-avx512f"},
    {"--ctx", NULL, "N", read_ctx, "positions in the key-value cache (default: as trained, at most 4096)"},
    {"--batch", NULL, "N", read_batch, "most tokens of a prompt at a time (default 256)"},
    {"--unroll", NULL, "full|N", read_unroll,
     "blocks of a row that stand straight-line: all (default), or N, a multiple of 4"},
    {"--no-fuse", NULL, NULL, read_no_fuse, "leave every op a kernel of its own, to see what fusing brings"},
    {"--arch", NULL, "FILE", read_arch, "an architecture template instead of the built-in one"},
    {"--verbose", "-v", NULL, read_verbose, "say what each stage took"},
    {0},
};

static bool complete(const ggufc_compile_options *o) {
    const char *missing = NULL;
    if (!o->model)
        missing = "no model given; usage: ggufc MODEL.gguf -o FILE";
    else if (!o->output && o->stop_after == GGUFC_STAGE_LINK)
        missing = "no output given; say -o FILE, or --stop-after=STAGE to write none";
    if (missing) fprintf(stderr, "ggufc: error: %s\n", missing);
    return !missing;
}

static const char usage[] =
    "usage: ggufc MODEL.gguf -o FILE [options]\n"
    "       ggufc run|trace|dump|inspect|compare|bench|quantize … (--help tells of each)\n\n"
    "Compiles a GGUF model to native code, linked into an executable that maps the weights. With\n"
    "--cpu=NAME,NAME,… it has code for each of these CPUs, and runs the best that its processor can.\n";

enum options_result options_parse(ggufc_compile_options *o, int argc, char **argv) {
    ggufc_compile_defaults(o);
    const option_table tables[] = { {output_rows, o}, {options_of_model, o}, {NULL, NULL} };
    option_command command = { .usage = usage, .tables = tables, .operands = &o->model, .n_operands = 1 };
    switch (option_parse(&command, argc, argv)) {
    case OPTION_DONE: return OPTIONS_DONE;
    case OPTION_WRONG: return OPTIONS_WRONG;
    case OPTION_RUN: break;
    }
    return complete(o) ? OPTIONS_COMPILE : OPTIONS_WRONG;
}
