#include "base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES ((size_t)64 << 10)

typedef struct chunk {
    struct chunk *next;
    size_t        used, size;
    _Alignas(16) unsigned char data[];
} chunk;

struct arena {
    chunk *chunks;
};

static _Noreturn void out_of_memory(void) {
    fputs("ggufc: error: out of memory\n", stderr);
    exit(1);
}

arena *arena_new(void) {
    arena *a = calloc(1, sizeof *a);
    if (!a) out_of_memory();
    return a;
}

void arena_free(arena *a) {
    if (!a) return;
    for (chunk *c = a->chunks, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    free(a);
}

void *arena_alloc(arena *a, size_t bytes) {
    if (bytes > SIZE_MAX / 2) out_of_memory();
    bytes = round_up(bytes, 16);
    if (!a->chunks || a->chunks->size - a->chunks->used < bytes) {
        size_t size = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES;
        chunk *c = calloc(1, sizeof *c + size);
        if (!c) out_of_memory();
        c->size = size;
        c->next = a->chunks;
        a->chunks = c;
    }
    void *p = a->chunks->data + a->chunks->used;
    a->chunks->used += bytes;
    return p;
}

void *arena_array(arena *a, size_t count, size_t size) {
    if (size && count > SIZE_MAX / size) out_of_memory();
    return arena_alloc(a, count * size);
}

char *arena_copy_text(arena *a, const char *text, size_t size) {
    char *copy = arena_alloc(a, size + 1);
    if (size) memcpy(copy, text, size);
    return copy;
}

char *arena_printf(arena *a, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0) bug("format '%s'", format);
    char *text = arena_alloc(a, (size_t)n + 1);
    va_start(args, format);
    vsnprintf(text, (size_t)n + 1, format, args);
    va_end(args);
    return text;
}

void *arena_push(arena *a, void **items, uint32_t *count, uint32_t *capacity, size_t size) {
    if (*count == *capacity) {
        uint32_t more = *capacity ? *capacity * 2 : 16;
        if (more <= *capacity) out_of_memory();
        void *moved = arena_array(a, more, size);
        if (*count) memcpy(moved, *items, *count * size);
        *items = moved;
        *capacity = more;
    }
    return (char *)*items + size * (*count)++;
}

const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

_Noreturn void base_bug(const char *file, int line, const char *format, ...) {
    va_list args;
    fprintf(stderr, "ggufc: internal error at %s:%d: ", file, line);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputs("\n", stderr);
    abort();
}
