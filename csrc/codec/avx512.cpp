#define NDRNN_ISA codec_avx512
#include "kernels.h"
