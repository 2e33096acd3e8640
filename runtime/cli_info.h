/* cli_info.h - what an executable says about itself: --info and --version. */
#ifndef GGUFC_CLI_INFO_H
#define GGUFC_CLI_INFO_H

#include "ggufc/model.h"
#include "stream.h"

/* One "key: value" a line; of a model compiled for several CPUs, of what this one runs. Says of the weights whether
   they are there (see weights_open); that they are not is no error. */
void cli_info_print(stream *out, const ggufc_model *model, const char *weights_path);

void cli_info_print_version(stream *out, const ggufc_model *model);

#endif
