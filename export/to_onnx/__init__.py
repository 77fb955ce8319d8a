"""Towers as ONNX: our own, and any CLIP, in float32, half precision and eight bits."""
