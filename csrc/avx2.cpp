#define NDRNN_ISA avx2
#include "kernels.h"
