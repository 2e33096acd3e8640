/* The last stage: the object, or what it was linked to, as a file that appears whole or not at all. */
#include "compilation.h"
#include "driver.h"

#include "output.h"
#include "packed.h"

#include <llvm-c/Core.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The header beside a library: OUTPUT with .h for its ending. */
static const char *header_path(compilation *c) {
    const char *out = c->options->output, *dot = strrchr(base_name(out), '.');
    size_t      stem = dot ? (size_t)(dot - out) : strlen(out);
    return arena_printf(c->memory, "%.*s.h", (int)stem, out);
}

const char *compilation_packed_path(compilation *c) {
    const char *out = c->options->output ? c->options->output : base_name(c->options->model);
    const char *base = base_name(out);
    const char *folder = base == out ? "." : arena_printf(c->memory, "%.*s", (int)(base - out), out);
    char       *absolute = realpath(folder, NULL);
    if (!absolute) {
        diag_error(&c->messages, "%s: %s", folder, strerror(errno));
        return NULL;
    }
    const char *path = arena_printf(c->memory, "%s/%s.weights", strcmp(absolute, "/") ? absolute : "", base);
    free(absolute);
    return path;
}

static bool is_standard_output(const ggufc_compile_options *o) {
    return !strcmp(o->output, "-");
}

bool compilation_check_output(compilation *c) {
    const ggufc_compile_options *o = c->options;
    if (o->stop_after != GGUFC_STAGE_LINK) return true;
    if (!o->output) return diag_error(&c->messages, "no output was given");
    if (is_standard_output(o)) {
        if (o->emit == GGUFC_EMIT_EXE || o->emit == GGUFC_EMIT_LIB || o->pack || o->dump)
            return diag_error(&c->messages, "-o -: standard output is for --emit=llvm-ir, asm or obj without --pack "
                              "and --dump; say -o FILE");
        return true;
    }
    const char *inputs[4] = {o->model}, **next = inputs + 1;
    if (o->arch) *next++ = o->arch;
    if (o->runtime) *next++ = o->runtime;
    if (!output_check(&c->messages, o->output, inputs)) return false;
    if (o->pack) {
        const char *weights = compilation_packed_path(c);
        if (!weights || !output_check(&c->messages, weights, inputs)) return false;
    }
    if (o->emit != GGUFC_EMIT_LIB) return true;
    if (!strcmp(header_path(c), o->output))
        return diag_error(&c->messages, "%s: is where the library's header goes; say -o FILE.a",
                          o->output);
    return output_check(&c->messages, header_path(c), inputs);
}

/* The objects as files, their names for the linker; less than n_variants of them where one cannot be written. */
static uint32_t write_objects(compilation *c, const char **names) {
    uint32_t n = 0;
    if (c->n_variants > OUTPUT_MAX_OBJECTS) bug("%u objects", c->n_variants);
    for (bool ok = true; ok && n < c->n_variants; n += ok) {
        const variant *v = &c->variants[n];
        const char    *name = arena_printf(c->memory, "%s.%s.o", c->options->output, v->target.isa->name);
        names[n] = output_temporary(c->memory, name);
        ok = output_write(&c->messages, names[n], LLVMGetBufferStart(v->object), LLVMGetBufferSize(v->object));
        if (!ok) output_discard(names[n]);
    }
    return n;
}

static bool link_objects(compilation *c, const char *to) {
    const target *t = &c->variant->target;
    if (!t->native && !c->options->runtime)
        return diag_error(&c->messages, "%s: the runtime library here is for another kind of machine; "
                          "give one for %s with --runtime=FILE and its compiler with CC=…, or make "
                          "the object alone with --emit=obj", c->options->output, t->triple);
    const char *runtime = output_find_runtime(c->memory, &c->messages, c->options->runtime);
    if (!runtime) return false;
    const char **objects = ARENA_ARRAY(c->memory, const char *, c->n_variants);
    uint32_t     n = write_objects(c, objects);
    bool         ok = n == c->n_variants;
    if (ok && c->options->emit == GGUFC_EMIT_LIB)
        ok = output_archive(&c->messages, objects, n, runtime, to);
    else if (ok)
        ok = output_link(&c->messages, objects, n, runtime, to);
    for (uint32_t i = 0; i < n; i++) output_discard(objects[i]);
    return ok;
}

/* To `to`, or, if it is NULL, standard output. */
static bool write_bytes(compilation *c, const char *to, const void *data, size_t size) {
    return to ? output_write(&c->messages, to, data, size) : output_print(&c->messages, data, size);
}

static bool write_ir(compilation *c, const char *to) {
    char *text = LLVMPrintModuleToString(c->variant->module);
    bool  ok = write_bytes(c, to, text, strlen(text));
    LLVMDisposeMessage(text);
    return ok;
}

static bool write_output(compilation *c, const char *to) {
    switch (c->options->emit) {
    case GGUFC_EMIT_LLVM_IR: return write_ir(c, to);
    case GGUFC_EMIT_OBJ:
    case GGUFC_EMIT_ASM:
        return write_bytes(c, to, LLVMGetBufferStart(c->variant->object), LLVMGetBufferSize(c->variant->object));
    case GGUFC_EMIT_EXE:
    case GGUFC_EMIT_LIB: return link_objects(c, to);
    }
    return false;
}

static bool write_header(compilation *c) {
    const char *path = header_path(c);
    const struct header_word words[] = {
        {"NAME", compilation_model_name(c)},
        {"VERSION", GGUFC_VERSION},
        {"MODEL", base_name(c->file->path)},
        {"LIBRARY", base_name(c->options->output)},
        {"SYMBOL", c->options->symbol},
        {NULL, NULL},
    };
    const char *text = header_fill(c->memory, words);
    const char *temporary = output_temporary(c->memory, path);
    if (output_write(&c->messages, temporary, text, strlen(text)) &&
        output_commit(&c->messages, temporary, path))
        return true;
    output_discard(temporary);
    return false;
}

static bool write_packed(compilation *c, const char *path) {
    packed_header header = packed_describe(c->file, c->variant->plan, c->variant->target.isa);
    const char   *temporary = output_temporary(c->memory, path);
    if (packed_write(&c->messages, temporary, c->graph, c->variant->plan, &header) &&
        output_commit(&c->messages, temporary, path))
        return true;
    output_discard(temporary);
    return false;
}

static bool write_result(compilation *c) {
    if (is_standard_output(c->options)) return write_output(c, NULL);
    const char *temporary = output_temporary(c->memory, c->options->output);
    if (!write_output(c, temporary) || !output_commit(&c->messages, temporary, c->options->output)) {
        output_discard(temporary);
        return false;
    }
    if (c->options->emit != GGUFC_EMIT_LIB || write_header(c)) return true;
    output_discard(c->options->output);
    return false;
}

bool compilation_write_output(compilation *c) {
    const char *packed = c->variant->plan->packed_bytes ? compilation_packed_path(c) : NULL;
    if (packed && !write_packed(c, packed)) return false;
    if (write_result(c)) return true;
    if (packed) output_discard(packed);
    return false;
}
