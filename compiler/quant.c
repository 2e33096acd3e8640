/* The table of tensor types. Sizes are sums of the fields that ggml-common.h gives each block:
 * an f16 (or, for the 4-bit floats, an 8-bit) scale, perhaps a minimum and scales of sub-blocks,
 * then the packed quants; tests/test_quant.c adds the fields up again.
 *
 * Ids 4, 5, 31 to 33 and 36 to 38 once had types and were removed from the format: their rows stay
 * empty, so that they are refused as any unknown id is. */
#include "quant.h"

#include <inttypes.h>

/* Name, values and bytes a block, whether it is compiled, what activations become. */
static const quant_info infos[QUANT_COUNT] = {
    [QUANT_F32] = { "F32", 1, 4, true, QUANT_F32 },
    [QUANT_F16] = { "F16", 1, 2, true, QUANT_F16 },
    [QUANT_BF16] = { "BF16", 1, 2, true, QUANT_BF16 },
    [QUANT_F64] = { "F64", 1, 8, false, QUANT_F32 },

    [QUANT_I8] = { "I8", 1, 1, false, QUANT_F32 },
    [QUANT_I16] = { "I16", 1, 2, false, QUANT_F32 },
    [QUANT_I32] = { "I32", 1, 4, false, QUANT_F32 },
    [QUANT_I64] = { "I64", 1, 8, false, QUANT_F32 },

    [QUANT_Q4_0] = { "Q4_0", 32, 18, false, QUANT_Q8_0 },
    [QUANT_Q4_1] = { "Q4_1", 32, 20, false, QUANT_Q8_1 },
    [QUANT_Q5_0] = { "Q5_0", 32, 22, false, QUANT_Q8_0 },
    [QUANT_Q5_1] = { "Q5_1", 32, 24, false, QUANT_Q8_1 },
    [QUANT_Q8_0] = { "Q8_0", 32, 34, true, QUANT_Q8_0 },
    [QUANT_Q8_1] = { "Q8_1", 32, 36, false, QUANT_Q8_1 },
    [QUANT_Q1_0] = { "Q1_0", 128, 18, false, QUANT_Q8_0 },
    [QUANT_Q2_0] = { "Q2_0", 64, 18, false, QUANT_Q8_0 },

    [QUANT_Q2_K] = { "Q2_K", 256, 84, false, QUANT_Q8_K },
    [QUANT_Q3_K] = { "Q3_K", 256, 110, false, QUANT_Q8_K },
    [QUANT_Q4_K] = { "Q4_K", 256, 144, false, QUANT_Q8_K },
    [QUANT_Q5_K] = { "Q5_K", 256, 176, false, QUANT_Q8_K },
    [QUANT_Q6_K] = { "Q6_K", 256, 210, false, QUANT_Q8_K },
    [QUANT_Q8_K] = { "Q8_K", 256, 292, false, QUANT_F32 },

    [QUANT_IQ1_S] = { "IQ1_S", 256, 50, false, QUANT_Q8_K },
    [QUANT_IQ1_M] = { "IQ1_M", 256, 56, false, QUANT_Q8_K },
    [QUANT_IQ2_XXS] = { "IQ2_XXS", 256, 66, false, QUANT_Q8_K },
    [QUANT_IQ2_XS] = { "IQ2_XS", 256, 74, false, QUANT_Q8_K },
    [QUANT_IQ2_S] = { "IQ2_S", 256, 82, false, QUANT_Q8_K },
    [QUANT_IQ3_XXS] = { "IQ3_XXS", 256, 98, false, QUANT_Q8_K },
    [QUANT_IQ3_S] = { "IQ3_S", 256, 110, false, QUANT_Q8_K },
    [QUANT_IQ4_NL] = { "IQ4_NL", 32, 18, false, QUANT_Q8_0 },
    [QUANT_IQ4_XS] = { "IQ4_XS", 256, 136, false, QUANT_Q8_K },

    [QUANT_TQ1_0] = { "TQ1_0", 256, 54, false, QUANT_Q8_K },
    [QUANT_TQ2_0] = { "TQ2_0", 256, 66, false, QUANT_Q8_K },
    [QUANT_MXFP4] = { "MXFP4", 32, 17, false, QUANT_Q8_0 },
    [QUANT_NVFP4] = { "NVFP4", 64, 36, false, QUANT_Q8_0 },
};

const quant_info *quant_find(uint32_t type) {
    return type < QUANT_COUNT && infos[type].name ? &infos[type] : NULL;
}

uint64_t quant_row_bytes(uint32_t type, uint64_t n) {
    const quant_info *info = quant_find(type);
    if (!info) bug("no tensor type %" PRIu32, type);
    if (n % info->block_len) bug("a %s row of %" PRIu64 " values", info->name, n);
    return n / info->block_len * info->block_bytes;
}
