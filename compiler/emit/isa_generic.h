/* isa_generic.h - operations of isa.h for any target, where a row has nothing better. */
#ifndef GGUFC_ISA_GENERIC_H
#define GGUFC_ISA_GENERIC_H

#include "emit.h"

val generic_dot(emit *e, val weights, val activations, val sum);
val generic_dot_pairs(emit *e, val weights, val activations);
val generic_dot_words(emit *e, val a, val b, val sum);

#endif
