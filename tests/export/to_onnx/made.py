"""Checkpoints of each family as bundles, and what the library itself says."""

import json
import shutil

import torch

from astroclip_search.models.bundle import open_bundle
from astroclip_search.models.encoder import Encoder
from export.finetuning.origin import fetch
from export.to_onnx.families import read_checkpoint
from export.to_onnx.hub import write
from tests.export.to_onnx import checkpoints

#: Text -> what another spelling of it must be taken for.
SAME = {
    'spiral galaxy': ['Spiral GALAXY', '  spiral \n\tgalaxy ', 'spiral\xa0galaxy'],
    "barnard's star": ['Barnard’s Star', 'Barnard&#39;s star', 'Barnard&rsquo;s star'],
    '"fil"': ['“ﬁl”', '&quot;fil&quot;', '&ldquo;fil&rdquo;'],
    'ngc 1300': ['ＮＧＣ １３００', 'NGC\u30001300', 'NGC&nbsp;1300'],
    'hα & dust': ['H&alpha; &amp; dust', 'H&alpha; &amp;amp; dust', 'Hα\x07 &amp; dust'],
    'étoile': ['E\u0301toile', 'ÉTOILE', '\ufeffétoile'],
}

#: Family -> number of tokens, what a text is padded with, whether always to the full length.
PADDING = {'openclip': (77, 0, False), 'mobileclip': (77, 0, True), 'coca': (76, 0, True),
           'openclip_siglip': (64, 1, True), 'clip': (77, 2513, False), 'siglip': (64, 1, True),
           'siglip2': (64, 0, True), 'siglip2_naflex': (64, 0, True)}


class Made:
    """A checkpoint, the bundle made of it, and how far apart they were."""

    def __init__(self, family, root):
        self.family, self.root = family, root
        self.source = checkpoints.make(family, root / family)
        self.bundle = root / f'{family}-onnx'
        self.numbers = write(str(self.source), self.bundle)
        folder, weights, _ = fetch(str(self.source))
        self.checkpoint = read_checkpoint(folder, weights)

    def encoder(self):
        """The product's, of the float32 towers."""
        exact = self.root / 'exact'
        if not exact.exists():
            shutil.copytree(self.bundle, exact, ignore=shutil.ignore_patterns('*_quantized.onnx'))
            info = json.loads((exact / 'astroclip.json').read_text())
            info['files'] = {name: digest for name, digest in info['files'].items()
                             if 'quantized' not in name}
            (exact / 'astroclip.json').write_text(json.dumps(info))
        return Encoder(open_bundle(str(exact)), device='cpu')

    def library(self, texts):
        """Vectors of texts by the library itself."""
        with torch.no_grad():
            return self.checkpoint.encode_text(self.checkpoint.tokens(texts)).numpy()
