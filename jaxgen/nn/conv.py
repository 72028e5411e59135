"""(placeholder until the fast one lands)"""
import flax.linen as nn, jax.numpy as jnp
from typing import Any
class Conv(nn.Module):
    features: int; kernel_size: int; strides: int = 1; use_bias: bool = True
    dtype: Any = None; kernel_init: Any = nn.initializers.lecun_normal()
    @nn.compact
    def __call__(self, x):
        k=self.kernel_size; p=k//2
        kern=self.param("kernel",self.kernel_init,(k,k,x.shape[-1],self.features))
        x,kern=x.astype(self.dtype or x.dtype),kern.astype(self.dtype or x.dtype)
        import jax
        y=jax.lax.conv_general_dilated(x,kern,(self.strides,)*2,[(p,p)]*2,dimension_numbers=("NHWC","HWIO","NHWC"))
        if self.use_bias: y=y+self.param("bias",nn.initializers.zeros,(self.features,)).astype(y.dtype).reshape(1,1,1,-1)
        return y
