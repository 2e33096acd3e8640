/* emit_block_iq.h - the blocks of IQ1, IQ2 and IQ3, whose quants are points of grids (quant_grid.h): what
 * emit_block.c needs of them. */
#ifndef GGUFC_EMIT_BLOCK_IQ_H
#define GGUFC_EMIT_BLOCK_IQ_H

#include "emit_block.h"

/* As emit_block has them. Quants are those of a run of 16 or more from a multiple of 8 on. */
val emit_iq_quants(emit *e, const emit_block *b, val block, const emit_span *s, uint32_t bias);
val emit_iq_integers(emit *e, const emit_block *b, val block, val *minima);
val emit_iq_factors(emit *e, const emit_block *b, val block);

#endif
