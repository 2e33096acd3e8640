/* What becomes of each tensor, decided before anything is written. */
#include "quantize_job.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static int compare_tensors(const void *x, const void *y) {
    return mixture_compare(((const quantize_tensor *)x)->in->name, ((const quantize_tensor *)y)->in->name);
}

static void list_tensors(quantize_job *job) {
    const gguf_file *f = job->file;
    job->tensors = ARENA_ARRAY(job->memory, quantize_tensor, f->n_tensors + 1);
    job->n_tensors = f->n_tensors;
    for (uint64_t i = 0; i < f->n_tensors; i++) {
        quantize_tensor *t = &job->tensors[i];
        t->in = &f->tensors[i];
        t->name = arena_copy_text(job->memory, t->in->name.data, t->in->name.size);
        t->shown = gguf_escape(job->memory, t->in->name);
        t->n_rows = t->in->dims[1] * t->in->dims[2] * t->in->dims[3];
    }
    qsort(job->tensors, job->n_tensors, sizeof *job->tensors, compare_tensors);
}

/* ---- types */

static bool is_number(uint32_t quant) {
    return quant == QUANT_I8 || quant == QUANT_I16 || quant == QUANT_I32 || quant == QUANT_I64;
}

static bool is_plain(uint32_t quant) {
    return quant_find(quant)->block_len == 1;
}

static bool stays(const quantize_job *job, const quantize_tensor *t) {
    const quantize_options *o = job->options;
    if (o->mix->base == QUANT_COUNT || is_number(t->in->type)) return true;
    return !mixture_quantizes(t->in) || (o->leave_output && mixture_role(t->in->name) == ROLE_OUTPUT);
}

/* What was asked for by name comes before the mixture: the flags for the embedding and the output
   matrix, then patterns. Without an output matrix, the embedding is one. */
static uint32_t choose_type(quantize_job *job, mixture_state *state, const quantize_tensor *t) {
    quantize_options *o = job->options;
    enum mixture_role role = mixture_role(t->in->name);
    tensor_pattern   *named = tensor_pattern_find(&o->patterns, t->name);
    bool is_embedding = role == ROLE_TOKEN_EMBD;
    bool is_main = is_embedding && !strcmp(t->name, "token_embd.weight");
    if (is_embedding && o->embedding_quant != QUANT_COUNT && (is_main || !named)) return o->embedding_quant;
    if (role == ROLE_OUTPUT && o->output_quant != QUANT_COUNT) return o->output_quant;
    if (named) return named->quant;
    if (o->pure) return o->mix->base;
    uint32_t quant = mixture_choose(state, t->in);
    bool     is_output = is_embedding && !state->has_output && !is_plain(o->mix->base);
    return is_output && o->output_quant != QUANT_COUNT ? o->output_quant : quant;
}

static bool check_type(quantize_job *job, const quantize_tensor *t) {
    diag       *d = job->messages;
    const char *path = job->file->path;
    const char *from = quant_find(t->in->type)->name, *to = quant_find(t->quant)->name;
    if (t->quant == t->in->type) return true;
    if (!quant_writable(t->quant))
        return diag_error(d, "%s: tensor '%s': weights cannot be written as %s", path, t->name, to);
    if (!is_plain(t->in->type) && !job->options->allow_requantize)
        return diag_error(d, "%s: tensor '%s': it is %s already; quantizing it again, which loses more than "
                          "%s from the original would, takes --allow-requantize", path, t->name, from, to);
    return true;
}

/* ---- importance */

static bool find_importance(quantize_job *job, quantize_tensor *t) {
    const imatrix_entry *e = job->importance ? imatrix_find(job->importance, t->in->name) : NULL;
    uint64_t n = t->in->dims[0] * t->in->dims[2];
    if (!e || e->n == n) {
        t->importance = e ? e->weights : NULL;
        job->n_prepared += e != NULL;
        return true;
    }
    if (mixture_role(t->in->name) == ROLE_TOKEN_EMBD) return true; /* what met it were ids */
    return diag_error(job->messages, "%s: entry '%s' has %" PRIu64 " importances, the tensor of %s %" PRIu64
                      " columns: it was made for another model", job->importance->path, t->name, e->n,
                      job->file->path, n);
}

static bool check_importance(quantize_job *job, const quantize_tensor *t) {
    const char *to = quant_find(t->quant)->name;
    bool needs = mixture_needs_importance(job->options->mix, t->in->name, t->quant) ||
                 quant_needs_importance(t->quant);
    if (t->importance || !needs) return true;
    if (job->options->dry_run) {
        if (!job->unprepared) job->unprepared = t->shown;
        return true;
    }
    if (job->importance)
        return diag_error(job->messages, "%s: has no entry for '%s', which needs one as %s",
                          job->importance->path, t->name, to);
    return diag_error(job->messages, "%s: tensor '%s': %s needs an importance matrix: give one with "
                      "--imatrix FILE", job->file->path, t->name, to);
}

/* ---- all tensors */

static bool choose(quantize_job *job, mixture_state *state, quantize_tensor *t) {
    t->quant = t->wanted = t->in->type;
    if (!stays(job, t)) {
        t->wanted = choose_type(job, state, t);
        t->quant = mixture_fallback(t->wanted, t->in->dims[0]);
        job->n_fallbacks += t->quant != t->wanted;
        if (!check_type(job, t)) return false;
        if (t->quant != t->in->type && (!find_importance(job, t) || !check_importance(job, t))) return false;
    }
    t->bytes = t->n_rows * quant_row_bytes(t->quant, t->in->dims[0]);
    return true;
}

bool quantize_choose(quantize_job *job) {
    quantize_options *o = job->options;
    mixture_state     state = mixture_begin(o->mix, job->file, job->importance != NULL);
    list_tensors(job);
    for (uint64_t i = 0; i < job->n_tensors; i++)
        if (!choose(job, &state, &job->tensors[i])) return false;
    if (job->importance && !job->n_prepared && o->mix->base != QUANT_COUNT)
        diag_warning(job->messages, "%s: none of its entries is about a tensor that is quantized",
                     job->importance->path);
    for (uint32_t i = 0; i < o->patterns.n; i++)
        if (!o->patterns.items[i].used)
            diag_warning(job->messages, "--tensor-type %s: %s has no tensor to be quantized of such a name",
                         o->patterns.items[i].text, job->file->path);
    return true;
}
