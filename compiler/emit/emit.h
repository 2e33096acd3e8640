/* emit.h - a thin layer over LLVM's C API, and the emitters built on it.
 *
 * Values stay LLVMValueRef. The helpers wrap what is tedious (constants, addresses, vectors, loops
 * with carried values) and are total: emitters cannot fail, whatever can be wrong with a model was
 * refused before. An emitter that is about a kernel writes one function; a kernel is made once for
 * each key (its name) and called from every layer with operands from constant tables.
 *
 *     emit.c            helpers            emit_math.c       conversions, sums, exp, sin and cos
 *     emit_dot*.c       a row, or a panel of a few, times x (emit_dot.h)
 *     emit_tile*.c      many rows times many tokens (emit_tile.h): made, multiplied by vectors or a matrix unit
 *     emit_block*.c     blocks of weights as vectors (emit_block.h), of which both are made
 *     emit_sink.c       where results go: f32, cache, quantized
 *     emit_rope.c       rotation           emit_matmul.c     matrix products
 *     emit_attention*.c attention (emit_attention.h)
 *     emit_elementwise.c  all other ops    emit_model.c      the module: tables, calls, vocabulary
 *     emit_peak.c       what a machine can do at most
 */
#ifndef GGUFC_EMIT_H
#define GGUFC_EMIT_H

#include <llvm-c/Core.h>

#include "isa.h"
#include "plan.h"

typedef LLVMValueRef val;
typedef LLVMTypeRef  type;

typedef struct emit_options {
    uint32_t   unroll; /* blocks of a row that stand straight-line in a decode kernel; 0: all */
    isa_tuning tuning;
    const char *schedule_for; /* an LLVM name of a CPU; NULL: the target machine's */
} emit_options;

/* For how many tokens the calls of a list are: one, any number, or at most GGUFC_BATCH_EXACT. */
enum emit_form { EMIT_ONE, EMIT_ANY, EMIT_FEW };

#define EMIT_MAX_ARGS 32

typedef struct emit {
    arena         *memory;
    LLVMContextRef context;
    LLVMModuleRef  module;
    LLVMBuilderRef builder;
    const isa     *isa;
    const plan    *plan;
    emit_options   options;
    type           i1, i8, i16, i32, i64, f16, f32, f64, ptr, none;

    /* The kernel being written: its parameters and the state's fields, loaded once. */
    val fn, entry_end, state, args, begin, end;
    val weights, arena, kv, tokens, n_tokens, pos, out_token;
    val own; /* the row of what each thread makes for itself */
    enum emit_form form;

    /* Its operands in the order their emitter asks for them; the call's table is filled from the
       same list. */
    uint64_t operands[EMIT_MAX_ARGS];
    uint32_t n_operands;
} emit;

/* ---- constants and types */

val  emit_i32(emit *e, uint64_t n);
val  emit_i64(emit *e, uint64_t n);
val  emit_f32(emit *e, double x);
type emit_vector(type element, uint32_t n);
val  emit_splat(emit *e, val scalar, uint32_t n);          /* <n x …> of a scalar */
val  emit_splat_f32(emit *e, double x, uint32_t n);
val  emit_splat_int(emit *e, type element, uint64_t number, uint32_t n);
val  emit_iota(emit *e, type element, uint32_t n);         /* <0, 1, …, n - 1> */

/* A private constant in read-only memory. */
val  emit_constant(emit *e, const char *name, val initial, uint32_t align);

/* ---- memory; addresses are pointer + bytes */

val  emit_at(emit *e, val pointer, val bytes);
val  emit_at_const(emit *e, val pointer, uint64_t bytes);
val  emit_load(emit *e, type t, val pointer, uint32_t align);
void emit_store(emit *e, val v, val pointer, uint32_t align);
val  emit_local(emit *e, uint64_t bytes); /* in the frame of the kernel, aligned to 64 */

/* Asks for the cache line at an address, which need not be one. */
enum { EMIT_PREFETCH_L2 = 2, EMIT_PREFETCH_L1 = 3, EMIT_LINE_BYTES = 64 };
void emit_prefetch(emit *e, val pointer, uint32_t level);

/* Has the lines that begin in bytes [from, to) of `at` brought to the second-level cache. */
void emit_prefetch_lines(emit *e, val at, uint64_t from, uint64_t to);

/* No load or store is moved over this point. It takes no instruction. */
void emit_in_order(emit *e);

/* ---- arithmetic that reads better named */

val emit_add(emit *e, val a, val b); /* integers; likewise below */
val emit_sub(emit *e, val a, val b);
val emit_mul(emit *e, val a, val b);
val emit_mul_const(emit *e, val a, uint64_t n);
val emit_wide(emit *e, val n);          /* u32 → i64 */
val emit_min(emit *e, val a, val b);    /* the smaller of two i64 ≥ 0 */
val emit_fadd(emit *e, val a, val b);
val emit_fsub(emit *e, val a, val b);
val emit_fmul(emit *e, val a, val b);
val emit_fdiv(emit *e, val a, val b);
val emit_fma(emit *e, val a, val b, val c); /* a · b + c, fused where the target can */
val emit_fmax(emit *e, val a, val b);
val emit_cast(emit *e, LLVMOpcode opcode, val v, type t);

/* Calls the LLVM intrinsic of that literal name, overloaded on `overload` unless NULL. */
val emit_intrinsic(emit *e, const char *name, type overload, val *args, uint32_t n);

/* ---- vectors */

/* Elements from[i] of the pair (a, b), n of them. b may be NULL. */
val emit_shuffle(emit *e, val a, val b, const uint32_t *from, uint32_t n);

/* The `n` elements of the pair (a, b) that begin at `first`, `step` apart. b may be NULL. */
val emit_pick(emit *e, val a, val b, uint32_t first, uint32_t step, uint32_t n);
val emit_permute(emit *e, val v, const uint32_t *from, uint32_t n); /* element from[i] of v for each i */
val emit_concat(emit *e, val a, val b);     /* of equal length */
val emit_concat_all(emit *e, val *v, uint32_t n); /* likewise; n is a power of two, v is overwritten */
val emit_interleave(emit *e, val a, val b); /* a0 b0 a1 b1 … */
uint32_t emit_length(val v);                /* 1 for a scalar */
val emit_spread(emit *e, val v, uint32_t times); /* each element so many times: a a … b b … */
val emit_widen(emit *e, val v, uint32_t n);      /* zeros after its elements */

/* From each group of `group` elements of a, then of b, the half that begins at `first`. */
val emit_pick_groups(emit *e, val a, val b, uint32_t first, uint32_t group);

/* ---- loops: bottom-tested, at least one trip */

#define EMIT_MAX_CARRIES 288

typedef struct loop {
    LLVMBasicBlockRef before, body;
    val               i; /* i64 */
    val               to;
    uint64_t          step;
    val               carries[EMIT_MAX_CARRIES];
    uint32_t          n_carries;
} loop;

loop emit_loop_begin(emit *e, val from, val to, uint64_t step); /* i64; from < to */
val  emit_loop_carry(emit *e, loop *l, val initial);            /* before anything else in the body */
void emit_loop_end(emit *e, loop *l, const val *next);          /* n_carries values, in order */

/* The carried values after the loop are the `next` that emit_loop_end was given. */

typedef struct branch {
    LLVMBasicBlockRef after;
} branch;

branch emit_if(emit *e, val condition);
void   emit_if_end(emit *e, branch *b);

/* ---- functions */

/* Where in a kernel a function is needed that may have to be written first: leave, begin it, return. */
typedef struct emit_spot {
    val               fn; /* NULL: in none */
    LLVMBasicBlockRef at;
} emit_spot;

emit_spot emit_leave(const emit *e);
void      emit_return(emit *e, emit_spot spot);

val emit_function_call(emit *e, val function, val *args, uint32_t n);

/* Begins a private function; false when one of that name is already there. */
bool emit_function_begin(emit *e, const char *name, type result, type *params, uint32_t n);

/* Begins a kernel (ggufc_kernel): loads the state, returns at once where it has no units. What is
   emitted until emit_kernel_end computes them. */
bool emit_kernel_begin(emit *e, const char *name);
void emit_kernel_end(emit *e);

/* The next operand of the call: its number goes into the call's table, the kernel loads it. The
   same code runs for every call, so a kernel asks in the same order whatever the layer. While only
   the table is wanted (the kernel exists already), the result is NULL. */
val emit_operand(emit *e, uint64_t number);

/* Where in the arena the rows are that op o reads or makes of activation v: of what each thread makes for itself,
   in lists for one token, the thread's own. Asks for two operands. */
val emit_place(emit *e, const op *o, const value *v);

/* Whether o, of the head, reads v of the body: then it reads the rows from state.out_token on. */
bool emit_reads_body(const op *o, const value *v);

/* Which token's row of input v op o reads when it makes `token`. */
val emit_input_token(emit *e, const op *o, const value *v, val token);

/* ---- emit_math.c */

val emit_half_to_f32(emit *e, val half_bits); /* i16 or <n x i16>; as fast for subnormals */
val emit_f32_to_half(emit *e, val v);         /* rounds to nearest, ties to even; → i16s */
val emit_bf16_to_f32(emit *e, val bits);
val emit_f32_to_bf16(emit *e, val v);

/* f32s of these bits (i32s), finite, times 2^by, as which no subnormal f32 is met: those that are of a smaller type,
   moved to their place, become what they are. -0 becomes 0. */
val emit_raise_exponent(emit *e, val bits, uint32_t by);

val emit_sum(emit *e, val v);                       /* of a vector's elements, by halves */
val emit_max_element(emit *e, val v);

/* The sums of n vectors (n a power of two, at most their length) as <n x f32>, each in the order of
   emit_sum. Overwrites `vectors`. */
val emit_sum_each(emit *e, val *vectors, uint32_t n);

val emit_abs(emit *e, val v);
val emit_sqrt(emit *e, val v);
val emit_exp(emit *e, val v);                       /* of f32s; error below 2 ulp; 0 < result */
val emit_softmax_weight(emit *e, val v);            /* exp of f32s <= 0, but 0 below exp(-87): of -∞ as well */
val emit_silu(emit *e, val v);
void emit_sincos(emit *e, val angle, val *sine, val *cosine); /* f64s */
val emit_round_i32(emit *e, val v);                 /* |v| < 2^22, ties to even */

/* `n` numbers at `pointer` as stored in `from` (F32, F16, BF16), as f32: a scalar for n = 1. Subnormal halves may
   take long. */
val emit_load_f32(emit *e, enum quant_type from, val pointer, uint32_t n);

/* ---- emit_rope.c */

/* Rotates the first rope_dims of the head in memory at `head` by the rope table's row at `angles`. */
void emit_rotate(emit *e, const op_params *p, val head, val angles);

/* A constant table of f64: scale · base^(-2i / dims) of each pair i. */
val emit_rope_frequencies(emit *e, const op_params *p);

/* ---- emit_dot.c */

/* Rows of weights, or a tile of them, and tokens that are multiplied. */
typedef struct emit_product {
    val rows, x, x_stride; /* addresses; bytes from one token's activations to the next one's */
    val out, out_stride;   /* likewise where each token's sums go, as f32, where they are not returned */
} emit_product;

/* A function that multiplies a row of `k` weights with `n_tokens` activations, or `n_rows` rows that follow one
   another with one; it returns as many f32, and zeros up to a power of two. A sum's order is the same in all of
   them. */
val emit_dot_function(emit *e, enum quant_type weight, uint64_t k, uint32_t n_tokens, uint32_t n_rows);
val emit_dot_call(emit *e, val function, const emit_product *p);

/* Whether such a row is added up in EMIT_CHAINS sums, block i in the i % EMIT_CHAINS-th, whose products are
   one integer before; the upper half of the sums is then added to the lower one, and so on. */
bool emit_dot_is_chained(const emit *e, enum quant_type weight, uint64_t k);

#define EMIT_CHAINS 16

/* How many rows a panel has; 0: there are none of that type. They are multiplied with n_tokens activations, of which
   isa.panel_tokens is the most. A sum's order is one of their own, whatever n_tokens is. Where `fresh` (i1), these
   rows have not been read before, and the next panel's are asked for meanwhile, if weights are far. */
uint32_t emit_panel_rows(const emit *e, enum quant_type weight);
void emit_panel_multiply(emit *e, enum quant_type weight, uint64_t k, uint32_t n_tokens, const emit_product *p,
                         val fresh);

/* Whether the weights are too many to stay in a cache from token to token. */
bool emit_weights_are_streamed(const emit *e);

/* Whether they are worth asking for ahead of time: more than isa_prefetch.least, or, where that is not known of the
   CPU, as above. */
bool emit_weights_are_far(const emit *e);

/* Weights in bytes [from, to) of `at` are read next. Where they are far, the cache lines that begin `ahead` bytes
   behind those are asked for, so that each is once while a row is gone through. Without asking ahead (0), loads
   are not moved over this point (but where isa.spills_in_order), for a processor's own prefetchers follow addresses
   that rise: as LLVM orders the loads of a straight-line row, Zen 4 read Q8_0 with 14 GB/s in place of 25. */
void emit_come_to(emit *e, val at, uint64_t from, uint64_t to, uint32_t ahead);

/* How many bytes into a row element `at` (i64) stands, the first of a block. */
val emit_row_bytes(emit *e, enum quant_type weight, val at);

/* ---- emit_turn.c */

#define EMIT_MAX_LANES 16

/* `lanes` rows of n numbers of 32 bits (a power of two, at most lanes) become n vectors: of the rows' first
   numbers, of their second ones, …; in place. */
void emit_turn(emit *e, val *rows, uint32_t n);

/* ---- emit_tile.c */

#define EMIT_MAX_TILE_TOKENS  8
#define EMIT_MAX_TILE_VECTORS 2

/* Rows of a weight in the form of tiles: unpacked in the frame, or so in memory (packed.h). */
typedef struct emit_tiles {
    enum quant_type weight;
    uint64_t        k;
    uint32_t        rows;
    bool            packed;
    bool            chained; /* a row is added up as emit_dot_is_chained has it, not in one sum */
    bool            matrix;  /* for a matrix unit; excludes the other two */
} emit_tiles;

/* Whether there can be tiles of such rows. */
bool emit_tile_fits(const emit *e, const emit_tiles *t);

/* How many rows a whole tile has (the last of a unit may have fewer, or take some of those before it again),
   how many bytes `rows` of such rows take, and how many tokens are multiplied at a time. */
uint32_t emit_tile_rows(const emit *e);
uint64_t emit_tile_bytes(const emit *e, const emit_tiles *t, uint32_t rows);
uint32_t emit_tile_tokens(const emit *e, const emit_tiles *t);

/* Unpacks the t->rows rows, one tile, that begin at `rows` to `to`, which is aligned to 64. */
void emit_tile_unpack(emit *e, const emit_tiles *t, val rows, val to);

/* Multiplies t->rows rows, one tile, which p->rows is the address of, with n_tokens activations. */
void emit_tile_multiply(emit *e, const emit_tiles *t, uint32_t n_tokens, const emit_product *p);

/* ---- emit_sink.c */

/* Where an op's result goes. Begin it while asking for operands; then give it every part of every
   token's result: `v`, values [at, at + length) of `token`, at = base + constant. Parts of a quantized
   result are whole blocks. */
typedef struct sink {
    const op *o;
    val       out, out_stride;             /* f32, NULL when not stored */
    val       quantized, quantized_stride; /* NULL when there is none */
    val       cache;
} sink;

sink     emit_sink_begin(emit *e, const op *o);
void     emit_sink(emit *e, const sink *s, val token, val at, val v);
uint32_t emit_sink_width(const emit *e, const op *o); /* how many values a part should have */
char    *emit_sink_key(emit *e, const op *o);         /* what of it a kernel's name must say */

/* ---- emitters of ops: each gives the kernel for an op, and its operands in e->operands */

val emit_matmul(emit *e, const plan_call *c);
val emit_attention(emit *e, const plan_call *c);
val emit_elementwise(emit *e, const plan_call *c);

/* ---- emit_model.c */

struct vocab_tables;
struct ggufc_part;

typedef struct emit_facts {
    const char *symbol, *name, *target, *version, *path;

    /* One of several modules of a model, each for a CPU: the symbols of the first, which has the vocabulary for all,
       and of the next. NULL: it is the first, the last. */
    const char *first, *next;

    const struct vocab_tables *vocab; /* NULL: none */
    uint64_t file_bytes, index_offset, index_bytes, index_hash; /* of the file of weights, at `path` */
    const struct ggufc_part *parts; /* n_parts of them; NULL, 0: the weights are one file */
    uint64_t n_parts;
    const char *weights; /* the symbol of weights that are part of the program; NULL: they are mapped */
} emit_facts;

/* Fills an empty module, whose triple and data layout are set, from a planned graph. */
void emit_model(arena *a, LLVMModuleRef module, const graph *g, const plan *p, const isa *target,
                const emit_options *options, const emit_facts *facts);

/* Sets the context, types and builder of e->module's; whoever calls it disposes of the builder. */
void emit_begin(emit *e);

/* ---- emit_peak.c */

#define EMIT_PEAK_SYMBOL "ggufc_peak"
#define EMIT_PEAK_BYTES  4096 /* of the memory that products are given, aligned to 64 */
#define EMIT_PEAK_STEP   512  /* a read takes a multiple of it, not none, aligned to 64 */

/* The constant that an emitted module of this kind has by that name. */
typedef struct emit_peak_table {
    uint32_t (*read)(const void *memory, uint64_t bytes); /* every byte, once */
    void (*dot)(void *memory, uint64_t rounds); /* 8-bit products, as tiles of the weights have them */
    void (*fma)(void *memory, uint64_t rounds); /* f32 products */
    uint64_t dots, fmas; /* how many products a round adds to sums */
} emit_peak_table;

/* Fills an empty module, whose triple and data layout are set. `weight`: a type of quantized weights. */
void emit_peak(arena *a, LLVMModuleRef module, const isa *target, enum quant_type weight);

#endif
