/* packed.c - see packed.h. */
#include "packed.h"

#include "ggufc/model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK       32 /* of Q8_0 */
#define BLOCK_BYTES 34
#define WORDS       (BLOCK / 4)
#define TILE        2  /* vectors of rows in a tile; tile_vectors of every ISA that is supported */

bool packed_supported(const isa *target) {
    return target->dot_bytes && target->tile_vectors == TILE;
}

/* ---- places */

static bool can_pack(const plan_call *c, const isa *target) {
    uint32_t n = graph_op_weights(c->op);
    for (uint32_t i = 0; i < n; i++) {
        const value *w = c->op->in[i];
        if (w->kind != VALUE_WEIGHT || w->type != QUANT_Q8_0 || w->ne[0] % BLOCK) return false;
    }
    return n && c->rows % target->lanes == 0 && value_count(c->op->out) % c->rows == 0;
}

bool packed_for(const op *o, uint32_t rows) {
    uint32_t n = graph_op_weights(o);
    for (uint32_t i = 0; i < n; i++)
        if (!o->in[i]->packed || o->in[i]->packed_rows != rows) return false;
    return n > 0;
}

/* The first product that reads a weight decides how many rows its units have. */
static void mark_packed(const plan_call *c, const isa *target) {
    if (!can_pack(c, target)) return;
    for (uint32_t i = 0; i < graph_op_weights(c->op); i++) {
        value *w = c->op->in[i];
        if (!w->packed) w->packed_rows = c->rows;
        w->packed = true;
    }
}

static void mark_copied(const plan_call *c) {
    const op *o = c->op;
    for (uint32_t i = packed_for(o, c->rows) ? graph_op_weights(o) : 0; i < o->n_in; i++)
        if (o->in[i]) o->in[i]->copied = o->in[i]->kind == VALUE_WEIGHT;
    if (o->fused.bias) o->fused.bias->copied = true;
}

static uint64_t place(uint64_t *end, uint64_t bytes) {
    uint64_t at = round_up(*end, 64);
    *end = at + bytes;
    return at;
}

void packed_place(graph *g, plan *p, const isa *target) {
    p->packed_bytes = PACKED_BEGIN;
    for (uint32_t i = 0; i < p->n_body; i++) mark_packed(&p->body[i], target);
    for (uint32_t i = 0; i < p->n_head; i++) mark_packed(&p->head[i], target);
    for (uint32_t i = 0; i < p->n_body; i++) mark_copied(&p->body[i]);
    for (uint32_t i = 0; i < p->n_head; i++) mark_copied(&p->head[i]);
    for (uint32_t i = 0; i < g->n_values; i++) {
        value *v = g->values[i];
        if (v->kind != VALUE_WEIGHT) continue;
        if (v->packed) v->packed_offset = place(&p->packed_bytes, v->tensor->bytes);
        if (v->copied) v->offset = place(&p->packed_bytes, v->tensor->bytes);
    }
}

packed_header packed_describe(const gguf_file *f, const plan *p, const isa *target) {
    packed_header h = {
        .magic = PACKED_MAGIC,
        .version = PACKED_VERSION,
        .lanes = target->lanes,
        .bias = target->unsigned_weights ? 128 : 0,
        .bytes = p->packed_bytes,
        .gguf_bytes = f->size,
        .gguf_index_hash = gguf_hash_index(f),
    };
    snprintf(h.isa, sizeof h.isa, "%s", target->name);
    return h;
}

/* ---- writing */

/* Blocks of `rows` rows, one tile, of `row_bytes` bytes each. */
static void pack_tile(const uint8_t *from, uint32_t rows, uint64_t row_bytes, uint32_t bias, uint8_t *to) {
    for (uint64_t b = 0; b < row_bytes / BLOCK_BYTES; b++, to += (uint64_t)rows * BLOCK_BYTES)
        for (uint32_t r = 0; r < rows; r++) {
            const uint8_t *block = from + r * row_bytes + b * BLOCK_BYTES;
            for (uint32_t w = 0; w < WORDS; w++)
                for (uint32_t i = 0; i < 4; i++)
                    to[(w * rows + r) * 4 + i] = (uint8_t)(block[2 + w * 4 + i] + bias);
            memcpy(to + WORDS * 4 * rows + 2 * r, block, 2);
        }
}

typedef struct writer {
    FILE    *file;
    uint64_t at;
} writer;

static void put(writer *w, const void *data, uint64_t bytes) {
    fwrite(data, 1, bytes, w->file); /* ferror tells */
    w->at += bytes;
}

static void pad_to(writer *w, uint64_t at) {
    static const uint8_t zeros[64];
    while (w->at < at) put(w, zeros, at - w->at < sizeof zeros ? at - w->at : sizeof zeros);
}

static void put_packed(writer *w, const gguf_file *f, const value *v, const packed_header *header, uint8_t *tile) {
    uint32_t lanes = header->lanes;
    uint64_t row_bytes = quant_row_bytes(v->type, v->ne[0]);
    uint64_t n_rows = v->tensor->bytes / row_bytes;
    for (uint64_t unit = 0; unit < n_rows; unit += v->packed_rows)
        for (uint32_t r = 0; r < v->packed_rows; r += TILE * lanes) {
            uint32_t rows = v->packed_rows - r < TILE * lanes ? v->packed_rows - r : TILE * lanes;
            pack_tile(f->data + v->tensor->offset + (unit + r) * row_bytes, rows, row_bytes, header->bias, tile);
            put(w, tile, rows * row_bytes);
        }
}

static bool put_weights(writer *w, const graph *g, const packed_header *header) {
    uint64_t most = 0;
    for (uint32_t i = 0; i < g->n_values; i++)
        if (g->values[i]->packed && quant_row_bytes(g->values[i]->type, g->values[i]->ne[0]) > most)
            most = quant_row_bytes(g->values[i]->type, g->values[i]->ne[0]);
    uint8_t *tile = malloc(most * TILE * header->lanes + 1);
    if (!tile) return false;
    put(w, header, sizeof *header);
    for (uint32_t i = 0; i < g->n_values; i++) {
        const value *v = g->values[i];
        if (v->packed) {
            pad_to(w, v->packed_offset);
            put_packed(w, g->file, v, header, tile);
        }
        if (v->copied) {
            pad_to(w, v->offset);
            put(w, g->file->data + v->tensor->offset, v->tensor->bytes);
        }
    }
    free(tile);
    return true;
}

bool packed_write(diag *d, const char *path, const graph *g, const plan *p, const packed_header *header) {
    writer w = {.file = fopen(path, "wb")};
    if (!w.file) return diag_error(d, "%s: cannot be written: %s", path, strerror(errno));
    bool ok = put_weights(&w, g, header);
    if (ok && w.at != p->packed_bytes) bug("%llu bytes written", (unsigned long long)w.at);
    ok = ok && !fflush(w.file) && !ferror(w.file);
    int why = errno;
    ok = !fclose(w.file) && ok;
    return ok || diag_error(d, "%s: writing failed: %s", path, strerror(why));
}
