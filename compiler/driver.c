/* The pipeline, from top to bottom:
 *
 *     model.gguf ── gguf ── arch ── resolve ── fuse ─┬─ plan ── emit ── target ─┬─ link ── output
 *                                                    └─ … for another CPU ──────┘
 *
 * Each stage is a function of one `compilation`; the table `stages` is their order. Memory of the
 * whole compilation is one arena; what LLVM owns is disposed of in one place, at the end.
 */
#include "ggufc/compiler.h"

#include "arch.h"
#include "compilation.h"
#include "driver.h"
#include "emit.h"
#include "packed.h"
#include "pass.h"

#include <llvm-c/Core.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEFAULT_CTX   4096
#define DEFAULT_BATCH 256
#define MAX_HEAD_DIM  1024
#define MAX_TEXT      (1u << 20) /* bytes of a template */
#define DEFAULT_SYMBOL "ggufc_compiled"

/* ---- stages */

const char *driver_symbol_lacks(const char *text) {
    bool ok = *text && !(*text >= '0' && *text <= '9');
    for (const char *c = text; *c; c++)
        ok = ok && (*c == '_' || (*c >= '0' && *c <= '9') || ((*c | 32) >= 'a' && (*c | 32) <= 'z'));
    if (!ok) return "a C name";
    if (!strncmp(text, "ggufc_", 6) && strcmp(text, DEFAULT_SYMBOL))
        return "free: names that begin with ggufc_ are the runtime's";
    return NULL;
}

static bool check_options(compilation *c) {
    const ggufc_compile_options *o = c->options;
    if (!o->model) return diag_error(&c->messages, "no model was given");
    if (!o->batch || o->batch > GGUFC_MAX_TOKENS || o->ctx > GGUFC_MAX_TOKENS)
        return diag_error(&c->messages, "a batch of %u, a context of %u: at least 1 and at most %d",
                          o->batch, o->ctx, GGUFC_MAX_TOKENS);
    if (o->unroll % 4)
        return diag_error(&c->messages, "unrolling %u blocks: not a multiple of 4", o->unroll);
    const char *lacks = o->symbol ? driver_symbol_lacks(o->symbol) : "given";
    if (lacks)
        return diag_error(&c->messages, "the symbol '%s' is not %s", o->symbol ? o->symbol : "", lacks);
    return compilation_check_output(c);
}

static bool stage_gguf(compilation *c) {
    if (!check_options(c)) return false;
    c->file = gguf_open(c->memory, &c->messages, c->options->model);
    return c->file != NULL;
}

static bool read_text(compilation *c, const char *path, const char **text, size_t *size) {
    FILE *f = fopen(path, "rb");
    if (!f) return diag_error(&c->messages, "%s: %s", path, strerror(errno));
    char  *all = NULL;
    size_t n = 0, room = 0;
    do {
        room = room ? room * 2 : 4096;
        char *grown = arena_alloc(c->memory, room);
        if (n) memcpy(grown, all, n);
        all = grown;
        n += fread(all + n, 1, room - n, f);
    } while (n == room && n < MAX_TEXT);
    bool failed = ferror(f) || n >= MAX_TEXT;
    if (failed)
        diag_error(&c->messages, "%s: %s", path,
                   n >= MAX_TEXT ? "too long for a template" : strerror(errno));
    fclose(f);
    *text = all;
    *size = n;
    return !failed;
}

/* The template for the model: --arch, or the built-in one for general.architecture. */
static bool find_template(compilation *c, const char **path, const char **text, size_t *size) {
    if (c->options->arch) {
        *path = c->options->arch;
        return read_text(c, *path, text, size);
    }
    gguf_string name;
    switch (gguf_get_string(c->file, &c->messages, "general.architecture", &name)) {
    case GGUF_MISTYPED: return false;
    case GGUF_ABSENT:
        return diag_error(&c->messages, "%s: key general.architecture is missing", c->file->path);
    case GGUF_PRESENT: break;
    }
    char *arch_name = arena_copy_text(c->memory, name.data, name.size);
    *path = arena_printf(c->memory, "%s.arch", arch_name);
    *text = arch_builtin(arch_name, size);
    if (*text) return true;
    const char *known = "";
    for (const char *const *n = arch_builtin_names(); *n; n++)
        known = arena_printf(c->memory, "%s%s%s", known, *known ? ", " : "", *n);
    return diag_error(&c->messages,
                      "%s: architecture '%s' has no template; built in: %s; another can be given "
                      "with --arch=FILE", c->file->path, arch_name, known);
}

static bool stage_arch(compilation *c) {
    const char *path = NULL, *text = NULL;
    size_t      size = 0;
    if (!find_template(c, &path, &text, &size)) return false;
    arch *t = arch_parse(c->memory, &c->messages, path, text, size);
    if (!t) return false;
    c->graph = arch_build(c->memory, &c->messages, t, c->file);
    if (!c->graph) return false;
    pass_check(c->graph, STAGE_ARCH);
    return true;
}

static const char *compiled_types(arena *a) {
    const char *text = "";
    for (uint32_t i = 0; i < QUANT_COUNT; i++) {
        const quant_info *info = quant_find(i);
        if (info && info->compiled)
            text = arena_printf(a, "%s%s%s", text, *text ? ", " : "", info->name);
    }
    return text;
}

static bool check_types(compilation *c) {
    for (uint32_t i = 0; i < c->graph->n_values; i++) {
        const value *v = c->graph->values[i];
        if (v->kind == VALUE_WEIGHT && !quant_find(v->type)->compiled)
            return diag_error(&c->messages, "%s: tensor '%s' has type %s, which cannot be compiled; "
                              "types that can: %s; interpreted:MODEL.gguf can be run", c->file->path,
                              v->name, quant_find(v->type)->name, compiled_types(c->memory));
    }
    return true;
}

static bool stage_resolve(compilation *c) {
    if (!check_types(c)) return false;
    pass_resolve(c->graph);
    pass_check(c->graph, STAGE_RESOLVED);
    return true;
}

static bool stage_fuse(compilation *c) {
    if (!c->options->no_fuse) pass_fuse(c->graph, c->options->trace);
    pass_check(c->graph, STAGE_FUSED);
    return true;
}

uint32_t compilation_choose_ctx(compilation *c) {
    uint64_t trained = c->graph->n_ctx_train;
    uint32_t asked = c->options->ctx;
    if (!asked) return trained < DEFAULT_CTX ? (uint32_t)trained : DEFAULT_CTX;
    if (asked > trained)
        diag_warning(&c->messages, "%s: --ctx=%u is more than the %llu positions that the model was "
                     "trained for", c->file->path, asked, (unsigned long long)trained);
    return asked;
}

bool compilation_check_heads(compilation *c) {
    for (uint32_t i = 0; i < c->graph->n_ops; i++) {
        const op *o = c->graph->ops[i];
        if (o->kind == OP_ATTENTION && o->params.head_dim > MAX_HEAD_DIM)
            return diag_error(&c->messages, "%s: %s has heads of %u values; at most %d can be compiled",
                              c->file->path, o->name, o->params.head_dim, MAX_HEAD_DIM);
    }
    return true;
}

/* No name of C's is like those of the variants after the first: they clash with no other model's. */
static bool open_targets(compilation *c) {
    const ggufc_compile_options *o = c->options;
    const char *symbol = o->emit == GGUFC_EMIT_EXE ? DEFAULT_SYMBOL : o->symbol;
    target     *all;
    bool ok = target_open_each(&all, &c->n_variants, c->memory, &c->messages, o->target, o->cpu, o->features);
    c->variant = c->variants = ARENA_ARRAY(c->memory, variant, c->n_variants);
    for (uint32_t i = 0; i < c->n_variants; i++) c->variants[i] = (variant){.target = all[i], .symbol = symbol};
    for (uint32_t i = 1; ok && i < c->n_variants; i++)
        c->variants[i].symbol = arena_printf(c->memory, "%s.%s", symbol, all[i].isa->name);
    return ok;
}

static bool check_several(compilation *c) {
    const ggufc_compile_options *o = c->options;
    if (c->n_variants == 1) return true;
    if (!compilation_is_linked(c))
        return diag_error(&c->messages, "--cpu=%s: only executables and libraries have code for several CPUs", o->cpu);
    return !o->pack || diag_error(&c->messages, "--pack lays weights out for one CPU: --cpu names %u", c->n_variants);
}

/* What is the same for all of them. */
static bool begin_variants(compilation *c) {
    if (!compilation_check_heads(c) || !open_targets(c) || !check_several(c)) return false;
    if (c->options->embed_weights && !compilation_check_embedded(c)) return false;
    c->n_ctx = compilation_choose_ctx(c);
    return true;
}

static bool stage_plan(compilation *c) {
    const target *t = &c->variant->target;
    plan_options  options = {.n_ctx = c->n_ctx, .n_batch = c->options->batch,
                             .trace = c->options->trace, .pack = c->options->pack};
    if (options.pack && !packed_supported(t->isa))
        return diag_error(&c->messages, "--pack is for x86-64 from SSSE3 on and AArch64 with the dot product; "
                          "this target is %s", t->name);
    if (options.n_batch > options.n_ctx) options.n_batch = options.n_ctx;
    c->variant->plan = pass_plan(c->graph, t->isa, &options);
    return true;
}

bool compilation_read_vocab(compilation *c) {
    switch (vocab_read(c->memory, &c->messages, c->file, &c->vocab)) {
    case VOCAB_BAD: return false;
    case VOCAB_UNSUPPORTED:
        diag_warning(&c->messages, "%s: the tokenizer '%s' is not supported yet: the executable "
                     "takes --tokens, not text", c->file->path,
                     c->vocab.model ? c->vocab.model : "none");
        return true;
    case VOCAB_READ: break;
    }
    if (c->vocab.vocab.n_tokens != c->graph->n_vocab)
        return diag_error(&c->messages, "%s: the vocabulary has %u tokens, the model's output %llu",
                          c->file->path, c->vocab.vocab.n_tokens,
                          (unsigned long long)c->graph->n_vocab);
    c->has_vocab = true;
    return true;
}

const char *compilation_model_name(compilation *c) {
    gguf_string name;
    diag        quiet = {.sink = NULL};
    const gguf_kv *kv = gguf_find_kv(c->file, "general.name");
    if (kv && kv->type == GGUF_STRING &&
        gguf_get_string(c->file, &quiet, "general.name", &name) == GGUF_PRESENT)
        return arena_copy_text(c->memory, name.data, name.size);
    return base_name(c->file->path);
}

/* Where the file is, links resolved: but for the last in the path of a part, whose name is how the
   others are found. */
static const char *find_path(compilation *c) {
    const char *path = c->file->path, *base = base_name(path);
    if (c->file->n_parts <= 1) return compilation_absolute(c->memory, path);
    const char *folder = base == path ? "." : arena_printf(c->memory, "%.*s", (int)(base - path), path);
    folder = compilation_absolute(c->memory, folder);
    return arena_printf(c->memory, "%s/%s", strcmp(folder, "/") ? folder : "", base);
}

void compilation_describe_file(compilation *c, ggufc_model *m) {
    const gguf_file *f = c->file;
    ggufc_part      *parts = ARENA_ARRAY(c->memory, ggufc_part, f->n_parts);
    m->path = find_path(c);
    m->file_bytes = 0;
    for (uint32_t i = 0; i < f->n_parts; i++) {
        const gguf_part *p = &f->parts[i];
        parts[i] = (ggufc_part){
            .offset = p->offset,
            .bytes = p->bytes,
            .index_offset = p->index_offset - p->offset,
            .index_bytes = p->index_bytes,
            .index_hash = ggufc_index_hash(f->data + p->index_offset, p->index_bytes),
        };
        m->file_bytes += p->bytes;
    }
    m->index_offset = parts[0].index_offset;
    m->index_bytes = parts[0].index_bytes;
    m->index_hash = parts[0].index_hash;
    m->n_parts = f->n_parts > 1 ? f->n_parts : 0;
    m->parts = m->n_parts ? parts : NULL;
}

/* The executable reads the packed file in place of the GGUF file, whose fingerprint is in its header. */
static bool describe_packed(compilation *c, emit_facts *facts) {
    packed_header header = packed_describe(c->file, c->variant->plan, c->variant->target.isa);
    const char   *path = compilation_packed_path(c);
    if (!path) return false;
    facts->path = path;
    facts->file_bytes = c->variant->plan->packed_bytes;
    facts->index_offset = 0;
    facts->index_bytes = sizeof header;
    facts->index_hash = ggufc_index_hash((const uint8_t *)&header, sizeof header);
    facts->parts = NULL;
    facts->n_parts = 0;
    return true;
}

static bool stage_emit(compilation *c) {
    variant *v = c->variant;
    bool     first = v == c->variants, last = v + 1 == c->variants + c->n_variants;
    if (first && !compilation_read_vocab(c)) return false;
    if (first) c->context = LLVMContextCreate();
    v->module = LLVMModuleCreateWithNameInContext(base_name(c->file->path), c->context);
    target_prepare(&v->target, v->module);
    ggufc_model file;
    compilation_describe_file(c, &file);
    emit_facts facts = {
        .symbol = v->symbol,
        .first = first ? NULL : c->variants->symbol,
        .next = last ? NULL : v[1].symbol,
        .name = compilation_model_name(c),
        .target = v->target.name,
        .version = COMPILATION_VERSION,
        .path = file.path,
        .vocab = c->has_vocab ? &c->vocab : NULL,
        .file_bytes = file.file_bytes,
        .index_offset = file.index_offset,
        .index_bytes = file.index_bytes,
        .index_hash = file.index_hash,
        .parts = file.parts,
        .n_parts = file.n_parts,
    };
    if (v->plan->packed_bytes && !describe_packed(c, &facts)) return false;
    if (c->options->embed_weights) facts.weights = compilation_weights_symbol(c);
    emit_options options = {.unroll = c->options->unroll, .tuning = isa_cpu_tuning(v->target.triple, v->target.cpu),
                            .schedule_for = v->target.shared ? v->target.cpu : NULL};
    emit_model(c->memory, v->module, c->graph, v->plan, v->target.isa, &options, &facts);
    return target_optimize(&v->target, &c->messages, v->module);
}

static bool stage_target(compilation *c) {
    variant *v = c->variant;
    if (c->options->emit == GGUFC_EMIT_LLVM_IR) return true;
    v->object = target_code(&v->target, &c->messages, v->module, c->options->emit == GGUFC_EMIT_ASM);
    LLVMDisposeModule(v->module);
    v->module = NULL;
    return v->object != NULL;
}

/* ---- dumps */

static bool dump_asm(compilation *c) {
    LLVMMemoryBufferRef text = target_code(&c->variant->target, &c->messages, c->variant->module, true);
    if (!text) return false;
    fwrite(LLVMGetBufferStart(text), 1, LLVMGetBufferSize(text), stdout);
    LLVMDisposeMemoryBuffer(text);
    return true;
}

static void dump_ir(compilation *c) {
    char *text = LLVMPrintModuleToString(c->variant->module);
    fputs(text, stdout);
    LLVMDisposeMessage(text);
}

/* The graph is printed as it stands when it goes to the plan, or where --stop-after ends it. */
static bool dump_after(compilation *c, enum ggufc_stage stage) {
    unsigned         what = c->options->dump;
    enum ggufc_stage last = c->options->stop_after;
    if (what & GGUFC_DUMP_GRAPH && c->graph && stage == (last < GGUFC_STAGE_FUSE ? last : GGUFC_STAGE_FUSE))
        graph_print(c->graph, stdout);
    if (what & GGUFC_DUMP_PLAN && stage == GGUFC_STAGE_PLAN) plan_print(c->variant->plan, stdout);
    if (what & GGUFC_DUMP_LLVM_IR && stage == GGUFC_STAGE_EMIT) dump_ir(c);
    if (what & GGUFC_DUMP_ASM && stage == GGUFC_STAGE_EMIT && !dump_asm(c)) return false;
    if (fflush(stdout) || ferror(stdout))
        return diag_error(&c->messages, "standard output: %s", strerror(errno));
    return true;
}

/* ---- the pipeline */

static const struct {
    const char *name;
    bool (*run)(compilation *c);
} stages[] = {
    [GGUFC_STAGE_GGUF] = {"gguf", stage_gguf},
    [GGUFC_STAGE_ARCH] = {"arch", stage_arch},
    [GGUFC_STAGE_RESOLVE] = {"resolve", stage_resolve},
    [GGUFC_STAGE_FUSE] = {"fuse", stage_fuse},
    [GGUFC_STAGE_PLAN] = {"plan", stage_plan},
    [GGUFC_STAGE_EMIT] = {"emit", stage_emit},
    [GGUFC_STAGE_TARGET] = {"target", stage_target},
    [GGUFC_STAGE_LINK] = {"link", compilation_write_output},
};

const char *driver_stage_name(enum ggufc_stage stage) {
    return (size_t)stage < ARRAY_LEN(stages) ? stages[stage].name : NULL;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool run_stage(compilation *c, int s) {
    double begin = now();
    if (!stages[s].run(c) || !dump_after(c, (enum ggufc_stage)s)) return false;
    if (c->options->verbose)
        diag_note(&c->messages, "%-8s %7.1f ms", stages[s].name, 1e3 * (now() - begin));
    return true;
}

/* Stages [from, to) as far as they are wanted. */
static bool run_stages(compilation *c, int from, int to) {
    for (int s = from; s < to && s <= (int)c->options->stop_after; s++)
        if (!run_stage(c, s)) return false;
    return true;
}

/* Of several, what is told and dumped from here on is this one's. */
static void tell_variant(compilation *c) {
    const target *t = &c->variant->target;
    if (c->n_variants == 1) return;
    if (c->options->verbose) diag_note(&c->messages, "for %s: %s", t->cpu, t->name);
    if (c->options->dump & ~(unsigned)GGUFC_DUMP_GRAPH) printf("# %s\n", t->name);
}

bool compilation_run(compilation *c) {
    if (!run_stages(c, GGUFC_STAGE_GGUF, GGUFC_STAGE_PLAN)) return false;
    if (c->options->stop_after < GGUFC_STAGE_PLAN) return true;
    if (!begin_variants(c)) return false;
    for (uint32_t i = 0; i < c->n_variants; i++) {
        c->variant = &c->variants[i];
        tell_variant(c);
        if (!run_stages(c, GGUFC_STAGE_PLAN, GGUFC_STAGE_LINK)) return false;
    }
    return run_stages(c, GGUFC_STAGE_LINK, GGUFC_STAGE_LINK + 1);
}

void compilation_release(compilation *c) {
    for (uint32_t i = 0; i < c->n_variants; i++) {
        variant *v = &c->variants[i];
        if (v->object) LLVMDisposeMemoryBuffer(v->object);
        if (v->module) LLVMDisposeModule(v->module);
        target_close(&v->target);
    }
    if (c->context) LLVMContextDispose(c->context);
    gguf_close(c->file);
    arena_free(c->memory);
}

void ggufc_compile_defaults(ggufc_compile_options *options) {
    *options = (ggufc_compile_options){
        .emit = GGUFC_EMIT_EXE,
        .stop_after = GGUFC_STAGE_LINK,
        .symbol = DEFAULT_SYMBOL,
        .batch = DEFAULT_BATCH,
    };
}

typedef struct forward {
    ggufc_message *message;
    void          *user;
} forward;

static void forward_message(void *user, enum diag_level level, const char *line) {
    const forward *to = user;
    to->message(to->user, (int)level, line);
}

bool ggufc_compile(const ggufc_compile_options *options, ggufc_message *message, void *user) {
    forward     to = {message, user};
    compilation c = {.options = options, .memory = arena_new()};
    if (message) c.messages = (diag){.sink = forward_message, .user = &to};
    bool ok = compilation_run(&c);
    compilation_release(&c);
    return ok;
}
