/* Rows are converted by threads, and go straight to their places in the file.
 *
 * A piece is some rows of one tensor. Threads take pieces in order, so what is in memory is a piece
 * for each thread: its values, its blocks, and its values again as read back from the blocks, which
 * shows what cannot be held and how far off the rest is. The main thread tells of progress.
 *
 * What is wrong ends the others after their piece. Pieces before it have been taken already, so the
 * error told of is the first of the file, whatever thread meets it. */
#include "quantize_job.h"

#include "clock.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PIECE_VALUES ((uint64_t)1 << 18)
#define MAX_THREADS  1024
#define PROGRESS_NS  200000000
#define LANES        8
#define F16_MOST     0x7bff /* bits of the largest f16 */
#define UE4M3_MOST   0x7e
#define LEAST_MOST   2688.0 /* of what a block can hold at most, the least: NVFP4's, 448 · 6 */
#define CUT          0.95f  /* a largest value below so much of what it was */

enum fault_kind { FAULT_NONE, FAULT_SOURCE, FAULT_RESULT, FAULT_WRITE, FAULT_MEMORY };

typedef struct fault {
    enum fault_kind kind;
    uint64_t        tensor, row, column;
    float           number; /* what is not finite, or not in its new type */
    int             why;    /* errno */
} fault;

typedef struct piece {
    uint64_t tensor, row, n_rows;
} piece;

typedef struct crew {
    quantize_job   *job;
    int             fd;
    pthread_mutex_t lock;
    pthread_cond_t  changed;
    piece           next; /* n_rows unused */
    uint64_t        values_done;
    uint32_t        n_working;
    fault           fault; /* the first in the file's order */
} crew;

/* What a thread needs; buffers are as large as the largest piece. */
typedef struct worker {
    crew     *of;
    float    *values, *again;
    uint8_t  *blocks;
    double    square_error, square_sum;
    pthread_t thread;
} worker;

/* ---- pieces */

static uint64_t piece_rows(const quantize_tensor *t) {
    uint64_t n = PIECE_VALUES / t->in->dims[0];
    return n ? n : 1;
}

/* False where none is left, or something is wrong. */
static bool take_piece(crew *c, piece *out) {
    pthread_mutex_lock(&c->lock);
    quantize_job *job = c->job;
    while (c->next.tensor < job->n_tensors && c->next.row == job->tensors[c->next.tensor].n_rows)
        c->next = (piece){ .tensor = c->next.tensor + 1 };
    bool found = c->next.tensor < job->n_tensors && c->fault.kind == FAULT_NONE;
    if (found) {
        const quantize_tensor *t = &job->tensors[c->next.tensor];
        uint64_t left = t->n_rows - c->next.row, most = piece_rows(t);
        *out = c->next;
        out->n_rows = left < most ? left : most;
        c->next.row += out->n_rows;
    }
    pthread_mutex_unlock(&c->lock);
    return found;
}

static void finish_piece(worker *w, const piece *p) {
    crew            *c = w->of;
    quantize_tensor *t = &c->job->tensors[p->tensor];
    pthread_mutex_lock(&c->lock);
    t->n_done += p->n_rows;
    t->square_error += w->square_error;
    t->square_sum += w->square_sum;
    c->values_done += p->n_rows * t->in->dims[0];
    if (t->n_done == t->n_rows) pthread_cond_signal(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

static bool comes_before(const fault *a, const fault *b) {
    if (b->kind == FAULT_NONE) return true;
    return a->tensor != b->tensor ? a->tensor < b->tensor : a->row < b->row;
}

static bool report(crew *c, fault f) {
    pthread_mutex_lock(&c->lock);
    if (comes_before(&f, &c->fault)) c->fault = f;
    pthread_mutex_unlock(&c->lock);
    return false;
}

/* ---- a piece */

static bool is_finite(float x) {
    return (quant_f32_bits(x) & 0x7f800000) != 0x7f800000;
}

/* Which of the values is not finite; n where all are. */
static uint64_t find_odd(const float *x, uint64_t n) {
    uint32_t any = 0;
    for (uint64_t i = 0; i < n; i++) any |= (quant_f32_bits(x[i]) & 0x7f800000) == 0x7f800000;
    if (!any) return n;
    for (uint64_t i = 0; i < n; i++)
        if (!is_finite(x[i])) return i;
    return n;
}

/* Whether a scale or a minimum of the block is the largest that there is. */
static bool is_at_limit(const quant_info *info, const uint8_t *block) {
    for (uint32_t k = 0; k < info->n_fields; k++) {
        const quant_field *f = &info->fields[k];
        if (f->role != QUANT_ROLE_SCALE && f->role != QUANT_ROLE_MIN) continue;
        for (uint32_t i = 0; i < f->count; i++) {
            uint64_t bits = quant_field_bits(f, block, i);
            if (f->kind == QUANT_FIELD_F16 && (bits & 0x7fff) == F16_MOST) return true;
            if (f->kind == QUANT_FIELD_UE4M3 && bits == UE4M3_MOST) return true;
        }
    }
    return false;
}

/* Which of the values was cut to what its block's scale can hold: the largest there, come back smaller;
   n where none was. */
static uint64_t find_cut(const quant_info *info, const uint8_t *blocks, const float *x, const float *again,
                         uint64_t n) {
    for (uint64_t b = 0; b < n; b += info->block_len, blocks += info->block_bytes) {
        uint64_t most = b;
        if (!is_at_limit(info, blocks)) continue;
        for (uint64_t i = b; i < b + info->block_len; i++)
            if (fabsf(x[i]) > fabsf(x[most])) most = i;
        if (fabsf(again[most]) < CUT * fabsf(x[most])) return most;
    }
    return n;
}

static bool write_at(crew *c, const piece *p, const uint8_t *from, uint64_t size, uint64_t at) {
    while (size) {
        ssize_t n = pwrite(c->fd, from, size, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0)
            return report(c, (fault){ FAULT_WRITE, .tensor = p->tensor, .row = p->row,
                                      .why = n ? errno : EIO });
        from += n;
        at += (uint64_t)n;
        size -= (uint64_t)n;
    }
    return true;
}

/* What of the map was read is not needed again. */
static void let_go(const gguf_file *f, const uint8_t *from, uint64_t size) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = round_up((uintptr_t)from, page), end = ((uintptr_t)from + size) / page * page;
    if (f->map && begin < end) madvise((void *)begin, end - begin, MADV_DONTNEED);
}

static bool report_number(worker *w, const piece *p, enum fault_kind kind, uint64_t at, float number) {
    uint64_t n_columns = w->of->job->tensors[p->tensor].in->dims[0];
    return report(w->of, (fault){ kind, .tensor = p->tensor, .row = p->row + at / n_columns,
                                  .column = at % n_columns, .number = number });
}

static bool check_source(worker *w, const piece *p, const float *x, uint64_t n) {
    uint64_t odd = find_odd(x, n);
    return odd == n || report_number(w, p, FAULT_SOURCE, odd, x[odd]);
}

/* Compares the values read back from the blocks with what they were made of, in lanes. What is not
   finite makes a sum that is not. */
static bool check_result(worker *w, const piece *p, const float *x, uint64_t n) {
    double   off[LANES] = { 0 }, all[LANES] = { 0 };
    uint64_t whole = n / LANES * LANES, odd;
    for (uint64_t i = 0; i < n; i += LANES) {
        uint64_t m = i < whole ? LANES : n - i;
        for (uint64_t k = 0; k < m; k++) {
            double a = (double)x[i + k], b = (double)w->again[i + k];
            off[k] += (a - b) * (a - b);
            all[k] += a * a;
        }
    }
    for (uint64_t k = 0; k < LANES; k++) w->square_error += off[k], w->square_sum += all[k];
    if (isfinite(w->square_error) && w->square_sum < LEAST_MOST * LEAST_MOST) return true;
    if (!check_source(w, p, x, n)) return false;
    odd = find_odd(w->again, n);
    if (odd == n) odd = find_cut(quant_find(w->of->job->tensors[p->tensor].quant), w->blocks, x, w->again, n);
    return odd == n || report_number(w, p, FAULT_RESULT, odd, x[odd]);
}

/* Without importance, rows are one: narrow ones alone would leave most of a call's lanes idle. */
static void write_blocks(worker *w, const piece *p, const float *x) {
    const quantize_tensor *t = &w->of->job->tensors[p->tensor];
    uint64_t n_columns = t->in->dims[0], row_bytes = quant_row_bytes(t->quant, n_columns);
    if (!t->importance) {
        quant_write(t->quant, x, p->n_rows * n_columns, NULL, w->blocks);
        return;
    }
    for (uint64_t i = 0; i < p->n_rows; i++) {
        uint64_t matrix = (p->row + i) / t->in->dims[1] % t->in->dims[2];
        quant_write(t->quant, x + i * n_columns, n_columns, t->importance + matrix * n_columns,
                    w->blocks + i * row_bytes);
    }
}

static bool convert(worker *w, const piece *p) {
    crew                  *c = w->of;
    const gguf_file       *f = c->job->file;
    const quantize_tensor *t = &c->job->tensors[p->tensor];
    uint64_t       n_columns = t->in->dims[0], n = p->n_rows * n_columns;
    uint64_t       in_bytes = quant_row_bytes(t->in->type, n_columns);
    uint64_t       out_bytes = quant_row_bytes(t->quant, n_columns);
    const uint8_t *from = f->data + t->in->offset + p->row * in_bytes;
    const float   *x = w->values;
    w->square_error = w->square_sum = 0;
    if (t->in->type == QUANT_F32)
        x = (const float *)(const void *)from; /* aligned as all data is */
    else
        quant_read(t->in->type, from, n, NULL, w->values);
    bool is_copy = t->quant == t->in->type;
    if (is_copy && !check_source(w, p, x, n)) return false;
    if (!is_copy) {
        write_blocks(w, p, x);
        quant_read(t->quant, w->blocks, n, NULL, w->again);
        if (!check_result(w, p, x, n)) return false;
    }
    if (!write_at(c, p, is_copy ? from : w->blocks, p->n_rows * out_bytes, t->offset + p->row * out_bytes))
        return false;
    let_go(f, from, p->n_rows * in_bytes);
    return true;
}

/* ---- threads */

static void *work(void *of) {
    worker *w = of;
    piece   p;
    while (take_piece(w->of, &p) && convert(w, &p)) finish_piece(w, &p);
    pthread_mutex_lock(&w->of->lock);
    w->of->n_working--;
    pthread_cond_signal(&w->of->changed);
    pthread_mutex_unlock(&w->of->lock);
    return NULL;
}

static bool prepare(worker *w, crew *c) {
    uint64_t most_values = 0, most_bytes = 0;
    for (uint64_t i = 0; i < c->job->n_tensors; i++) {
        const quantize_tensor *t = &c->job->tensors[i];
        uint64_t rows = piece_rows(t) < t->n_rows ? piece_rows(t) : t->n_rows;
        if (t->quant == t->in->type && t->quant == QUANT_F32) continue; /* copied from where it is */
        uint64_t bytes = rows * quant_row_bytes(t->quant, t->in->dims[0]);
        if (rows * t->in->dims[0] > most_values) most_values = rows * t->in->dims[0];
        if (bytes > most_bytes) most_bytes = bytes;
    }
    w->of = c;
    w->values = malloc((most_values + 1) * sizeof *w->values);
    w->again = malloc((most_values + 1) * sizeof *w->again);
    w->blocks = malloc(most_bytes + 1);
    return w->values && w->again && w->blocks;
}

static void release(worker *w) {
    free(w->values);
    free(w->again);
    free(w->blocks);
}

static void wait_a_moment(crew *c) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += PROGRESS_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&c->changed, &c->lock, &until);
}

/* Tells of each tensor as it is done, and in between how far it is. */
static void watch(crew *c) {
    quantize_job *job = c->job;
    uint64_t begin = clock_ns(), told = 0;
    bool     done;
    pthread_mutex_lock(&c->lock);
    do {
        if (c->n_working) wait_a_moment(c);
        done = !c->n_working;
        for (; told < job->n_tensors && job->tensors[told].n_done == job->tensors[told].n_rows; told++)
            if (job->options->verbose) quantize_print_tensor(job, told, stderr);
        if (told < job->n_tensors)
            quantize_print_progress(job, told, c->values_done, (double)(clock_ns() - begin) * 1e-9);
    } while (!done);
    pthread_mutex_unlock(&c->lock);
    quantize_clear_progress();
}

/* One thread more or less makes no difference but to the time. */
static bool run(crew *c, worker *workers, uint32_t n) {
    uint32_t n_started = 0;
    c->n_working = n;
    for (; n_started < n; n_started++)
        if (pthread_create(&workers[n_started].thread, NULL, work, &workers[n_started])) break;
    pthread_mutex_lock(&c->lock);
    c->n_working -= n - n_started;
    pthread_mutex_unlock(&c->lock);
    watch(c);
    for (uint32_t i = 0; i < n_started; i++) pthread_join(workers[i].thread, NULL);
    return n_started > 0;
}

static uint32_t count_threads(const quantize_options *o) {
    long n = o->n_threads ? (long)o->n_threads : sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : (uint32_t)n;
}

/* ---- what went wrong */

static bool tell(const quantize_job *job, const fault *f) {
    diag                  *d = job->messages;
    const quantize_tensor *t = &job->tensors[f->tensor];
    switch (f->kind) {
    case FAULT_NONE: return true;
    case FAULT_SOURCE:
        return diag_error(d, "%s: tensor '%s': row %" PRIu64 ", column %" PRIu64 " is %g; weights must be "
                          "finite", job->file->path, t->name, f->row, f->column, (double)f->number);
    case FAULT_RESULT:
        return diag_error(d, "%s: tensor '%s': row %" PRIu64 ", column %" PRIu64 ": %g or what is beside it "
                          "is too large for %s",
                          job->file->path, t->name, f->row, f->column, (double)f->number,
                          quant_find(t->quant)->name);
    case FAULT_WRITE:
        return diag_error(d, "%s: cannot be written: %s", job->options->output, strerror(f->why));
    case FAULT_MEMORY: break;
    }
    return diag_error(d, "out of memory");
}

bool quantize_write_rows(quantize_job *job, int fd) {
    crew c = { .job = job, .fd = fd, .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };
    uint32_t n = count_threads(job->options), ready = 0;
    worker  *workers = calloc(n, sizeof *workers);
    piece    start = { 0 };
    while (workers && ready < n && prepare(&workers[ready], &c)) ready++;
    if (!ready) c.fault.kind = FAULT_MEMORY;
    if (ready && write_at(&c, &start, job->header.data, job->header.size, 0) && !run(&c, workers, ready))
        c.fault.kind = FAULT_MEMORY;
    for (uint32_t i = 0; workers && i < n; i++) release(&workers[i]);
    free(workers);
    return tell(job, &c.fault);
}
