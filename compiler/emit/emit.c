/* The helpers: see emit.h. */
#include "emit.h"

#include <llvm-c/Target.h>
#include <string.h>

#define MAX_PICK 512

val emit_i32(emit *e, uint64_t n) {
    return LLVMConstInt(e->i32, n, false);
}

val emit_i64(emit *e, uint64_t n) {
    return LLVMConstInt(e->i64, n, false);
}

val emit_f32(emit *e, double x) {
    return LLVMConstReal(e->f32, x);
}

type emit_vector(type element, uint32_t n) {
    return n == 1 ? element : LLVMVectorType(element, n);
}

uint32_t emit_length(val v) {
    type t = LLVMTypeOf(v);
    return LLVMGetTypeKind(t) == LLVMVectorTypeKind ? LLVMGetVectorSize(t) : 1;
}

/* The vector type (or scalar) of `element` that is as long as v. */
static type like(val v, type element) {
    return emit_vector(element, emit_length(v));
}

val emit_splat(emit *e, val scalar, uint32_t n) {
    if (n == 1) return scalar;
    type t = emit_vector(LLVMTypeOf(scalar), n);
    if (LLVMIsConstant(scalar)) {
        val *all = ARENA_ARRAY(e->memory, val, n);
        for (uint32_t i = 0; i < n; i++) all[i] = scalar;
        return LLVMConstVector(all, n);
    }
    val first = LLVMBuildInsertElement(e->builder, LLVMGetPoison(t), scalar, emit_i32(e, 0), "");
    return LLVMBuildShuffleVector(e->builder, first, LLVMGetPoison(t),
                                  LLVMConstNull(emit_vector(e->i32, n)), "");
}

val emit_splat_f32(emit *e, double x, uint32_t n) {
    return emit_splat(e, emit_f32(e, x), n);
}

val emit_splat_int(emit *e, type element, uint64_t number, uint32_t n) {
    return emit_splat(e, LLVMConstInt(element, number, true), n);
}

val emit_iota(emit *e, type element, uint32_t n) {
    val *all = ARENA_ARRAY(e->memory, val, n);
    for (uint32_t i = 0; i < n; i++) all[i] = LLVMConstInt(element, i, false);
    return n == 1 ? all[0] : LLVMConstVector(all, n);
}

val emit_constant(emit *e, const char *name, val initial, uint32_t align) {
    val g = LLVMAddGlobal(e->module, LLVMTypeOf(initial), name);
    LLVMSetInitializer(g, initial);
    LLVMSetGlobalConstant(g, true);
    LLVMSetLinkage(g, LLVMPrivateLinkage);
    LLVMSetAlignment(g, align);
    return g;
}

/* ---- memory */

val emit_at(emit *e, val pointer, val bytes) {
    return LLVMBuildGEP2(e->builder, e->i8, pointer, &bytes, 1, "");
}

val emit_at_const(emit *e, val pointer, uint64_t bytes) {
    return bytes ? emit_at(e, pointer, emit_i64(e, bytes)) : pointer;
}

val emit_load(emit *e, type t, val pointer, uint32_t align) {
    val v = LLVMBuildLoad2(e->builder, t, pointer, "");
    LLVMSetAlignment(v, align);
    return v;
}

void emit_store(emit *e, val v, val pointer, uint32_t align) {
    LLVMSetAlignment(LLVMBuildStore(e->builder, v, pointer), align);
}

/* Allocas stand in the entry block, so that a loop does not grow the frame. */
val emit_local(emit *e, uint64_t bytes) {
    LLVMBasicBlockRef here = LLVMGetInsertBlock(e->builder);
    LLVMBasicBlockRef entry = LLVMGetEntryBasicBlock(e->fn);
    val first = LLVMGetFirstInstruction(entry);
    if (first)
        LLVMPositionBuilderBefore(e->builder, first);
    else
        LLVMPositionBuilderAtEnd(e->builder, entry);
    val v = LLVMBuildAlloca(e->builder, LLVMArrayType2(e->i8, bytes), "");
    LLVMSetAlignment(v, 64);
    LLVMPositionBuilderAtEnd(e->builder, here);
    return v;
}

void emit_prefetch(emit *e, val pointer, uint32_t level) {
    enum { READ = 0, DATA = 1 };
    val args[] = {pointer, emit_i32(e, READ), emit_i32(e, level), emit_i32(e, DATA)};
    emit_intrinsic(e, "llvm.prefetch", e->ptr, args, 4);
}

void emit_prefetch_lines(emit *e, val at, uint64_t from, uint64_t to) {
    for (uint64_t line = round_up(from, EMIT_LINE_BYTES); line < to; line += EMIT_LINE_BYTES)
        emit_prefetch(e, emit_at_const(e, at, line), EMIT_PREFETCH_L2);
}

void emit_in_order(emit *e) {
    LLVMBuildFence(e->builder, LLVMAtomicOrderingSequentiallyConsistent, /* of one thread */ true, "");
}

/* ---- arithmetic */

val emit_add(emit *e, val a, val b) {
    return LLVMBuildAdd(e->builder, a, b, "");
}

val emit_sub(emit *e, val a, val b) {
    return LLVMBuildSub(e->builder, a, b, "");
}

val emit_mul(emit *e, val a, val b) {
    return LLVMBuildMul(e->builder, a, b, "");
}

val emit_mul_const(emit *e, val a, uint64_t n) {
    return n == 1 ? a : emit_mul(e, a, LLVMConstInt(LLVMTypeOf(a), n, false));
}

val emit_min(emit *e, val a, val b) {
    return LLVMBuildSelect(e->builder, LLVMBuildICmp(e->builder, LLVMIntULT, a, b, ""), a, b, "");
}

val emit_wide(emit *e, val n) {
    return LLVMBuildZExt(e->builder, n, e->i64, "");
}

val emit_fadd(emit *e, val a, val b) {
    return LLVMBuildFAdd(e->builder, a, b, "");
}

val emit_fsub(emit *e, val a, val b) {
    return LLVMBuildFSub(e->builder, a, b, "");
}

val emit_fmul(emit *e, val a, val b) {
    return LLVMBuildFMul(e->builder, a, b, "");
}

val emit_fdiv(emit *e, val a, val b) {
    return LLVMBuildFDiv(e->builder, a, b, "");
}

val emit_fma(emit *e, val a, val b, val c) {
    val args[] = {a, b, c};
    return emit_intrinsic(e, "llvm.fmuladd", LLVMTypeOf(a), args, 3);
}

val emit_fmax(emit *e, val a, val b) {
    val greater = LLVMBuildFCmp(e->builder, LLVMRealOGT, a, b, "");
    return LLVMBuildSelect(e->builder, greater, a, b, "");
}

val emit_cast(emit *e, LLVMOpcode opcode, val v, type t) {
    return LLVMBuildCast(e->builder, opcode, v, like(v, t), "");
}

val emit_intrinsic(emit *e, const char *name, type overload, val *args, uint32_t n) {
    unsigned id = LLVMLookupIntrinsicID(name, strlen(name));
    if (!id) bug("LLVM has no intrinsic %s", name);
    val  f = LLVMGetIntrinsicDeclaration(e->module, id, &overload, overload ? 1 : 0);
    type t = LLVMIntrinsicGetType(e->context, id, &overload, overload ? 1 : 0);
    return LLVMBuildCall2(e->builder, t, f, args, n, "");
}

/* ---- vectors */

val emit_shuffle(emit *e, val a, val b, const uint32_t *from, uint32_t n) {
    val mask[MAX_PICK];
    if (n > MAX_PICK) bug("a shuffle of %u", n);
    for (uint32_t i = 0; i < n; i++) mask[i] = emit_i32(e, from[i]);
    if (!b) b = LLVMGetPoison(LLVMTypeOf(a));
    return LLVMBuildShuffleVector(e->builder, a, b, LLVMConstVector(mask, n), "");
}

val emit_pick(emit *e, val a, val b, uint32_t first, uint32_t step, uint32_t n) {
    uint32_t from[MAX_PICK];
    if (n == 1) {
        if (emit_length(a) == 1) return first ? b : a;
        if (first >= emit_length(a)) return emit_pick(e, b, NULL, first - emit_length(a), 1, 1);
        return LLVMBuildExtractElement(e->builder, a, emit_i32(e, first), "");
    }
    if (n > MAX_PICK) bug("a shuffle of %u", n);
    for (uint32_t i = 0; i < n; i++) from[i] = first + i * step;
    return emit_shuffle(e, a, b, from, n);
}

val emit_pick_groups(emit *e, val a, val b, uint32_t first, uint32_t group) {
    uint32_t from[MAX_PICK], n = emit_length(a), half = group / 2;
    for (uint32_t i = 0; i < n; i++) from[i] = i / half * group + first + i % half;
    return emit_shuffle(e, a, b, from, n);
}

val emit_permute(emit *e, val v, const uint32_t *from, uint32_t n) {
    bool same = n == emit_length(v);
    for (uint32_t i = 0; same && i < n; i++) same = from[i] == i;
    return same ? v : emit_shuffle(e, v, NULL, from, n);
}

val emit_spread(emit *e, val v, uint32_t times) {
    if (emit_length(v) == 1) return emit_splat(e, v, times);
    uint32_t from[MAX_PICK], n = emit_length(v) * times;
    for (uint32_t i = 0; i < n; i++) from[i] = i / times;
    return emit_shuffle(e, v, NULL, from, n);
}

val emit_widen(emit *e, val v, uint32_t n) {
    uint32_t from[MAX_PICK], length = emit_length(v);
    if (n == length) return v;
    if (length == 1)
        return LLVMBuildInsertElement(e->builder, LLVMConstNull(emit_vector(LLVMTypeOf(v), n)), v,
                                      emit_i32(e, 0), "");
    for (uint32_t i = 0; i < n; i++) from[i] = i < length ? i : length;
    return emit_shuffle(e, v, LLVMConstNull(LLVMTypeOf(v)), from, n);
}

/* Two scalars as a vector. */
static val pair(emit *e, val a, val b) {
    val v = LLVMGetPoison(emit_vector(LLVMTypeOf(a), 2));
    v = LLVMBuildInsertElement(e->builder, v, a, emit_i32(e, 0), "");
    return LLVMBuildInsertElement(e->builder, v, b, emit_i32(e, 1), "");
}

val emit_concat(emit *e, val a, val b) {
    uint32_t n = emit_length(a);
    return n == 1 ? pair(e, a, b) : emit_pick(e, a, b, 0, 1, 2 * n);
}

val emit_concat_all(emit *e, val *v, uint32_t n) {
    if (n & (n - 1)) bug("%u vectors joined", n);
    for (; n > 1; n /= 2)
        for (uint32_t i = 0; i < n / 2; i++) v[i] = emit_concat(e, v[2 * i], v[2 * i + 1]);
    return v[0];
}

val emit_interleave(emit *e, val a, val b) {
    uint32_t n = emit_length(a), from[MAX_PICK];
    if (n == 1) return pair(e, a, b);
    for (uint32_t i = 0; i < n; i++) {
        from[2 * i] = i;
        from[2 * i + 1] = n + i;
    }
    return emit_shuffle(e, a, b, from, 2 * n);
}

/* ---- loops */

loop emit_loop_begin(emit *e, val from, val to, uint64_t step) {
    loop l = {.to = to, .step = step};
    l.before = LLVMGetInsertBlock(e->builder);
    l.body = LLVMAppendBasicBlockInContext(e->context, e->fn, "loop");
    LLVMBuildBr(e->builder, l.body);
    LLVMPositionBuilderAtEnd(e->builder, l.body);
    l.i = LLVMBuildPhi(e->builder, e->i64, "i");
    LLVMAddIncoming(l.i, &from, &l.before, 1);
    return l;
}

val emit_loop_carry(emit *e, loop *l, val initial) {
    if (l->n_carries == EMIT_MAX_CARRIES) bug("too many carried values");
    val phi = LLVMBuildPhi(e->builder, LLVMTypeOf(initial), "");
    LLVMAddIncoming(phi, &initial, &l->before, 1);
    l->carries[l->n_carries++] = phi;
    return phi;
}

void emit_loop_end(emit *e, loop *l, const val *next) {
    LLVMBasicBlockRef last = LLVMGetInsertBlock(e->builder);
    LLVMBasicBlockRef after = LLVMAppendBasicBlockInContext(e->context, e->fn, "after");
    val i = LLVMBuildNUWAdd(e->builder, l->i, emit_i64(e, l->step), "");
    val more = LLVMBuildICmp(e->builder, LLVMIntULT, i, l->to, "");
    LLVMBuildCondBr(e->builder, more, l->body, after);
    LLVMAddIncoming(l->i, &i, &last, 1);
    for (uint32_t c = 0; c < l->n_carries; c++) {
        val v = next[c];
        LLVMAddIncoming(l->carries[c], &v, &last, 1);
    }
    LLVMPositionBuilderAtEnd(e->builder, after);
}

branch emit_if(emit *e, val condition) {
    LLVMBasicBlockRef then = LLVMAppendBasicBlockInContext(e->context, e->fn, "then");
    branch b = {LLVMAppendBasicBlockInContext(e->context, e->fn, "after")};
    LLVMBuildCondBr(e->builder, condition, then, b.after);
    LLVMPositionBuilderAtEnd(e->builder, then);
    return b;
}

void emit_if_end(emit *e, branch *b) {
    LLVMBuildBr(e->builder, b->after);
    LLVMPositionBuilderAtEnd(e->builder, b->after);
}

/* ---- functions */

static void add_attribute(emit *e, val fn, const char *key, const char *text) {
    LLVMAttributeRef a = LLVMCreateStringAttribute(e->context, key, (unsigned)strlen(key), text,
                                                   (unsigned)strlen(text));
    LLVMAddAttributeAtIndex(fn, LLVMAttributeFunctionIndex, a);
}

static void add_flag(emit *e, val fn, const char *name) {
    unsigned kind = LLVMGetEnumAttributeKindForName(name, strlen(name));
    if (!kind) bug("LLVM has no attribute %s", name);
    LLVMAddAttributeAtIndex(fn, LLVMAttributeFunctionIndex,
                            LLVMCreateEnumAttribute(e->context, kind, 0));
}

emit_spot emit_leave(const emit *e) {
    return (emit_spot){e->fn, e->fn ? LLVMGetInsertBlock(e->builder) : NULL};
}

void emit_return(emit *e, emit_spot spot) {
    e->fn = spot.fn;
    if (spot.fn) LLVMPositionBuilderAtEnd(e->builder, spot.at);
}

val emit_function_call(emit *e, val function, val *args, uint32_t n) {
    return LLVMBuildCall2(e->builder, LLVMGlobalGetValueType(function), function, args, n, "");
}

bool emit_function_begin(emit *e, const char *name, type result, type *params, uint32_t n) {
    if (LLVMGetNamedFunction(e->module, name)) return false;
    e->fn = LLVMAddFunction(e->module, name, LLVMFunctionType(result, params, n, false));
    LLVMSetLinkage(e->fn, LLVMInternalLinkage);
    /* Without these LLVM would not use registers of the ISA's full width. */
    const char *bits = e->isa->lanes == 16 ? "512" : e->isa->lanes == 8 ? "256" : "128";
    add_attribute(e, e->fn, "prefer-vector-width", bits);
    add_attribute(e, e->fn, "min-legal-vector-width", bits);
    if (e->options.schedule_for) add_attribute(e, e->fn, "tune-cpu", e->options.schedule_for);
    add_flag(e, e->fn, "nounwind");
    add_flag(e, e->fn, "noinline");
    LLVMPositionBuilderAtEnd(e->builder, LLVMAppendBasicBlockInContext(e->context, e->fn, "entry"));
    return true;
}

/* Field k of ggufc_state (ggufc/model.h): four pointers, then four u32. */
static val state_field(emit *e, uint32_t k) {
    uint64_t pointer = LLVMABISizeOfType(LLVMGetModuleDataLayout(e->module), e->ptr);
    if (k < 4) return emit_load(e, e->ptr, emit_at_const(e, e->state, k * pointer), (uint32_t)pointer);
    return emit_load(e, e->i32, emit_at_const(e, e->state, 4 * pointer + (k - 4) * 4), 4);
}

bool emit_kernel_begin(emit *e, const char *name) {
    type params[] = {e->ptr, e->ptr, e->i32, e->i32};
    e->n_operands = 0;
    if (!emit_function_begin(e, name, e->none, params, 4)) {
        e->fn = NULL;
        return false;
    }
    e->state = LLVMGetParam(e->fn, 0);
    e->args = LLVMGetParam(e->fn, 1);
    e->weights = state_field(e, 0);
    e->arena = state_field(e, 1);
    e->kv = state_field(e, 2);
    e->tokens = state_field(e, 3);
    e->n_tokens = emit_wide(e, state_field(e, 4));
    e->pos = emit_wide(e, state_field(e, 5));
    e->out_token = emit_wide(e, state_field(e, 6));
    e->own = LLVMBuildURem(e->builder, emit_wide(e, state_field(e, 7)), emit_i64(e, e->plan->n_batch), "");
    e->begin = emit_wide(e, LLVMGetParam(e->fn, 2));
    e->end = emit_wide(e, LLVMGetParam(e->fn, 3));
    branch any = emit_if(e, LLVMBuildICmp(e->builder, LLVMIntULT, e->begin, e->end, ""));
    e->entry_end = LLVMBasicBlockAsValue(any.after);
    return true;
}

void emit_kernel_end(emit *e) {
    branch any = {LLVMValueAsBasicBlock(e->entry_end)};
    emit_if_end(e, &any);
    LLVMBuildRetVoid(e->builder);
}

val emit_operand(emit *e, uint64_t number) {
    if (e->n_operands == EMIT_MAX_ARGS) bug("too many operands");
    uint32_t k = e->n_operands++;
    e->operands[k] = number;
    return e->fn ? emit_load(e, e->i64, emit_at_const(e, e->args, k * 8), 8) : NULL;
}

val emit_place(emit *e, const op *o, const value *v) {
    bool own = e->form == EMIT_ONE && v->each && !emit_reads_body(o, v);
    val  at = emit_operand(e, v->offset), stride = emit_operand(e, own ? v->stride : 0);
    return e->fn ? emit_add(e, at, emit_mul(e, e->own, stride)) : NULL;
}

bool emit_reads_body(const op *o, const value *v) {
    return o->head && v->kind == VALUE_ACTIVATION && !v->producer->head;
}

val emit_input_token(emit *e, const op *o, const value *v, val token) {
    return emit_reads_body(o, v) ? emit_add(e, e->out_token, token) : token;
}
