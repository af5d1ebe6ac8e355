"""What the paper of BitQ (arXiv 2409.17093) printed, for comparison.

Read from its tables; every mean of table 3 recomputes from its rows. Published
accuracies are on ImageNet-1K and stand beside ours on digits for the order of
the methods alone.
"""

# Table 3, image classification, top-1 in percent.
TABLE_3 = {
  "googlenet": {
    "FP32": 67.79,
    "DBPS": 66.71,
    "FlexBlock": 66.58,
    "BitQ16": 67.49,
    "FAST": 66.31,
    "BSFP": 66.54,
    "BitQ8": 66.58,
  },
  "resnet18": {
    "FP32": 69.70,
    "DBPS": 68.42,
    "FlexBlock": 68.29,
    "BitQ16": 69.83,
    "FAST": 68.52,
    "BSFP": 69.67,
    "BitQ8": 69.71,
  },
  "mobilenet_v2": {  # ECA-MobileNetV2
    "FP32": 72.56,
    "DBPS": 68.93,
    "FlexBlock": 70.25,
    "BitQ16": 70.85,
    "FAST": 70.15,
    "BSFP": 69.63,
    "BitQ8": 69.85,
  },
  "convnext": {  # L
    "FP32": 85.82,
    "DBPS": 83.85,
    "FlexBlock": 83.87,
    "BitQ16": 84.31,
    "FAST": 83.82,
    "BSFP": 84.18,
    "BitQ8": 84.26,
  },
}

# Table 4, ResNet-18: (top-1 in percent, joules).
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

# Figure 5's text, image classification.
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
