/* The module: kernels as the calls ask for them, the calls as constant tables, the vocabulary, and
 * the one symbol that the runtime knows, a ggufc_model (ggufc/model.h). Constants are written in
 * the order of the C structs; LLVM lays them out as C does. */
#include "emit.h"

#include "vocab.h"

#include <string.h>

#define MAX_FIELDS 40

/* A C struct as it is written, field after field. */
typedef struct record {
    emit    *e;
    val      fields[MAX_FIELDS];
    uint32_t n;
} record;

static void put(record *r, val v) {
    if (r->n == MAX_FIELDS) bug("too many fields");
    r->fields[r->n++] = v;
}

static void put_u32(record *r, uint64_t n) {
    put(r, emit_i32(r->e, n));
}

static void put_u64(record *r, uint64_t n) {
    put(r, emit_i64(r->e, n));
}

static void put_u8(record *r, uint8_t n) {
    put(r, LLVMConstInt(r->e->i8, n, false));
}

static val record_end(const record *r) {
    return LLVMConstStructInContext(r->e->context, (val *)r->fields, r->n, false);
}

static void put_text(record *r, const char *text) {
    val bytes = LLVMConstStringInContext2(r->e->context, text, strlen(text), false);
    put(r, emit_constant(r->e, "text", bytes, 1));
}

/* `count` numbers of `size` bytes from this process's memory; targets are little-endian, and so are
   the machines that a compiler of ours runs on. */
static void put_array(record *r, const char *name, const void *data, uint64_t count, uint32_t size) {
    emit    *e = r->e;
    val   text = LLVMConstStringInContext2(e->context, data, count * size, true);
    put(r, emit_constant(e, name, text, 16));
}

/* ---- calls */

static uint32_t call_flags(const emit *e, const plan_call *c) {
    bool one = e->form == EMIT_ONE;
    bool per_token = c->per_token && !(c->op->head && one); /* n_tokens is the batch's */
    return (per_token ? GGUFC_CALL_PER_TOKEN : 0u) | (one && c->each ? GGUFC_CALL_EACH : 0u) |
           ((one ? c->barrier_one : c->barrier) ? GGUFC_CALL_BARRIER : 0u);
}

static val emit_call(emit *e, const plan_call *c) {
    val kernel;
    switch (c->op->kind) {
    case OP_MATMUL:
    case OP_GLU_MATMUL: kernel = emit_matmul(e, c); break;
    case OP_ATTENTION: kernel = emit_attention(e, c); break;
    default: kernel = emit_elementwise(e, c);
    }
    val *numbers = ARENA_ARRAY(e->memory, val, e->n_operands + 1);
    for (uint32_t i = 0; i < e->n_operands; i++) numbers[i] = emit_i64(e, e->operands[i]);
    val args = emit_constant(e, "args", LLVMConstArray2(e->i64, numbers, e->n_operands), 8);

    record call = {.e = e};
    put(&call, kernel);
    put(&call, args);
    put_u32(&call, c->units);
    put_u32(&call, call_flags(e, c));
    put_u32(&call, c->before);
    put_u32(&call, c->after);
    put_u64(&call, c->work);
    return record_end(&call);
}

static void put_calls(record *r, const char *name, const plan_call *calls, uint32_t n, enum emit_form form) {
    emit *e = r->e;
    val  *all = ARENA_ARRAY(e->memory, val, n);
    e->form = form;
    for (uint32_t i = 0; i < n; i++) all[i] = emit_call(e, &calls[i]);
    record list = {.e = e};
    put(&list, emit_constant(e, name, LLVMConstArray2(LLVMTypeOf(all[0]), all, n), 16));
    put_u64(&list, n);
    put(r, record_end(&list));
}

/* ---- vocabulary */

/* What objects of one model share, and nobody else sees. */
static val shared_constant(emit *e, const char *name, val initial) {
    val g = LLVMAddGlobal(e->module, LLVMTypeOf(initial), name);
    LLVMSetInitializer(g, initial);
    LLVMSetGlobalConstant(g, true);
    LLVMSetVisibility(g, LLVMHiddenVisibility);
    LLVMSetAlignment(g, 16);
    return g;
}

/* One that another object has. */
static val shared_elsewhere(emit *e, const char *name) {
    val g = LLVMAddGlobal(e->module, e->i8, name);
    LLVMSetGlobalConstant(g, true);
    LLVMSetVisibility(g, LLVMHiddenVisibility);
    return g;
}

/* NULL: there is none. */
static void put_elsewhere(record *r, const char *name) {
    put(r, name ? shared_elsewhere(r->e, name) : LLVMConstNull(r->e->ptr));
}

static val vocab_record(emit *e, const vocab_tables *tables) {
    const ggufc_vocab *v = &tables->vocab;
    record w = {.e = e};
    put_u32(&w, v->kind);
    put_u32(&w, v->n_tokens);
    put_array(&w, "vocab_text", v->text, tables->text_bytes, 1);
    put_array(&w, "vocab_offsets", v->offsets, v->n_tokens + 1ull, 4);
    put_array(&w, "vocab_scores", v->scores, v->n_tokens, 4);
    put_array(&w, "vocab_types", v->types, v->n_tokens, 1);
    put_array(&w, "vocab_byte_tokens", v->byte_tokens, 256, 4);
    put_array(&w, "vocab_slots", v->slots, v->slot_mask + 1ull, 4);
    put_array(&w, "vocab_special", v->special, v->n_special, 4);
    put_u32(&w, v->slot_mask);
    put_u32(&w, v->n_special);
    put_u32(&w, (uint32_t)v->bos);
    put_u32(&w, (uint32_t)v->eos);
    put_u32(&w, (uint32_t)v->eot);
    put_u32(&w, (uint32_t)v->unk);
    put_u8(&w, v->add_bos);
    put_u8(&w, v->add_eos);
    put_u8(&w, v->add_space_prefix);
    put_u8(&w, v->pad);
    return record_end(&w);
}

static void put_vocab(record *r, const emit_facts *facts) {
    emit       *e = r->e;
    const char *name = arena_printf(e->memory, "%s.vocab", facts->first ? facts->first : facts->symbol);
    if (!facts->vocab)
        put(r, LLVMConstNull(e->ptr));
    else if (facts->first)
        put_elsewhere(r, name);
    else if (facts->next)
        put(r, shared_constant(e, name, vocab_record(e, facts->vocab)));
    else
        put(r, emit_constant(e, "vocab", vocab_record(e, facts->vocab), 16));
}

/* ---- the trace */

static val activation_record(emit *e, const value *v) {
    record a = {.e = e};
    put_text(&a, v->name);
    put_u64(&a, v->offset);
    put_u64(&a, v->stride);
    for (int i = 0; i < 3; i++) put_u64(&a, v->ne[i]);
    put_u32(&a, v->producer->head);
    put_u32(&a, 0);
    return record_end(&a);
}

static void put_activations(record *r, const graph *g) {
    emit    *e = r->e;
    val     *all = ARENA_ARRAY(e->memory, val, g->n_named);
    uint32_t n = 0;
    for (uint32_t i = 0; e->plan->trace && i < g->n_named; i++)
        if (graph_is_named(g, g->values[i])) all[n++] = activation_record(e, g->values[i]);
    put(r, n ? emit_constant(e, "activations", LLVMConstArray2(LLVMTypeOf(all[0]), all, n), 16)
             : LLVMConstNull(e->ptr));
    put_u64(r, n);
}

/* ---- the model */

static void put_parts(record *r, const ggufc_part *parts, uint64_t n) {
    emit *e = r->e;
    val  *all = ARENA_ARRAY(e->memory, val, n);
    for (uint64_t i = 0; i < n; i++) {
        record part = {.e = e};
        put_u64(&part, parts[i].offset);
        put_u64(&part, parts[i].bytes);
        put_u64(&part, parts[i].index_offset);
        put_u64(&part, parts[i].index_bytes);
        put_u64(&part, parts[i].index_hash);
        all[i] = record_end(&part);
    }
    put(r, n ? emit_constant(e, "parts", LLVMConstArray2(LLVMTypeOf(all[0]), all, n), 16)
             : LLVMConstNull(e->ptr));
    put_u64(r, n);
}

static void put_model(record *r, const graph *g, const emit_facts *facts) {
    const plan *p = r->e->plan;
    uint64_t    params = 0;
    const char *types = graph_weight_types(r->e->memory, g, &params);
    put_u32(r, GGUFC_ABI);
    put_u32(r, g->n_vocab);
    put_u32(r, p->n_ctx);
    put_u32(r, g->n_ctx_train);
    put_u32(r, p->n_batch);
    put_u32(r, g->n_layer);
    put_u32(r, g->n_embd);
    put_u32(r, (params + 500000) / 1000000);
    put_text(r, facts->name);
    put_text(r, g->arch);
    put_text(r, types);
    put_text(r, facts->target);
    put_text(r, facts->version);
    put_text(r, facts->path);
    put_u64(r, p->arena_bytes);
    put_u64(r, p->kv_bytes);
    put_u64(r, p->weight_bytes);
    put_u64(r, g->output->offset);
    put_u64(r, g->output->stride);
    put_u64(r, facts->file_bytes);
    put_u64(r, facts->index_offset);
    put_u64(r, facts->index_bytes);
    put_u64(r, facts->index_hash);
    put_parts(r, facts->parts, facts->n_parts);
    put_calls(r, "decode_calls", p->body, p->n_body, EMIT_ONE);
    put_calls(r, "prefill_calls", p->body, p->n_body, EMIT_ANY);
    put_calls(r, "head_calls", p->head, p->n_head, EMIT_ONE);
    put_calls(r, "heads_calls", p->head, p->n_head, EMIT_FEW);
    put_vocab(r, facts);
    put_elsewhere(r, facts->weights);
    put_activations(r, g);
    put_elsewhere(r, facts->next);
}

void emit_begin(emit *e) {
    LLVMContextRef c = e->context = LLVMGetModuleContext(e->module);
    e->builder = LLVMCreateBuilderInContext(c);
    e->i1 = LLVMInt1TypeInContext(c);
    e->i8 = LLVMInt8TypeInContext(c);
    e->i16 = LLVMInt16TypeInContext(c);
    e->i32 = LLVMInt32TypeInContext(c);
    e->i64 = LLVMInt64TypeInContext(c);
    e->f16 = LLVMHalfTypeInContext(c);
    e->f32 = LLVMFloatTypeInContext(c);
    e->f64 = LLVMDoubleTypeInContext(c);
    e->ptr = LLVMPointerTypeInContext(c, 0);
    e->none = LLVMVoidTypeInContext(c);
}

void emit_model(arena *a, LLVMModuleRef module, const graph *g, const plan *p, const isa *target,
                const emit_options *options, const emit_facts *facts) {
    emit e = {
        .memory = a,
        .module = module,
        .isa = target,
        .plan = p,
        .options = *options,
    };
    emit_begin(&e);
    record model = {.e = &e};
    put_model(&model, g, facts);
    val initial = record_end(&model);
    val symbol = shared_constant(&e, facts->symbol, initial);
    if (!facts->first) LLVMSetVisibility(symbol, LLVMDefaultVisibility);
    LLVMDisposeBuilder(e.builder);
}
