/* The error of each op in order of execution, drawn as SVG: a logarithm of NMSE upwards, ops from
 * left to right, a stripe for each layer. What is 0 stands on the lowest line, what is infinite or
 * no number on the highest. Colours are the page's (templates/report.html.in). */
#include "report.h"

#include "page.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WIDTH  1100
#define HEIGHT 410
#define LEFT   60
#define RIGHT  1088
#define TOP    36
#define BOTTOM 362

#define FLOOR       (-24) /* smaller powers of ten are drawn as 0 */
#define MOST_LINES  9     /* powers of ten that are labelled */
#define NUMBER_ROOM 26    /* for a layer's number */

typedef struct plot {
    const compare_report *r;
    FILE    *to;
    int      low, high;      /* powers of ten at the bottom and the top */
    bool     zero, infinite; /* whether there are values to stand there */
    double   step;           /* from an op to the next */
    uint32_t n_dots;
} plot;

/* ---- places */

static bool drawable(double v) {
    return isfinite(v) && v > 0 && log10(v) >= FLOOR;
}

static void include(plot *p, double v, bool *any) {
    if (!drawable(v)) {
        *(isfinite(v) ? &p->zero : &p->infinite) = true;
        return;
    }
    int low = (int)floor(log10(v)), high = (int)ceil(log10(v));
    if (!*any || low < p->low) p->low = low;
    if (!*any || high > p->high) p->high = high;
    *any = true;
}

static void measure(plot *p) {
    bool any = false;
    for (uint32_t i = 0; i < p->r->n_ops; i++) {
        const compare_op *o = &p->r->ops[i];
        p->n_dots += o->between.n_values > 0;
        if (o->between.n_values) include(p, o->between.nmse, &any);
        if (o->alone.n_values) include(p, o->alone.nmse, &any);
        if (drawable(o->tolerance)) include(p, o->tolerance, &any);
    }
    if (!any) p->low = -6, p->high = 0;
    if (p->low == p->high) p->low--;
    if (p->zero) p->low--;
    if (p->infinite) p->high++;
    p->step = (double)(RIGHT - LEFT) / (p->r->n_ops ? p->r->n_ops : 1);
}

static double x_of(const plot *p, uint32_t op) {
    return LEFT + (op + 0.5) * p->step;
}

static double y_of_power(const plot *p, double power) {
    return BOTTOM - (power - p->low) / (p->high - p->low) * (BOTTOM - TOP);
}

static double y_of(const plot *p, double v) {
    if (!isfinite(v)) return TOP;
    return drawable(v) ? y_of_power(p, log10(v)) : BOTTOM;
}

/* Of a dot: larger where there are few. */
static double radius(const plot *p) {
    return fmin(4.5, fmax(1.8, 0.36 * (RIGHT - LEFT) / (p->n_dots ? p->n_dots : 1)));
}

/* ---- axes */

static void put_y_axis(const plot *p) {
    int low = p->low + p->zero, high = p->high - p->infinite, every = 1;
    while ((high - low) / every >= MOST_LINES) every++;
    for (int e = high; e >= low; e -= every) {
        double y = y_of_power(p, e);
        fprintf(p->to, "<path class=\"grid\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" "
                "text-anchor=\"end\">", LEFT, y, RIGHT, LEFT - 8, y + 4);
        if (e == 0)
            fputs("1", p->to);
        else
            fprintf(p->to, "10<tspan dy=\"-5\" font-size=\"9\">%s%d</tspan>", e < 0 ? "−" : "",
                    abs(e));
        fputs("</text>\n", p->to);
    }
    if (p->zero)
        fprintf(p->to, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">0</text>\n", LEFT - 8, BOTTOM + 4);
    if (p->infinite)
        fprintf(p->to, "<path class=\"grid\" d=\"M%d %dH%d\"/><text x=\"%d\" y=\"%d\" "
                "text-anchor=\"end\">∞, nan</text>\n", LEFT, TOP, RIGHT, LEFT - 8, TOP + 4);
    fprintf(p->to, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">NMSE</text>\n", LEFT - 8, TOP - 20);
}

/* Numbers are left out where they would not fit; layers of even number are striped. */
static void put_layer(const plot *p, uint32_t from, uint32_t to, uint32_t nth) {
    int32_t  layer = p->r->ops[from].layer;
    double   x = LEFT + from * p->step, width = (to - from) * p->step;
    uint32_t every = 1 + (uint32_t)(NUMBER_ROOM / width);
    if (layer < 0) return;
    if (nth % 2 == 0)
        fprintf(p->to, "<rect class=\"stripe\" x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\"/>", x,
                TOP, width, BOTTOM - TOP);
    fprintf(p->to, "<path class=\"edge\" d=\"M%.1f %dV%dM%.1f %dV%d\"/>", x, TOP, BOTTOM + 6, x + width,
            TOP, BOTTOM + 6);
    if (nth % every == 0)
        fprintf(p->to, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%d</text>", x + width / 2,
                BOTTOM + 20, layer);
    fputs("\n", p->to);
}

static void put_layers(const plot *p) {
    uint32_t from = 0, nth = 0;
    for (uint32_t i = 1; i <= p->r->n_ops; i++) {
        if (i < p->r->n_ops && p->r->ops[i].layer == p->r->ops[from].layer) continue;
        put_layer(p, from, i, nth);
        nth += p->r->ops[from].layer >= 0;
        from = i;
    }
    if (nth)
        fprintf(p->to, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">layer</text>\n",
                (LEFT + RIGHT) / 2, BOTTOM + 40);
}

/* ---- what is drawn */

static bool has_tolerance(const plot *p, uint32_t i) {
    return isfinite(p->r->ops[i].tolerance) && p->r->ops[i].tolerance > 0;
}

/* Steps over the ops from `from` on, without the M that begins them. */
static uint32_t put_steps(const plot *p, uint32_t from) {
    uint32_t i = from;
    for (; i < p->r->n_ops && has_tolerance(p, i); i++)
        fprintf(p->to, "%s%.1fH%.1f", i == from ? "" : "V", y_of(p, p->r->ops[i].tolerance),
                LEFT + (i + 1) * p->step);
    return i;
}

/* A line where each stretch of ops that have a tolerance is, and what is below it. */
static void put_tolerance(const plot *p, bool line) {
    fprintf(p->to, "<path class=\"%s\" d=\"", line ? "tolerance" : "allowed");
    for (uint32_t i = 0; i < p->r->n_ops; i++) {
        if (!has_tolerance(p, i)) continue;
        double x = LEFT + i * p->step;
        fprintf(p->to, "M%.1f ", x);
        i = put_steps(p, i);
        if (!line) fprintf(p->to, "V%dH%.1fz", BOTTOM, x);
    }
    fputs("\"/>\n", p->to);
}

static void put_path(const plot *p) {
    bool begun = false;
    fputs("<path class=\"path\" d=\"", p->to);
    for (uint32_t i = 0; i < p->r->n_ops; i++) {
        const compare_op *o = &p->r->ops[i];
        if (!o->between.n_values) continue;
        fprintf(p->to, "%s%.1f %.1f", begun ? "L" : "M", x_of(p, i), y_of(p, o->between.nmse));
        begun = true;
    }
    fputs("\"/>\n", p->to);
}

static void put_alone(const plot *p, uint32_t i) {
    const compare_op *o = &p->r->ops[i];
    double            r = 0.9 * radius(p) + 0.4;
    if (!o->alone.n_values) return;
    fprintf(p->to, "<path class=\"alone\" d=\"M%.1f %.1fl%.1f %.1f %.1f %.1f %.1f %.1fz\"><title>",
            x_of(p, i), y_of(p, o->alone.nmse) - r, r, r, -r, r, -r, -r);
    report_put_html_op(p->to, o, p->r->cost);
    fputs("</title></path>\n", p->to);
}

static void put_dot(const plot *p, uint32_t i) {
    const compare_op *o = &p->r->ops[i];
    if (!o->between.n_values) return;
    fprintf(p->to, "<a href=\"#op-%u\"><circle class=\"dot %s\" data-x=\"%.1f\" cx=\"%.1f\" "
            "cy=\"%.1f\" r=\"%.1f\"><title>", i,
            p->r->cost ? "" : report_words[report_verdict_of(o)].word, x_of(p, i), x_of(p, i),
            y_of(p, o->between.nmse), radius(p));
    report_put_html_op(p->to, o, p->r->cost);
    fputs("</title></circle></a>\n", p->to);
}

/* The first op beyond its tolerance, its name on the side where there is room. */
static void put_first(const plot *p) {
    if (p->r->first < 0 || (uint32_t)p->r->first >= p->r->n_ops) return;
    const compare_op *o = &p->r->ops[p->r->first];
    double            x = x_of(p, (uint32_t)p->r->first), y = y_of(p, o->between.nmse);
    bool              right = x < (LEFT + RIGHT) / 2;
    fprintf(p->to, "<path class=\"mark\" d=\"M%.1f %dV%d\"/>"
            "<circle class=\"ring\" cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"/>"
            "<text class=\"name\" x=\"%.1f\" y=\"%d\" text-anchor=\"%s\">", x, TOP - 20, BOTTOM, x, y,
            radius(p) + 4, right ? x + 8 : x - 8, TOP - 10, right ? "start" : "end");
    page_put_text(p->to, o->name ? o->name : "-", 60);
    fputs("</text>\n", p->to);
}

void report_plot(const compare_report *r, void *stream) {
    plot p = { .r = r, .to = stream };
    measure(&p);
    fprintf(p.to, "<svg class=\"plot\" viewBox=\"0 0 %d %d\" role=\"img\" "
            "aria-label=\"NMSE of each op\">\n", WIDTH, HEIGHT);
    put_layers(&p);
    put_tolerance(&p, false);
    put_y_axis(&p);
    fprintf(p.to, "<path class=\"edge\" d=\"M%d %dH%d\"/>\n", LEFT, BOTTOM, RIGHT);
    put_tolerance(&p, true);
    fprintf(p.to, "<line class=\"cursor\" x1=\"0\" x2=\"0\" y1=\"%d\" y2=\"%d\"/>\n", TOP, BOTTOM);
    put_path(&p);
    /* What a report is about lies on top. */
    for (uint32_t i = 0; i < r->n_ops; i++) (r->cost ? put_dot : put_alone)(&p, i);
    for (uint32_t i = 0; i < r->n_ops; i++) (r->cost ? put_alone : put_dot)(&p, i);
    put_first(&p);
    fputs("</svg>\n", p.to);
}
