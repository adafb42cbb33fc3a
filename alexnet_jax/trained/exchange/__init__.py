"""Networks of other programs, in and out: torchvision, Caffe, StableHLO and ONNX."""
