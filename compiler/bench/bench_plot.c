/* The roofs are what this machine can do: a slope where reading is the limit, level lines where products
 * are. A kernel stands under the roof that limits it, as close as it comes. Colours are the page's
 * (templates/bench.html.in). */
#include "bench_plot.h"

#include "bench_table.h"
#include "page.h"

#include <math.h>

#define WIDTH  1100
#define HEIGHT 530
#define LEFT   64
#define RIGHT  1080
#define TOP    26
#define BOTTOM 476

typedef struct plot {
    FILE  *to;
    arena *memory;
    const bench_limits *limits;
    double x_low, x_high, y_low, y_high; /* logarithms, of multiply-adds a byte and a second */
} plot;

/* Of a kernel, generated or interpreted. */
typedef struct spot {
    double x, y;
} spot;

static bool find_spot(const bench_cost *c, double ns, spot *s) {
    double products = c->dots + c->fmas;
    if (!(products > 0) || !(c->bytes > 0) || !(ns > 0)) return false;
    *s = (spot){ log10(products / c->bytes), log10(1e9 * products / ns) };
    return true;
}

/* ---- places */

static double x_of(const plot *p, double x) {
    return LEFT + (x - p->x_low) / (p->x_high - p->x_low) * (RIGHT - LEFT);
}

static double y_of(const plot *p, double y) {
    return BOTTOM - (y - p->y_low) / (p->y_high - p->y_low) * (BOTTOM - TOP);
}

static void include(plot *p, const bench_cost *c, double ns) {
    spot s;
    if (!find_spot(c, ns, &s)) return;
    p->x_low = fmin(p->x_low, s.x);
    p->x_high = fmax(p->x_high, s.x);
    p->y_low = fmin(p->y_low, s.y);
    p->y_high = fmax(p->y_high, s.y);
}

/* Room for all spots and for both kinds of roof. */
static void measure(plot *p, const bench_report *r) {
    const bench_limits *l = p->limits;
    double ridge = log10(l->dots / l->weights);
    p->x_low = fmin(0, ridge) - 0.5;
    p->x_high = ridge + 0.7;
    p->y_high = log10(fmax(l->dots, l->fmas));
    p->y_low = p->y_high - 2;
    for (uint32_t i = 0; i < r->n_rows; i++) {
        const bench_kernel *k = r->rows[i];
        if (k->limits != l) continue;
        include(p, &k->cost, k->ns);
        include(p, &k->interpreted, k->interpreted_ns);
    }
    p->x_low -= 0.15;
    p->x_high += 0.15;
    p->y_low -= 0.1;
    p->y_high += 0.2;
}

/* ---- axes */

/* 1, 2 and 5 times powers of ten, or powers of ten alone where there are many. */
static void put_axis(const plot *p, bool is_x, double shift) {
    double low = (is_x ? p->x_low : p->y_low) - shift, high = (is_x ? p->x_high : p->y_high) - shift;
    static const double steps[] = { 1, 2, 5 };
    for (int e = (int)floor(low); e <= (int)ceil(high); e++)
        for (size_t s = 0; s < (high - low > 3.5 ? 1 : ARRAY_LEN(steps)); s++) {
            double at = e + log10(steps[s]), x = x_of(p, at + shift), y = y_of(p, at + shift);
            if (at < low || at > high) continue;
            const char *label = arena_printf(p->memory, "%.3g", pow(10, at));
            if (is_x)
                fprintf(p->to, "<path class=\"grid\" d=\"M%.1f %dV%d\"/><text x=\"%.1f\" y=\"%d\" "
                        "text-anchor=\"middle\">%s</text>\n", x, TOP, BOTTOM, x, BOTTOM + 18, label);
            else
                fprintf(p->to, "<path class=\"grid\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" "
                        "text-anchor=\"end\">%s</text>\n", LEFT, y, RIGHT, LEFT - 8, y + 4, label);
        }
    if (is_x)
        fprintf(p->to, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">multiply-adds for each byte that is "
                "read</text>\n", (LEFT + RIGHT) / 2, BOTTOM + 42);
    else
        fprintf(p->to, "<text x=\"%d\" y=\"%d\">G multiply-adds/s</text>\n", LEFT - 56, TOP - 6);
}

/* ---- roofs */

/* From where reading leaves it to the right end. */
static void put_level(const plot *p, double a_second, const char *name, bool soft) {
    double y = log10(a_second), x = fmax(y - log10(p->limits->weights), p->x_low);
    if (x >= p->x_high) return;
    fprintf(p->to, "<path class=\"roof%s\" d=\"M%.1f %.1fH%d\"/><text class=\"roofname\" x=\"%d\" y=\"%.1f\" "
            "text-anchor=\"end\">%s, %s G/s</text>\n", soft ? " soft" : "", x_of(p, x), y_of(p, y), RIGHT,
            RIGHT - 6, y_of(p, y) - 6, name, bench_number(p->memory, a_second / 1e9));
}

static void put_slope(const plot *p, double bytes, const char *name, bool soft) {
    double slope = log10(bytes), from = fmax(p->x_low, p->y_low - slope);
    double to = fmin(log10(p->limits->dots) - slope, p->x_high);
    if (from >= to) return;
    double x0 = x_of(p, from), y0 = y_of(p, from + slope), x1 = x_of(p, to), y1 = y_of(p, to + slope);
    double x = x0 + 0.3 * (x1 - x0), y = y0 + 0.3 * (y1 - y0);
    fprintf(p->to, "<path class=\"roof%s\" d=\"M%.1f %.1fL%.1f %.1f\"/><text class=\"roofname\" x=\"%.1f\" "
            "y=\"%.1f\" transform=\"rotate(%.1f %.1f %.1f)\">%s, %s GB/s</text>\n",
            soft ? " soft" : "", x0, y0, x1, y1, x, y - 6, atan2(y1 - y0, x1 - x0) * 180 / acos(-1), x, y - 6,
            name, bench_number(p->memory, bytes / 1e9));
}

static void put_roofs(const plot *p) {
    const bench_limits *l = p->limits;
    bool cached = l->weights > 1.05 * l->memory;
    put_level(p, l->dots, "8-bit dot", false);
    put_level(p, l->fmas, "f32 fma", true);
    put_slope(p, l->weights, cached ? "weights, in caches" : "memory", false);
    if (cached) put_slope(p, l->memory, "memory", true);
}

/* ---- spots */

static void put_title(const plot *p, const bench_kernel *k, bool interpreted) {
    const bench_cost *c = interpreted ? &k->interpreted : &k->cost;
    double ns = interpreted ? k->interpreted_ns : k->ns;
    fputs("<title>", p->to);
    page_put_text(p->to, k->name, 80);
    fputs(": ", p->to);
    page_put_text(p->to, k->what, 120);
    fprintf(p->to, ", %s, %s: %s G/s, %s GB/s, %.0f %% of the limit</title>",
            k->prefill ? "reading a prompt" : "generating", interpreted ? "interpreted" : "generated",
            bench_number(p->memory, (c->dots + c->fmas) / ns), bench_number(p->memory, c->bytes / ns),
            100 * bench_limit_ns(c, k->limits, NULL) / ns);
}

static void put_spot(const plot *p, const bench_kernel *k, bool interpreted) {
    spot s;
    if (!(interpreted ? find_spot(&k->interpreted, k->interpreted_ns, &s) : find_spot(&k->cost, k->ns, &s)))
        return;
    fprintf(p->to,
            "<circle class=\"dot%s%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%s\">",
            k->prefill ? " prefill" : "", interpreted ? " interpreted" : "", x_of(p, s.x), y_of(p, s.y),
            interpreted ? "4" : "5.5");
    put_title(p, k, interpreted);
    fputs("</circle>\n", p->to);
}

void bench_plot(arena *a, const bench_report *r, const bench_limits *limits, FILE *to) {
    plot p = { .to = to, .memory = a, .limits = limits };
    measure(&p, r);
    fprintf(to, "<svg class=\"plot\" viewBox=\"0 0 %d %d\" role=\"img\" "
            "aria-label=\"kernels under the roofline\">\n", WIDTH, HEIGHT);
    put_axis(&p, true, 0);
    put_axis(&p, false, 9);
    fprintf(to, "<path class=\"edge\" d=\"M%d %dV%dH%d\"/>\n", LEFT, TOP, BOTTOM, RIGHT);
    put_roofs(&p);
    for (int interpreted = 1; interpreted >= 0; interpreted--)
        for (uint32_t i = 0; i < r->n_rows; i++)
            if (r->rows[i]->limits == limits) put_spot(&p, r->rows[i], interpreted);
    fputs("</svg>\n", to);
}
