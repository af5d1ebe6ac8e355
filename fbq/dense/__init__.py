"""What detection and segmentation are trained by and judged by."""
