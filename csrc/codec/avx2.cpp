#define NDRNN_ISA codec_avx2
#include "kernels.h"
