/* cli.c - the executable, from its arguments to its exit status.
 *
 * Text goes to standard output, everything else to standard error. An interrupt (SIGINT) sets a
 * flag that is looked at after each token, so that the line ends and the timings are told; a second
 * one kills. A reader that closes our output has what it wanted: that is success. Writing that
 * fails otherwise, a full disk, is not.
 */
#include "cli.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "cli_bench.h"
#include "clock.h"
#include "error.h"
#include "generate.h"
#include "cli_info.h"
#include "cli_prompt.h"
#include "cli_flags.h"
#include "path.h"
#include "session.h"
#include "trace.h"

enum { EXIT_OK = 0, EXIT_BAD_INPUT = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130 };

typedef struct cli {
    const ggufc_model *model;
    const char        *program;
    cli_flags          flags;
    stream             out;
    uint64_t           start_ns;
} cli;

static volatile sig_atomic_t cli_interrupted; /* the signal's number */

static void on_interrupt(int signal_number) {
    cli_interrupted = signal_number;
}

/* Reading a mapped file past its new end raises SIGBUS; there is no way back from it. */
static _Noreturn void on_lost_weights(int signal_number) {
    static const char line[] = "error: the weights file became shorter while it was in use\n";
    (void)signal_number;
    if (write(STDERR_FILENO, line, sizeof line - 1) < 0) _exit(EXIT_FAILURE);
    _exit(EXIT_FAILURE);
}

static void catch_interrupt(int signal_number) {
    struct sigaction interrupt = { .sa_handler = on_interrupt, .sa_flags = SA_RESETHAND };
    struct sigaction before;
    if (sigaction(signal_number, NULL, &before) == 0 && before.sa_handler != SIG_IGN)
        sigaction(signal_number, &interrupt, NULL);
}

/* A closed pipe and a file that grows too large are errors of the write. */
static void catch_signals(void) {
    struct sigaction lost = { .sa_handler = on_lost_weights };
    struct sigaction ignored = { .sa_handler = SIG_IGN };
    catch_interrupt(SIGINT);
    sigaction(SIGPIPE, &ignored, NULL);
    sigaction(SIGXFSZ, &ignored, NULL);
    sigaction(SIGBUS, &lost, NULL);
}

/* ---- telling */

__attribute__((format(printf, 2, 3))) static void tell(const cli *c, const char *format, ...) {
    char text[1536];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fprintf(stderr, "%s: %s\n", c->program, text);
}

static int exit_for_error(const cli *c, const ggufc_error *error) {
    if (error->status == GGUFC_STOPPED) return EXIT_INTERRUPTED;
    bool searched = error->status == GGUFC_ERROR_WEIGHTS && !c->flags.model_path && !c->model->embedded;
    tell(c, "%s%s", error->text, searched ? " (name the GGUF file with -m)" : "");
    return EXIT_BAD_INPUT;
}

/* The status of a run that went well, as far as its output did. */
static int exit_for_output(const cli *c) {
    if (c->out.failure && !stream_is_closed(&c->out)) {
        tell(c, "cannot write to standard output: %s", strerror(c->out.failure));
        return EXIT_BAD_INPUT;
    }
    return cli_interrupted ? EXIT_INTERRUPTED : EXIT_OK;
}

static void tell_speed(const cli *c, const char *what, uint64_t ns, uint64_t n) {
    double ms = (double)ns / 1e6;
    if (n == 0 || ns == 0)
        tell(c, "%-12s %10.2f ms", what, ms);
    else
        tell(c, "%-12s %10.2f ms / %5" PRIu64 " tokens  (%8.3f ms per token, %9.2f tokens/s)", what,
             ms, n, ms / (double)n, (double)n * 1e3 / ms);
}

static void tell_report(const cli *c, const generate_report *r) {
    static const char *const ends[] = {
        [GENERATE_END_COUNT] = "as many tokens as asked for",
        [GENERATE_END_TOKEN] = "the end token",
        [GENERATE_END_CONTEXT] = "a full context",
        [GENERATE_END_STOP] = "an interrupt",
        [GENERATE_END_OUTPUT] = "closed output",
    };
    tell_speed(c, "prompt eval:", r->prompt_ns, r->n_prompt);
    tell_speed(c, "eval:", r->eval_ns, r->n_evaluated);
    if (c->flags.look_ahead || c->flags.always_draft)
        tell(c, "look-ahead:  %" PRIu64 " of %" PRIu64 " drafted tokens were right, %" PRIu64
                " passes for %" PRIu64 " tokens",
             r->n_accepted, r->n_drafted, r->n_passes, r->n_evaluated);
    tell_speed(c, "sampling:", r->sample_ns, r->n_generated);
    tell_speed(c, "total:", clock_ns() - c->start_ns, 0);
    tell(c, "ended by %s after %" PRIu64 " tokens", ends[r->end], r->n_generated);
}

/* ---- the prompt */

static ggufc_status read_input(const cli *c, cli_prompt *in, ggufc_error *error) {
    const cli_flags *o = &c->flags;
    if (o->tokens) return cli_prompt_parse_tokens(in, o->tokens, error);
    if (!c->model->vocab)
        return error_set(error, GGUFC_ERROR_OPTIONS,
                         "this model has no tokenizer that is supported: give token ids with "
                         "--tokens");
    ggufc_status status = o->prompt        ? cli_prompt_copy_text(in, o->prompt, error)
                          : o->prompt_file ? cli_prompt_read_file(in, o->prompt_file, error)
                                           : cli_prompt_read_stdin(in, &cli_interrupted, error);
    return status == GGUFC_OK ? cli_prompt_tokenize(in, c->model->vocab, error) : status;
}

/* ---- running */

static uint64_t random_seed(void) {
    uint32_t seed;
    if (getrandom(&seed, sizeof seed, 0) == sizeof seed) return seed;
    return (uint32_t)(clock_ns() ^ (uint64_t)getpid() << 16);
}

static ggufc_status open_session(const cli *c, ggufc_session **session, ggufc_error *error) {
    ggufc_session_options wanted = {
        .model = c->model,
        .weights_path = c->flags.model_path,
        .copy_weights = c->flags.no_mmap,
        .lock_weights = c->flags.mlock,
        .n_threads = c->flags.n_threads,
        .n_ctx = c->flags.n_ctx,
        .pin_threads = 1,
    };
    ggufc_status status = ggufc_session_open(session, &wanted, error);
    if (status != GGUFC_OK || !c->flags.verbose) return status;
    tell_speed(c, "load:", clock_ns() - c->start_ns, 0);
    tell(c, "weights: %s, %" PRIu32 " threads, context %" PRIu32,
         ggufc_session_weights_path(*session), ggufc_session_n_threads(*session),
         ggufc_session_n_ctx(*session));
    return status;
}

static int run_generate(cli *c, ggufc_session *session, const cli_prompt *in) {
    sampler_options sampling = c->flags.sampling;
    sampling.seed = c->flags.seed < 0 ? random_seed() : (uint64_t)c->flags.seed;
    if (c->flags.verbose) tell(c, "seed: %" PRIu64, sampling.seed);

    ggufc_error error;
    sampler *choose = sampler_new(c->model->n_vocab, &sampling);
    if (!choose) {
        error_set(&error, GGUFC_ERROR_MEMORY, "out of memory");
        return exit_for_error(c, &error);
    }
    if (c->flags.ignore_eos) generate_forbid_end(choose, c->model->vocab);
    generate_request request = {
        .tokens = in->tokens,
        .n_tokens = in->n_tokens,
        .text = in->text,
        .text_size = in->text_size,
        .hide_prompt = c->flags.hide_prompt,
        .look_ahead = c->flags.look_ahead || c->flags.always_draft,
        .always_draft = c->flags.always_draft,
        .max_draft = c->flags.max_draft,
        .n_predict = c->flags.n_predict,
        .stop = &cli_interrupted,
    };
    generate_report report;
    ggufc_status status = generate_run(session, choose, &request, &c->out, &report, &error);
    sampler_free(choose);
    if (status != GGUFC_OK) return exit_for_error(c, &error);
    if (report.end == GENERATE_END_CONTEXT)
        tell(c, "stopped: the context of %" PRIu32 " tokens is full", ggufc_session_n_ctx(session));
    if (c->flags.verbose) tell_report(c, &report);
    return exit_for_output(c);
}

static int run_bench(cli *c, ggufc_session *session) {
    int64_t n = c->flags.n_predict;
    cli_bench_request request = {
        .n_prompt = c->flags.bench_prompt,
        .n_generate = n > 0 ? (uint32_t)n : 0,
        .depth = c->flags.bench_depth,
        .n_runs = c->flags.bench_runs,
        .stop = &cli_interrupted,
    };
    ggufc_error error;
    ggufc_status status = cli_bench_run(session, &request, &c->out, &error);
    return status == GGUFC_OK ? exit_for_output(c) : exit_for_error(c, &error);
}

static int run_trace(cli *c, ggufc_session *session, const cli_prompt *in) {
    trace_request request = {
        .path = c->flags.trace,
        .tokens = in->tokens,
        .n_tokens = in->n_tokens,
        .filter = c->flags.trace_filter,
        .last_token = c->flags.last_token,
        .stop = &cli_interrupted,
    };
    trace_report report;
    ggufc_error  error;
    catch_interrupt(SIGTERM); /* so that no half file is left */
    catch_interrupt(SIGHUP);
    if (trace_write(session, &request, &report, &error) != GGUFC_OK) {
        if (error.status == GGUFC_STOPPED && cli_interrupted != SIGINT) raise(cli_interrupted);
        return exit_for_error(c, &error);
    }
    tell(c, "%s: %" PRIu64 " activations of %zu tokens, %.1f MiB", request.path,
         report.n_activations, in->n_tokens, (double)report.bytes / (1 << 20));
    return EXIT_OK;
}

static int run_session(cli *c, const cli_prompt *in) {
    ggufc_error error;
    ggufc_session *session;
    if (open_session(c, &session, &error) != GGUFC_OK) return exit_for_error(c, &error);
    int result = c->flags.bench   ? run_bench(c, session)
                 : c->flags.trace ? run_trace(c, session, in)
                                  : run_generate(c, session, in);
    ggufc_session_close(session);
    return result;
}

static int run_prompt(cli *c) {
    const cli_flags *o = &c->flags;
    bool given = o->prompt || o->prompt_file || o->tokens;
    if (!given && isatty(STDIN_FILENO)) {
        tell(c, "no prompt: give one with -p TEXT, -f FILE, --tokens IDS, or on standard input "
                "(see --help)");
        return EXIT_USAGE;
    }
    cli_prompt in = { 0 };
    ggufc_error error;
    ggufc_status status = read_input(c, &in, &error);
    int result = status == GGUFC_OK ? run_session(c, &in) : exit_for_error(c, &error);
    if (status == GGUFC_ERROR_OPTIONS && o->tokens) result = EXIT_USAGE;
    cli_prompt_free(&in);
    return result;
}

static int run(cli *c) {
    if (c->flags.help)
        cli_flags_print_help(&c->out, c->program);
    else if (c->flags.version)
        cli_info_print_version(&c->out, c->model);
    else if (c->flags.info)
        cli_info_print(&c->out, c->model, c->flags.model_path);
    else
        return c->flags.bench ? run_session(c, NULL) : run_prompt(c);
    return exit_for_output(c);
}

int cli_main(const ggufc_model *model, int argc, char **argv) {
    cli c = {
        .model = model,
        .program = path_base_name(argc > 0 ? argv[0] : "ggufc-model"),
        .out = { .fd = STDOUT_FILENO },
        .start_ns = clock_ns(),
    };
    catch_signals();
    ggufc_error error;
    uint32_t n_ctx;
    if (cli_flags_parse(&c.flags, argc, argv, &error) != GGUFC_OK ||
        session_resolve_ctx(model, c.flags.n_ctx, &n_ctx, &error) != GGUFC_OK) {
        tell(&c, "%s", error.text);
        return EXIT_USAGE;
    }
    return run(&c);
}
