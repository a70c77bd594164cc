#define NDRNN_ISA avx512
#include "kernels.h"
