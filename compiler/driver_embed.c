/* Weights that become part of a program: assembly that names their files. */
#include "compilation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FAR_LEAST  (2ull << 30) /* bytes from which on code does not reach across them to its data */
#define SMALL_PAGE 4096

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

static bool is_x86_64(const compilation *c) {
    return !strncmp(c->variants->target.triple, "x86_64", 6);
}

bool compilation_check_embedded(compilation *c) {
    if (is_x86_64(c) || c->file->size < FAR_LEAST) return true;
    return diag_error(&c->messages, "%s: %.1f GiB: weights of 2 GiB and more can be embedded for x86-64 alone",
                      c->file->path, (double)c->file->size / (1 << 30));
}

/* Behind everything that code refers to, where there is such a place. Kernels ask for 64 bytes; memory is locked by
   pages; and a huge page is had where one begins in memory and in the file. */
static const char *begin_section(const compilation *c) {
    const char *symbol = compilation_weights_symbol(c), *a = is_x86_64(c) ? ".lrodata.ggufc,\"al\"" : ".rodata.ggufc,\"a\"";
    unsigned    page = c->file->size < GGUFC_HUGE_LEAST ? SMALL_PAGE : GGUFC_PART_ALIGNMENT;
    return arena_printf(c->memory, ".section .note.GNU-stack,\"\",%%progbits\n.section %s,%%progbits\n.balign %u\n"
                        ".globl %s\n.hidden %s\n.type %s,%%object\n%s:\n", a, page, symbol, symbol, symbol, symbol);
}

/* It is the file that was compiled: its index is looked at when a session is opened, its size here. */
static const char *add_file(arena *a, const char *text, uint32_t i, uint64_t zeros, const char *path, uint64_t bytes) {
    path = quoted(a, compilation_absolute(a, path));
    if (zeros) text = arena_printf(a, "%s.zero %llu\n", text, (unsigned long long)zeros);
    return arena_printf(a, "%s.Lggufc_file%u:\n.incbin \"%s\"\n.Lggufc_end%u:\n.if .Lggufc_end%u-.Lggufc_file%u-%llu\n"
                        ".error \"not the file that was compiled\"\n.endif\n", text, i, path, i, i, i,
                        (unsigned long long)bytes);
}

const char *compilation_weights_text(compilation *c, const char *packed) {
    const gguf_file *f = c->file;
    uint64_t         packed_bytes = c->variants->plan->packed_bytes, at = 0;
    const char      *text = begin_section(c);
    if (packed_bytes) return add_file(c->memory, text, 0, 0, packed, packed_bytes);
    for (uint32_t i = 0; i < f->n_parts; i++) {
        const gguf_part *p = &f->parts[i];
        text = add_file(c->memory, text, i, p->offset - at, p->path, p->bytes);
        at = p->offset + p->bytes;
    }
    return text;
}
