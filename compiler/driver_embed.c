/* Weights that become part of a program: assembly that names their files. */
#include "compilation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LARGE_LEAST      (1u << 30) /* bytes from which on code and data may be too far apart with them in between */
#define HUGE_PAGES_LEAST (64u << 20) /* … from which on the runtime asks for huge pages */
#define SMALL_PAGE       4096

const char *compilation_absolute(arena *a, const char *path) {
    char       *absolute = realpath(path, NULL);
    const char *copy = absolute ? arena_copy_text(a, absolute, strlen(absolute)) : path;
    free(absolute);
    return copy;
}

/* As it stands between an assembler's quotes. */
static const char *quoted(arena *a, const char *text) {
    char *all = arena_alloc(a, 4 * strlen(text) + 1), *to = all;
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c >= ' ' && *c < 127 && *c != '"' && *c != '\\')
            *to++ = (char)*c;
        else
            to += sprintf(to, "\\%03o", *c);
    }
    *to = 0;
    return all;
}

const char *compilation_weights_symbol(const compilation *c) {
    return arena_printf(c->memory, "%s.weights", c->variants->symbol);
}

uint64_t compilation_weights_bytes(const compilation *c) {
    uint64_t packed = c->variants->plan->packed_bytes;
    return packed ? packed : c->file->size;
}

/* Kernels ask for 64 bytes; memory is locked by pages, and huge ones are had where a whole one begins. */
uint32_t compilation_weights_page(const compilation *c) {
    return compilation_weights_bytes(c) < HUGE_PAGES_LEAST ? SMALL_PAGE : GGUFC_PART_ALIGNMENT;
}

static const char *begin_section(const compilation *c) {
    const char *symbol = compilation_weights_symbol(c);
    bool        large = !strncmp(c->variants->target.triple, "x86_64", 6) && compilation_weights_bytes(c) >= LARGE_LEAST;
    return arena_printf(c->memory, ".section .note.GNU-stack,\"\",%%progbits\n"
                        ".section %s.ggufc,\"%s\",%%progbits\n.balign %u\n.globl %s\n.hidden %s\n.type %s,%%object\n"
                        "%s:\n", large ? ".lrodata" : ".rodata", large ? "al" : "a", compilation_weights_page(c), symbol,
                        symbol, symbol, symbol);
}

static const char *add_file(arena *a, const char *text, uint64_t zeros, const char *path, uint64_t bytes) {
    if (zeros) text = arena_printf(a, "%s.zero %llu\n", text, (unsigned long long)zeros);
    return arena_printf(a, "%s.incbin \"%s\",0,%llu\n", text, quoted(a, compilation_absolute(a, path)),
                        (unsigned long long)bytes);
}

const char *compilation_weights_text(compilation *c, const char *packed) {
    const gguf_file *f = c->file;
    uint64_t         packed_bytes = c->variants->plan->packed_bytes, at = 0;
    const char      *text = begin_section(c);
    if (packed_bytes) return add_file(c->memory, text, 0, packed, packed_bytes);
    for (uint32_t i = 0; i < f->n_parts; i++) {
        const gguf_part *p = &f->parts[i];
        text = add_file(c->memory, text, p->offset - at, p->path, p->bytes);
        at = p->offset + p->bytes;
    }
    return text;
}
