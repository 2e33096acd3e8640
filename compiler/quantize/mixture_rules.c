/* The names of mixtures and their rules, one row each. */
#include "mixture.h"

#include "quant.h"

const mixture mixtures[] = {
    { "F32", NULL, 0, QUANT_F32 },
    { "F16", NULL, 1, QUANT_F16 },
    { "BF16", NULL, 32, QUANT_BF16 },
    { "Q8_0", NULL, 7, QUANT_Q8_0 },
    { "Q6_K", NULL, 18, QUANT_Q6_K },
    { "Q5_K_M", "Q5_K", 17, QUANT_Q5_K },
    { "Q5_K_S", NULL, 16, QUANT_Q5_K },
    { "Q5_1", NULL, 9, QUANT_Q5_1 },
    { "Q5_0", NULL, 8, QUANT_Q5_0 },
    { "Q4_K_M", "Q4_K", 15, QUANT_Q4_K },
    { "Q4_K_S", NULL, 14, QUANT_Q4_K },
    { "Q4_1", NULL, 3, QUANT_Q4_1 },
    { "Q4_0", NULL, 2, QUANT_Q4_0 },
    { "IQ4_NL", NULL, 25, QUANT_IQ4_NL },
    { "IQ4_XS", NULL, 30, QUANT_IQ4_XS },
    { "NVFP4", NULL, 39, QUANT_NVFP4 },
    { "MXFP4_MOE", NULL, 38, QUANT_MXFP4 },
    { "MXFP4", NULL, 38, QUANT_MXFP4 },
    { "Q3_K_L", NULL, 13, QUANT_Q3_K },
    { "Q3_K_M", "Q3_K", 12, QUANT_Q3_K },
    { "Q3_K_S", NULL, 11, QUANT_Q3_K },
    { "IQ3_M", NULL, 27, QUANT_IQ3_S },
    { "IQ3_S", NULL, 26, QUANT_IQ3_S },
    { "IQ3_XS", NULL, 22, QUANT_IQ3_S },
    { "IQ3_XXS", NULL, 23, QUANT_IQ3_XXS },
    { "Q2_K", NULL, 10, QUANT_Q2_K },
    { "Q2_K_S", NULL, 21, QUANT_Q2_K },
    { "IQ2_M", NULL, 29, QUANT_IQ2_S },
    { "IQ2_S", NULL, 28, QUANT_IQ2_XS },
    { "IQ2_XS", NULL, 20, QUANT_IQ2_XS },
    { "IQ2_XXS", NULL, 19, QUANT_IQ2_XXS },
    { "Q2_0", NULL, 41, QUANT_Q2_0 },
    { "TQ2_0", NULL, 37, QUANT_TQ2_0 },
    { "TQ1_0", NULL, 36, QUANT_TQ1_0 },
    { "IQ1_M", NULL, 31, QUANT_IQ1_M },
    { "IQ1_S", NULL, 24, QUANT_IQ1_S },
    { "Q1_0", NULL, 40, QUANT_Q1_0 },
    { MIXTURE_COPY, NULL, 0, QUANT_COUNT },
    { 0 },
};

#define ALL   "*"
#define BASE  QUANT_COUNT
#define PLAIN "Q1_0 Q2_0 NVFP4 MXFP4" /* one type in the layers, Q8_0 elsewhere */
#define LEAST "IQ1_S IQ1_M IQ2_XXS IQ2_XS" /* below 2.4 bits a weight */
#define LOW   "IQ2_S IQ2_M"                /* below 3 */

const mixture_rule mixture_rules[] = {
    { "MXFP4_MOE", "output", "", QUANT_Q8_0 },
    { PLAIN, "output token_embd", "", QUANT_Q8_0 },
    { ALL, "output", "falcon", QUANT_Q8_0 },
    { ALL, "output", "odd_rows", QUANT_Q8_0 },
    { LEAST, "output", "", QUANT_Q5_K },
    { LOW, "output", "", QUANT_Q5_K },
    { "IQ3_XXS", "output", "", QUANT_Q5_K },
    { "Q8_0", "output", "", BASE },
    { ALL, "output", "", QUANT_Q6_K },

    { "MXFP4_MOE", "ffn_up ffn_gate ffn_down", "stacked", QUANT_MXFP4 },
    { "MXFP4_MOE", ALL, "stacked not_bailingmoe3", QUANT_MXFP4 },
    { "MXFP4_MOE", ALL, "", QUANT_Q8_0 },

    { LEAST, "token_embd", "", QUANT_Q2_K },
    { LOW, "token_embd", "", QUANT_IQ3_S },
    { "IQ3_XXS", "token_embd", "", QUANT_IQ3_S },
    { "TQ1_0 TQ2_0", "token_embd", "", QUANT_Q4_K },
    { ALL, "token_embd", "", BASE },

    { LEAST, "attn_v", "gqa_4", QUANT_Q4_K },
    { LEAST, "attn_v", "experts_4", QUANT_Q4_K },
    { LEAST, "attn_v", "", QUANT_Q2_K },
    { LOW, "attn_v", "gqa_4", QUANT_Q4_K },
    { LOW, "attn_v", "experts_4", QUANT_Q4_K },
    { LOW, "attn_v", "", QUANT_IQ3_S },
    { ALL, "attn_v", "experts_8", QUANT_Q8_0 },
    { "Q2_K Q2_K_S IQ3_XXS IQ3_XS IQ3_S", "attn_v", "gqa_4", QUANT_Q4_K },
    { "Q2_K", "attn_v", "", QUANT_Q3_K },
    { "IQ3_XXS", "attn_v", "no_importance", QUANT_IQ3_S },
    { "IQ3_M", "attn_v", "", QUANT_Q4_K },
    { "Q3_K_M", "attn_v", "first_2", QUANT_Q5_K },
    { "Q3_K_M", "attn_v", "", QUANT_Q4_K },
    { "Q3_K_L", "attn_v", "", QUANT_Q5_K },
    { "IQ4_NL IQ4_XS", "attn_v", "gqa_4", QUANT_Q5_K },
    { "Q4_K_M Q5_K_M", "attn_v", "more_bits", QUANT_Q6_K },
    { "Q4_K_S", "attn_v", "first_4", QUANT_Q5_K },

    { LEAST, "attn_k", "experts_8", QUANT_Q4_K },
    { LOW, "attn_k", "experts_8", QUANT_Q4_K },
    { ALL, "attn_k", "experts_8", QUANT_Q8_0 },
    { "IQ3_XS", "attn_k attn_q", "", QUANT_IQ3_XXS },
    { "IQ3_XXS", "attn_k attn_q", "", QUANT_IQ2_S },

    { LEAST, "ffn_down", "first_8th", QUANT_Q2_K },
    { LOW, "ffn_down", "first_8th", QUANT_IQ3_S },
    { "Q2_K", "ffn_down", "", QUANT_Q3_K },
    { "Q2_K_S", "ffn_down", "first_8th", QUANT_Q4_K },
    { "IQ3_XXS", "ffn_down", "no_importance first_8th", QUANT_Q4_K },
    { "IQ3_XXS", "ffn_down", "no_importance", QUANT_Q3_K },
    { "Q3_K_M", "ffn_down", "first_16th", QUANT_Q5_K },
    { "Q3_K_M", "ffn_down", "not_falcon", QUANT_Q4_K },
    { "Q3_K_M", "ffn_down", "more_bits", QUANT_Q4_K },
    { "IQ3_M", "ffn_down", "first_8th", QUANT_Q4_K },
    { "IQ3_M", "ffn_down", "experts_8 more_bits", QUANT_Q4_K },
    { "Q3_K_L", "ffn_down", "falcon", QUANT_Q4_K },
    { "Q3_K_L", "ffn_down", "", QUANT_Q5_K },
    { "Q4_K_M", "ffn_down", "falcon first_16th", QUANT_Q6_K },
    { "Q4_K_M", "ffn_down", "falcon more_bits", QUANT_Q5_K },
    { "Q4_K_M", "ffn_down", "not_falcon more_bits", QUANT_Q6_K },
    { "Q5_K_M", "ffn_down", "more_bits", QUANT_Q6_K },
    { "Q4_K_S", "ffn_down", "not_falcon first_8th", QUANT_Q5_K },
    { "IQ4_NL IQ4_XS", "ffn_down", "no_importance first_8th", QUANT_Q5_K },
    { "Q4_0", "ffn_down", "importance first_8th", QUANT_Q4_1 },
    { "Q5_0", "ffn_down", "importance first_8th", QUANT_Q5_1 },

    { LEAST, "attn_output", "experts_8", QUANT_Q5_K },
    { LOW, "attn_output", "experts_8", QUANT_Q5_K },
    { "IQ1_S IQ1_M", "attn_output", "", QUANT_IQ2_XXS },
    { LOW, "attn_output", "", QUANT_IQ3_S },
    { "Q3_K_L", "attn_output", "falcon", QUANT_Q4_K },
    { ALL, "attn_output", "falcon", BASE },
    { "Q2_K Q3_K_S Q3_K_M Q4_K_S Q4_K_M IQ3_XXS IQ3_XS IQ3_S IQ3_M IQ4_NL IQ4_XS", "attn_output",
      "experts_8", QUANT_Q5_K },
    { ALL, "attn_output", "experts_8", BASE },
    { "Q2_K", "attn_output", "", QUANT_Q3_K },
    { "IQ3_XXS", "attn_output", "", QUANT_IQ3_S },
    { "Q3_K_M IQ3_M", "attn_output", "", QUANT_Q4_K },
    { "Q3_K_L", "attn_output", "", QUANT_Q5_K },

    { "IQ3_XS", "ffn_up ffn_gate", "middle", QUANT_IQ3_XXS },

    { ALL, ALL, "", BASE },
    { 0 },
};

/* ---- conditions */

static bool is_architecture(const mixture_question *q, const char *name) {
    gguf_string a = q->state->architecture;
    return a.size == strlen(name) && !memcmp(a.data, name, a.size);
}

static bool falcon(const mixture_question *q) {
    return is_architecture(q, "falcon");
}

static bool not_falcon(const mixture_question *q) {
    return !falcon(q);
}

static bool not_bailingmoe3(const mixture_question *q) {
    return !is_architecture(q, "bailingmoe3");
}

static bool odd_rows(const mixture_question *q) {
    return q->tensor->dims[0] % quant_find(q->state->mix->base)->block_len != 0;
}

static bool stacked(const mixture_question *q) {
    return q->tensor->dims[2] > 1;
}

static bool gqa_4(const mixture_question *q) {
    return q->state->n_gqa >= 4;
}

static bool experts_4(const mixture_question *q) {
    return q->state->n_experts >= 4;
}

static bool experts_8(const mixture_question *q) {
    return q->state->n_experts == 8;
}

static bool importance(const mixture_question *q) {
    return q->state->has_importance;
}

static bool no_importance(const mixture_question *q) {
    return !q->state->has_importance;
}

static bool first_2(const mixture_question *q) {
    return q->at < 2;
}

static bool first_4(const mixture_question *q) {
    return q->at < 4;
}

static bool first_8th(const mixture_question *q) {
    return q->at < q->of / 8;
}

static bool first_16th(const mixture_question *q) {
    return q->at < q->of / 16;
}

static bool middle(const mixture_question *q) {
    return q->at >= q->of / 8 && q->at < 7 * q->of / 8;
}

/* The first and the last eighth, and every third in between. */
static bool more_bits(const mixture_question *q) {
    return !middle(q) || (q->at - q->of / 8) % 3 == 2;
}

const mixture_condition mixture_conditions[] = {
    { "falcon", falcon },
    { "not_falcon", not_falcon },
    { "not_bailingmoe3", not_bailingmoe3 },
    { "odd_rows", odd_rows }, /* no whole number of blocks of the base type */
    { "stacked", stacked },   /* one matrix for each expert */
    { "gqa_4", gqa_4 },       /* at least so many heads share a key-value head */
    { "experts_4", experts_4 },
    { "experts_8", experts_8 },
    { "importance", importance },
    { "no_importance", no_importance },
    { "first_2", first_2 }, /* of the tensors of its role; an 8th of the layers … */
    { "first_4", first_4 },
    { "first_8th", first_8th },
    { "first_16th", first_16th },
    { "middle", middle },
    { "more_bits", more_bits },
    { 0 },
};
