/* Whether two files hold the same weights, byte for byte. */
#include "comparison.h"

#include <string.h>
#include <sys/stat.h>

#define SHOWN 3

static bool same_file(const char *a, const char *b) {
    struct stat x, y;
    return !stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static const gguf_tensor *find(const gguf_file *f, const gguf_tensor *t, arena *scratch) {
    return gguf_find_tensor(f, arena_copy_text(scratch, t->name.data, t->name.size));
}

typedef struct differences {
    uint32_t    type, bytes;
    const char *named; /* a few of those whose bytes differ */
} differences;

static void compare_tensor(comparison *c, const gguf_file *b, const gguf_tensor *x, const gguf_tensor *y,
                           differences *n) {
    const gguf_file *a = c->in[0].file->compilation.file;
    if (x->type != y->type) {
        n->type++;
    } else if (x->bytes != y->bytes || memcmp(a->data + x->offset, b->data + y->offset, x->bytes)) {
        if (n->bytes++ < SHOWN)
            n->named = arena_printf(c->memory, "%s%s%.*s", n->named, *n->named ? ", " : "",
                                    (int)x->name.size, x->name.data);
    }
}

/* Such a tensor makes another graph: who is wrong shows there. */
static void note_missing(comparison *c, const gguf_file *of, const gguf_file *in, const char *name) {
    const gguf_tensor *first = NULL;
    uint32_t           n = 0;
    for (uint64_t i = 0; i < of->n_tensors; i++)
        if (!find(in, &of->tensors[i], c->memory) && !n++) first = &of->tensors[i];
    if (n)
        compare_note(c, "%u %s in %s only, as %.*s", n, n == 1 ? "tensor is" : "tensors are", name,
                     (int)first->name.size, first->name.data);
}

bool compare_weights(comparison *c) {
    const gguf_file *a = c->in[0].file->compilation.file, *b = c->in[1].file->compilation.file;
    if (a == b || same_file(a->path, b->path)) return false;
    differences n = { .named = "" };
    note_missing(c, a, b, "A");
    note_missing(c, b, a, "B");
    for (uint64_t i = 0; i < a->n_tensors; i++) {
        const gguf_tensor *other = find(b, &a->tensors[i], c->memory);
        if (other) compare_tensor(c, b, &a->tensors[i], other, &n);
    }
    if (!n.type && !n.bytes) return false;
    if (n.type)
        compare_note(c, "%u %s of another type in B: what is told is what that costs", n.type,
                     n.type == 1 ? "tensor is" : "tensors are");
    if (n.bytes)
        compare_note(c, "%u %s: %s%s", n.bytes,
                     n.bytes == 1 ? "tensor of one type differs in its bytes"
                                  : "tensors of one type differ in their bytes",
                     n.named, n.bytes > SHOWN ? ", …" : "");
    return true;
}
