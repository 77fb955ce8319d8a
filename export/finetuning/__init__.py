"""Fine-tuning of any CLIP on pictures and captions, as in the papers."""
