"""torch -> ONNX. Vectors in, never item numbers: no embedding table enters the graph.

The exporter traces for seconds, and the graph of one architecture is always the same but for its
weights. So it runs once per architecture and process, unoptimised (every weight stays an initializer
under its own name; ONNX Runtime optimises when it opens the file), and a model's weights are put in.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import onnx
import structlog
import torch
from torch import nn

from recsys.errors import ContractError, CorruptArtifact
from recsys.failpoints import failpoint
from recsys.models.sequential import SequentialEncoder
from recsys.records import (
    ENCODER_FILE,
    ENCODER_INPUTS,
    ENCODER_OUTPUT,
    PARITY_FILE,
    ModelManifest,
    RankingManifest,
    sha256_of,
    verify_model,
    write_atomically,
)
from recsys.training.model_folder import load_model

log = structlog.get_logger()

OPSET = 20
INPUT_CONTRACT = {
    "history_vectors": "float32 (B, H, D): rows of item_vectors by item_num; zeros at padding",
    "history_gaps": "float32 (B, H): days from each event to the next, the newest's to as_of; 0 at padding",
    "history_mask": "float32 (B, H): 1 where real; left-padded, newest last",
    "user_vectors": "float32 (B, D): zeros for an empty history",
}


Manifest = TypeVar("Manifest", ModelManifest, RankingManifest)


class Architecture(NamedTuple):
    """What decides the graph, weights aside."""

    embedding_dim: int
    history_length: int
    num_blocks: int
    num_heads: int


def export_model(folder: Path) -> Path:
    """Write ``model.onnx`` into a model's folder and name it in the manifest; returns its path.

    A file that is there and verifies is kept. The file comes first, whole, and the manifest last: a
    folder whose export was interrupted is exported again.

    Raises:
        MissingInput: no such model.
        CorruptArtifact: the folder's weights are not those of its manifest.
        ContractError: the graph is not what scoring expects.
    """
    path = folder / ENCODER_FILE
    manifest = ModelManifest.read(folder)
    if ENCODER_FILE in manifest.files:
        # A damaged file is made again: all that it holds is in the weights.
        with contextlib.suppress(CorruptArtifact):
            verify_model(folder)
            return path
    model, manifest = load_model(folder)
    content = _onnx_bytes(model.encoder, manifest)
    # The report is of the file that was.
    manifest = forget_files(folder, manifest, ENCODER_FILE, PARITY_FILE)
    write_atomically(path, content)
    failpoint("export_onnx:file_written")
    record_file(folder, manifest, path.name)
    log.info(
        "model_exported", model_version=manifest.model_version, size_bytes=len(content), opset=OPSET
    )
    return path


def forget_files(folder: Path, manifest: Manifest, *names: str) -> Manifest:
    """Take files out of the folder's manifest before they change: whenever it ends, what is named verifies."""
    kept = {name: digest for name, digest in manifest.files.items() if name not in names}
    if kept == manifest.files:
        return manifest
    changed = manifest.model_copy(update={"files": kept})
    changed.write(folder)
    return changed


def record_file(folder: Path, manifest: Manifest, name: str) -> Manifest:
    """Put a file's checksum into the folder's manifest, which is replaced whole."""
    digest = sha256_of(folder / name)
    changed = manifest.model_copy(update={"files": {**manifest.files, name: digest}})
    changed.write(folder)
    return changed


def _onnx_bytes(encoder: SequentialEncoder, manifest: ModelManifest) -> bytes:
    architecture = Architecture(
        manifest.embedding_dim, manifest.history_length, len(encoder.blocks), encoder.num_heads
    )
    model = onnx.ModelProto()
    model.CopyFrom(_graph(architecture))
    weights = {name: value.detach().numpy() for name, value in encoder.state_dict().items()}
    placed = set()
    for initializer in model.graph.initializer:
        if initializer.name in weights:
            value = np.ascontiguousarray(weights[initializer.name])
            if list(value.shape) != list(initializer.dims) or value.dtype != np.float32:
                raise ContractError(
                    f"weight {initializer.name} is {value.dtype} {value.shape} in the model"
                )
            initializer.raw_data = value.tobytes()
            placed.add(initializer.name)
    if missing := sorted(set(weights) - placed):
        raise ContractError(
            f"the ONNX graph has no place for the weights {', '.join(missing)[:300]}"
        )
    facts = {
        "model_version": manifest.model_version,
        "as_of": str(manifest.as_of),
        **INPUT_CONTRACT,
    }
    onnx.helper.set_model_props(model, facts)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


@functools.lru_cache(maxsize=4)
def _graph(architecture: Architecture) -> onnx.ModelProto:
    """The graph with weights of no meaning: B dynamic, H and D fixed, nothing outside the file."""
    encoder = SequentialEncoder(**architecture._asdict(), dropout=0.0).eval()
    batch = torch.export.Dim("batch", min=1, max=1 << 20)
    length, width = architecture.history_length, architecture.embedding_dim
    example = (torch.randn(2, length, width), torch.rand(2, length), torch.ones(2, length))
    with quiet_exporter(), torch.random.fork_rng(devices=[]):
        program = torch.onnx.export(
            encoder,
            example,
            input_names=list(ENCODER_INPUTS),
            output_names=[ENCODER_OUTPUT],
            dynamo=True,
            dynamic_shapes=({0: batch}, {0: batch}, {0: batch}),
            opset_version=OPSET,
            external_data=False,
            optimize=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    forget_the_machine(model)
    _check_graph(model, architecture, encoder)
    return model


def forget_the_machine(model: onnx.ModelProto) -> None:
    """The exporter notes source files and stack traces of this machine; and shapes that quantisers trip over."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in [*model.graph.input, *model.graph.output, *model.graph.initializer]:
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    model.graph.doc_string = ""


def _check_graph(model: onnx.ModelProto, architecture: Architecture, encoder: nn.Module) -> None:
    """Inputs, output, opset, and that every weight has its place.

    Raises:
        ContractError: naming what differs.
    """
    length, width = architecture.history_length, architecture.embedding_dim
    wanted = {
        "history_vectors": ["batch", length, width],
        "history_gaps": ["batch", length],
        "history_mask": ["batch", length],
        ENCODER_OUTPUT: ["batch", width],
    }
    check_graph(model, wanted)


def check_graph(model: onnx.ModelProto, wanted: Mapping[str, object]) -> None:
    """Inputs and outputs with their shapes, that every weight is in the file, and the operators.

    Raises:
        ContractError: naming what differs from what scoring feeds and reads.
    """
    found = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in [*model.graph.input, *model.graph.output]
    }
    if found != wanted:
        raise ContractError(f"the exported graph takes and gives {found}, expected {wanted}")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise ContractError("the exported graph keeps weights outside its file")
    opsets = {opset.domain: opset.version for opset in model.opset_import}
    if opsets.get("") != OPSET or set(opsets) - {"", "pkg.onnxscript.torch_lib.common"}:
        raise ContractError(
            f"the exported graph needs operators {opsets}, expected the standard ones at {OPSET}"
        )


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
    """torch.onnx warns about torchvision, which we do not use, and about its own deprecations."""
    exporter = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)
