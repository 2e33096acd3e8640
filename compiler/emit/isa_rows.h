/* isa_rows.h - the rows of isa.h, by the file that holds them. A new instruction set is a row in a
 * file of its own, named here and in isa_rows[]. */
#ifndef GGUFC_ISA_ROWS_H
#define GGUFC_ISA_ROWS_H

#include "isa.h"

extern const isa isa_amx, isa_avx512_bf16, isa_avx512_vnni, isa_avx_vnni, isa_avx2, isa_ssse3; /* isa_x86.c */
extern const isa isa_dotprod, isa_neon;                                                        /* isa_arm.c */
extern const isa isa_generic;                                                                  /* isa_generic.c */

#endif
