#define NDRNN_ISA portable
#include "kernels.h"
