/* cli_info.c - see cli_info.h. */
#include "cli_info.h"

#include <inttypes.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "cpu.h"
#include "threads.h"
#include "weights.h"

/* Where the linker put the program, its code and its data; absent (0) with linkers that do not say. Behind these,
   embedded weights may be too far away to be named in code. */
extern const char __executable_start[] __attribute__((weak));
extern const char etext[] __attribute__((weak));
extern const char edata[] __attribute__((weak));

/* Whether the model was linked into this program, rather than made while it runs. */
static bool is_linked(const ggufc_model *model) {
    uintptr_t at = (uintptr_t)model, begin = (uintptr_t)__executable_start, last = (uintptr_t)edata;
    return !begin || !last || (at >= begin && at < last);
}

/* Some linkers put what is only read, weights as well, before code. */
static uint64_t code_bytes(const ggufc_model *model) {
    uintptr_t begin = (uintptr_t)__executable_start, end = (uintptr_t)etext, at = (uintptr_t)model->embedded;
    uint64_t  other = at >= begin && at < end ? model->file_bytes : 0;
    return begin && end > begin ? end - begin - other : 0;
}

static uint64_t executable_bytes(void) {
    struct stat st;
    return stat("/proc/self/exe", &st) == 0 ? (uint64_t)st.st_size : 0;
}

static void print_text(stream *out, const char *key, const char *value) {
    stream_printf(out, "%-15s %s\n", key, value ? value : "unknown");
}

static void print_count(stream *out, const char *key, uint64_t value) {
    stream_printf(out, "%-15s %" PRIu64 "\n", key, value);
}

static void print_bytes(stream *out, const char *key, uint64_t bytes) {
    if (bytes < 1024)
        stream_printf(out, "%-15s %" PRIu64 " bytes\n", key, bytes);
    else if (bytes < 1024 * 1024)
        stream_printf(out, "%-15s %" PRIu64 " bytes (%.1f KiB)\n", key, bytes,
                      (double)bytes / 1024);
    else
        stream_printf(out, "%-15s %" PRIu64 " bytes (%.1f MiB)\n", key, bytes,
                      (double)bytes / (1024 * 1024));
}

static void print_weights_file(stream *out, const ggufc_model *model, const char *path) {
    weights w;
    ggufc_error error;
    weights_request wanted = { .path = path };
    if (weights_open(&w, model, &wanted, &error) == GGUFC_OK)
        print_text(out, "weights file:", w.path);
    else
        stream_printf(out, "%-15s none: %s\n", "weights file:", error.text);
    weights_close(&w);
}

static void print_targets(stream *out, const ggufc_model *first, const ggufc_model *chosen) {
    char text[256];
    print_text(out, "target:", chosen ? chosen->target : "none that this processor can run");
    if (!first->next && chosen) return;
    cpu_list_targets(first, text, sizeof text);
    print_text(out, "compiled for:", text);
}

void cli_info_print(stream *out, const ggufc_model *first, const char *weights_path) {
    const ggufc_model *chosen = cpu_choose(first), *model = chosen ? chosen : first;
    print_text(out, "model:", model->name);
    print_text(out, "architecture:", model->arch);
    stream_printf(out, "%-15s %" PRIu32 " million\n", "parameters:", model->n_params_m);
    print_count(out, "layers:", model->n_layer);
    print_count(out, "embedding:", model->n_embd);
    stream_printf(out, "%-15s %" PRIu32 " tokens, %s\n", "vocabulary:", model->n_vocab,
                  model->vocab ? "SentencePiece" : "no supported tokenizer: prompts by --tokens");
    print_text(out, "types:", model->types);
    print_targets(out, first, chosen);
    print_text(out, "compiler:", model->compiler);
    stream_printf(out, "%-15s %" PRIu32 " tokens (trained for %" PRIu32 ")\n",
                  "context:", model->n_ctx, model->n_ctx_train);
    stream_printf(out, "%-15s %" PRIu32 " tokens\n", "batch:", model->n_batch);
    print_count(out, "threads:", threads_online());
    if (is_linked(model)) {
        print_bytes(out, "code:", code_bytes(model));
        print_bytes(out, "executable:", executable_bytes());
    }
    print_bytes(out, "arena:", model->arena_bytes);
    print_bytes(out, "kv cache:", model->kv_bytes);
    print_bytes(out, "weights:", model->weight_bytes);
    print_bytes(out, "file:", model->file_bytes);
    if (model->n_parts) print_count(out, "parts:", model->n_parts);
    print_weights_file(out, model, weights_path);
}

void cli_info_print_version(stream *out, const ggufc_model *model) {
    char targets[256];
    cpu_list_targets(model, targets, sizeof targets);
    stream_printf(out, "%s (%s, %s), compiled by %s for %s\n", model->name, model->arch,
                  model->types, model->compiler, targets);
}
