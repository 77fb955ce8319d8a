"""Pictures with words: manifests of real images, proposals and their pictures, guided summaries."""
