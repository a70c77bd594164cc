#define NDRNN_ISA codec_portable
#include "kernels.h"
