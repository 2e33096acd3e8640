/* The last stage: the object, or what it was linked to, as a file that appears whole or not at all. */
#include "compilation.h"
#include "driver.h"

#include "output.h"
#include "packed.h"

#include <llvm-c/Core.h>

#include <errno.h>
#include <stdio.h>
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

/* Text names the file of packed weights, which stays then; all else has it in itself. */
static bool packed_stay(const compilation *c) {
    enum ggufc_emit emit = c->options->emit;
    return !c->options->embed_weights || emit == GGUFC_EMIT_LLVM_IR || emit == GGUFC_EMIT_ASM;
}

static bool has_header(const compilation *c) {
    return c->options->emit == GGUFC_EMIT_LIB || c->options->emit == GGUFC_EMIT_SO;
}

bool compilation_is_linked(const compilation *c) {
    return c->options->emit == GGUFC_EMIT_EXE || has_header(c);
}

static bool is_standard_output(const ggufc_compile_options *o) {
    return !strcmp(o->output, "-");
}

bool compilation_check_output(compilation *c) {
    const ggufc_compile_options *o = c->options;
    if (o->stop_after != GGUFC_STAGE_LINK) return true;
    if (!o->output) return diag_error(&c->messages, "no output was given");
    if (is_standard_output(o)) {
        bool files = o->pack || (o->embed_weights && o->emit == GGUFC_EMIT_OBJ); /* beside it, if only for a while */
        if (compilation_is_linked(c) || files || o->dump)
            return diag_error(&c->messages, "-o -: standard output is for --emit=llvm-ir, asm or obj without --pack, "
                              "--dump and embedded weights; say -o FILE");
        return true;
    }
    const char *inputs[4] = {o->model}, **next = inputs + 1;
    if (o->arch) *next++ = o->arch;
    if (o->runtime) *next++ = o->runtime;
    if (!output_check(&c->messages, o->output, inputs)) return false;
    if (o->pack && packed_stay(c)) {
        const char *weights = compilation_packed_path(c);
        if (!weights || !output_check(&c->messages, weights, inputs)) return false;
    }
    if (!has_header(c)) return true;
    if (!strcmp(header_path(c), o->output))
        return diag_error(&c->messages, "%s: is where the library's header goes; say -o FILE%s",
                          o->output, o->emit == GGUFC_EMIT_LIB ? ".a" : ".so");
    return output_check(&c->messages, header_path(c), inputs);
}

/* ---- objects and what they are joined to */

/* Files that are not there any more when the result is. */
typedef struct objects {
    const char *names[OUTPUT_MAX_OBJECTS];
    uint32_t    n;
} objects;

/* A temporary name for OUTPUT.what. */
static const char *beside_output(compilation *c, const char *what) {
    return output_temporary(c->memory, arena_printf(c->memory, "%s.%s", c->options->output, what));
}

static const char *add_object(compilation *c, objects *o, const char *what) {
    if (o->n == OUTPUT_MAX_OBJECTS) bug("too many objects");
    return o->names[o->n++] = beside_output(c, arena_printf(c->memory, "%s.o", what));
}

static bool write_code(compilation *c, objects *o) {
    for (uint32_t i = 0; i < c->n_variants; i++) {
        const variant *v = &c->variants[i];
        if (!output_write(&c->messages, add_object(c, o, v->target.isa->name), LLVMGetBufferStart(v->object),
                          LLVMGetBufferSize(v->object)))
            return false;
    }
    return true;
}

static bool write_packed(compilation *c, const char *path) {
    packed_header header = packed_describe(c->file, c->variant->plan, c->variant->target.isa);
    return packed_write(&c->messages, path, c->graph, c->variant->plan, &header);
}

static bool assemble_weights(compilation *c, const char *packed, const char *object) {
    const char *assembly = beside_output(c, "weights.s"), *text = compilation_weights_text(c, packed);
    bool ok = output_write(&c->messages, assembly, text, strlen(text)) &&
              output_assemble(&c->messages, assembly, object);
    output_discard(assembly);
    return ok;
}

/* Whether the assembler was one for the target: ELF's class and byte order, and the machine. */
static bool check_machine(compilation *c, const char *object) {
    const char *code = LLVMGetBufferStart(c->variant->object);
    char        header[20] = "";
    FILE       *f = fopen(object, "rb");
    bool        same = f && fread(header, 1, sizeof header, f) == sizeof header && !memcmp(header + 4, code + 4, 2) &&
                !memcmp(header + 18, code + 18, 2);
    if (f) fclose(f);
    return same || diag_error(&c->messages, "the assembler that $CC runs is none for %s", c->variant->target.triple);
}

static bool write_weights(compilation *c, objects *o) {
    const char *object = add_object(c, o, "weights");
    if (!c->variant->plan->packed_bytes) return assemble_weights(c, NULL, object) && check_machine(c, object);
    const char *packed = beside_output(c, "weights");
    bool ok = write_packed(c, packed) && assemble_weights(c, packed, object) && check_machine(c, object);
    output_discard(packed);
    return ok;
}

static bool join_objects(compilation *c, const objects *o, const char *to) {
    if (c->options->emit == GGUFC_EMIT_OBJ) return output_join(&c->messages, o->names, o->n, to);
    const char *runtime = output_find_runtime(c->memory, &c->messages, c->options->runtime);
    if (!runtime) return false;
    if (c->options->emit == GGUFC_EMIT_LIB) return output_archive(&c->messages, o->names, o->n, runtime, to);
    const char *library = c->options->emit == GGUFC_EMIT_SO ? base_name(c->options->output) : NULL;
    return output_link(&c->messages, o->names, o->n, runtime, to, library);
}

static bool link_objects(compilation *c, const char *to) {
    const target *t = &c->variant->target;
    objects       o = {.n = 0};
    if (compilation_is_linked(c) && !t->native && !c->options->runtime)
        return diag_error(&c->messages, "%s: the runtime library here is for another kind of machine; "
                          "give one for %s with --runtime=FILE and its compiler with CC=…, or make "
                          "the object alone with --emit=obj", c->options->output, t->triple);
    const char *cc = getenv("CC");
    if (c->options->embed_weights && !t->native && !(cc && *cc))
        return diag_error(&c->messages, "%s: weights are made part of it by the assembler for %s: name that machine's "
                          "compiler with CC=…", c->options->output, t->triple);
    bool ok = write_code(c, &o) && (!c->options->embed_weights || write_weights(c, &o)) && join_objects(c, &o, to);
    for (uint32_t i = 0; i < o.n; i++) output_discard(o.names[i]);
    return ok;
}

/* ---- the result */

/* To `to`, or, if it is NULL, standard output. */
static bool write_bytes(compilation *c, const char *to, const void *data, size_t size) {
    return to ? output_write(&c->messages, to, data, size) : output_print(&c->messages, data, size);
}

/* NULL: reported. */
static const char *weights_text(compilation *c) {
    const char *packed = c->variant->plan->packed_bytes ? compilation_packed_path(c) : "";
    return packed ? compilation_weights_text(c, packed) : NULL;
}

static bool write_ir(compilation *c, const char *to) {
    const char *weights = c->options->embed_weights ? weights_text(c) : "";
    if (!weights) return false;
    if (*weights) LLVMAppendModuleInlineAsm(c->variant->module, weights, strlen(weights));
    char *text = LLVMPrintModuleToString(c->variant->module);
    bool  ok = write_bytes(c, to, text, strlen(text));
    LLVMDisposeMessage(text);
    return ok;
}

static bool write_object(compilation *c, const char *to) {
    return write_bytes(c, to, LLVMGetBufferStart(c->variant->object), LLVMGetBufferSize(c->variant->object));
}

static bool write_asm(compilation *c, const char *to) {
    if (!c->options->embed_weights) return write_object(c, to);
    const char *code = LLVMGetBufferStart(c->variant->object), *weights = weights_text(c);
    if (!weights) return false;
    const char *text = arena_printf(c->memory, "%.*s%s", (int)LLVMGetBufferSize(c->variant->object), code, weights);
    return write_bytes(c, to, text, strlen(text));
}

static bool write_output(compilation *c, const char *to) {
    switch (c->options->emit) {
    case GGUFC_EMIT_LLVM_IR: return write_ir(c, to);
    case GGUFC_EMIT_ASM: return write_asm(c, to);
    case GGUFC_EMIT_OBJ: return c->options->embed_weights ? link_objects(c, to) : write_object(c, to);
    case GGUFC_EMIT_EXE:
    case GGUFC_EMIT_LIB:
    case GGUFC_EMIT_SO: return link_objects(c, to);
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

static bool add_packed(compilation *c, const char *path) {
    const char *temporary = output_temporary(c->memory, path);
    if (write_packed(c, temporary) && output_commit(&c->messages, temporary, path)) return true;
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
    if (!has_header(c) || write_header(c)) return true;
    output_discard(c->options->output);
    return false;
}

bool compilation_write_output(compilation *c) {
    bool        apart = c->variant->plan->packed_bytes && packed_stay(c);
    const char *packed = apart ? compilation_packed_path(c) : NULL;
    if (packed && !add_packed(c, packed)) return false;
    if (write_result(c)) return true;
    if (packed) output_discard(packed);
    return false;
}
