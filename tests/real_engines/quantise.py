"""Quantised copies of a student, as users make them: by transformers, and for llama.cpp as GGUF.

.venv-tests/quantised/bin/python tests/real_engines/quantise.py bnb8 STUDENT OUTPUT     # or bnb4, torchao8
.venv-tests/llama.cpp/bin/python tests/real_engines/quantise.py q4_0 F32.gguf OUTPUT    # or q8_0
"""

import shutil
import sys
from pathlib import Path

COPIED = ("*.json", "*.txt", "*.jinja")


def by_transformers(kind, student, output):
    import torch
    from transformers import BitsAndBytesConfig, Qwen3VLForConditionalGeneration, TorchAoConfig

    kept = {"llm_int8_skip_modules": ["lm_head"]}  # one table with the embedding
    if kind == "bnb8":
        how = BitsAndBytesConfig(load_in_8bit=True, **kept)
    elif kind == "bnb4":
        how = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32, **kept
        )
    else:
        from torchao.quantization import Int8WeightOnlyConfig

        how = TorchAoConfig(Int8WeightOnlyConfig())
    model = Qwen3VLForConditionalGeneration.from_pretrained(
        student, dtype=torch.float32, quantization_config=how, device_map={"": "cpu"}
    )
    model.save_pretrained(output)
    for path in (path for pattern in COPIED for path in student.glob(pattern)):
        if not (output / path.name).exists():
            shutil.copy(path, output)


def as_gguf(kind, whole, output):
    """Quantise the layers' matrices, as llama-quantize does without a calibration; the token table takes 8 bits."""
    (source,) = Path(sys.prefix).glob("sources/*/llama.cpp/gguf-py")
    sys.path.insert(0, str(source))
    from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
    from gguf.quants import quantize

    reader = GGUFReader(whole)
    writer = GGUFWriter(output, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), field.types[0], inner)
    for tensor in reader.tensors:
        if len(tensor.shape) < 2:
            writer.add_tensor(tensor.name, tensor.data)
            continue
        to = GGMLQuantizationType["Q8_0" if tensor.name.startswith("token_embd") else kind.upper()]
        writer.add_tensor(tensor.name, quantize(tensor.data, to), raw_dtype=to)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    kind, source, output = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    (as_gguf if kind.startswith("q") else by_transformers)(kind, source, output)
