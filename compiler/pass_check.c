/* check: what must hold between two passes, whatever the model. */
#include "pass.h"

#include <string.h>

static bool legal_at(const op *o, enum graph_stage stage) {
    bool of_language = op_infos[o->kind].function != NULL;
    bool fused = o->fused.bias || o->fused.residual || o->fused.rope || o->fused.cache ||
                 o->fused.quantized || o->fused.drop_out || o->fused.product || o->fused.up ||
                 o->fused.sum;
    switch (stage) {
    case STAGE_ARCH: return of_language && !fused;
    case STAGE_RESOLVED: return o->kind != OP_GLU_MATMUL && !fused;
    case STAGE_FUSED: return true;
    }
    return false;
}

static void check_input(const op *o, uint32_t k, const bool *made) {
    const op_input_info *info = &op_infos[o->kind].inputs[k];
    const value *v = k < o->n_in ? o->in[k] : NULL;
    if (!v) {
        if (!info->optional) bug("%s has no %s", o->name, info->name);
        return;
    }
    if (!(info->kinds >> v->kind & 1)) bug("%s: %s is of kind %d", o->name, info->name, v->kind);
    if (!made[v->id]) bug("%s reads %s before it is made", o->name, v->name);
    if (v->producer && v->producer->head && !o->head)
        bug("%s, of the body, reads %s of the head", o->name, v->name);
}

static void check_shape(const op *o) {
    char why[GRAPH_WHY_BYTES];
    value inferred = *o->out;
    op copy = *o;
    copy.out = &inferred;
    if (!op_infos[o->kind].infer(&copy, why)) bug("%s: %s", o->name, why);
    if (value_count(&inferred) != value_count(o->out))
        bug("%s does not have the shape that its inputs imply", o->name);
}

/* An op that fusion made the producer of another op's value is found through that value. */
static void check_outputs(const op *o, bool *made) {
    value   *outs[OP_MAX_OUTPUTS];
    uint32_t n = graph_op_outputs(o, outs);
    for (uint32_t i = 0; i < n; i++) {
        if (made[outs[i]->id]) bug("%s is made twice", outs[i]->name);
        if (outs[i]->producer != o) bug("%s has another producer than %s", outs[i]->name, o->name);
        made[outs[i]->id] = true;
    }
    const value *reads[] = {o->fused.bias, o->fused.residual, o->fused.rope};
    for (size_t i = 0; i < ARRAY_LEN(reads); i++)
        if (reads[i] && !made[reads[i]->id])
            bug("%s reads %s before it is made", o->name, reads[i]->name);
}

void pass_check(const graph *g, enum graph_stage stage) {
    arena *scratch = arena_new();
    bool *made = ARENA_ARRAY(scratch, bool, g->n_values);
    for (uint32_t i = 0; i < g->n_values; i++)
        made[i] = g->values[i]->kind == VALUE_WEIGHT || g->values[i]->kind == VALUE_TOKENS;
    for (uint32_t i = 0; i < g->n_ops; i++) {
        const op *o = g->ops[i];
        if (!legal_at(o, stage)) bug("%s (%s) does not belong here", o->name, op_infos[o->kind].name);
        for (uint32_t k = 0; k < OP_MAX_INPUTS && op_infos[o->kind].inputs[k].name; k++)
            check_input(o, k, made);
        check_shape(o);
        check_outputs(o, made);
    }
    if (!g->output || !made[g->output->id]) bug("the graph makes no output");
    if (!g->head_input || !made[g->head_input->id]) bug("the head has no input");
    arena_free(scratch);
}
