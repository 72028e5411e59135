"""Convolutions' faster ways on CPUs; `jaxgen.nn.cpu.conv` is the door to them."""
