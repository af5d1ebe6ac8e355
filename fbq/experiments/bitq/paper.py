"""What the paper of BitQ (arXiv 2409.17093) printed, for comparison.

Read from its tables; every mean of table 3 recomputes from its rows. Published
accuracies are on ImageNet-1K and stand beside ours on digits for the order of
the methods alone.
"""

# Column of table 3 -> our network, or word, that stands for it; which modes it
# ran, the paper does not say.
COLUMNS = {
  "FP32": "FP32",
  "DBPS": "DBPS",
  "FlexBlock": "FlexBlock FB16",
  "BitQ16": "BitQ16",
  "FAST": "FAST high",
  "BSFP": "BSFP",
  "BitQ8": "BitQ8",
}
# Table 3, image classification, top-1 in percent, by what builds the network:
# ECA-MobileNetV2, and ConvNeXt-L.
TABLE_3 = {
  "googlenet": (67.79, 66.71, 66.58, 67.49, 66.31, 66.54, 66.58),
  "resnet18": (69.70, 68.42, 68.29, 69.83, 68.52, 69.67, 69.71),
  "mobilenet_v2": (72.56, 68.93, 70.25, 70.85, 70.15, 69.63, 69.85),
  "convnext": (85.82, 83.85, 83.87, 84.31, 83.82, 84.18, 84.26),
}

# Table 4, ResNet-18, by bits: (top-1 in percent, joules).
TABLE_4 = {
  16: {
    "BitQ": (69.83, 0.143),
    "without QAT": (66.82, 0.121),
    "without data movement": (69.84, 0.197),
    "without trade-off": (69.43, 0.175),
  },
  8: {
    "BitQ": (69.71, 0.119),
    "without QAT": (31.74, 0.066),
    "without data movement": (69.73, 0.142),
    "without trade-off": (68.84, 0.136),
  },
}

# Figure 5's text, image classification, by bits; read as savings.
FIGURE_5 = {16: 0.52, 8: 0.82}

CONTRADICTIONS = (
  "Figure 5's numbers for BitQ16 against BitQ8 are the differences of the "
  "other two lists, so they read as savings: 0.48 and 0.18 of FP32's energy "
  "are left for image classification. Read as consumption, BitQ8 would need "
  "more than BitQ16.",
  "Table 4 has BitQ8 at 0.83 of BitQ16's energy; no reading of figure 5 gives "
  "that.",
  "Table 4's joules are 32 times what eq. 8 gives at 20 and 0.16 pJ per bit: "
  "the released code applies 640 and 5 pJ, which are for 32 bits, to each bit.",
  "By eq. 1 table 4's network without QAT is better than BitQ's at alpha above "
  "0.27 (8 bits: 1.02), but figure 6 says that the result is the same up to 3 "
  "(1.5).",
  "ResNet-18 of 16 and 8 bits (69.83, 69.71) is above its FP32 (69.70).",
  "The released code trains block minifloat, with an exponent for each "
  "element; at 8 bits and SE = 2 that is 13.4 dB better than the format that "
  "eq. 6 prices. Here the priced format is trained.",
)
