/* info.h - what an executable says about itself: --info and --version. */
#ifndef GGUFC_INFO_H
#define GGUFC_INFO_H

#include "ggufc/model.h"
#include "output.h"

/* One "key: value" a line. Says of the weights whether they are there (see weights_open); that they
   are not is no error. */
void info_print(output *out, const ggufc_model *model, const char *weights_path);

void info_print_version(output *out, const ggufc_model *model);

#endif
