/* From a graph to calls: a place for every value, and for each op the kernels that compute it.
 *
 * A matrix product is two calls where its x is quantized first, attention two since its keys and
 * values are put into the cache first. Every call is followed by a barrier. Without a trace values
 * share memory by liveness, counted in ops. */
#include "interp.h"

#include "interp_call.h"
#include "pack.h"

#include <string.h>

typedef struct planner {
    arena                *memory;
    const graph          *g;
    const interp_options *options;
    ggufc_model          *model;
    interp_place         *places; /* by value id */
    interp_place          scratch;
    ggufc_call           *calls; /* of body and head, one after the other */
    uint32_t              n_calls, cap_calls;
} planner;

/* ---- places */

static uint64_t row_bytes(const value *v) {
    return round_up(value_count(v) * sizeof(float), PACK_ALIGN);
}

static uint64_t rows_bytes(const planner *p, const value *v) {
    return row_bytes(v) * (v->producer->head ? 1 : p->options->n_batch);
}

/* What the head reads of the body is read again for other tokens of the batch. */
static void find_lives(const planner *p, pack_item *items) {
    const graph *g = p->g;
    for (uint32_t i = 0; i < g->n_ops; i++) {
        const op *o = g->ops[i];
        items[o->out->id] = (pack_item){ .first = i, .last = i, .bytes = rows_bytes(p, o->out) };
        for (uint32_t k = 0; k < o->n_in; k++)
            if (o->in[k] && o->in[k]->kind == VALUE_ACTIVATION)
                items[o->in[k]->id].last = o->head ? g->n_ops : i;
    }
    items[g->output->id].last = g->n_ops;
    for (uint32_t i = 0; p->options->trace && i < g->n_values; i++) {
        items[i].first = 0;
        items[i].last = g->n_ops;
    }
}

static void place_values(planner *p) {
    const graph *g = p->g;
    pack_item   *items = ARENA_ARRAY(p->memory, pack_item, g->n_values);
    pack_item  **made = ARENA_ARRAY(p->memory, pack_item *, g->n_values);
    find_lives(p, items);
    for (uint32_t i = 0; i < g->n_ops; i++) made[i] = &items[g->ops[i]->out->id];
    p->model->arena_bytes = pack_place(made, g->n_ops);
    p->places = ARENA_ARRAY(p->memory, interp_place, g->n_values);
    for (uint32_t i = 0; i < g->n_values; i++) {
        const value *v = g->values[i];
        p->places[i].v = v;
        if (v->kind == VALUE_WEIGHT) {
            p->places[i].offset = v->tensor->offset;
            p->places[i].stride = quant_row_bytes(v->type, v->ne[0]);
            p->model->weight_bytes += v->tensor->bytes;
        } else if (v->kind == VALUE_ACTIVATION) {
            p->places[i].offset = items[i].offset;
            p->places[i].stride = row_bytes(v);
            p->places[i].one_row = v->producer->head;
        }
    }
}

/* Behind the values: activations quantized for a product. */
static void place_scratch(planner *p) {
    uint64_t quantized = 0;
    for (uint32_t i = 0; i < p->g->n_ops; i++) {
        const op *o = p->g->ops[i];
        if (o->kind != OP_MATMUL) continue;
        const interp_activation *form = interp_activation_find(quant_find(o->in[0]->type)->activation);
        uint64_t bytes = form ? o->in[0]->ne[0] / form->block_len * form->block_bytes : 0;
        if (bytes > quantized) quantized = bytes;
    }
    p->scratch.offset = p->model->arena_bytes;
    p->scratch.stride = round_up(quantized, PACK_ALIGN);
    p->model->arena_bytes += p->scratch.stride * p->options->n_batch;
}

/* ---- calls */

/* Of a value that somebody else provides. */
void interp_given(const ggufc_state *s, const uint64_t *args, uint32_t begin, uint32_t end) {
    (void)s, (void)args, (void)begin, (void)end;
}

static interp_call *new_call(planner *p, const op *o) {
    interp_call *c = ARENA_NEW(p->memory, interp_call);
    const interp_options *options = p->options;
    *c = (interp_call){
        .o = o, .g = p->g, .reference = options->arithmetic == INTERP_REFERENCE,
        .n_ctx = options->n_ctx, .out = p->places[o->out->id], .scratch = p->scratch,
    };
    c->scratch.one_row = o->head;
    for (uint32_t k = 0; k < o->n_in; k++)
        if (o->in[k] && o->in[k]->kind != VALUE_TOKENS) c->in[k] = p->places[o->in[k]->id];
    bool here = options->where ? options->where[o->out->id] : options->layer < 0 || options->layer == o->layer;
    if (options->mistake && here && mistake_applies(options->mistake, p->g, o))
        c->mistake = options->mistake;
    return c;
}

static void add_call(planner *p, ggufc_kernel *kernel, const interp_call *c, uint32_t units,
                     bool per_token) {
    ggufc_call *call = arena_push(p->memory, (void **)&p->calls, &p->n_calls, &p->cap_calls, sizeof *call);
    uint32_t flags = GGUFC_CALL_BARRIER | (per_token && !c->o->head ? GGUFC_CALL_PER_TOKEN : 0);
    *call = (ggufc_call){
        .kernel = kernel, .args = (const uint64_t *)(const void *)c, .units = units, .flags = flags,
    };
}

/* The call that comes before that of the op itself. */
static void add_preparation(planner *p, ggufc_kernel *kernel, const op *o) {
    add_call(p, kernel, new_call(p, o), 1, true);
}

static void add_matmul(planner *p, const op *o, interp_call *c) {
    enum quant_type form = quant_find(o->in[0]->type)->activation;
    if (!c->reference && interp_activation_find(form)) add_preparation(p, interp_quantize, o);
    uint64_t units = (value_count(o->out) + INTERP_UNIT_ROWS - 1) / INTERP_UNIT_ROWS;
    add_call(p, interp_matmul, c, (uint32_t)units, false);
    p->calls[p->n_calls - 1].work = value_count(o->in[0]);
}

static void add_attention(planner *p, const op *o, interp_call *c) {
    uint64_t values = value_count(o->in[1]) * p->options->n_ctx;
    uint64_t bytes = round_up(values * (c->reference ? sizeof(float) : sizeof(uint16_t)), PACK_ALIGN);
    c->cache_k = p->model->kv_bytes;
    c->cache_v = p->model->kv_bytes + bytes;
    p->model->kv_bytes += 2 * bytes;
    interp_call *store = new_call(p, o);
    store->cache_k = c->cache_k;
    store->cache_v = c->cache_v;
    add_call(p, interp_store_kv, store, 1, true);
    add_call(p, interp_attention, c, (uint32_t)(value_count(o->in[0]) / o->params.head_dim), true);
}

static void add_op(planner *p, const op *o, enum interp_role role) {
    static ggufc_kernel *const kernels[OP_KIND_COUNT] = {
        [OP_GET_ROWS] = interp_get_rows, [OP_RMS_NORM] = interp_rms_norm, [OP_ROPE] = interp_rope,
        [OP_ADD] = interp_add,           [OP_MUL] = interp_mul,           [OP_SWIGLU] = interp_swiglu,
    };
    interp_call *c = new_call(p, o);
    c->makes_value = true;
    if (role == INTERP_GIVEN) {
        add_call(p, interp_given, c, 1, true);
        return;
    }
    switch (o->kind) {
    case OP_MATMUL: add_matmul(p, o, c); return;
    case OP_ATTENTION: add_attention(p, o, c); return;
    default:
        if (!kernels[o->kind]) bug("%s has no interpreter", op_infos[o->kind].name);
        add_call(p, kernels[o->kind], c, 1, true);
    }
}

static void add_ops(planner *p, bool head) {
    for (uint32_t i = 0; i < p->g->n_ops; i++) {
        enum interp_role role = p->options->roles ? p->options->roles[i] : INTERP_COMPUTED;
        if (p->g->ops[i]->head == head && role != INTERP_LEFT_OUT) add_op(p, p->g->ops[i], role);
    }
}

static void add_activations(planner *p) {
    const graph *g = p->g;
    ggufc_activation *all = ARENA_ARRAY(p->memory, ggufc_activation, g->n_ops);
    for (uint32_t i = 0; i < g->n_ops; i++) {
        const value *v = g->ops[i]->out;
        all[i] = (ggufc_activation){ v->name, p->places[v->id].offset, p->places[v->id].stride,
                                     { v->ne[0], v->ne[1], v->ne[2] }, g->ops[i]->head, 0 };
    }
    p->model->activations = all;
    p->model->n_activations = g->n_ops;
}

void interp_model(arena *a, const graph *g, const interp_options *options, ggufc_model *model) {
    planner p = { .memory = a, .g = g, .options = options, .model = model };
    model->arena_bytes = model->kv_bytes = model->weight_bytes = 0;
    place_values(&p);
    place_scratch(&p);
    add_ops(&p, false);
    uint32_t n_body = p.n_calls;
    add_ops(&p, true);
    model->decode = model->prefill = (ggufc_calls){ p.calls, n_body };
    model->head = (ggufc_calls){ p.calls + n_body, p.n_calls - n_body };
    model->heads = (ggufc_calls){ 0 };
    model->logits_offset = p.places[g->output->id].offset;
    model->logits_stride = p.places[g->output->id].stride;
    model->n_ctx = options->n_ctx;
    model->n_batch = options->n_batch;
    if (options->trace) add_activations(&p);
}

/* ---- looking at calls */

const op *interp_call_op(const ggufc_call *call) {
    const interp_call *c = interp_args(call->args);
    return c->makes_value ? c->o : NULL;
}

const op *interp_call_owner(const ggufc_call *call) {
    return interp_args(call->args)->o;
}

uint64_t interp_call_offset(const ggufc_call *call) {
    return interp_args(call->args)->out.offset;
}

uint64_t interp_call_stride(const ggufc_call *call) {
    return interp_args(call->args)->out.stride;
}
