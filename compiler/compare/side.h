/* side.h - one of the two things compared, or something that they are judged by: whatever can say what
 * an activation was for a token. */
#ifndef GGUFC_SIDE_H
#define GGUFC_SIDE_H

#include "engine.h"
#include "ggufc/runtime.h"
#include "recording.h"

typedef struct side {
    const char  *name;   /* as given */
    const graph *g;      /* whose ops are spoken of, by position */
    float      **values; /* by op: [count][values of a token], of tokens first … first + count - 1 */
    uint32_t     first, count, n_batch, n_tokens;

    recording       *recording; /* NULL: a model */
    recorded_value **recorded;  /* by op, or NULL */
    bool             rounded;   /* text of so few digits, or floats of so few bits, that it matters */
    int              n_bits;    /* see recorded_precision */
    const char      *foreign;   /* one of its activations that g has not … */
    uint32_t         n_foreign; /* … of so many */

    ggufc_model    model; /* where there is a session, which refers to it: a side must stay where it is */
    ggufc_session *session;
    uint32_t      *ops;  /* by activation of the model: position + 1; 0: none in g */
    bool          *made; /* by op: whether the model makes it */

    /* Of a side that is forced: whose values take the place of its own, after these were kept. */
    const struct side *forced_by;
    bool               unrounded;   /* … changed at random by as much as rounding may have changed them */
    uint32_t          *op_by_value; /* by value id of g: position + 1 */
} side;

/* A model, which `model` describes: compiled or interpreted, with its activations kept. False after
   an error was reported: no memory, or an activation of another size than in g. */
bool side_open_model(side *s, arena *a, diag *d, const graph *g, const ggufc_model *model,
                     uint32_t n_threads);

/* An interpreted model of g whose values are replaced, op by op, by those of `by`, where that has all
   of an op's values for a token; what was computed is what this side says. */
bool side_open_forced(side *s, arena *a, diag *d, const graph *g, const ggufc_model *model,
                      uint32_t n_threads, const side *by);

/* A recording of n_tokens tokens. False after an error was reported: a value that has more numbers
   than the activation, or columns for more tokens. */
bool side_open_recording(side *s, arena *a, diag *d, const graph *g, recording *r, uint32_t n_tokens);

/* Makes the values of tokens first … first + count - 1 available: count <= n_batch, and first is
   where the last call ended, or 0. */
bool side_evaluate(side *s, diag *d, const int32_t *tokens, uint32_t first, uint32_t count);

/* The values of op for a token that is available, and how many there are of them; NULL where it has
   none. */
const float *side_row(const side *s, uint32_t at, uint32_t token, uint64_t *n);

/* The same where all of the op's values are there. */
const float *side_full_row(const side *s, uint32_t at, uint32_t token);

/* Whether side_full_row finds it, once the token is available. */
bool side_has(const side *s, uint32_t at, uint32_t token);

/* The root mean square of what rounding changed in a row; 0 where nothing was rounded. */
double side_rounding(const side *s, uint32_t at, uint32_t token);

void side_close(side *s); /* a zeroed one is allowed */

#endif
