#include "engine.h"

#include <string.h>
#include <unistd.h>

const char *const engine_kernels_names[] = { "compiled", "interpreted", "reference", NULL };

const char *engine_parse_name(const char *name, enum engine_kernels *kernels) {
    for (int i = 0; engine_kernels_names[i]; i++) {
        size_t n = strlen(engine_kernels_names[i]);
        if (strncmp(name, engine_kernels_names[i], n) || name[n] != ':') continue;
        *kernels = (enum engine_kernels)i;
        return name + n + 1;
    }
    *kernels = ENGINE_COMPILED;
    return name;
}

/* ---- compiled */

static bool open_compiled(engine *e) {
    compilation *c = &e->compilation;
    const void  *symbol;
    if (!compilation_run(c)) return false;
    LLVMMemoryBufferRef object = c->variant->object;
    c->variant->object = NULL;
    e->jit = jit_load(&c->messages, object, e->options.compile.symbol, &symbol);
    if (!e->jit) return false;
    e->model = *(const ggufc_model *)symbol;
    return true;
}

/* ---- interpreted */

ggufc_model engine_describe(engine *e, enum interp_arithmetic arithmetic) {
    compilation *c = &e->compilation;
    uint64_t     params = 0;
    ggufc_model m = {
        .abi = GGUFC_ABI,
        .n_vocab = (uint32_t)c->graph->n_vocab,
        .n_ctx_train = (uint32_t)c->graph->n_ctx_train,
        .n_layer = (uint32_t)c->graph->n_layer,
        .n_embd = (uint32_t)c->graph->n_embd,
        .name = compilation_model_name(c),
        .arch = c->graph->arch,
        .target = arithmetic == INTERP_REFERENCE ? "reference" : "interpreted",
        .types = graph_weight_types(c->memory, c->graph, &params),
        .compiler = COMPILATION_VERSION,
        .vocab = c->has_vocab ? &c->vocab.vocab : NULL,
        .embedded = c->file->data,
    };
    compilation_describe_file(c, &m);
    m.n_params_m = (uint32_t)((params + 500000) / 1000000);
    return m;
}

/* A mistake that is made nowhere would pass for one that does no harm. */
static bool check_mistake(engine *e) {
    compilation   *c = &e->compilation;
    const mistake *m = e->options.mistake;
    int32_t        layer = e->options.layer;
    for (uint32_t i = 0; m && i < c->graph->n_ops; i++) {
        const op *o = c->graph->ops[i];
        if ((layer < 0 || o->layer == layer) && mistake_applies(m, c->graph, o)) return true;
    }
    const char *where = layer < 0 ? "" : arena_printf(c->memory, " of layer %d", layer);
    return !m || diag_error(&c->messages, "%s: the mistake %s applies to no operation%s", c->file->path,
                            m->name, where);
}

static bool open_interpreted(engine *e) {
    compilation *c = &e->compilation;
    if (!compilation_run(c) || !compilation_check_heads(c) || !check_mistake(e) || !compilation_read_vocab(c))
        return false;
    interp_options options = {
        .arithmetic = e->options.kernels == ENGINE_REFERENCE ? INTERP_REFERENCE : INTERP_FAITHFUL,
        .n_ctx = compilation_choose_ctx(c),
        .trace = c->options->trace,
        .mistake = e->options.mistake,
        .layer = e->options.layer,
    };
    options.n_batch = c->options->batch < options.n_ctx ? c->options->batch : options.n_ctx;
    e->model = engine_describe(e, options.arithmetic);
    if (options.mistake) /* what it writes says so */
        e->model.target = arena_printf(c->memory, "%s, mistaken: %s", e->model.target, options.mistake->name);
    interp_model(c->memory, c->graph, &options, &e->model);
    return true;
}

/* ---- both */

/* A misspelt word before the colon is told of as what it is. */
static bool check_name(engine *e) {
    const char *path = e->options.compile.model;
    size_t      n = path ? strcspn(path, ":/") : 0;
    if (!n || path[n] != ':' || access(path, F_OK) == 0) return true;
    return diag_error(&e->compilation.messages,
                      "%s: there is no such file, and '%.*s' is none of compiled, interpreted, reference",
                      path, (int)n, path);
}

bool engine_open(engine *e, const engine_options *options, const diag *d) {
    *e = (engine){ .options = *options };
    bool compiled = options->kernels == ENGINE_COMPILED;
    e->options.compile.emit = GGUFC_EMIT_OBJ;
    e->options.compile.stop_after = compiled ? GGUFC_STAGE_TARGET : GGUFC_STAGE_ARCH;
    e->compilation = (compilation){ .options = &e->options.compile, .messages = *d };
    e->compilation.memory = options->memory ? options->memory : arena_new();
    if (!check_name(e) || !(compiled ? open_compiled(e) : open_interpreted(e))) return false;
    e->model.embedded = e->compilation.file->data;
    return true;
}

void engine_close(engine *e) {
    jit_free(e->jit);
    if (e->options.memory) e->compilation.memory = NULL;
    compilation_release(&e->compilation);
    *e = (engine){ .jit = NULL };
}
